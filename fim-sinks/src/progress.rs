//! How far behind a sink is.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use fim_common::ledger::{Ledger, Stage};
use fim_common::metrics::SinkMetrics;
use fim_common::time::Timestamp;

/// Shared between the worker, which writes, and whoever publishes it once a second: a worker that
/// waits for its receiver falls behind meanwhile.
#[derive(Debug)]
pub(crate) struct Progress {
    /// Events of the journal of earlier starts that were not dealt with when the worker began; or, as
    /// a negative number, those of this start that were.
    before: AtomicI64,
    /// Lines of the journal dealt with since.
    done: AtomicU64,
    /// The first event that is not sent.
    oldest: Mutex<Option<Timestamp>>,
    metrics: SinkMetrics,
}

impl Progress {
    pub(crate) fn new(metrics: SinkMetrics) -> Arc<Self> {
        Arc::new(Self {
            before: AtomicI64::new(0),
            done: AtomicU64::new(0),
            oldest: Mutex::new(None),
            metrics,
        })
    }

    /// Where the worker begins.
    pub(crate) fn begin(&self, before: i64) {
        self.before.store(before, Ordering::Relaxed);
    }

    /// Lines dealt with since.
    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// So many lines are dealt with now.
    pub(crate) fn set_done(&self, done: u64) {
        self.done.store(done, Ordering::Relaxed);
    }

    /// The first event that is not sent. Between two batches, when it is not read yet, the last one
    /// that was: an alert about a backlog must not be called off by each batch of it.
    pub(crate) fn set_oldest(&self, oldest: Option<Timestamp>) {
        *self.oldest.lock().unwrap_or_else(PoisonError::into_inner) = oldest;
    }

    /// Brings the metrics up to date.
    pub(crate) fn publish(&self, ledger: &Ledger) {
        let journaled = ledger.count(Stage::Journaled) as i64;
        let before = self.before.load(Ordering::Relaxed);
        let behind = journaled + before - self.done() as i64;
        let oldest = *self.oldest.lock().unwrap_or_else(PoisonError::into_inner);
        let seconds = oldest.map_or(0.0, |time| Timestamp::now().since(time).max(0) as f64 / 1e9);
        self.metrics.set_lag(u64::try_from(behind).unwrap_or(0), seconds);
    }
}
