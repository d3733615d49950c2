//! The bpf collector: programs, roots, threads, and what is lost between them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use aya::maps::{MapData, RingBuf};
use fim_common::collector::{Collector, Fences, Observation, ObservationSender};
use fim_common::event::{Action, Provider};
use fim_common::ledger::Ledger;
use fim_common::loss::Losses;
use fim_common::operation::{Failure, Operation, OperationKind};
use fim_common::policy::{Policy, Watch};
use fim_common::record::decode::{Body, decode};
use fim_common::record::maps::{AttemptsKey, NO_ROOT};
use fim_common::record::{Counters, FileBody, HOOKS, Hook, Object, flag};
use fim_common::state::{ObjectId, ObjectKind};
use fim_common::time::Timestamp;
use rustix::event::EventfdFlags;
use rustix::time::{ClockId, clock_gettime};
use thiserror::Error;
use tokio::sync::mpsc::error::TrySendError;

use super::guard::Guard;
use super::links::{Links, Unwatched};
use super::loader::{LoadError, ProgramStatus, Programs, Selection};
use super::losses::{self, Tally};
use super::mounting::{self, Mounting};
use super::processes;
use super::reader::{self, Ended, Item, Progress, Source};
use super::replay::Replay;
use super::resolve;
use super::roots::Roots;
use crate::canary::{Exempt, Post};
use crate::mounts::Mount;
use crate::process::Table;
use crate::shares::Shares;

/// How often loss is looked for, and the clock offset brought up to date: a gap is to be told
/// within a second.
const TEND: Duration = Duration::from_millis(250);
/// Records between the two threads; with 300 bytes each some 80 MiB at the most.
const QUEUE: usize = 262_144;

/// While the pipeline does not take everything, it is asked again after this long: a full queue lasts
/// a hundred times longer.
const FULL: Duration = Duration::from_millis(1);

/// Failed attempts of one process told within a second.
const ATTEMPTS: u32 = 100;
/// Nanoseconds.
const SECOND: u64 = 1_000_000_000;
/// Last failed attempts that are remembered, to tell how many more there were. The kernel has room for
/// half as many; what it has no more is forgotten when there are more here.
const FAILING_MAX: usize = 16_384;
/// Nanoseconds: what is so young may be in the kernel still.
const RECENT: i128 = 5_000_000_000;
/// How long the attempt that a number belongs to may be on its way from the kernel.
const LATE: Duration = Duration::from_secs(60);

/// Why the backend does not work here.
#[derive(Debug, Error)]
pub enum BpfError {
    /// Nothing could be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The programs without which changes would go unseen are refused.
    #[error("the kernel refuses the programs for file operations: {0}")]
    Refused(String),
    /// Out of something.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// What to watch, and how.
pub struct Options {
    /// Canonical.
    pub watches: Vec<Watch>,
    /// Directories below which nothing can match.
    pub prunes: Vec<PathBuf>,
    /// Whether anybody wants to know of attempts that fail.
    pub attempts: bool,
    /// Bytes of the ring; a power of two.
    pub ring_bytes: u32,
    /// The processes.
    pub table: Arc<Mutex<Table>>,
    /// Into the pipeline.
    pub sender: ObservationSender,
    /// Where losses are told.
    pub losses: Losses,
    /// Takes what the canary did.
    pub post: Arc<Post>,
}

struct Shared {
    /// `None` once detached.
    programs: Mutex<Option<Programs>>,
    roots: Mutex<Roots>,
    links: Mutex<Links>,
    progress: Arc<Progress>,
    counters: Mutex<[Counters; HOOKS]>,
    status: Mutex<Vec<ProgramStatus>>,
    /// What is wrong with the programs, and stays so.
    faults: Mutex<Vec<String>>,
    post: Arc<Post>,
    /// Of the queue between the ring and the resolver.
    shares: Arc<Shares>,
    losses: Losses,
    tally: Mutex<Tally>,
    /// Calls in which a program did not run.
    missed: AtomicU64,
    /// Operations so deep in a tree that it is not known whether they are in scope.
    unplaced: AtomicU64,
}

impl Shared {
    /// Of no programs and no roots yet.
    fn new(losses: Losses, post: Arc<Post>, roots: Roots) -> Self {
        Self {
            programs: Mutex::new(None),
            roots: Mutex::new(roots),
            links: Mutex::default(),
            progress: Arc::default(),
            counters: Mutex::new([Counters::default(); HOOKS]),
            status: Mutex::default(),
            faults: Mutex::default(),
            post,
            shares: Arc::new(Shares::new(QUEUE)),
            losses,
            tally: Mutex::new(Tally::new()),
            missed: AtomicU64::new(0),
            unplaced: AtomicU64::new(0),
        }
    }

