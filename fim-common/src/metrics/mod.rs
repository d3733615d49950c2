//! What the agent counts, and the two pages that tell of it: `/metrics` and `/healthz`.
//!
//! Names and labels are part of the contract with users; see `docs/`. A stage that drops
//! something says so with [`Metrics::dropped`] and a reason.

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};
use thiserror::Error;

use crate::event::{Action, Outcome, Provider};
use crate::ledger::{Counts, Identity, Stage};

mod access;
mod health;
#[cfg_attr(windows, path = "process_windows.rs")]
mod process;
mod server;
mod sinks;

#[cfg(test)]
mod reference_tests;
#[cfg(test)]
mod tests;

pub use access::{Access, AccessError};
pub use health::Health;
pub use server::{BindError, bind, serve};
pub use sinks::SinkMetrics;

/// The content type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// Seconds from the kernel to the journal: the promise is 0.1, a full queue is tens.
const DELAY_BUCKETS: [f64; 13] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];
/// Seconds a hash takes: 100 µs for a small file, one second for a gigabyte.
const HASH_BUCKETS: [f64; 11] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.01, 0.05, 0.25, 1.0, 5.0, 30.0];

/// Every metric of the agent. Its methods can be called from any thread.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    events: IntCounterVec,
    kernel_operations: IntCounterVec,
    events_dropped: IntCounterVec,
    gaps: IntCounter,
    gap_open: IntGauge,
    healthy: IntGauge,
    state_free_bytes: IntGauge,
    event_delay: Histogram,
    hash_seconds: Histogram,
    hash_bytes: IntCounter,
    baseline_objects: IntGauge,
    queue_depth: IntGaugeVec,
    hook_armed: IntGaugeVec,
    backend_info: IntGaugeVec,
    ledger: IntCounterVec,
    imbalance: IntGaugeVec,
    canary_seconds: HistogramVec,
    canary_missed: IntCounterVec,
    sinks: sinks::Vectors,
}

/// Metrics could not be set up or written: a mistake in the program, not of its user.
#[derive(Debug, Error)]
#[error("metrics: {0}")]
pub struct Error(#[from] prometheus::Error);

/// What a hook in the kernel has counted since it was armed, over all CPUs.
/// `seen = filtered + submitted + lost + error`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HookCounts {
    /// Operations that came by.
    pub seen: u64,
    /// Out of scope.
    pub filtered: u64,
    /// Handed over to the agent.
    pub submitted: u64,
    /// In scope and lost.
    pub lost: u64,
    /// In scope, but no record could be made of it.
    pub error: u64,
}

