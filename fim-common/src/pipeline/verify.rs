//! The regular comparison: within `[scan] verify_interval` the content of everything that is known
//! is read and compared once, a few directories at a time.
//!
//! It goes through the directories of the baseline in byte order, so a place in them is all that
//! has to be remembered: an agent that is started again goes on where it was.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Pipeline;
use super::recheck::Purpose;
use super::rescan::Request;
use crate::baseline::{Baseline, BaselineError, path_of};
use crate::scan::Root;
use crate::time::Timestamp;

/// Steps of a round, if none is shorter than a second or longer than a minute.
const STEPS: u32 = 1_000;
/// Directories compared in one step at most.
const DIRECTORIES: usize = 4_096;

/// Keys of the baseline's notes: the last directory that was compared, when this round began, and
/// when the last whole one did.
const PLACE: &str = "verify:place";
const BEGAN: &str = "verify:began";
const PREVIOUS: &str = "verify:previous";

/// How far the regular comparison is.
pub(super) struct Verify {
    interval: Duration,
    step: Duration,
    due: Instant,
    /// Objects by which it is ahead of its time; below zero: behind.
    credit: f64,
    place: Option<Vec<u8>>,
    began: Timestamp,
    previous: Option<Timestamp>,
}

impl Verify {
    /// Goes on where the last agent was.
    pub(super) fn new(interval: Duration, baseline: &Baseline) -> Self {
        let note = |key| {
            baseline.meta(key).unwrap_or_else(|error| {
                tracing::error!(%error, "the baseline cannot be read");
                None
            })
        };
        let time = |key| note(key).and_then(|text| text.parse().ok());
        let place = note(PLACE).and_then(|text| STANDARD.decode(text).ok());
        let step = (interval / STEPS).clamp(Duration::from_secs(1), Duration::from_secs(60));
        Self {
            interval,
            step,
            due: Instant::now() + step,
            credit: 0.0,
            began: time(BEGAN).filter(|_| place.is_some()).unwrap_or_else(Timestamp::now),
            place,
            previous: time(PREVIOUS),
        }
    }

    /// When [`Pipeline::verify_due`] has something to do.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// The directories whose turn it is.
    fn next(&mut self, baseline: &Baseline) -> Result<Vec<Root>, BaselineError> {
        let share = self.step.as_secs_f64() / self.interval.as_secs_f64();
        let quota = baseline.count()? as f64 * share;
        self.credit -= quota;
        let mut roots = Vec::new();
        while self.credit < 0.0 && roots.len() < DIRECTORIES {
            match baseline.population_after(self.place.as_deref())? {
                Some((directory, objects)) => {
                    self.credit += objects as f64;
                    // The root is in no directory.
                    let path = if directory.is_empty() { "/".into() } else { path_of(&directory) };
                    let depth = Some(usize::from(!directory.is_empty()));
                    roots.push(Root { path, depth });
                    self.place = Some(directory);
                }
                None => {
                    self.round_ends(baseline)?;
                    break;
                }
            }
        }
        if let Some(place) = &self.place {
            baseline.set_meta(PLACE, &STANDARD.encode(place))?;
            baseline.set_meta(BEGAN, &self.began.to_string())?;
        }
        Ok(roots)
    }

    fn round_ends(&mut self, baseline: &Baseline) -> Result<(), BaselineError> {
        tracing::info!(since = %self.began, "everything known is verified");
        baseline.set_meta(PREVIOUS, &self.began.to_string())?;
        baseline.remove_meta(PLACE)?;
        self.previous = Some(self.began);
        self.began = Timestamp::now();
        self.place = None;
        // A round that was done early, by rounding up to whole directories, is no reason to rest.
        self.credit = 0.0;
        Ok(())
    }
}

impl Pipeline {
    /// Has the next part compared, when it is time and nothing more urgent is.
    pub(super) fn verify_due(&mut self, now: Instant) {
        let Some(verify) = self.verify.as_mut().filter(|verify| verify.due <= now) else { return };
        verify.due = now + verify.step;
        if !self.rechecks.is_idle() {
            return;
        }
        match verify.next(&self.baseline) {
            Ok(roots) if roots.is_empty() => {}
            Ok(roots) => {
                let purpose = Purpose::Verify(verify.previous);
                self.scan(purpose, Request { roots: Some(roots), deep: true });
            }
            Err(error) => tracing::error!(%error, "the baseline cannot be read"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use super::*;
    use crate::state::ObjectState;

    #[test]
    fn each_directory_once_a_round_also_over_restarts() {
        let directory = tempfile::tempdir().unwrap();
        let baseline = Baseline::open(directory.path()).unwrap();
        for number in 0..1_000 {
            let path = PathBuf::from(format!("/tree/{:02}/{number:04}", number % 40));
            baseline.put(&path, &ObjectState::default()).unwrap();
        }
        let interval = Duration::from_secs(1_000);
        let mut seen: BTreeMap<PathBuf, u32> = BTreeMap::new();
        let mut verify = Verify::new(interval, &baseline);
        let (began, mut most, mut steps) = (verify.began, 0, 0);
        while verify.previous.is_none() {
            let roots = verify.next(&baseline).unwrap();
            most = most.max(roots.len());
            for root in roots {
                assert_eq!(root.depth, Some(1));
                *seen.entry(root.path).or_default() += 1;
            }
            steps += 1;
            // The next agent goes on there.
            verify = Verify::new(interval, &baseline);
        }
        assert_eq!(seen.len(), 40);
        assert!(seen.values().all(|count| *count == 1), "{seen:?}");
        assert_eq!(verify.previous, Some(began));
        // An agent that forgets how far ahead it is takes a directory in each step, and the end.
        assert_eq!((most, steps), (1, 41));
    }

    #[test]
    fn a_round_takes_its_time() {
        let directory = tempfile::tempdir().unwrap();
        let baseline = Baseline::open(directory.path()).unwrap();
        for number in 0..1_000 {
            let path = PathBuf::from(format!("/tree/{:02}/{number:04}", number % 40));
            baseline.put(&path, &ObjectState::default()).unwrap();
        }
        let mut verify = Verify::new(Duration::from_secs(1_000), &baseline);
        let mut steps = 0;
        while verify.previous.is_none() {
            verify.next(&baseline).unwrap();
            steps += 1;
        }
        // A step is a second, in which one of 1,000 objects is due.
        assert_eq!(steps, 1_001);
    }
}