    fn read_counters(&self) -> [Counters; HOOKS] {
        if let Some(programs) = lock(&self.programs).as_ref()
            && let Ok(counters) = programs.counters()
        {
            *lock(&self.counters) = counters;
            self.missed.store(programs.missed(), Ordering::Relaxed);
        }
        *lock(&self.counters)
    }

    /// Whatever was lost since the last look becomes a gap.
    fn report_loss(&self) {
        // Held from before the counters are read: two looks at a time would see each loss twice.
        let mut tally = lock(&self.tally);
        let numbers = losses::Numbers::of(&self.progress);
        let counters = self.read_counters();
        let (missed, unplaced) =
            (self.missed.load(Ordering::Relaxed), self.unplaced.load(Ordering::Relaxed));
        if let Some(gap) = tally.look(&counters, &self.progress, numbers, missed, unplaced) {
            if gap.hooks.iter().any(|hook| hook == losses::MISSED) {
                // A rename may be among them, after which nothing holds that is cached of places.
                if let Some(programs) = lock(&self.programs).as_mut() {
                    programs.void_verdicts();
                }
            }
            self.losses.report(gap);
        }
    }

    /// What somebody did to the programs or their maps is told, and put right.
    fn guard(&self, guard: &mut Guard) {
        let mut programs = lock(&self.programs);
        let Some(programs) = programs.as_mut() else { return };
        let Some(findings) = guard.look(programs, &lock(&self.links)) else { return };
        *lock(&self.status) = programs.status().to_vec();
        *lock(&self.faults) = findings.problems;
        for message in findings.messages {
            tracing::error!("{message}");
            self.losses.notice(Action::AgentTampered, message);
        }
        if let Some(gap) = findings.gap {
            self.losses.report(gap);
        }
    }

    /// Looks for loss until `stop` is closed. Apart from the other threads, which may be waiting
    /// for the pipeline.
    fn tend(&self, stop: &Receiver<()>) {
        let mut guard = Guard::new();
        while let Err(RecvTimeoutError::Timeout) = stop.recv_timeout(TEND) {
            self.report_loss();
            self.set_clock();
            self.guard(&mut guard);
        }
    }

    /// The wall clock may have been set.
    fn set_clock(&self) {
        if let Some(programs) = lock(&self.programs).as_mut()
            && let Ok(mut settings) = programs.settings()
        {
            let offset = realtime_offset();
            if (settings.realtime_offset - offset).abs() > 1_000_000 {
                settings.realtime_offset = offset;
                settings.epoch += 1 << 20;
                if let Err(error) = programs.set_settings(settings) {
                    tracing::warn!(%error, "the clock offset cannot be set");
                }
            }
        }
    }
}

/// Watches by eBPF programs. Dropping it detaches them.
pub struct BpfCollector {
    shared: Arc<Shared>,
    wake: Arc<rustix::fd::OwnedFd>,
    threads: Vec<JoinHandle<()>>,
    /// Dropped to stop the thread that looks for loss.
    tending: Option<Sender<()>>,
}

/// A view of a collector that outlives its stop, for metrics.
#[derive(Clone)]
pub struct Monitor(Arc<Shared>);

impl Monitor {
    /// The counters of each hook, by index.
    pub fn counters(&self) -> [Counters; HOOKS] {
        self.0.read_counters()
    }

    /// What became of each program.
    pub fn status(&self) -> Vec<ProgramStatus> {
        lock(&self.0.status).clone()
    }

    /// What is wrong with the programs since somebody meddled with them.
    pub fn faults(&self) -> Vec<String> {
        lock(&self.0.faults).clone()
    }

    /// What was dropped, as `stage`, `reason` and count.
    pub fn dropped(&self) -> [(&'static str, &'static str, u64); 3] {
        let progress = &self.0.progress;
        [
            ("queue", "full", progress.overflowed.load(Ordering::Relaxed)),
            ("decode", "malformed", progress.malformed.load(Ordering::Relaxed)),
            ("kernel", "recursion", self.0.missed.load(Ordering::Relaxed)),
        ]
    }

