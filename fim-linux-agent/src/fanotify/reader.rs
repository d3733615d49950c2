//! The thread that empties the kernel's queue.
//!
//! The queue has no limit but memory (charged to the cgroup of the agent), so nothing in here may
//! wait for the pipeline: what that does not take is held in the [`Outlet`].
//!
//! [`Outlet`]: super::outlet::Outlet

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fim_common::collector::{Gap, Observation};
use fim_common::event::Provider;
use fim_common::event::actor::Actor;
use fim_common::operation::{Operation, OperationKind};
use fim_common::state::ObjectState;
use fim_common::time::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::batch::Raw;
use super::filesystems::Lookup;
use super::marks::Marks;
use super::outlet::Counters;
use super::sys::{Group, MarkOn};
use super::translate::{Patience, Translator};
use super::{Scope, Standing};
use crate::mounts::{self, MOUNTINFO, Mount};
use crate::process::clock::Boot;

/// Bytes asked for at once. With an event of about 110 bytes this makes 300 process descriptors,
/// which have to fit under RLIMIT_NOFILE (1,024 by default) until they are closed.
const CHUNK: usize = 32 * 1024;
/// Most bytes of one event: two names with handles of `MAX_HANDLE_SZ`, an object, a descriptor.
const EVENT_MAX: usize = 1024;
/// Bytes worked on in one go: what is ahead in the queue tells where removed directories were.
const BATCH: usize = 1024 * 1024;
/// A batch may grow to this while something is looked for that is about to be queued.
const BATCH_MAX: usize = 8 * BATCH;
/// Most rounds of asking for paths and reading on.
const SETTLE_MAX: usize = 32;
/// How long the removal of a directory is waited for. The kernel takes the directory away a moment
/// before it queues the event (d_delete_notify), and on a busy machine the remover may have to wait
/// for its turn in between.
const PATH_PATIENCE: Duration = Duration::from_millis(250);
/// How often it is looked for meanwhile.
const LOOK_AGAIN: Duration = Duration::from_millis(1);
/// A batch of nothing but writes is followed by a pause: the kernel merges the writes of one
/// process to one file that come meanwhile, and a loop of small writes costs a handful of events.
const WRITES_PAUSE: Duration = Duration::from_millis(5);
/// How often the process records are taken in while there are no events: their ring is small.
const SYNC: Duration = Duration::from_millis(500);
/// While the pipeline does not take everything, it is asked again after this long.
const SPILL_RETRY: Duration = Duration::from_millis(1);
/// How often the marks are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// And at most this part of the time: where each directory has one, there are many.
const LOOK_SHARE: u32 = 200;
/// What is done is on the disk a moment before its event is queued; by then it is.
const SETTLED: Duration = Duration::from_millis(20);
/// How long the pipeline may take nothing at all of what is left at the end: then it hangs.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// What the reader is told.
pub(super) enum Command {
    /// Something else is watched from now on.
    Update { scope: Scope, watched: Vec<PathBuf>, reply: SyncSender<io::Result<()>> },
    /// Take in what is queued by then, and say so behind it.
    Fence(u64),
    /// Take in what is queued, hand it over, and end.
    Stop,
}

/// Both ends of the way to the reader.
#[derive(Clone)]
pub(super) struct Commands {
    queue: Arc<Mutex<VecDeque<Command>>>,
    wake: Arc<OwnedFd>,
}

impl Commands {
    pub(super) fn new() -> io::Result<Self> {
        let flags = rustix::event::EventfdFlags::CLOEXEC | rustix::event::EventfdFlags::NONBLOCK;
        let wake = Arc::new(rustix::event::eventfd(0, flags)?);
        Ok(Self { queue: Arc::default(), wake })
    }

    pub(super) fn send(&self, command: Command) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).push_back(command);
        // It fails only when 2^64 - 2 wake-ups are pending.
        let _ = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
    }

    fn next(&self) -> Option<Command> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    fn settle(&self) {
        let _ = rustix::io::read(&*self.wake, &mut [0; 8]);
    }
}