impl Metrics {
    /// All of them at nothing.
    ///
    /// # Errors
    /// Never, but for a mistake in the names.
    pub fn new() -> Result<Self, Error> {
        let registry = Registry::new();
        let metrics = Self {
            events: register(
                &registry,
                counters(
                    "fim_events_total",
                    "Events written to the journal.",
                    &["action", "provider", "outcome"],
                )?,
            )?,
            kernel_operations: register(
                &registry,
                counters(
                    "fim_kernel_operations_total",
                    "Operations that a hook in the kernel saw, filtered as out of scope, submitted to the agent, lost, or failed to read.",
                    &["hook", "result"],
                )?,
            )?,
            events_dropped: register(
                &registry,
                counters(
                    "fim_events_dropped_total",
                    "What a stage of the pipeline dropped, by reason.",
                    &["stage", "reason"],
                )?,
            )?,
            gaps: register(
                &registry,
                IntCounter::new("fim_gaps_total", "Losses reported as a gap event.")?,
            )?,
            gap_open: register(
                &registry,
                IntGauge::new(
                    "fim_gap_open",
                    "1: something was lost, and what it affects is not compared with the disk yet.",
                )?,
            )?,
            healthy: register(
                &registry,
                IntGauge::new("fim_healthy", "1: /healthz has nothing to say; 0: it says why.")?,
            )?,
            state_free_bytes: register(
                &registry,
                IntGauge::new(
                    "fim_state_free_bytes",
                    "Free bytes on the file system of the state directory, where the journal is.",
                )?,
            )?,
            event_delay: register(
                &registry,
                histogram(
                    "fim_event_delay_seconds",
                    "Time from the kernel to the journal.",
                    &DELAY_BUCKETS,
                )?,
            )?,
            hash_seconds: register(
                &registry,
                histogram("fim_hash_seconds", "Time it took to hash a file.", &HASH_BUCKETS)?,
            )?,
            hash_bytes: register(
                &registry,
                IntCounter::new("fim_hash_bytes_total", "Bytes read to be hashed.")?,
            )?,
            baseline_objects: register(
                &registry,
                IntGauge::new("fim_baseline_objects", "Objects in the baseline.")?,
            )?,
            queue_depth: register(
                &registry,
                gauges("fim_queue_depth", "What waits in a queue.", &["queue"])?,
            )?,
            hook_armed: register(
                &registry,
                gauges("fim_hook_armed", "1: the hook is armed; 0: it is not.", &["hook"])?,
            )?,
            backend_info: register(
                &registry,
                gauges("fim_backend_info", "1 for the source of events in use.", &["backend"])?,
            )?,
            ledger: register(
                &registry,
                counters(
                    "fim_ledger_operations_total",
                    "Operations (towards the end: events) that a stage took in, or that took this way out of it; `pending` is what waits now.",
                    &["stage"],
                )?,
            )?,
            canary_seconds: register(
                &registry,
                HistogramVec::new(
                    HistogramOpts::new(
                        "fim_canary_seconds",
                        "Time from an operation of the agent's own to its event.",
                    )
                    .buckets(DELAY_BUCKETS.to_vec()),
                    &["operation", "fs"],
                )?,
            )?,
            canary_missed: register(
                &registry,
                counters(
                    "fim_canary_missed_total",
                    "Operations of the agent's own that it did not see: a hook has stopped.",
                    &["operation", "fs"],
                )?,
            )?,
            imbalance: register(
                &registry,
                gauges(
                    "fim_ledger_imbalance",
                    "What came in less what became of it; beyond what is under way: lost without being counted.",
                    &["identity"],
                )?,
            )?,
            sinks: sinks::Vectors::new(&registry)?,
            registry,
        };
        let build = gauges(
            "fim_build_info",
            "1; the labels tell of the program.",
            &["version", "arch", "os"],
        )?;
        let labels = [env!("CARGO_PKG_VERSION"), std::env::consts::ARCH, std::env::consts::OS];
        build.with_label_values(&labels).set(1);
        register(&metrics.registry, build)?;
        metrics.registry.register(Box::new(process::Process::new()?))?;
        Ok(metrics)
    }

    /// An event has been written to the journal. The agent's own have no provider.
    pub fn event(&self, action: Action, provider: Option<Provider>, outcome: Outcome) {
        self.events_of(action, provider, outcome).inc();
    }

    /// What counts such events. Finding it takes longer than counting.
    pub(crate) fn events_of(
        &self,
        action: Action,
        provider: Option<Provider>,
        outcome: Outcome,
    ) -> IntCounter {
        let provider = provider.map_or("agent", Provider::as_str);
        self.events.with_label_values(&[action.as_str(), provider, outcome.as_str()])
    }

    /// What the kernel has counted at `hook` since it was armed. For one thread; a count that is
    /// smaller than the last one means that the hook was armed anew.
    pub fn set_kernel_operations(&self, hook: &str, counts: HookCounts) {
        let HookCounts { seen, filtered, submitted, lost, error } = counts;
        for (result, value) in [
            ("seen", seen),
            ("filtered", filtered),
            ("submitted", submitted),
            ("lost", lost),
            ("error", error),
        ] {
            set(&self.kernel_operations.with_label_values(&[hook, result]), value);
        }
    }

    /// The agent saw its own operation so long after it was done.
    pub fn canary(&self, operation: &str, fs: &str, delay: Duration) {
        let labels = [operation, fs];
        self.canary_seconds.with_label_values(&labels).observe(delay.as_secs_f64());
        // A counter that is not there until it counts makes no rate.
        self.canary_missed.with_label_values(&labels).inc_by(0);
    }