    /// Writes this end's columns.
    pub fn enter(&self, ledger: &Ledger) {
        losses::enter(ledger, &self.0.progress, || self.counters());
    }
}

impl BpfCollector {
    /// Loads and attaches the programs and arms the roots: each operation after it returns is
    /// seen.
    ///
    /// # Errors
    /// When the kernel refuses the programs that see changes. One that is refused alone is named
    /// in [`Monitor::status`] and in the log.
    pub fn start(options: Options) -> Result<Self, BpfError> {
        let (mut programs, ring) = Programs::load(Selection::All, options.ring_bytes)?;
        let status = programs.status().to_vec();
        if let Some(failed) = missing_essential(&status) {
            let reason = failed.failure.clone().unwrap_or_default();
            return Err(BpfError::Refused(format!("{}: {reason}", failed.target)));
        }
        for failed in status.iter().filter(|status| status.failure.is_some()) {
            tracing::warn!(
                hook = failed.hook.name(),
                target = failed.target,
                reason = failed.failure.as_deref(),
                loss = failed.loss,
                "a hook is not armed"
            );
        }
        let mut settings = programs.settings()?;
        settings.agent_tgid = std::process::id();
        // An eighth: at 300,000 records a second that is 10 ms worth of the default ring.
        settings.wake_bytes = u64::from(options.ring_bytes / 8);
        settings.realtime_offset = realtime_offset();
        settings.attempts = if options.attempts { ATTEMPTS } else { 0 };
        programs.set_settings(settings)?;
        lock(&options.table).snapshot()?;
        let mut roots = Roots::new(options.watches, options.prunes)?;
        roots.refresh(&mut programs)?;

        let shared = Arc::new(Shared {
            programs: Mutex::new(Some(programs)),
            status: Mutex::new(status),
            ..Shared::new(options.losses, options.post, roots)
        });
        Self::read(shared, ring, options.ring_bytes, options.table, options.sender)
    }

    /// Reads records that were made beforehand, as if the programs had written them.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub(crate) fn replay(replay: Replay, options: Options) -> Result<Self, BpfError> {
        let shared = Arc::new(Shared {
            counters: Mutex::new(replay.counters()),
            ..Shared::new(options.losses, options.post, Roots::replayed(replay.root())?)
        });
        let replay = replay.through(&shared.shares, &shared.progress);
        Self::read(shared, replay, options.ring_bytes, options.table, options.sender)
    }

    /// Starts the threads.
    fn read(
        shared: Arc<Shared>,
        source: impl Source + Send + 'static,
        ring_bytes: u32,
        table: Arc<Mutex<Table>>,
        sender: ObservationSender,
    ) -> Result<Self, BpfError> {
        let wake = Arc::new(
            rustix::event::eventfd(0, EventfdFlags::CLOEXEC).map_err(std::io::Error::from)?,
        );
        let (records, receiver) = channel();
        let (tending, tended) = channel();
        let threads = vec![
            spawn("ring", {
                let (progress, wake) = (Arc::clone(&shared.progress), Arc::clone(&wake));
                let shares = Arc::clone(&shared.shares);
                let ring_bytes = u64::from(ring_bytes);
                move || reader::empty_ring(source, ring_bytes, &wake, &records, &shares, &progress)
            })?,
            spawn("mounts", {
                let (progress, wake) = (Arc::clone(&shared.progress), Arc::clone(&wake));
                move || mounting::watch(&wake, &progress)
            })?,
            spawn("losses", {
                let shared = Arc::clone(&shared);
                move || shared.tend(&tended)
            })?,
            spawn("resolve", {
                let shared = Arc::clone(&shared);
                move || Resolver::new(shared, table, sender).run(&receiver)
            })?,
        ];
        Ok(Self { shared, wake, threads, tending: Some(tending) })
    }

    /// Has the programs tell of what the calling thread does, or not.
    pub fn exempt(&self) -> Exempt {
        let shared = Arc::clone(&self.shared);
        Arc::new(move |exempt| {
            let tid = rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned();
            if let Some(programs) = lock(&shared.programs).as_mut()
                && let Ok(mut settings) = programs.settings()
            {
                settings.canary_tid = if exempt { tid } else { 0 };
                settings.epoch += 1 << 20;
                if let Err(error) = programs.set_settings(settings) {
                    tracing::warn!(%error, "the canary cannot be told from the agent");
                }
            }
        })
    }

