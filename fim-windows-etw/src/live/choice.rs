//! ETW where sessions can be started; else change notifications, and that nobody is named is said.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use fim_common::baseline::Baseline;
use fim_common::collector::{Collector, ObservationSender};
use fim_common::config::Config;
use fim_common::ledger::{Ledger, Stage};
use fim_common::loss::Losses;
use fim_common::metrics::{HookCounts, Metrics};
use fim_common::policy::Policy;

use super::etw::{self, EtwCollector, Sizes};
use super::watch::{self, WatchCollector};

/// What stands before how the agent collects, where it is not by ETW.
pub const DEGRADED: &str = "degraded: ";

/// What sees what is done.
pub struct Chosen {
    /// It.
    pub collector: Box<dyn Collector>,
    /// One line for people: what is armed and, where it is not ETW, why.
    pub choice: String,
    /// What it counts.
    pub counters: Counters,
}

/// What a collector counts.
pub enum Counters {
    /// Through ETW.
    Etw(Arc<etw::Counters>),
    /// By notifications.
    Watch(Arc<watch::Counters>),
}

/// Starts the best that works here.
///
/// # Errors
/// When nothing does.
pub fn start(
    config: &Config,
    policy: &Policy,
    baseline: &Arc<Baseline>,
    sender: ObservationSender,
    losses: &Losses,
) -> Result<Chosen, Box<dyn std::error::Error + Send + Sync>> {
    let refused = match EtwCollector::start(etw::Options {
        policy: policy.clone(),
        baseline: Arc::clone(baseline),
        sender: sender.clone(),
        losses: losses.clone(),
        sizes: Sizes::of(&config.collector),
        prefix: etw::PREFIX.to_owned(),
        hold: etw::HOLD,
    }) {
        Ok(collector) => {
            let choice = collector.summary();
            tracing::info!("{choice}");
            let counters = Counters::Etw(collector.counters());
            return Ok(Chosen { collector: Box::new(collector), choice, counters });
        }
        Err(refused) => refused,
    };
    let hint = match refused.is_permission() {
        true => "; run as an administrator, as a service, or as a member of Performance Log Users",
        false => "",
    };
    let collector = WatchCollector::start(watch::Options {
        policy: policy.clone(),
        baseline: Arc::clone(baseline),
        sender,
        losses: losses.clone(),
    })?;
    let choice = format!("{DEGRADED}{} (ETW: {refused}{hint})", collector.summary());
    tracing::warn!("{choice}");
    let counters = Counters::Watch(collector.counters());
    Ok(Chosen { collector: Box::new(collector), choice, counters })
}

impl Counters {
    /// Brings metrics and ledger up to date.
    pub fn publish(&self, metrics: &Metrics, ledger: &Ledger) {
        let hook = |name, counter: &AtomicU64| {
            let submitted = counter.load(Relaxed);
            let counts = HookCounts { seen: submitted, submitted, ..HookCounts::default() };
            metrics.set_kernel_operations(name, counts);
            submitted
        };
        let submitted = match self {
            Self::Watch(counters) => {
                let overflows = counters.overflows.load(Relaxed);
                metrics.set_dropped("notifications", "overflow", overflows);
                hook("registry", &counters.submitted)
            }
            Self::Etw(counters) => {
                let (queue, session) =
                    (counters.queue_lost.load(Relaxed), counters.session_lost.load(Relaxed));
                metrics.set_dropped("etw", "queue_full", queue);
                metrics.set_dropped("etw", "session", session);
                metrics.set_dropped("etw", "undecoded", counters.undecoded.load(Relaxed));
                let depth = usize::try_from(counters.depth.load(Relaxed)).unwrap_or(usize::MAX);
                metrics.set_queue_depth("etw", depth);
                hook("files", &counters.files) + hook("registry", &counters.keys)
            }
        };
        let counts = ledger.counts_with(|ledger| {
            for stage in
                [Stage::Delivered, Stage::Resolved, Stage::Received, Stage::Submitted, Stage::Seen]
            {
                ledger.set(stage, submitted);
            }
        });
        metrics.set_ledger(&counts);
    }
}
