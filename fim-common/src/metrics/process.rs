//! The standard `process_*` metrics, with processor time as fine as the kernel counts it.

use prometheus::core::{Collector, Desc};
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::{Counter, MetricFamily};

use crate::platform::process_time;

/// The crate's own collector counts whole seconds of processor time.
pub(super) struct Process(ProcessCollector);

impl Process {
    pub(super) fn new() -> prometheus::Result<Self> {
        Ok(Self(ProcessCollector::for_self()))
    }
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        self.0.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = self.0.collect();
        for family in &mut families {
            if family.name() == "process_cpu_seconds_total" {
                for metric in family.mut_metric() {
                    let mut counter = Counter::default();
                    counter.set_value(process_time().as_secs_f64());
                    metric.set_counter(counter);
                }
            }
        }
        families
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_not_rounded_to_seconds() {
        let process = Process::new().unwrap();
        let value = || {
            let families = process.collect();
            let cpu = families.iter().find(|f| f.name() == "process_cpu_seconds_total").unwrap();
            cpu.get_metric()[0].get_counter().get_value()
        };
        let before = value();
        // Every clock that is asked takes some of it.
        while value() <= before {}
        assert!(value() - before < 1.0, "a step of a second");
    }
}