    /// For metrics.
    pub fn monitor(&self) -> Monitor {
        Monitor(Arc::clone(&self.shared))
    }
}

impl Collector for BpfCollector {
    fn provider(&self) -> Provider {
        Provider::Bpf
    }

    fn roots(&self) -> Vec<PathBuf> {
        lock(&self.shared.roots).watched()
    }

    fn watch_linked(&mut self, files: Vec<(PathBuf, ObjectId)>) {
        let mut programs = lock(&self.shared.programs);
        let Some(programs) = programs.as_mut() else { return };
        let roots = lock(&self.shared.roots);
        let mut links = lock(&self.shared.links);
        for (path, id) in files {
            link(programs, &mut links, roots.kernel_identity(id), &path);
        }
    }

    fn rescope(&mut self, policy: &Policy) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let mut programs = lock(&self.shared.programs);
        let Some(programs) = programs.as_mut() else { return Ok(()) };
        let mut settings = programs.settings()?;
        settings.attempts = if wants_attempts(policy) { ATTEMPTS } else { 0 };
        settings.epoch += 1 << 20;
        programs.set_settings(settings)?;
        let mut roots = lock(&self.shared.roots);
        roots.rescope(watches(policy, &self.shared.post), policy.prunes());
        roots.refresh(programs)?;
        Ok(())
    }

    fn summary(&self) -> String {
        let status = lock(&self.shared.status);
        let (missing, armed): (Vec<_>, Vec<_>) =
            status.iter().partition(|status| status.failure.is_some());
        let missing: Vec<&str> = missing.iter().map(|status| status.hook.name()).collect();
        let (armed, of) = (armed.len(), status.len());
        if missing.is_empty() {
            format!("bpf: all {of} programs armed")
        } else {
            format!("bpf: {armed} of {of} programs armed; not armed: {}", missing.join(", "))
        }
    }

    fn fences(&self) -> Fences {
        let progress = Arc::clone(&self.shared.progress);
        Arc::new(move |number| progress.fence.store(number, Ordering::Release))
    }

    fn stop(&mut self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        if self.threads.is_empty() {
            return Ok(());
        }
        // Detach first: what is in the ring then is all there will be.
        if let Some(mut programs) = lock(&self.shared.programs).take() {
            programs.detach();
            if let Ok(counters) = programs.counters() {
                *lock(&self.shared.counters) = counters;
            }
            self.shared.missed.store(programs.missed(), Ordering::Relaxed);
        }
        self.tending = None;
        self.shared.progress.stop.store(true, Ordering::Release);
        rustix::io::write(&*self.wake, &1_u64.to_ne_bytes())?;
        for thread in self.threads.drain(..) {
            thread.join().map_err(|_| "a thread of the bpf collector has panicked")?;
        }
        // Twice: a hole in the numbers counts when it is there at two looks.
        self.shared.report_loss();
        self.shared.report_loss();
        Ok(())
    }
}

impl Drop for BpfCollector {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            tracing::error!(%error, "the bpf collector did not stop cleanly");
        }
    }
}

/// What to watch for this policy, and for the canary.
pub fn watches(policy: &Policy, post: &Post) -> Vec<Watch> {
    let canaries = post.directories().into_iter();
    let canaries = canaries.map(|base| Watch { base, depth: None, first: None });
    policy.watches().into_iter().chain(canaries).collect()
}

/// Whether anybody wants to know of attempts that fail.
pub fn wants_attempts(policy: &Policy) -> bool {
    policy.rules().iter().any(|rule| rule.attempts)
}

/// Keeps only the process table, for the fanotify backend: the tracepoint programs and their
/// ring, emptied on demand.
pub struct ProcessFeed {
    programs: Programs,
    ring: RingBuf<MapData>,
    guard: Guard,
    losses: Losses,
}