/// Everything the thread owns.
pub(super) struct Reader {
    pub(super) group: Group,
    pub(super) mask: u64,
    pub(super) translator: Translator,
    pub(super) sync: Box<dyn FnMut() + Send>,
    pub(super) commands: Commands,
    pub(super) standing: Arc<Mutex<Standing>>,
    pub(super) counters: Arc<Counters>,
    raw: Raw,
    chunk: Vec<u8>,
    mountinfo: File,
    /// What was mounted when it was looked at last.
    mounts: Vec<Mount>,
    /// When everything before had been read.
    complete: Timestamp,
    /// When the queue was last looked into, in nanoseconds since boot.
    looked: u64,
    /// The fence that was asked for last, and when it is due.
    fence: Option<(u64, Instant)>,
    /// The marks as they were set, where the kernel shows them; when they were there last, and are to
    /// be looked at again.
    marks: Option<Marks>,
    marked: Timestamp,
    look: Instant,
}

impl Reader {
    pub(super) fn new(
        group: Group,
        mask: u64,
        translator: Translator,
        sync: Box<dyn FnMut() + Send>,
        commands: Commands,
        standing: Arc<Mutex<Standing>>,
        counters: Arc<Counters>,
    ) -> io::Result<Self> {
        Ok(Self {
            group,
            mask,
            translator,
            sync,
            commands,
            standing,
            counters,
            raw: Raw::default(),
            chunk: vec![0; CHUNK],
            mountinfo: File::open(MOUNTINFO)?,
            mounts: mounts::all()?,
            complete: Timestamp::now(),
            looked: Boot::now(),
            fence: None,
            marks: None,
            marked: Timestamp::now(),
            look: Instant::now(),
        })
    }

    /// Marks what is watched, and says so.
    pub(super) fn arm(&mut self) -> io::Result<()> {
        let changed = self.translator.places.arm(&self.group, self.mask)?;
        self.marks = Marks::of(&self.group).ok();
        let watched = &self.translator.places.watched;
        let matters = |point: &PathBuf| {
            watched.iter().any(|base| base.starts_with(point) || point.starts_with(base))
        };
        let points: Vec<PathBuf> = changed.into_iter().filter(matters).collect();
        for point in points {
            self.translator.outlet.notice(Observation::Recheck(point));
        }
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        standing.update(&self.translator.places);
        Ok(())
    }

    /// Sets the marks again if somebody has taken them away.
    fn look_after_marks(&mut self) {
        let began = Instant::now();
        if began < self.look {
            return;
        }
        let now = Timestamp::now();
        if let (Some(set), Ok(marks)) = (&mut self.marks, Marks::of(&self.group)) {
            if !marks.lack(set, self.translator.places.filesystems.devices()) {
                set.follow(&marks);
            } else if mounts::all().is_ok_and(|mounts| mounts == self.mounts) {
                // Else one may have gone with its file system, and the mounts are looked at next.
                self.mark_again();
            }
        }
        self.marked = now;
        self.look = Instant::now() + LOOK.max(began.elapsed() * LOOK_SHARE);
    }

    fn mark_again(&mut self) {
        let what = "somebody has taken away or changed the agent's fanotify marks";
        // What was added to a mark does not go by setting it again.
        let again = self.group.flush().and_then(|()| {
            self.translator.places.forget();
            self.arm()
        });
        let message = match again {
            Ok(()) => format!("{what}; they are set again"),
            Err(error) => {
                format!("{what}, and they cannot be set again ({error}): restart the agent")
            }
        };
        tracing::error!("{message}");
        self.translator.outlet.tampered(message);
        self.translator.outlet.loss(Gap {
            from: self.marked,
            to: Timestamp::now(),
            count: None,
            hooks: vec!["fanotify_marks".to_owned()],
            scope: Vec::new(),
        });
    }

    /// Tells what was mounted and unmounted; by whom fanotify does not say.
    fn tell_mounts(&mut self) -> io::Result<()> {
        let known = std::mem::replace(&mut self.mounts, mounts::all()?);
        let (gone, come) = mounts::difference(&known, &self.mounts);
        let gone = gone.into_iter().map(|mount| (OperationKind::Unmount, mount));
        let come = come.into_iter().map(|mount| (OperationKind::Mount, mount));
        let watched = &self.translator.places.watched;
        let actor = Arc::new(Actor::unobserved());
        let now = Timestamp::now();
        for (kind, mount) in gone.chain(come) {
            let point = &mount.point;
            if !watched.iter().any(|base| base.starts_with(point) || point.starts_with(base)) {
                continue;
            }
            let operation = Operation {
                time: now,
                provider: Provider::Fanotify,
                kind,
                path: Some(point.clone()),
                path_in_process: None,
                object: None,
                before: ObjectState::default(),
                after: ObjectState::default(),
                failure: None,
                actor: Arc::clone(&actor),
                details: None,
            };
            Counters::add(&self.counters.seen, 1);
            self.translator.outlet.operation(now, operation);
        }
        Ok(())
    }

