//! The thread that makes operations of records, and hands them to the pipeline.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Sender, SyncSender};
use std::time::{Duration, Instant};

use fim_common::collector::{Gap, Observation, ObservationSender};
use fim_common::loss::Losses;
use fim_common::operation::{Operation, OperationKind};
use fim_common::policy::Policy;
use fim_common::registry::RegistryKeys;
use fim_common::time::Timestamp;

use super::super::registry::Scope as RegistryScope;
use super::keys::{DOUBT, Keys};
use super::scope::Wanted;
use super::spelling::Spelling;
use crate::etl::Record;
use crate::filetime::timestamp;
use crate::paths::Devices;
use crate::process::Seen;
use crate::stream::{Lost, Queue, Stream};

/// What the sessions have comes within this time when they are asked for it; then it is held.
const HANDED_OVER: Duration = Duration::from_millis(250);
/// Records that cannot be read are told of at most this often: all that is watched is compared then.
const UNREAD: Duration = Duration::from_secs(300);
/// Drives are asked for again at most this often.
const DEVICES: Duration = Duration::from_secs(2);

/// What the thread is told beside records.
pub(super) enum Message {
    /// A record of Kernel-Process, and what the system says of the process that it tells of.
    Process { record: Arc<[u8]>, seen: Option<Box<Seen>> },
    /// Processes that ran before.
    Running(Vec<Seen>),
    /// Keys that were open before.
    OpenKeys(Vec<(u64, String)>),
    /// What a look at the registry found, and by which scope.
    Looked(RegistryKeys, u64),
    /// The answer to this is due when everything before it was handed over.
    Fence(u64),
    /// Something else is watched from now on; the answer is due when it is.
    Rescope(Box<Policy>, SyncSender<()>),
    /// Something was lost: keys may differ from what is known of them.
    Look,
}

/// A loss.
pub(super) enum Setback {
    /// The queue was full.
    Queue(Lost),
    /// The session lost something, or was not there, between two looks at it.
    Session { name: &'static str, from: Timestamp, count: Option<u64> },
}

impl Setback {
    /// Tells of it beside the queues, which may be full just then; what was watched is compared with
    /// the baseline.
    pub(super) fn report(&self, losses: &Losses, counters: &Counters) {
        let (hook, from, to, count) = match self {
            Self::Queue(lost) => {
                counters.queue_lost.fetch_add(lost.count, Relaxed);
                let (from, to) = (timestamp(lost.times.0), timestamp(lost.times.1));
                ("etw_queue", from, to, Some(lost.count))
            }
            Self::Session { name, from, count } => {
                counters.session_lost.fetch_add(count.unwrap_or(1), Relaxed);
                (*name, *from, Timestamp::now(), *count)
            }
        };
        losses.report(Gap { from, to, count, hooks: vec![hook.to_owned()], scope: Vec::new() });
    }
}

/// Asks for a look at the registry, so much later.
pub(super) struct Look {
    pub(super) scope: RegistryScope,
    /// Which scope it is, counted from the start.
    pub(super) number: u64,
    pub(super) later: Duration,
}

/// What is told of records that cannot be read.
pub(super) struct Unread {
    told: u64,
    since: Timestamp,
    at: Option<Instant>,
}

impl Unread {
    /// Nothing yet.
    pub(super) fn new() -> Self {
        Self { told: 0, since: Timestamp::now(), at: None }
    }

    /// A gap, when there are more of them than were told. At once for the first, then every 5 minutes
    /// at most: of a version that is new to us all events are.
    fn gap(&mut self, count: u64, now: Instant) -> Option<Gap> {
        let is_due = self.at.is_none_or(|at| now.duration_since(at) >= UNREAD);
        if count <= self.told || !is_due {
            return None;
        }
        let to = Timestamp::now();
        let from = std::mem::replace(&mut self.since, to);
        let more = count - std::mem::replace(&mut self.told, count);
        self.at = Some(now);
        let hooks = vec!["etw_undecoded".to_owned()];
        Some(Gap { from, to, count: Some(more), hooks, scope: Vec::new() })
    }
}

/// Counters, for metrics.
#[derive(Debug, Default)]
pub struct Counters {
    /// Records of files and keys, and how many of them found no room.
    pub records: AtomicU64,
    /// Records that found no room in the queue.
    pub queue_lost: AtomicU64,
    /// Events and buffers that sessions lost.
    pub session_lost: AtomicU64,
    /// Operations on what is not watched.
    pub unwanted: AtomicU64,
    /// Operations on files that were handed over.
    pub files: AtomicU64,
    /// Operations on keys and values that were handed over.
    pub keys: AtomicU64,
    /// Bytes of records that wait.
    pub depth: AtomicU64,
    /// Records that cannot be decoded.
    pub undecoded: AtomicU64,
}

pub(super) struct Worker {
    pub(super) queue: Arc<Queue<Message>>,
    pub(super) stream: Stream,
    pub(super) spelling: Spelling,
    pub(super) keys: Keys,
    pub(super) looks: Sender<Look>,
    pub(super) scope: RegistryScope,
    pub(super) scopes: u64,
    pub(super) unread: Unread,
    pub(super) sender: ObservationSender,
    pub(super) losses: Losses,
    pub(super) counters: Arc<Counters>,
    pub(super) fences: Vec<(Instant, u64)>,
    pub(super) hold: Duration,
    pub(super) devices: Instant,
}

impl Worker {
    /// Until the queue is closed. What was found before anything was seen is handed over first.
    pub(super) fn work(mut self, found: Vec<Operation>) {
        for operation in found {
            self.counters.keys.fetch_add(1, Relaxed);
            self.send(Observation::Operation(Box::new(operation)));
        }
        let mut operations = Vec::new();
        loop {
            let now = Instant::now();
            let next = self.stream.due().into_iter().chain(self.fences.first().map(|(at, _)| *at));
            let patience = next.min().map_or(Duration::from_millis(500), |next| {
                next.saturating_duration_since(now).min(Duration::from_millis(500))
            });
            let batch = self.queue.take(patience);
            let now = Instant::now();
            if let Some(lost) = batch.lost {
                Setback::Queue(lost).report(&self.losses, &self.counters);
                self.look(Duration::ZERO);
            }
            for message in batch.messages {
                self.message(message, &mut operations, now);
            }
            if !batch.records.is_empty() {
                self.stream.push(batch.records, now);
            }
            let until = (!batch.closed).then_some(now);
            loop {
                let done = self.stream.advance(until, &mut operations);
                self.hand_over(&mut operations);
                if done {
                    break;
                }
            }
            self.count();
            self.tell_unread(now);
            self.keys.write(false);
            while let Some((_, number)) = self.fences.pop_if_due(now, batch.closed) {
                self.send(Observation::Fence(number));
            }
            if batch.closed {
                self.stream.finish(&mut operations);
                self.hand_over(&mut operations);
                self.unread.at = None;
                self.tell_unread(now);
                self.keys.write(true);
                return;
            }
        }
    }

