//! The way out of the reader: never blocking, and never silent about what it could not hold.

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fim_common::collector::{Gap, Observation, ObservationSender};
use fim_common::event::Action;
use fim_common::loss::Losses;
use fim_common::operation::{Operation, OperationKind};
use fim_common::time::Timestamp;
use tokio::sync::mpsc::error::TrySendError;

use crate::shares::Shares;

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

/// Directories that a loss names; in more, everything is compared.
const SCOPE_MAX: usize = 16;

/// What is missing.
#[derive(Debug)]
struct Lost {
    from: Timestamp,
    to: Timestamp,
    count: u64,
    /// The directories in which it happened; empty: too many.
    scope: BTreeSet<PathBuf>,
}

/// Where an operation happened, which is also its source: a flood is in one directory.
fn directory(operation: &Operation) -> Option<&Path> {
    operation.path.as_deref().and_then(Path::parent)
}

fn source(observation: &Observation) -> Option<&Path> {
    match observation {
        Observation::Operation(operation) => directory(operation),
        Observation::Recheck(_) | Observation::Fence(_) => None,
    }
}

impl Lost {
    fn new(time: Timestamp) -> Self {
        Self { from: time, to: time, count: 0, scope: BTreeSet::new() }
    }

    fn add(&mut self, time: Timestamp, operation: &Operation) {
        let known = self.count == 0 || !self.scope.is_empty();
        self.to = time;
        self.count += 1;
        let from = match &operation.kind {
            OperationKind::Rename { from, .. } => from.as_deref().and_then(Path::parent),
            _ => None,
        };
        let Some(here) = directory(operation).filter(|_| known) else {
            return self.scope.clear();
        };
        for directory in [Some(here), from].into_iter().flatten() {
            if !self.scope.contains(directory) {
                self.scope.insert(directory.to_owned());
            }
        }
        if self.scope.len() > SCOPE_MAX {
            self.scope.clear();
        }
    }
}

