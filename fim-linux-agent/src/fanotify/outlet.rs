//! The way out of the reader: never blocking, and never silent about what it could not hold.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fim_common::collector::{Gap, Observation, ObservationSender};
use fim_common::loss::Losses;
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

/// Losses that go on are told this often.
const TELL: Duration = Duration::from_millis(500);

/// The sender, with room for what it does not take at once.
#[derive(Debug)]
pub(super) struct Outlet {
    sender: ObservationSender,
    counters: Arc<Counters>,
    spill: VecDeque<Observation>,
    capacity: usize,
    losses: Losses,
    /// What is missing and not told yet.
    lost: Option<(Timestamp, Timestamp, u64)>,
    /// When a loss was told last.
    told: Option<Instant>,
    closed: bool,
}

impl Outlet {
    pub(super) fn new(
        sender: ObservationSender,
        losses: Losses,
        counters: Arc<Counters>,
        capacity: usize,
    ) -> Self {
        Self {
            sender,
            counters,
            spill: VecDeque::new(),
            capacity,
            losses,
            lost: None,
            told: None,
            closed: false,
        }
    }

    /// Hands an operation over, at `time`.
    pub(super) fn operation(&mut self, time: Timestamp, observation: Observation) {
        if self.push(observation) {
            Counters::add(&self.counters.submitted, 1);
        } else {
            Counters::add(&self.counters.lost, 1);
            let lost = self.lost.get_or_insert((time, time, 0));
            (lost.1, lost.2) = (time, lost.2 + 1);
            self.tell(false);
        }
    }

    /// Tells of a loss that happened elsewhere.
    pub(super) fn loss(&mut self, gap: Gap) {
        self.losses.report(gap);
    }

    /// Hands a re-check or a fence over. These are few, and the more important the less room there
    /// is: they go into a full spill too.
    pub(super) fn notice(&mut self, observation: Observation) {
        self.flush();
        self.tell(true);
        self.spill.push_back(observation);
        self.flush();
    }

    fn push(&mut self, observation: Observation) -> bool {
        if self.closed {
            return false;
        }
        let observation = if self.spill.is_empty() {
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
        self.spill.push_back(observation);
        self.counters.spilled.store(self.spill.len() as u64, Ordering::Relaxed);
        true
    }

    /// Tells of what was lost: at once, and while it goes on every now and then.
    fn tell(&mut self, now: bool) {
        if !now && self.told.is_some_and(|told| told.elapsed() < TELL) {
            return;
        }
        if let Some((from, to, count)) = self.lost.take() {
            self.told = Some(Instant::now());
            self.losses.report(Gap {
                from,
                to,
                count: Some(count),
                hooks: vec!["fanotify_spill".to_owned()],
                scope: Vec::new(),
            });
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
        self.tell(self.spill.is_empty());
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
            Observation::Operation(_) | Observation::Fence(_) => unreachable!(),
        }
    }

    fn drain(receiver: &mut mpsc::Receiver<Observation>, outlet: &mut Outlet) -> Vec<String> {
        let mut seen = Vec::new();
        while let Ok(observation) = receiver.try_recv() {
            seen.push(text(observation));
            outlet.flush();
        }
        seen
    }

    #[test]
    fn a_loss_is_told_at_once_and_what_fits_again_is_held() {
        let (sender, mut receiver) = mpsc::channel(2);
        let (counters, losses) = (Arc::new(Counters::default()), Losses::default());
        let mut outlet = Outlet::new(sender, losses.clone(), Arc::clone(&counters), 3);
        for number in 0..6 {
            outlet.operation(Timestamp::now(), observation(number));
        }
        assert_eq!(losses.take().unwrap().count, Some(1), "while the pipeline still does nothing");
        outlet.operation(Timestamp::now(), observation(6));
        assert_eq!(losses.take(), None, "not each by itself");
        assert_eq!(counters.submitted.load(Ordering::Relaxed), 5, "2 in the channel, 3 spilled");
        assert_eq!(counters.lost.load(Ordering::Relaxed), 2);
        assert!(!outlet.flush());
        assert_eq!(drain(&mut receiver, &mut outlet), ["0", "1", "2", "3", "4"]);
        assert_eq!(losses.take().unwrap().count, Some(1), "the rest, needing no later operation");
        outlet.operation(Timestamp::now(), observation(7));
        assert_eq!(drain(&mut receiver, &mut outlet), ["7"]);
        assert!(outlet.flush());
    }

    #[test]
    fn what_is_lost_before_a_fence_is_told_before_it() {
        let (sender, _receiver) = mpsc::channel(1);
        let losses = Losses::default();
        let mut outlet = Outlet::new(sender, losses.clone(), Arc::default(), 1);
        for number in 0..5 {
            outlet.operation(Timestamp::now(), observation(number));
        }
        outlet.notice(Observation::Fence(1));
        assert_eq!(losses.take().unwrap().count, Some(3));
    }

    #[test]
    fn nobody_listens_any_more() {
        let (sender, receiver) = mpsc::channel(1);
        let mut outlet = Outlet::new(sender, Losses::default(), Arc::default(), 4);
        drop(receiver);
        outlet.operation(Timestamp::now(), observation(0));
        assert!(outlet.is_closed());
    }
}