impl ProcessFeed {
    /// Loads the tracepoint programs.
    ///
    /// # Errors
    /// When the kernel refuses them.
    pub fn start(ring_bytes: u32, losses: Losses) -> Result<Self, BpfError> {
        let (mut programs, ring) = Programs::load(Selection::Processes, ring_bytes)?;
        if let Some(failed) = programs.status().iter().find(|status| status.failure.is_some()) {
            let reason = failed.failure.clone().unwrap_or_default();
            return Err(BpfError::Refused(format!("{}: {reason}", failed.target)));
        }
        let mut settings = programs.settings()?;
        settings.wake_bytes = u64::MAX;
        programs.set_settings(settings)?;
        Ok(Self { programs, ring, guard: Guard::new(), losses })
    }

    /// Takes in everything that lies in the ring. Without these programs operations are seen all
    /// the same, so that one that somebody detached leaves no gap.
    pub fn drain(&mut self, table: &mut Table) {
        let found = self.guard.look(&mut self.programs, &Links::default());
        for message in found.into_iter().flat_map(|findings| findings.messages) {
            tracing::error!("{message}");
            self.losses.notice(Action::AgentTampered, message);
        }
        while let Some(item) = self.ring.next() {
            if let Ok(record) = decode(&item) {
                processes::apply(table, &record);
            }
        }
    }
}

/// A program without which changes would go unseen, and that is not armed.
pub fn missing_essential(status: &[ProgramStatus]) -> Option<&ProgramStatus> {
    const ESSENTIAL: [Hook; 4] = [Hook::FileOpen, Hook::Unlink, Hook::Rename, Hook::SetAttr];
    status.iter().find(|status| ESSENTIAL.contains(&status.hook) && status.failure.is_some())
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(body)
}

/// A thread that panicked while it held a lock has left consistent data: each holder only reads
/// or replaces whole values.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn nanos(clock: ClockId) -> i64 {
    let time = clock_gettime(clock);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// Nanoseconds since boot, as the programs count them.
fn boot_nanos() -> u64 {
    nanos(ClockId::Boottime).cast_unsigned()
}

fn realtime_offset() -> i64 {
    nanos(ClockId::Realtime) - nanos(ClockId::Boottime)
}

struct Resolver {
    shared: Arc<Shared>,
    table: Arc<Mutex<Table>>,
    sender: ObservationSender,
    mounting: Mounting,
    /// The last failed attempt of each process in each tree.
    failing: HashMap<AttemptsKey, Operation>,
    /// How many more there were, of attempts that are still to come from the kernel.
    late: HashMap<AttemptsKey, (u32, Instant)>,
    tended: Instant,
}

/// Makes a watched file be in scope by all its names.
fn link(programs: &mut Programs, links: &mut Links, object: Object, path: &Path) {
    if let Some(object) = links.add(object, path)
        && let Err(error) = programs.set_linked(object)
    {
        tracing::warn!(%error, path = %path.display(), "its other names are not watched");
    }
}

impl Resolver {
    fn new(shared: Arc<Shared>, table: Arc<Mutex<Table>>, sender: ObservationSender) -> Self {
        let mounting = Mounting::new();
        let (failing, tended) = (HashMap::new(), Instant::now());
        Self { shared, table, sender, mounting, failing, late: HashMap::new(), tended }
    }

    fn run(mut self, receiver: &Receiver<Item>) {
        let mut taken = 0_u64;
        loop {
            // As long as one comes after the other, a look at the clock for each would cost more than
            // decoding it.
            let next = match receiver.try_recv() {
                Ok(item) => {
                    taken += 1;
                    Ok(Some(item))
                }
                Err(_) => {
                    taken = 0;
                    reader::next(receiver, TEND)
                }
            };
            match next {
                Ok(Some(Item::Record(bytes))) => {
                    self.shared.shares.leave(&reader::process(&bytes));
                    self.resolve(&bytes);
                    if !taken.is_multiple_of(64) {
                        continue;
                    }
                }
                Ok(Some(Item::Fence(number))) => {
                    // What was lost before the fence is told before it.
                    self.shared.report_loss();
                    self.send(Observation::Fence(number));
                }
                Ok(Some(Item::Mounts(now))) => self.mounts_changed(now),
                Ok(None) => {}
                Err(Ended) => return,
            }
            if self.tended.elapsed() >= TEND {
                self.tended = Instant::now();
                self.tell_attempts();
            }
        }
    }