/// The sender, with room for what it does not take at once.
#[derive(Debug)]
pub(super) struct Outlet {
    sender: ObservationSender,
    counters: Arc<Counters>,
    spill: VecDeque<Observation>,
    shares: Shares,
    losses: Losses,
    /// What is missing and not told yet.
    lost: Option<Lost>,
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
            shares: Shares::new(capacity),
            losses,
            lost: None,
            told: None,
            closed: false,
        }
    }

    /// Hands an operation over, at `time`.
    pub(super) fn operation(&mut self, time: Timestamp, operation: Operation) {
        let Some(operation) = self.push(Box::new(operation)) else {
            return Counters::add(&self.counters.submitted, 1);
        };
        Counters::add(&self.counters.lost, 1);
        self.lost.get_or_insert_with(|| Lost::new(time)).add(time, &operation);
        self.tell(false);
    }

    /// Tells of a loss that happened elsewhere.
    pub(super) fn loss(&mut self, gap: Gap) {
        self.losses.report(gap);
    }

    /// Somebody meddled with the marks.
    pub(super) fn tampered(&mut self, message: String) {
        self.losses.notice(Action::AgentTampered, message);
    }

    /// Hands a re-check or a fence over. These are few, and the more important the less room there
    /// is: they go into a full spill too.
    pub(super) fn notice(&mut self, observation: Observation) {
        self.flush();
        self.tell(true);
        self.spill.push_back(observation);
        self.flush();
    }

    /// Returns the operation if there is no room for it.
    fn push(&mut self, operation: Box<Operation>) -> Option<Box<Operation>> {
        if self.closed {
            return Some(operation);
        }
        let operation = if self.spill.is_empty() {
            match self.sender.try_send(Observation::Operation(operation)) {
                Ok(()) => return None,
                Err(TrySendError::Full(Observation::Operation(operation))) => operation,
                Err(TrySendError::Full(_)) => return None,
                Err(TrySendError::Closed(observation)) => {
                    self.closed = true;
                    return match observation {
                        Observation::Operation(operation) => Some(operation),
                        Observation::Recheck(_) | Observation::Fence(_) => None,
                    };
                }
            }
        } else {
            self.flush();
            operation
        };
        if !self.shares.enter(&directory(&operation)) {
            return Some(operation);
        }
        self.spill.push_back(Observation::Operation(operation));
        self.counters.spilled.store(self.spill.len() as u64, Ordering::Relaxed);
        None
    }

    /// Tells of what was lost: at once, and while it goes on every now and then.
    fn tell(&mut self, now: bool) {
        if !now && self.told.is_some_and(|told| told.elapsed() < TELL) {
            return;
        }
        if let Some(Lost { from, to, count, scope }) = self.lost.take() {
            self.told = Some(Instant::now());
            self.losses.report(Gap {
                from,
                to,
                count: Some(count),
                hooks: vec!["fanotify_spill".to_owned()],
                scope: scope.into_iter().collect(),
            });
        }
    }

    /// Sends what the pipeline takes. Returns whether nothing is left.
    pub(super) fn flush(&mut self) -> bool {
        while let Some(observation) = self.spill.pop_front() {
            let operation = matches!(observation, Observation::Operation(_));
            let from = source(&observation).map(Path::to_owned);
            match self.sender.try_send(observation) {
                Ok(()) if operation => self.shares.leave(&from.as_deref()),
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

    /// What waits for the pipeline.
    pub(super) fn held(&self) -> usize {
        self.spill.len()
    }

    /// Nothing that is held will be taken any more: it is lost, and that is told.
    pub(super) fn give_up(&mut self) {
        for observation in self.spill.drain(..) {
            let Observation::Operation(operation) = observation else { continue };
            self.counters.submitted.fetch_sub(1, Ordering::Relaxed);
            Counters::add(&self.counters.lost, 1);
            let time = operation.time;
            self.lost.get_or_insert_with(|| Lost::new(time)).add(time, &operation);
        }
        self.counters.spilled.store(0, Ordering::Relaxed);
        self.tell(true);
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

    /// In a directory of its own, unless it is part of a flood.
    fn operation(number: u32) -> Operation {
        Operation {
            time: Timestamp::now(),
            provider: fim_common::event::Provider::Fanotify,
            kind: OperationKind::Create,
            path: Some(PathBuf::from(format!("/{number}/{number}"))),
            path_in_process: None,
            object: None,
            before: Default::default(),
            after: Default::default(),
            failure: None,
            actor: Arc::default(),
            details: None,
        }
    }

    fn flood() -> Operation {
        Operation { path: Some("/flood/file".into()), ..operation(0) }
    }

    fn drain(receiver: &mut mpsc::Receiver<Observation>, outlet: &mut Outlet) -> Vec<String> {
        let mut seen = Vec::new();
        while let Ok(observation) = receiver.try_recv() {
            let Observation::Operation(operation) = observation else { continue };
            let name = operation.path.as_deref().and_then(Path::file_name).unwrap();
            seen.push(name.to_string_lossy().into_owned());
            outlet.flush();
        }
        seen
    }

    #[test]
    fn a_loss_is_told_at_once_and_what_fits_again_is_held() {
        let (sender, mut receiver) = mpsc::channel(2);
        let (counters, losses) = (Arc::new(Counters::default()), Losses::default());
        let mut outlet = Outlet::new(sender, losses.clone(), Arc::clone(&counters), 8);
        for number in 0..11 {
            outlet.operation(Timestamp::now(), operation(number));
        }
        let told = losses.take().unwrap();
        assert_eq!(told.count, Some(1), "while the pipeline still does nothing");
        assert_eq!(told.scope, [PathBuf::from("/10")]);
        outlet.operation(Timestamp::now(), operation(11));
        assert_eq!(losses.take(), None, "not each by itself");
        assert_eq!(counters.submitted.load(Ordering::Relaxed), 10, "2 in the channel, 8 spilled");
        assert_eq!(counters.lost.load(Ordering::Relaxed), 2);
        assert!(!outlet.flush());
        assert_eq!(drain(&mut receiver, &mut outlet).len(), 10);
        assert_eq!(losses.take().unwrap().count, Some(1), "the rest, needing no later operation");
        outlet.operation(Timestamp::now(), operation(12));
        assert_eq!(drain(&mut receiver, &mut outlet), ["12"]);
        assert!(outlet.flush());
    }

    #[test]
    fn a_flood_in_one_directory_leaves_room_for_the_others() {
        let (sender, mut receiver) = mpsc::channel(1);
        let losses = Losses::default();
        let mut outlet = Outlet::new(sender, losses.clone(), Arc::default(), 100);
        (0..1000).for_each(|_| outlet.operation(Timestamp::now(), flood()));
        (1..=50).for_each(|number| outlet.operation(Timestamp::now(), operation(number)));
        let seen = drain(&mut receiver, &mut outlet);
        assert_eq!(seen.iter().filter(|name| *name == "file").count(), 51);
        assert_eq!(seen.len(), 101, "all the others");
        assert_eq!(losses.take().unwrap().scope, [PathBuf::from("/flood")]);
    }

    #[test]
    fn what_nobody_takes_any_more_is_told() {
        let (sender, mut receiver) = mpsc::channel(2);
        let (counters, losses) = (Arc::new(Counters::default()), Losses::default());
        let mut outlet = Outlet::new(sender, losses.clone(), Arc::clone(&counters), 8);
        (0..6).for_each(|number| outlet.operation(Timestamp::now(), operation(number)));
        outlet.notice(Observation::Fence(1));
        assert_eq!(outlet.held(), 5);
        outlet.give_up();
        assert_eq!(outlet.held(), 0);
        assert_eq!(losses.take().unwrap().count, Some(4));
        assert_eq!(counters.submitted.load(Ordering::Relaxed), 2);
        assert_eq!(counters.lost.load(Ordering::Relaxed), 4);
        assert_eq!(drain(&mut receiver, &mut outlet), ["0", "1"]);
    }

    #[test]
    fn what_is_lost_before_a_fence_is_told_before_it() {
        let (sender, _receiver) = mpsc::channel(1);
        let losses = Losses::default();
        let mut outlet = Outlet::new(sender, losses.clone(), Arc::default(), 4);
        for number in 0..8 {
            outlet.operation(Timestamp::now(), operation(number));
        }
        outlet.notice(Observation::Fence(1));
        assert_eq!(losses.take().unwrap().count, Some(3));
    }

    #[test]
    fn a_loss_in_many_directories_is_everywhere() {
        let mut lost = Lost::new(Timestamp::now());
        (0..100).for_each(|number| lost.add(Timestamp::now(), &operation(number)));
        assert_eq!((lost.count, lost.scope.len()), (100, 0));
        let mut lost = Lost::new(Timestamp::now());
        let (from_in_scope, to_in_scope, exchange) = (true, true, false);
        let from = Some("/from/a".into());
        let kind =
            OperationKind::Rename { from, from_in_scope, to_in_scope, replaced: None, exchange };
        lost.add(Timestamp::now(), &Operation { kind, ..operation(1) });
        assert_eq!(lost.scope.len(), 2, "a rename concerns both");
    }

    #[test]
    fn nobody_listens_any_more() {
        let (sender, receiver) = mpsc::channel(1);
        let mut outlet = Outlet::new(sender, Losses::default(), Arc::default(), 4);
        drop(receiver);
        outlet.operation(Timestamp::now(), operation(0));
        assert!(outlet.is_closed());
    }
}
