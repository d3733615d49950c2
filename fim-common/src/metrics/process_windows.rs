//! The standard `process_*` metrics, from what Windows counts.

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge};

/// Ticks of 100 ns from 1601 to 1970.
const UNIX_EPOCH: u64 = 116_444_736_000_000_000;

/// The crate knows the process only through /proc.
pub(super) struct Process {
    processor: Counter,
    resident: Gauge,
    private: Gauge,
    start: Gauge,
    handles: Gauge,
}

impl Process {
    pub(super) fn new() -> prometheus::Result<Self> {
        let gauge = |name: &str, help: &str| Gauge::new(name, help);
        Ok(Self {
            processor: Counter::new(
                "process_cpu_seconds_total",
                "Total user and system CPU time spent in seconds.",
            )?,
            resident: gauge("process_resident_memory_bytes", "Resident memory size in bytes.")?,
            private: gauge("process_virtual_memory_bytes", "Private memory size in bytes.")?,
            start: gauge(
                "process_start_time_seconds",
                "Start time of the process since unix epoch in seconds.",
            )?,
            handles: gauge("process_open_fds", "Number of open handles.")?,
        })
    }
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        let gauges = [&self.resident, &self.private, &self.start, &self.handles];
        self.processor.desc().into_iter().chain(gauges.into_iter().flat_map(Gauge::desc)).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let usage = fim_win32::clock::usage();
        self.processor.inc_by(usage.processor.as_secs_f64() - self.processor.get());
        self.resident.set(usage.resident as f64);
        self.private.set(usage.private as f64);
        self.start.set(usage.start.saturating_sub(UNIX_EPOCH) as f64 / 1e7);
        self.handles.set(f64::from(usage.handles));
        let gauges = [&self.resident, &self.private, &self.start, &self.handles];
        self.processor
            .collect()
            .into_iter()
            .chain(gauges.into_iter().flat_map(Gauge::collect))
            .collect()
    }
}
