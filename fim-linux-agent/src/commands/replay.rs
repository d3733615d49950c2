//! `fim replay`: runs the agent on records made beforehand, and says what that took.

use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fim_common::ledger::{Ledger, Stage};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use crate::bpf::replay::Replaying;

/// A replay that is going on.
pub(super) struct Watch {
    replaying: Replaying,
    begun: Instant,
    processor: Duration,
}

/// What it took.
#[derive(Serialize)]
struct Report {
    /// Records taken from the ring's stand-in.
    records: u64,
    /// Of those: not handed on, or not understood.
    lost: u64,
    /// Lines of the journal.
    events: u64,
    /// Processor time of the whole agent, all threads, user and system, in seconds.
    processor_seconds: f64,
    /// By the clock.
    seconds: f64,
}

/// Processor time of this process so far: clock_gettime(2) counts nanoseconds.
fn processor() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

impl Watch {
    /// From now on there are records.
    pub(super) fn begin(replaying: Replaying, ledger: &Arc<Ledger>) -> Self {
        let watch = Self { begun: Instant::now(), processor: processor(), replaying };
        watch.replaying.progress.begin(Arc::clone(ledger));
        watch
    }

    /// One line of JSON on standard output. To be called when all that was told is in the journal.
    pub(super) fn report(&self, ledger: &Ledger) -> std::io::Result<()> {
        let counts = ledger.counts_with(|ledger| self.replaying.monitor.enter(ledger));
        let of = |stage: Stage| counts.get(stage);
        let report = Report {
            records: of(Stage::Received),
            lost: of(Stage::Overflowed) + of(Stage::Malformed) + of(Stage::Refused),
            events: of(Stage::Journaled),
            processor_seconds: (processor() - self.processor).as_secs_f64(),
            seconds: self.begun.elapsed().as_secs_f64(),
        };
        writeln!(std::io::stdout(), "{}", serde_json::to_string(&report)?)
    }
}

/// Waits until a replay is over; for ever when there is none.
pub(super) async fn over(watch: Option<&Watch>) {
    match watch {
        Some(watch) => watch.replaying.progress.over().await,
        None => std::future::pending().await,
    }
}
