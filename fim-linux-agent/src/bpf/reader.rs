//! The ring's two threads: one empties it and does nothing else, so that a slow disk or a busy
//! pipeline never makes the kernel drop records; the other decodes, resolves and hands over.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aya::maps::{MapData, RingBuf};
use rustix::event::{PollFd, PollFlags, Timespec};

use crate::mounts::Mount;

/// How long a record may lie in the ring while it fills slowly. The programs wake the reader
/// when it fills faster.
const POLL: Duration = Duration::from_millis(10);

/// What the threads count, and the request to stop.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Records taken out of the ring.
    pub received: AtomicU64,
    /// Records that did not fit between the threads: the pipeline was slower for too long.
    pub overflowed: AtomicU64,
    /// Records that were not records.
    pub malformed: AtomicU64,
    /// The mount table, when it has changed.
    mounts: Mutex<Option<Vec<Mount>>>,
    /// The programs are detached: empty the ring, then end.
    pub stop: AtomicBool,
}

impl Progress {
    /// The mount table, when it has changed. A panic of another thread leaves it whole.
    pub(super) fn mounts(&self) -> MutexGuard<'_, Option<Vec<Mount>>> {
        self.mounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Records on their way from the ring: one allocation each, as large as they are.
pub(super) type Bytes = Box<[u8]>;

/// What the resolver is sent.
pub(super) enum Message {
    /// A record.
    Record(Bytes),
    /// The mount table as it was when all records before this had been made.
    Mounts(Vec<Mount>),
}

/// Empties the ring until told to stop, and once more after that.
pub(super) fn empty_ring(
    mut ring: RingBuf<MapData>,
    wake: &OwnedFd,
    sender: &SyncSender<Message>,
    progress: &Arc<Progress>,
) {
    loop {
        let stopping = progress.stop.load(Ordering::Acquire);
        let mounts = progress.mounts().take();
        while let Some(item) = ring.next() {
            progress.received.fetch_add(1, Ordering::Relaxed);
            match sender.try_send(Message::Record(Box::from(&*item))) {
                Ok(()) => {}
                Err(TrySendError::Full(_)) => {
                    progress.overflowed.fetch_add(1, Ordering::Relaxed);
                }
                Err(TrySendError::Disconnected(_)) => return,
            }
        }
        if let Some(mounts) = mounts
            && let Err(TrySendError::Full(Message::Mounts(mounts))) =
                sender.try_send(Message::Mounts(mounts))
        {
            progress.mounts().get_or_insert(mounts);
        }
        if stopping {
            return;
        }
        let timeout = Timespec { tv_sec: 0, tv_nsec: POLL.as_nanos() as i64 };
        let mut fds = [
            PollFd::new(&ring, PollFlags::IN),
            PollFd::from_borrowed_fd(wake.as_fd(), PollFlags::IN),
        ];
        // A signal is as good a reason to look as any.
        let _ = rustix::event::poll(&mut fds, Some(&timeout));
    }
}

/// The next record, or `None` when there was none for `timeout`; `Err` when there will be no more.
///
/// # Errors
/// When the thread that empties the ring has ended and nothing is left.
pub(super) fn next(
    receiver: &Receiver<Message>,
    timeout: Duration,
) -> Result<Option<Message>, Ended> {
    match receiver.recv_timeout(timeout) {
        Ok(message) => Ok(Some(message)),
        Err(std::sync::mpsc::RecvTimeoutError::Timeout) => Ok(None),
        Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => Err(Ended),
    }
}

/// There will be no more records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ended;