    /// Hands over an operation for which there is no record.
    fn send_more(&self, operation: Operation) {
        Progress::add(&self.shared.progress.expanded, 1);
        Progress::add(&self.shared.progress.delivered, 1);
        self.send(Observation::Operation(Box::new(operation)));
    }

    fn send(&self, observation: Observation) {
        let mut observation = observation;
        // An error means that the pipeline has ended, and with it the interest.
        while let Err(TrySendError::Full(again)) = self.sender.try_send(observation) {
            // The ring is emptied by another thread. Being woken for each place that becomes free
            // costs both sides more than all the rest of an operation.
            std::thread::sleep(FULL);
            observation = again;
        }
    }

    fn resolve(&mut self, bytes: &[u8]) {
        let record = match decode(bytes) {
            Ok(record) => record,
            Err(error) => {
                tracing::error!(%error, "a record of the eBPF programs cannot be decoded");
                Progress::add(&self.shared.progress.malformed, 1);
                return;
            }
        };
        let progress = Arc::clone(&self.shared.progress);
        Progress::add(&progress.resolved, 1);
        let Body::File(file) = &record.body else {
            Progress::add(&progress.processes, 1);
            processes::apply(&mut lock(&self.table), &record);
            return;
        };
        if let Some((mounts, path, time, actor)) =
            resolve::mounter(&record, file, &mut lock(&self.table))
        {
            Progress::add(&progress.processes, 1);
            return self.mounting.announce(mounts, path, time, actor);
        }
        let (operations, pivotal) = {
            let roots = lock(&self.shared.roots);
            let operations = resolve::operations(&record, file, &roots, &mut lock(&self.table));
            let pivotal = operations.iter().any(|operation| {
                use fim_common::operation::OperationKind as Kind;
                let names = matches!(
                    operation.kind,
                    Kind::Create | Kind::Delete | Kind::Rename { .. } | Kind::Link { .. }
                );
                let from = match &operation.kind {
                    Kind::Rename { from, .. } => from.as_deref(),
                    _ => None,
                };
                names
                    && (operation.path.as_deref().is_some_and(|path| roots.is_pivotal(path))
                        || from.is_some_and(|path| roots.is_pivotal(path)))
            });
            (operations, pivotal)
        };
        if file.fixed.flags & flag::PATH_TRUNCATED != 0 {
            self.shared.unplaced.fetch_add(1, Ordering::Relaxed);
        }
        Progress::add(&progress.expanded, (operations.len() as u64).saturating_sub(1));
        for mut operation in operations {
            if self.shared.post.take(&operation) || !self.by_its_names(&mut operation, &file.fixed)
            {
                Progress::add(&progress.diverted, 1);
                continue;
            }
            if operation.failure.is_some() {
                let (start, tgid) = (record.actor.start, record.actor.tgid);
                let key = AttemptsKey { start, tgid, root: file.fixed.root };
                self.failing.insert(key, operation.clone());
            }
            if operation.path.is_none()
                && file.fixed.flags & (flag::NAMELESS | flag::PATH_TRUNCATED | flag::DISCONNECTED)
                    == 0
            {
                let op = file.op;
                tracing::debug!(?op, "an operation in a file system that is not mounted here");
            }
            Progress::add(&progress.delivered, 1);
            self.send(Observation::Operation(Box::new(operation)));
        }
        if pivotal {
            self.refresh();
        }
    }