    /// Runs until it is stopped.
    pub(super) fn run(mut self) {
        loop {
            let spilled = !self.translator.outlet.flush();
            let fence = self.fence.map(|(_, at)| at.saturating_duration_since(Instant::now()));
            let spill = spilled.then_some(SPILL_RETRY);
            let timeout = [spill, fence, Some(SYNC)].into_iter().flatten().min();
            let (readable, mounts) = self.wait(timeout);
            if !readable {
                // What processes do is recorded although they do nothing to files.
                (self.sync)();
            }
            while let Some(command) = self.next_command() {
                match command {
                    Command::Update { scope, watched, reply } => {
                        // What happened before belongs to the old scope.
                        self.take_in();
                        self.translator.scope = scope;
                        self.translator.places.watched = watched;
                        self.translator.places.forget();
                        // Whoever asked may have given up waiting.
                        let _ = reply.send(self.arm());
                    }
                    Command::Fence(number) => self.fence = Some((number, Instant::now() + SETTLED)),
                    Command::Stop => return self.end(),
                }
            }
            if let Some((number, at)) = self.fence
                && Instant::now() >= at
            {
                self.fence = None;
                self.take_in();
                self.translator.outlet.notice(Observation::Fence(number));
            }
            if mounts {
                // What happened before happened where things were mounted before.
                self.take_in();
                if let Err(error) = self.arm().and_then(|()| self.tell_mounts()) {
                    tracing::error!(%error, "mounts cannot be listed: new ones are not watched");
                }
            }
            if readable && self.take_in() {
                self.pause(WRITES_PAUSE);
            }
            self.look_after_marks();
            if self.translator.outlet.is_closed() {
                return;
            }
        }
    }

    fn next_command(&self) -> Option<Command> {
        self.commands.next()
    }

    /// Waits for events (the first answer), other mounts (the second), a command or the time-out.
    fn wait(&self, timeout: Option<Duration>) -> (bool, bool) {
        let wake = Arc::clone(&self.commands.wake);
        let mut fds = [
            PollFd::new(&self.group, PollFlags::IN),
            // proc_pid_mountinfo(5): a change shows as priority data and error.
            PollFd::new(&self.mountinfo, PollFlags::PRI),
            PollFd::new(&*wake, PollFlags::IN),
        ];
        if poll_for(&mut fds, timeout).is_err() {
            return (false, false);
        }
        let [group, mounts, wake] = fds.map(|fd| fd.revents());
        if wake.contains(PollFlags::IN) {
            self.commands.settle();
        }
        (!group.is_empty(), mounts.intersects(PollFlags::PRI | PollFlags::ERR))
    }

    fn pause(&self, time: Duration) {
        let mut fds = [PollFd::new(&*self.commands.wake, PollFlags::IN)];
        let _ = poll_for(&mut fds, Some(time));
    }

    /// Works on what is queued. Returns whether it was nothing but writes.
    fn take_in(&mut self) -> bool {
        let mut only_writes = true;
        while self.fill(BATCH) {
            let waiting = self.raw.len() >= BATCH;
            only_writes &= self.work();
            if !waiting {
                break;
            }
        }
        only_writes
    }

    /// Works on what was read. Returns whether it was nothing but writes.
    fn work(&mut self) -> bool {
        let mut only_writes = true;
        let mut waiting: Option<Instant> = None;
        while self.raw.events() > 0 {
            let end = self.raw.events();
            self.settle(end);
            // Processes first: who made these events has been recorded before them.
            (self.sync)();
            let batch = self.raw.batch();
            let within = |limit| waiting.is_none_or(|since: Instant| since.elapsed() < limit);
            let patience = Patience {
                next: Some(self.looked),
                path: self.translator.names_objects && within(PATH_PATIENCE),
            };
            let worked = self.translator.work(&batch, end, patience);
            only_writes &=
                batch.events.iter().all(|stamped| stamped.event.mask == libc::FAN_MODIFY);
            self.raw.consume(worked);
            self.walk();
            self.translator.finish(self.complete);
            if worked > 0 {
                waiting = None;
            }
            if worked < end {
                let again = waiting.is_some();
                waiting.get_or_insert_with(Instant::now);
                if !self.fill(self.more()) || again {
                    self.pause(LOOK_AGAIN);
                    self.fill(self.more());
                }
            }
        }
        only_writes
    }

