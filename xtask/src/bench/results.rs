//! What was measured, in the form in which it comes back from a machine.

use serde::{Deserialize, Serialize};

use crate::bench::load::Done;

/// What watches while a workload runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Monitor {
    /// Nothing.
    None,
    /// Nothing once more: how far two equal runs are apart.
    NoneAgain,
    /// fim, watching another directory of the same file system.
    FimElsewhere,
    /// fim, watching the directory that the workload changes.
    FimHere,
    Fatrace,
    Inotifywait,
    AuditdElsewhere,
    AuditdHere,
}

impl Monitor {
    /// The heading of its column.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::NoneAgain => "none again",
            Self::FimElsewhere => "fim elsewhere",
            Self::FimHere => "fim here",
            Self::Fatrace => "fatrace",
            Self::Inotifywait => "inotifywait here",
            Self::AuditdElsewhere => "auditd elsewhere",
            Self::AuditdHere => "auditd here",
        }
    }
}

/// One workload under one monitor.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub(crate) round: u32,
    pub(crate) monitor: Monitor,
    pub(crate) load: String,
    pub(crate) done: Done,
    /// What the monitor's process used until it had told of everything.
    pub(crate) monitor_cpu_us: Option<u64>,
    /// Of fim only.
    pub(crate) told: Option<Told>,
}

/// What fim told of a workload.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Told {
    /// Events in the journal.
    pub(crate) events: u64,
    /// Different objects of the workload that an event of this action names.
    pub(crate) created: u64,
    pub(crate) updated: u64,
    pub(crate) deleted: u64,
    /// Operations that the kernel's side or a queue had no room for, by the counters.
    pub(crate) lost: u64,
    pub(crate) gaps: u64,
}

/// What `fim replay` said: the agent on records made beforehand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Replay {
    /// Read.
    pub(crate) records: u64,
    /// Of those: not told of.
    pub(crate) lost: u64,
    /// In the journal.
    pub(crate) events: u64,
    /// Of the whole agent.
    pub(crate) processor_seconds: f64,
    /// By the clock.
    pub(crate) seconds: f64,
}

/// A program in the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hook {
    pub(crate) name: String,
    pub(crate) target: String,
    /// Instructions that the verifier looked at.
    pub(crate) verified: u64,
    /// How often it ran, and for how long altogether, during each of the workloads.
    pub(crate) loads: Vec<Runs>,
}

/// What a program in the kernel did during a workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Runs {
    pub(crate) load: String,
    pub(crate) operations: u64,
    pub(crate) runs: u64,
    pub(crate) nanoseconds: u64,
}

/// What came of what was due: objects that an event of the right action names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Delivery {
    pub(crate) due: u64,
    pub(crate) delivered: u64,
    /// Told of, though nothing of the kind was done to them.
    pub(crate) not_due: u64,
    /// Operations, by fim's counters.
    pub(crate) lost: u64,
}

/// All from one place.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) kernel: String,
    pub(crate) cores: u64,
    pub(crate) backend: String,
    pub(crate) scale: f64,
    pub(crate) rounds: u32,
    pub(crate) samples: Vec<Sample>,
    /// fim's resident memory with 10,000 watched files, in bytes.
    pub(crate) resident: Option<u64>,
    /// What of that is the ring's, which counts twice.
    #[serde(default)]
    pub(crate) ring_resident: u64,
    /// Operations that the default ring took while nobody read it.
    pub(crate) ring_holds: Option<u64>,
    pub(crate) hooks: Vec<Hook>,
    #[serde(default)]
    pub(crate) replays: Vec<Replay>,
    /// What could not be measured, and why.
    pub(crate) notes: Vec<String>,
}

impl Results {
    /// The median over the rounds of the workload's processor time with this monitor by that
    /// without any.
    pub(crate) fn ratio(&self, load: &str, monitor: Monitor) -> Option<f64> {
        let of = |round: u32, monitor: Monitor| {
            let mut all = self.samples.iter();
            all.find(|s| s.round == round && s.monitor == monitor && s.load == load)
                .map(|sample| sample.done.cpu_us as f64)
        };
        let ratios = (0..self.rounds).filter_map(|round| {
            let without = of(round, Monitor::None).filter(|time| *time > 0.0)?;
            Some(of(round, monitor)? / without)
        });
        median(ratios.collect())
    }

    /// The workload's processor time for one operation, in nanoseconds.
    pub(crate) fn nanoseconds(&self, load: &str, monitor: Monitor) -> Option<f64> {
        let of = self.of(load, monitor);
        median(of.map(|s| s.done.cpu_us as f64 * 1000.0 / s.done.operations as f64).collect())
    }

    /// The monitor's processor time for one of its events, in microseconds.
    pub(crate) fn cpu_per_event(&self, load: &str) -> Option<f64> {
        let of = self.of(load, Monitor::FimHere);
        let costs = of.filter_map(|sample| {
            let events = sample.told.as_ref().map(|told| told.events).filter(|n| *n > 0)?;
            Some(sample.monitor_cpu_us? as f64 / events as f64)
        });
        median(costs.collect())
    }

    /// fim's processor time for an event of a replay, in microseconds.
    pub(crate) fn replay_per_event(&self) -> Option<f64> {
        let costs = self.replays.iter().map(|r| r.processor_seconds * 1e6 / r.events as f64);
        median(costs.collect())
    }

    /// How many records one core takes to events in a second: as many as all threads together in
    /// a second of processor time. `None` when any was lost.
    pub(crate) fn replay_rate(&self) -> Option<f64> {
        let whole = self.replays.iter().all(|replay| replay.lost == 0);
        let rates = self.replays.iter().map(|r| r.records as f64 / r.processor_seconds);
        median(rates.collect()).filter(|_| whole)
    }

    /// The monitor's processor time for one operation of the workload, in microseconds.
    pub(crate) fn cpu_per_operation(&self, load: &str, monitor: Monitor) -> Option<f64> {
        let of = self.of(load, monitor);
        let costs = of.filter_map(|s| Some(s.monitor_cpu_us? as f64 / s.done.operations as f64));
        median(costs.collect())
    }

    /// Of fim watching here, over all rounds.
    pub(crate) fn delivery(&self, load: &str) -> Option<Delivery> {
        let mut sum = None;
        for sample in self.of(load, Monitor::FimHere) {
            let Some(told) = &sample.told else { continue };
            let sum: &mut Delivery = sum.get_or_insert_default();
            let done = &sample.done;
            for (due, told) in [
                (done.created, told.created),
                (done.updated, told.updated),
                (done.deleted, told.deleted),
            ] {
                sum.due += due;
                sum.delivered += told.min(due);
                sum.not_due += told.saturating_sub(due);
            }
            sum.lost += told.lost;
        }
        sum
    }

    /// Those that were run, in the order in which they came first.
    pub(crate) fn monitors(&self) -> Vec<Monitor> {
        let mut monitors = Vec::new();
        for sample in self.samples.iter().filter(|sample| sample.round == 0) {
            if !monitors.contains(&sample.monitor) {
                monitors.push(sample.monitor);
            }
        }
        monitors
    }

    fn of(&self, load: &str, monitor: Monitor) -> impl Iterator<Item = &Sample> {
        self.samples.iter().filter(move |s| s.monitor == monitor && s.load == load)
    }
}

/// The middle one, or the mean of the two in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        count if count % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn medians() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0]), Some(2.5));
    }
}
