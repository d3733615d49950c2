//! Whether the agent does its work.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What is wrong with the agent, by the part that says so. It is healthy when nothing is.
#[derive(Debug)]
pub struct Health {
    problems: Mutex<BTreeMap<&'static str, String>>,
    /// How often something has gone all the way from the collector through the pipeline.
    beats: AtomicU64,
    created: Instant,
    /// The last of them, in milliseconds since then.
    last: AtomicU64,
}

/// How long the pipeline may go without a beat, of which there is one in five seconds.
const STILL_MAX: Duration = Duration::from_secs(60);

/// The part that has a problem until the agent watches.
const START: &str = "start";

impl Health {
    /// An agent that does not watch yet.
    pub fn starting() -> Self {
        let problems = BTreeMap::from([(START, "not everything is armed yet".to_owned())]);
        Self {
            problems: Mutex::new(problems),
            beats: AtomicU64::new(0),
            created: Instant::now(),
            last: AtomicU64::new(0),
        }
    }

    /// The agent watches.
    pub fn started(&self) {
        self.note();
        self.recovered(START);
    }

    /// `part` does not do its work, because of `reason`, which is for people.
    pub fn failed(&self, part: &'static str, reason: impl Into<String>) {
        self.lock().insert(part, reason.into());
    }

    /// `part` does its work again.
    pub fn recovered(&self, part: &'static str) {
        self.lock().remove(part);
    }

    /// The pipeline gets on: what the collector sent has reached it, or it waits for what it was told
    /// to wait for (`on_full = "block"`).
    pub fn beat(&self) {
        self.beats.fetch_add(1, Ordering::Relaxed);
        self.note();
    }

    fn note(&self) {
        let now = self.created.elapsed().as_millis() as u64;
        self.last.store(now, Ordering::Relaxed);
    }

    /// Whether the pipeline gets on, or does not run yet. An agent that is not alive is to be started
    /// anew; one that is not healthy would have the same problem again.
    pub fn is_alive(&self) -> bool {
        self.is_alive_after(self.created.elapsed())
    }

    fn is_alive_after(&self, now: Duration) -> bool {
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
        now.saturating_sub(last) < STILL_MAX || self.lock().contains_key(START)
    }

    /// How often [`Health::beat`] was called. A service manager is told that the agent lives only
    /// when this has grown.
    pub fn beats(&self) -> u64 {
        self.beats.load(Ordering::Relaxed)
    }

    /// `None`: healthy. Else what is wrong, a line for each part.
    pub fn problems(&self) -> Option<String> {
        let problems = self.lock();
        let lines = problems.iter().map(|(part, reason)| format!("{part}: {reason}"));
        (!problems.is_empty()).then(|| lines.collect::<Vec<_>>().join("\n"))
    }

    /// Every change is one insertion or removal: a panic elsewhere leaves the map whole.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, String>> {
        self.problems.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_beat_it_is_not_alive() {
        let health = Health::starting();
        let hour = Duration::from_secs(3600);
        assert!(health.is_alive_after(hour), "a first baseline may take long");
        health.started();
        assert!(health.is_alive());
        assert!(!health.is_alive_after(hour));
        health.failed("journal", "full");
        assert!(health.is_alive(), "to start it anew would not help");
        health.beat();
        assert!(health.is_alive());
    }
}