    /// Sees to the other names of watched files. `false`: the operation concerns no watched name.
    fn by_its_names(&mut self, operation: &mut Operation, record: &FileBody) -> bool {
        let flags = record.flags;
        if operation.failure.is_none()
            && operation.after.kind == Some(ObjectKind::Dir)
            && let OperationKind::Rename { from: Some(from), .. } = &operation.kind
            && let Some(to) = &operation.path
        {
            lock(&self.shared.links).rename(from, to);
        }
        let nlink = operation.after.nlink.or(operation.before.nlink).unwrap_or(1);
        if flags & flag::LINKED == 0 && nlink < 2 {
            return true;
        }
        let mut programs = lock(&self.shared.programs);
        let Some(programs) = programs.as_mut() else { return true };
        let mut links = lock(&self.shared.links);
        if flags & flag::LINKED != 0 {
            // Another name of a watched file was used. That name itself is nobody's business.
            let names = matches!(
                operation.kind,
                OperationKind::Delete | OperationKind::Rename { .. } | OperationKind::Link { .. }
            );
            match links.watched(record.object) {
                Ok(_) if names => return false,
                Ok(path) => {
                    operation.path_in_process = operation.path.replace(path);
                    return true;
                }
                Err(Unwatched { object, unsure }) => {
                    programs.remove_linked(object);
                    if unsure && !names {
                        self.shared.unplaced.fetch_add(1, Ordering::Relaxed);
                    }
                    return false;
                }
            }
        }
        if operation.failure.is_none()
            && operation.kind == OperationKind::Delete
            && let Some(path) = &operation.path
        {
            if let Some(object) = links.remove(record.object, path) {
                programs.remove_linked(object);
            }
            return true;
        }
        if operation.after.kind != Some(ObjectKind::File) || operation.failure.is_some() {
            return true;
        }
        if let OperationKind::Rename { from: Some(from), to_in_scope, .. } = &operation.kind
            && let Some(object) = links.remove(record.object, from)
            && !to_in_scope
        {
            programs.remove_linked(object);
        }
        match &mut operation.kind {
            OperationKind::Link { existing: Some(existing), first: false, elsewhere } => {
                let (old, new) = (flag::PATH_IN_SCOPE, flag::PATH2_IN_SCOPE);
                if flags & old != 0 {
                    link(programs, &mut links, record.object, existing);
                }
                match &operation.path {
                    Some(path) if flags & new != 0 => {
                        link(programs, &mut links, record.object, path);
                    }
                    // The new name lies where nothing is watched.
                    _ => *elsewhere = operation.path.replace(existing.clone()),
                }
            }
            OperationKind::Rename { to_in_scope: true, .. } | OperationKind::Create => {
                if let Some(path) = &operation.path {
                    link(programs, &mut links, record.object, path);
                }
            }
            _ => {}
        }
        true
    }

    /// The mount table has changed.
    fn mounts_changed(&mut self, now: Vec<Mount>) {
        let operations = {
            let roots = lock(&self.shared.roots);
            self.mounting.changes(now, &|point| roots.is_concerned(point))
        };
        if operations.is_empty() {
            return;
        }
        // First what is there now is armed; the pipeline then has it looked at.
        self.arm();
        for operation in operations {
            self.send_more(operation);
        }
    }

    /// Tells of failed attempts that were counted only, once their process has stopped trying.
    fn tell_attempts(&mut self) {
        let old = boot_nanos().saturating_sub(SECOND);
        let counted = match lock(&self.shared.programs).as_mut() {
            Some(programs) => programs.take_attempts(old),
            None => return,
        };
        for (key, folded) in counted {
            match self.failing.remove(&key) {
                Some(last) => self.tell_folded(last, folded),
                None if folded == 0 || key.root == NO_ROOT => {}
                None => self.late.entry(key).or_insert((0, Instant::now())).0 += folded,
            }
        }
        for (key, (folded, since)) in std::mem::take(&mut self.late) {
            match self.failing.remove(&key) {
                Some(last) => self.tell_folded(last, folded),
                None if since.elapsed() < LATE => drop(self.late.insert(key, (folded, since))),
                // The attempt that was to be told was lost, which is told.
                None => {}
            }
        }
        if self.failing.len() > FAILING_MAX {
            // Of those that came when their number had been asked for.
            let now = Timestamp::now();
            self.failing.retain(|_, last| now.since(last.time) < RECENT);
        }
    }

    fn tell_folded(&self, last: Operation, folded: u32) {
        if folded == 0 {
            return;
        }
        let errno = last.failure.map_or(0, |failure| failure.errno);
        let failure = Some(Failure { errno, folded: folded.into(), summary: true });
        self.send_more(Operation { failure, ..last });
    }

    /// Arms what has appeared, and has it looked at.
    fn refresh(&mut self) {
        for path in self.arm() {
            tracing::info!(path = %path.display(), "a watched directory has appeared");
            self.send(Observation::Recheck(path));
        }
    }

    /// Arms what has appeared.
    fn arm(&self) -> Vec<PathBuf> {
        let mut programs = lock(&self.shared.programs);
        let Some(programs) = programs.as_mut() else { return Vec::new() };
        lock(&self.shared.roots).refresh(programs).unwrap_or_else(|error| {
            tracing::error!(%error, "watched directories cannot be armed");
            Vec::new()
        })
    }
}
