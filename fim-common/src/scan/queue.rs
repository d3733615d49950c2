//! The work that the scanning threads share.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::object::{EntryKind, Handle};

/// Open directories that jobs may hold on to. Beyond, a directory is opened by its path when its
/// turn comes: a deep and wide tree must not use up the process's descriptors.
const DESCRIPTORS: usize = 256;

/// One directory whose entries have been listed.
pub(super) struct Listing {
    pub(super) path: PathBuf,
    pub(super) handle: Handle,
    /// `st_dev`.
    pub(super) device: Option<u64>,
    /// Levels below it that are still wanted.
    pub(super) depth: Option<usize>,
    /// All names, one after the other.
    pub(super) names: Vec<u8>,
    /// Where each name is, and whether it is known not to be a directory; in byte order.
    pub(super) entries: Vec<Entry>,
    live: Arc<AtomicUsize>,
}

/// One name of a listing.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    pub(super) start: u32,
    pub(super) length: u16,
    pub(super) kind: EntryKind,
}

impl Listing {
    pub(super) fn name(&self, entry: &Entry) -> &[u8] {
        let start = entry.start as usize;
        self.names.get(start..start + usize::from(entry.length)).unwrap_or_default()
    }
}

impl Drop for Listing {
    fn drop(&mut self) {
        self.live.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A part of the work.
pub(super) enum Job {
    /// A directory to be listed.
    Directory {
        path: PathBuf,
        /// The directory it is in, by which to open it.
        parent: Option<Arc<Listing>>,
        /// The device of the directory it is in.
        device: Option<u64>,
        depth: Option<usize>,
    },
    /// Some of the entries of a large one.
    Entries { listing: Arc<Listing>, from: usize, to: usize },
}

/// A job is being worked on; ends when dropped, also by a panic, or the others would wait for ever.
pub(super) struct Taken<'a>(&'a Queue);

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.active -= 1;
        if state.active == 0 && state.jobs.is_empty() {
            self.0.changed.notify_all();
        }
    }
}

/// A stack: the deepest first, so that it stays short and descriptors are closed early.
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    live: Arc<AtomicUsize>,
}

struct State {
    jobs: Vec<Job>,
    /// Threads at work, which may add jobs.
    active: usize,
}

impl Queue {
    pub(super) fn new(jobs: Vec<Job>) -> Self {
        Self {
            state: Mutex::new(State { jobs, active: 0 }),
            changed: Condvar::new(),
            live: Arc::new(AtomicUsize::new(0)),
        }
    }

    /// A listing, counted as long as it lives.
    pub(super) fn listing(
        &self,
        path: PathBuf,
        handle: Handle,
        device: Option<u64>,
        depth: Option<usize>,
        names: Vec<u8>,
        entries: Vec<Entry>,
    ) -> Arc<Listing> {
        self.live.fetch_add(1, Ordering::Relaxed);
        let live = Arc::clone(&self.live);
        Arc::new(Listing { path, handle, device, depth, names, entries, live })
    }

    /// The parent to keep open for a job that waits, while there are not too many.
    pub(super) fn keep(&self, parent: &Arc<Listing>) -> Option<Arc<Listing>> {
        (self.live.load(Ordering::Relaxed) < DESCRIPTORS).then(|| Arc::clone(parent))
    }

    /// A job, waiting while others may still add one; `None` when all is done.
    pub(super) fn take(&self) -> Option<(Job, Taken<'_>)> {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop() {
                state.active += 1;
                return Some((job, Taken(self)));
            }
            if state.active == 0 {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub(super) fn add(&self, jobs: impl IntoIterator<Item = Job>) {
        let mut state = self.lock();
        let before = state.jobs.len();
        state.jobs.extend(jobs);
        let added = state.jobs.len() - before;
        drop(state);
        match added {
            0 => {}
            1 => self.changed.notify_one(),
            _ => self.changed.notify_all(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
