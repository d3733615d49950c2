//! The way out of the reader: never blocking, and never silent about what it could not hold.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fim_common::collector::{Gap, Observation, ObservationSender};
use fim_common::time::Timestamp;
use tokio::sync::mpsc::error::TrySendError;

/// What became of the operations; shared with whoever serves metrics.
/// `seen = filtered + submitted + lost + error`.
#[derive(Debug, Default)]
pub struct Counters {
    /// Operations the kernel told of; merged events count as what they were merged from.
    pub seen: AtomicU64,
    /// Outside the watched trees, of the agent itself, or of an object without a name.
    pub filtered: AtomicU64,
    /// Handed to the pipeline, or held until it takes them.
    pub submitted: AtomicU64,
    /// Dropped because the pipeline did not keep up and the spill was full.
    pub lost: AtomicU64,
    /// Without a path: the directory was gone and nothing in the queue told of it.
    pub error: AtomicU64,
    /// Times the kernel's own queue overflowed. It has no limit but memory.
    pub overflows: AtomicU64,
    /// Buffers with an event that is not as documented.
    pub malformed: AtomicU64,
    /// Operations that are held now because the pipeline is busy.
    pub spilled: AtomicU64,
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }
}

/// The sender, with room for what it does not take at once.
#[derive(Debug)]
pub(super) struct Outlet {
    sender: ObservationSender,
    counters: Arc<Counters>,
    spill: VecDeque<Observation>,
    capacity: usize,
    /// What is missing behind the end of the spill.
    lost: Option<(Timestamp, Timestamp, u64)>,
    closed: bool,
}

impl Outlet {
    pub(super) fn new(sender: ObservationSender, counters: Arc<Counters>, capacity: usize) -> Self {
        Self { sender, counters, spill: VecDeque::new(), capacity, lost: None, closed: false }
    }

    /// Hands an operation over, at `time`.
    pub(super) fn operation(&mut self, time: Timestamp, observation: Observation) {
        if self.push(time, observation) {
            Counters::add(&self.counters.submitted, 1);
        } else {
            Counters::add(&self.counters.lost, 1);
            let lost = self.lost.get_or_insert((time, time, 0));
            (lost.1, lost.2) = (time, lost.2 + 1);
        }
    }

    /// Hands a gap or a re-check over. These are few, and the more important the less room there
    /// is: they go into a full spill too.
    pub(super) fn notice(&mut self, observation: Observation) {
        self.flush();
        self.settle();
        self.spill.push_back(observation);
        self.flush();
    }

    fn push(&mut self, time: Timestamp, observation: Observation) -> bool {
        if self.closed {
            return false;
        }
        let observation = if self.spill.is_empty() && self.lost.is_none() {
            match self.sender.try_send(observation) {
                Ok(()) => return true,
                Err(TrySendError::Full(observation)) => observation,
                Err(TrySendError::Closed(_)) => {
                    self.closed = true;
                    return false;
                }
            }
        } else {
            self.flush();
            observation
        };
        if self.spill.len() >= self.capacity {
            return false;
        }
        if let Some(lost) = &mut self.lost {
            lost.1 = time;
            self.settle();
        }
        self.spill.push_back(observation);
        self.counters.spilled.store(self.spill.len() as u64, Ordering::Relaxed);
        true
    }

    /// Puts the gap, if there is one, at the end of the spill.
    fn settle(&mut self) {
        if let Some((from, to, count)) = self.lost.take() {
            tracing::error!(count, "operations lost: the pipeline did not keep up");
            self.spill.push_back(Observation::Gap(Gap {
                from,
                to,
                count: Some(count),
                hooks: vec!["fanotify_spill".to_owned()],
                scope: Vec::new(),
            }));
        }
    }

    /// Sends what the pipeline takes. Returns whether nothing is left.
    pub(super) fn flush(&mut self) -> bool {
        while let Some(observation) = self.spill.pop_front() {
            match self.sender.try_send(observation) {
                Ok(()) => {}
                Err(TrySendError::Full(observation)) => {
                    self.spill.push_front(observation);
                    break;
                }
                Err(TrySendError::Closed(_)) => {
                    self.closed = true;
                    self.spill.clear();
                }
            }
        }
        // With room again, the gap goes out even if no operation follows.
        if self.spill.len() <= self.capacity / 2 {
            self.settle();
        }
        self.counters.spilled.store(self.spill.len() as u64, Ordering::Relaxed);
        self.spill.is_empty() && self.lost.is_none()
    }

    /// Whether the pipeline has gone.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;
    use tokio::sync::mpsc;

    fn observation(number: u32) -> Observation {
        Observation::Recheck(PathBuf::from(number.to_string()))
    }

    fn text(observation: Observation) -> String {
        match observation {
            Observation::Recheck(path) => path.display().to_string(),
            Observation::Gap(gap) => format!("gap of {}", gap.count.unwrap()),
            Observation::Operation(_) => unreachable!(),
        }
    }

    #[test]
    fn a_gap_stands_where_the_loss_was() {
        let (sender, mut receiver) = mpsc::channel(2);
        let counters = Arc::new(Counters::default());
        let mut outlet = Outlet::new(sender, Arc::clone(&counters), 3);
        for number in 0..8 {
            outlet.operation(Timestamp::now(), observation(number));
        }
        assert_eq!(counters.submitted.load(Ordering::Relaxed), 5, "2 in the channel, 3 spilled");
        assert_eq!(counters.lost.load(Ordering::Relaxed), 3);
        assert!(!outlet.flush());

        let mut seen = Vec::new();
        while let Ok(observation) = receiver.try_recv() {
            seen.push(text(observation));
            outlet.flush();
        }
        outlet.operation(Timestamp::now(), observation(8));
        while let Ok(observation) = receiver.try_recv() {
            seen.push(text(observation));
        }
        assert_eq!(seen, ["0", "1", "2", "3", "4", "gap of 3", "8"]);
        assert!(outlet.flush());
    }

    #[test]
    fn a_gap_needs_no_later_operation() {
        let (sender, mut receiver) = mpsc::channel(1);
        let mut outlet = Outlet::new(sender, Arc::default(), 1);
        for number in 0..3 {
            outlet.operation(Timestamp::now(), observation(number));
        }
        let mut seen = Vec::new();
        for _ in 0..4 {
            while let Ok(observation) = receiver.try_recv() {
                seen.push(text(observation));
            }
            outlet.flush();
        }
        assert_eq!(seen, ["0", "1", "gap of 1"]);
    }

    #[test]
    fn nobody_listens_any_more() {
        let (sender, receiver) = mpsc::channel(1);
        let mut outlet = Outlet::new(sender, Arc::default(), 4);
        drop(receiver);
        outlet.operation(Timestamp::now(), observation(0));
        assert!(outlet.is_closed());
    }
}