    fn message(&mut self, message: Message, operations: &mut Vec<Operation>, now: Instant) {
        match message {
            Message::Process { record, seen } => {
                if let Some((record, _)) = Record::parse(&record) {
                    self.stream.record(&record, operations);
                    if let Some(seen) = seen {
                        self.stream.correlator().process(*seen, record.filetime);
                    }
                }
            }
            Message::Running(all) => {
                let filetime = fim_win32::clock::now();
                for seen in all {
                    self.stream.correlator().process(seen, filetime);
                }
            }
            Message::OpenKeys(keys) => {
                for (object, name) in keys {
                    self.stream.correlator().open_key(object, &name);
                }
            }
            // Of what was asked for before: another look is under way.
            Message::Looked(_, number) if number != self.scopes => {}
            Message::Looked(found, _) => {
                if self.keys.looked(&found, operations) {
                    self.look(DOUBT);
                }
                self.hand_over(operations);
            }
            Message::Fence(number) => self.fences.push((now + HANDED_OVER + self.hold, number)),
            Message::Rescope(policy, done) => {
                self.scope = RegistryScope::of(&policy);
                self.scopes += 1;
                self.keys.set_scope(&self.scope);
                let wanted = Wanted::new(*policy);
                self.stream.correlator().set_scope(Box::new(wanted));
                self.look(Duration::ZERO);
                // Fails when nobody waits any more.
                let _ = done.send(());
            }
            Message::Look => self.look(Duration::ZERO),
        }
    }

    fn look(&self, later: Duration) {
        if !self.scope.is_empty() {
            // Fails when we are stopping.
            let look = Look { scope: self.scope.clone(), number: self.scopes, later };
            let _ = self.looks.send(look);
        }
    }

    /// Records that cannot be read may be changes that nobody tells of.
    fn tell_unread(&mut self, now: Instant) {
        let counts = self.stream.counts();
        let Some(gap) = self.unread.gap(counts.undecoded + counts.malformed, now) else { return };
        self.losses.report(gap);
        self.look(Duration::ZERO);
    }

    fn hand_over(&mut self, operations: &mut Vec<Operation>) {
        for mut operation in operations.drain(..) {
            let counter = match operation.kind {
                OperationKind::Registry(_) => {
                    self.keys.complete(&mut operation);
                    &self.counters.keys
                }
                _ => {
                    resolve(&mut operation, &mut self.devices, &mut self.stream);
                    self.spelling.correct(&mut operation);
                    &self.counters.files
                }
            };
            counter.fetch_add(1, Relaxed);
            // Fails when the pipeline has ended.
            let _ = self.sender.blocking_send(Observation::Operation(Box::new(operation)));
        }
    }

    fn send(&self, observation: Observation) {
        // Fails when the pipeline has ended.
        let _ = self.sender.blocking_send(observation);
    }

    fn count(&mut self) {
        let counts = self.stream.counts();
        self.counters.records.store(counts.records, Relaxed);
        self.counters.undecoded.store(counts.undecoded, Relaxed);
        self.counters.depth.store(self.queue.depth() as u64, Relaxed);
        let unwanted = self.stream.correlator().counts().unwanted;
        self.counters.unwanted.store(unwanted, Relaxed);
    }
}

/// Fences in the order in which they were asked for.
trait Due {
    fn pop_if_due(&mut self, now: Instant, all: bool) -> Option<(Instant, u64)>;
}

impl Due for Vec<(Instant, u64)> {
    fn pop_if_due(&mut self, now: Instant, all: bool) -> Option<(Instant, u64)> {
        let due = self.first().is_some_and(|(at, _)| all || *at <= now);
        due.then(|| self.remove(0))
    }
}

/// A device that nothing was known of: a volume may have come.
fn resolve(operation: &mut Operation, asked: &mut Instant, stream: &mut Stream) {
    let is_device =
        |path: &PathBuf| path.to_str().is_some_and(|path| path.starts_with(r"\Device\"));
    if !operation.path.as_ref().is_some_and(is_device) || asked.elapsed() < DEVICES {
        return;
    }
    *asked = Instant::now();
    for (place, device) in fim_win32::file::devices() {
        stream.correlator().map_device(&device, &place);
    }
    let devices: &Devices = stream.correlator().devices();
    let resolved = |path: &PathBuf| devices.resolve(path.to_str()?).map(PathBuf::from);
    if let Some(path) = operation.path.as_ref().and_then(resolved) {
        operation.path = Some(path);
    }
}