    /// Asks where the directories of the first `end` events are, and reads what was queued
    /// meanwhile, until that settles.
    fn settle(&mut self, end: usize) {
        for _ in 0..SETTLE_MAX {
            let news = self.translator.places.look_up(&self.raw.batch(), end);
            if !news || !self.fill(self.more()) {
                return;
            }
        }
        tracing::debug!("directories are moved faster than their paths can be asked for");
    }

    /// How far a batch may grow that is already being worked on.
    fn more(&self) -> usize {
        (self.raw.len() + BATCH).min(BATCH_MAX)
    }

    /// Reads until the queue is empty or `limit` bytes are there. Returns whether anything came.
    fn fill(&mut self, limit: usize) -> bool {
        let before = self.raw.len();
        self.looked = Boot::now();
        while self.raw.len() < limit {
            match self.group.read(&mut self.chunk) {
                Ok(0) => break,
                Ok(length) => {
                    let now = Timestamp::now();
                    self.complete = now;
                    if let Err(error) = self.raw.take(&self.chunk[..length], now, Boot::now()) {
                        Counters::add(&self.counters.malformed, 1);
                        self.gap(now, "fanotify_format", &error);
                    }
                    // There was room for more. Asking again at once would take each write of a
                    // loop by itself, before the kernel could merge it with the next.
                    if length + EVENT_MAX <= CHUNK {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    // The event at the head of the queue is lost: fanotify_read drops it.
                    self.gap(Timestamp::now(), "fanotify_read", &error);
                    self.pause(LOOK_AGAIN);
                    break;
                }
            }
        }
        self.raw.len() > before
    }

    fn gap(&mut self, to: Timestamp, hook: &str, error: &dyn std::error::Error) {
        tracing::error!(%error, hook, "events lost");
        self.translator.outlet.loss(Gap {
            from: self.complete,
            to,
            count: None,
            hooks: vec![hook.to_owned()],
            scope: Vec::new(),
        });
    }

    /// Looks into new directories of file systems whose handles have to be learned.
    fn walk(&mut self) {
        for (fsid, host, inner) in std::mem::take(&mut self.translator.to_walk) {
            let (lookup, marked) = match self.translator.places.filesystems.get(fsid) {
                Some(filesystem) => (filesystem.lookup, filesystem.marked),
                None => continue,
            };
            if lookup == Lookup::ByWalk {
                self.translator.places.walk(&self.group, self.mask, fsid, &host, &inner);
            }
            if marked == MarkOn::Directory {
                // What was made in it before it had its mark.
                self.translator.recheck(Some(host));
            }
        }
    }

    /// Takes in what is queued and hands it over, as long as the pipeline takes any of it.
    fn end(mut self) {
        if let Err(error) = self.group.flush() {
            tracing::warn!(%error, "fanotify marks cannot be removed");
        }
        self.take_in();
        let outlet = &mut self.translator.outlet;
        let (mut left, mut since) = (outlet.held(), Instant::now());
        while !outlet.flush() && !outlet.is_closed() {
            if outlet.held() != left {
                (left, since) = (outlet.held(), Instant::now());
            } else if since.elapsed() >= STOP_PATIENCE {
                tracing::error!(left, "operations lost: the pipeline does not take them any more");
                return outlet.give_up();
            }
            std::thread::sleep(SPILL_RETRY);
        }
    }
}

impl AsFd for Reader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.group.as_fd()
    }
}

fn poll_for(fds: &mut [PollFd<'_>], timeout: Option<Duration>) -> io::Result<usize> {
    let timeout = timeout.map(|timeout| Timespec {
        tv_sec: timeout.as_secs() as i64,
        tv_nsec: i64::from(timeout.subsec_nanos()),
    });
    Ok(poll(fds, timeout.as_ref())?)
}
