//! Once a second: brings the metrics up to date, and checks that the ledger adds up.

use std::sync::Arc;
use std::time::Duration;

use fim_common::baseline::Baseline;
use fim_common::collector::Gap;
use fim_common::ledger::{Checker, Ledger, Violation};
use fim_common::loss::Losses;
use fim_common::metrics::{Health, Metrics};
use fim_common::time::Timestamp;

use crate::backend::Monitor;

/// What it looks at, and where it tells.
pub(super) struct Accountant {
    pub(super) monitor: Monitor,
    pub(super) metrics: Arc<Metrics>,
    pub(super) health: Arc<Health>,
    pub(super) baseline: Arc<Baseline>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) losses: Losses,
    pub(super) checker: Checker,
}

impl Accountant {
    pub(super) async fn run(mut self) {
        let mut every = tokio::time::interval(Duration::from_secs(1));
        loop {
            every.tick().await;
            tokio::task::block_in_place(|| self.publish());
        }
    }

    fn publish(&mut self) {
        self.monitor.publish(&self.metrics);
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