    /// The agent did not see its own operation.
    pub fn canary_missed(&self, operation: &str, fs: &str) {
        self.canary_missed.with_label_values(&[operation, fs]).inc();
    }

    /// What the stages have counted, and how far that adds up. For one thread.
    pub fn set_ledger(&self, counts: &Counts) {
        for stage in Stage::ALL {
            set(&self.ledger.with_label_values(&[stage.name()]), counts.get(*stage));
        }
        for identity in Identity::ALL {
            self.imbalance.with_label_values(&[identity.name]).set(counts.imbalance(identity));
        }
    }

    /// The stage `stage` dropped `count` things because of `reason`.
    pub fn dropped(&self, stage: &str, reason: &str, count: u64) {
        self.events_dropped.with_label_values(&[stage, reason]).inc_by(count);
    }

    /// The stage `stage` has dropped `count` things altogether because of `reason`. For one thread.
    pub fn set_dropped(&self, stage: &str, reason: &str, count: u64) {
        set(&self.events_dropped.with_label_values(&[stage, reason]), count);
    }

    /// A loss has been reported.
    pub fn gap(&self) {
        self.gaps.inc();
    }

    /// Whether there is a loss of which the comparison is still to be finished.
    pub fn set_gap_open(&self, is_open: bool) {
        self.gap_open.set(is_open.into());
    }

    /// Whether `/healthz` has nothing to say.
    pub fn set_healthy(&self, is_healthy: bool) {
        self.healthy.set(is_healthy.into());
    }

    /// So much is free where the state is.
    pub fn set_state_free_bytes(&self, bytes: u64) {
        self.state_free_bytes.set(clamped(bytes));
    }

    /// An event has reached the journal so long after the kernel saw it.
    pub fn event_delay(&self, delay: Duration) {
        self.event_delay.observe(delay.as_secs_f64());
    }

    /// So many bytes have been hashed in this time.
    pub fn hashed(&self, time: Duration, bytes: u64) {
        self.hash_seconds.observe(time.as_secs_f64());
        self.hash_bytes.inc_by(bytes);
    }

    /// So many objects are in the baseline.
    pub fn set_baseline_objects(&self, count: u64) {
        self.baseline_objects.set(clamped(count));
    }

    /// So much waits in `queue`.
    pub fn set_queue_depth(&self, queue: &str, depth: usize) {
        self.queue_depth.with_label_values(&[queue]).set(clamped(depth as u64));
    }

    /// Whether `hook` is armed.
    pub fn set_hook_armed(&self, hook: &str, armed: bool) {
        self.hook_armed.with_label_values(&[hook]).set(armed.into());
    }

    /// The source of events in use, in place of the one told before.
    pub fn set_backend(&self, backend: &str) {
        self.backend_info.reset();
        self.backend_info.with_label_values(&[backend]).set(1);
    }

    /// What the sink `name` counts.
    pub fn sink(&self, name: &str) -> SinkMetrics {
        self.sinks.of(name)
    }

    /// The sink `name` is not there any more.
    pub fn remove_sink(&self, name: &str) {
        self.sinks.remove(name);
    }

    /// All of them in Prometheus' text format.
    ///
    /// # Errors
    /// Never, but for a mistake in the names.
    pub fn encode(&self) -> Result<String, Error> {
        Ok(TextEncoder::new().encode_to_string(&self.registry.gather())?)
    }
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, metric: C) -> Result<C, Error> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

/// Brings a counter to a value that is counted elsewhere. One that is smaller than the last means
/// that it was begun anew.
fn set(counter: &IntCounter, value: u64) {
    match value.checked_sub(counter.get()) {
        Some(more) => counter.inc_by(more),
        None => {
            counter.reset();
            counter.inc_by(value);
        }
    }
}

fn counters(name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, Error> {
    Ok(IntCounterVec::new(Opts::new(name, help), labels)?)
}

fn gauges(name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, Error> {
    Ok(IntGaugeVec::new(Opts::new(name, help), labels)?)
}

fn histogram(name: &str, help: &str, buckets: &[f64]) -> Result<Histogram, Error> {
    Ok(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))?)
}

fn clamped(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
