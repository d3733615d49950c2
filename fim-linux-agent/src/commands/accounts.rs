//! Once a second: brings the metrics up to date, and checks that the ledger adds up.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fim_common::baseline::Baseline;
use fim_common::collector::Gap;
use fim_common::event::Action;
use fim_common::ledger::{Checker, Ledger, Violation};
use fim_common::loss::Losses;
use fim_common::metrics::{Health, Metrics};
use fim_common::time::Timestamp;

use crate::backend::Monitor;
use crate::memory;

/// What an agent whose programs are not as they should be is unhealthy by.
const PROGRAMS: &str = "programs";

/// What it looks at, and where it tells.
pub(super) struct Accountant {
    pub(super) monitor: Monitor,
    pub(super) metrics: Arc<Metrics>,
    pub(super) health: Arc<Health>,
    pub(super) baseline: Arc<Baseline>,
    /// The state directory.
    pub(super) state: PathBuf,
    pub(super) ledger: Arc<Ledger>,
    pub(super) losses: Losses,
    pub(super) checker: Checker,
    pub(super) clock: Clock,
}

impl Accountant {
    pub(super) async fn run(mut self) {
        let mut every = tokio::time::interval(Duration::from_secs(1));
        loop {
            every.tick().await;
            tokio::task::block_in_place(|| self.publish());
            memory::tidy();
        }
    }

    fn publish(&mut self) {
        if let Some(message) = self.clock.look(Timestamp::now(), since_boot()) {
            tracing::warn!("{message}");
            self.losses.notice(Action::ClockChanged, message);
        }
        self.monitor.publish(&self.metrics);
        match self.monitor.faults() {
            faults if faults.is_empty() => self.health.recovered(PROGRAMS),
            faults => self.health.failed(PROGRAMS, faults.join("; ")),
        }
        self.metrics.set_healthy(self.health.problems().is_none());
        if let Ok(volume) = rustix::fs::statvfs(&self.state) {
            self.metrics.set_state_free_bytes(volume.f_bavail.saturating_mul(volume.f_frsize));
        }
        self.metrics.set_baseline_objects(self.baseline.count().unwrap_or_default());
        let counts = self.ledger.counts_with(|ledger| self.monitor.enter(ledger));
        self.metrics.set_ledger(&counts);
        for violation in self.checker.look(&counts) {
            self.report(&violation);
        }
    }

    /// Operations came in and did not come out, and no stage says that it dropped them: whatever it
    /// was, it is a loss like any other.
    fn report(&self, Violation { identity, imbalance }: &Violation) {
        tracing::error!(identity, imbalance, "the ledger does not add up: this is a fault of fim");
        self.health.failed("ledger", format!("{identity} is off by {imbalance}"));
        let now = Timestamp::now();
        self.losses.report(Gap {
            from: now,
            to: now,
            count: Some(imbalance.unsigned_abs()),
            hooks: vec![format!("ledger_{identity}")],
            scope: Vec::new(),
        });
    }
}

/// Whether somebody sets the clock by which events are dated.
#[derive(Debug, Default)]
pub(super) struct Clock {
    /// When the machine was started, by the last look: it moves only with the clock.
    booted: Option<i128>,
}

/// A clock that is kept right drifts by half a millisecond a second at most (adjtimex(2)).
const STEP: i128 = 500_000_000;

impl Clock {
    /// What is to be told, if the clock was set since the last look.
    fn look(&mut self, now: Timestamp, since_boot: Duration) -> Option<String> {
        let booted = now.as_nanos() - since_boot.as_nanos() as i128;
        let step = booted - self.booted.replace(booted)?;
        if step.abs() < STEP {
            return None;
        }
        let seconds = step.unsigned_abs() as f64 / 1e9;
        let way = if step > 0 { "forward" } else { "back" };
        Some(format!("the clock of this host was set {way} by {seconds:.3} s"))
    }
}

fn since_boot() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_is_told_and_one_that_drifts_is_not() {
        let mut clock = Clock::default();
        let mut look = |now: i64, nanos: u32, since_boot: f64| {
            clock.look(Timestamp::from_unix(now, nanos), Duration::from_secs_f64(since_boot))
        };
        assert_eq!(look(1_000, 0, 10.0), None, "nothing to compare with");
        assert_eq!(look(1_001, 0, 11.0), None);
        assert_eq!(look(1_002, 600_000, 12.0), None, "kept right");
        // A machine that slept.
        assert_eq!(look(5_002, 600_000, 4_012.0), None);
        let told = look(8_603, 600_000, 4_013.0).unwrap();
        assert!(told.ends_with("forward by 3600.000 s"), "{told}");
        let told = look(5_004, 600_000, 4_014.0).unwrap();
        assert!(told.ends_with("back by 3600.000 s"), "{told}");
        assert_eq!(look(5_005, 600_000, 4_015.0), None, "told once");
    }
}
