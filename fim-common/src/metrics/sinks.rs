//! What sinks count, each by its name.

use prometheus::{
    Gauge, GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use super::{Error, clamped, counters, gauges, register};

/// One vector for each metric.
#[derive(Clone, Debug)]
pub(super) struct Vectors {
    up: IntGaugeVec,
    lag_events: IntGaugeVec,
    lag_seconds: GaugeVec,
    sent: IntCounterVec,
    bytes: IntCounterVec,
    retried: IntCounterVec,
    failed: IntCounterVec,
    parked: IntCounterVec,
    filtered: IntCounterVec,
    missed: IntCounterVec,
}

impl Vectors {
    pub(super) fn new(registry: &Registry) -> Result<Self, Error> {
        let counter = |name, help| register(registry, counters(name, help, &["sink"])?);
        let gauge = |name, help| register(registry, gauges(name, help, &["sink"])?);
        let seconds = Opts::new(
            "fim_sink_lag_seconds",
            "Age of the oldest event that the sink has not sent; 0: there is none.",
        );
        Ok(Self {
            up: gauge(
                "fim_sink_up",
                "1: the last attempt to send worked; 0: it did not, or nothing has arrived since.",
            )?,
            lag_events: gauge(
                "fim_sink_lag_events",
                "Events of the journal that the sink has not come to yet.",
            )?,
            lag_seconds: register(registry, GaugeVec::new(seconds, &["sink"])?)?,
            sent: counter(
                "fim_sink_sent_total",
                "Events that have arrived; syslog: the connection outlived them.",
            )?,
            bytes: counter("fim_sink_sent_bytes_total", "Bytes of them, as they were formatted.")?,
            retried: counter("fim_sink_retried_total", "Events that had to be sent again.")?,
            failed: counter("fim_sink_failed_total", "Attempts to send that failed.")?,
            parked: counter(
                "fim_sink_parked_total",
                "Events that the receiver refused for good, and that were set aside.",
            )?,
            filtered: counter("fim_sink_filtered_total", "Events that the sink is not to get.")?,
            missed: counter(
                "fim_sink_missed_segments_total",
                "Segments of the journal that retention removed before the sink had read them.",
            )?,
        })
    }

    pub(super) fn of(&self, name: &str) -> SinkMetrics {
        let labels = &[name];
        let metrics = SinkMetrics {
            up: self.up.with_label_values(labels),
            lag_events: self.lag_events.with_label_values(labels),
            lag_seconds: self.lag_seconds.with_label_values(labels),
            sent: self.sent.with_label_values(labels),
            bytes: self.bytes.with_label_values(labels),
            retried: self.retried.with_label_values(labels),
            failed: self.failed.with_label_values(labels),
            parked: self.parked.with_label_values(labels),
            filtered: self.filtered.with_label_values(labels),
            missed: self.missed.with_label_values(labels),
        };
        // Until it knows better.
        metrics.up.set(1);
        metrics
    }

    pub(super) fn remove(&self, name: &str) {
        let Self {
            up,
            lag_events,
            lag_seconds,
            sent,
            bytes,
            retried,
            failed,
            parked,
            filtered,
            missed,
        } = self;
        let labels = &[name];
        // One that was never counted is not there.
        for gauge in [up, lag_events] {
            let _ = gauge.remove_label_values(labels);
        }
        let _ = lag_seconds.remove_label_values(labels);
        for counter in [sent, bytes, retried, failed, parked, filtered, missed] {
            let _ = counter.remove_label_values(labels);
        }
    }
}

/// What one sink counts.
#[derive(Clone, Debug)]
pub struct SinkMetrics {
    up: IntGauge,
    lag_events: IntGauge,
    lag_seconds: Gauge,
    sent: IntCounter,
    bytes: IntCounter,
    retried: IntCounter,
    failed: IntCounter,
    parked: IntCounter,
    filtered: IntCounter,
    missed: IntCounter,
}

impl SinkMetrics {
    /// The receiver took so many events, of so many bytes.
    pub fn sent(&self, events: u64, bytes: u64) {
        self.sent.inc_by(events);
        self.bytes.inc_by(bytes);
    }

    /// So many events have to be sent again.
    pub fn retried(&self, events: u64) {
        self.retried.inc_by(events);
    }

    /// An attempt worked, or did not.
    pub fn attempt(&self, worked: bool) {
        self.up.set(worked.into());
        self.failed.inc_by((!worked).into());
    }

    /// An event was set aside.
    pub fn parked(&self) {
        self.parked.inc();
    }

    /// So many events are not for this sink.
    pub fn filtered(&self, events: u64) {
        self.filtered.inc_by(events);
    }

    /// So many segments are gone.
    pub fn missed(&self, segments: u64) {
        self.missed.inc_by(segments);
    }

    /// How far behind the sink is: events, and seconds.
    pub fn set_lag(&self, events: u64, seconds: f64) {
        self.lag_events.set(clamped(events));
        self.lag_seconds.set(seconds);
    }
}
