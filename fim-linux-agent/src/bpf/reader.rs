//! The ring's two threads: one empties it and does nothing else, so that a slow disk or a busy
//! pipeline never makes the kernel drop records; the other decodes, resolves and hands over.

use std::mem::offset_of;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aya::maps::{MapData, RingBuf};
use fim_common::record::{Actor, Header};
use rustix::event::{PollFd, PollFlags, Timespec};

use crate::mounts::Mount;
use crate::shares::Shares;

/// How long a record may lie in the ring while it fills slowly. The programs wake the reader
/// when it fills faster.
const POLL: Duration = Duration::from_millis(10);
/// What is done is on the disk a moment before its record is in the ring; by then it is there.
const SETTLED: Duration = Duration::from_millis(20);

/// What the threads count, and what is asked of them.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Records taken out of the ring.
    pub received: AtomicU64,
    /// Records that did not fit between the threads: the pipeline was slower for too long.
    pub overflowed: AtomicU64,
    /// Records that were not records.
    pub malformed: AtomicU64,
    /// Records decoded.
    pub resolved: AtomicU64,
    /// Of those: about processes, or announcing a mount.
    pub processes: AtomicU64,
    /// Operations more than records.
    pub expanded: AtomicU64,
    /// Operations of the canary, and on names that nobody watches.
    pub diverted: AtomicU64,
    /// Operations handed to the pipeline.
    pub delivered: AtomicU64,
    /// Records that the programs have numbered, as far as those that came tell.
    pub numbered: AtomicU64,
    /// The last fence that was asked for.
    pub fence: AtomicU64,
    /// The mount table, when it has changed.
    mounts: Mutex<Option<Vec<Mount>>>,
    /// The programs are detached: empty the ring, then end.
    pub stop: AtomicBool,
}

impl Progress {
    pub(super) fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }

    /// The mount table, when it has changed. A panic of another thread leaves it whole.
    pub(super) fn mounts(&self) -> MutexGuard<'_, Option<Vec<Mount>>> {
        self.mounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Records on their way from the ring: one allocation each, as large as they are.
pub(super) type Bytes = Box<[u8]>;

/// What goes from the ring's thread to the resolver.
pub(super) enum Item {
    Record(Bytes),
    /// All records before it that were made when it was asked for.
    Fence(u64),
    /// The mount table as it was when all records before this had been made.
    Mounts(Vec<Mount>),
}

/// The running number that the programs give each record of a CPU. One that never comes was lost.
#[derive(Debug, Default)]
struct Numbers {
    next: Vec<u64>,
    total: u64,
}

/// CPUs beyond which a number is taken for damage: the kernel's largest NR_CPUS.
const CPUS_MAX: usize = 8192;

impl Numbers {
    /// How many records have been numbered, by what this one says.
    fn note(&mut self, record: &[u8]) -> u64 {
        let word = |at: usize| record.get(at..at + 4)?.try_into().map(u32::from_ne_bytes).ok();
        let long = |at: usize| record.get(at..at + 8)?.try_into().map(u64::from_ne_bytes).ok();
        if let (Some(cpu), Some(number)) =
            (word(offset_of!(Header, cpu)), long(offset_of!(Header, sequence)))
            && (cpu as usize) < CPUS_MAX
        {
            let cpu = cpu as usize;
            if self.next.len() <= cpu {
                self.next.resize(cpu + 1, 0);
            }
            // A task that was preempted in the middle of its program comes after its successor.
            if number >= self.next[cpu] {
                self.total += number + 1 - self.next[cpu];
                self.next[cpu] = number + 1;
            }
        }
        self.total
    }
}

/// Where records come from: the kernel's ring, or a replay of one.
pub(super) trait Source {
    /// Takes the next record out, if there is one.
    fn take<T>(&mut self, look: impl FnOnce(&[u8]) -> T) -> Option<T>;

    /// Waits until there may be one, `wake` is written to, or [`POLL`] is over.
    fn wait(&mut self, wake: &OwnedFd);
}

impl Source for RingBuf<MapData> {
    fn take<T>(&mut self, look: impl FnOnce(&[u8]) -> T) -> Option<T> {
        self.next().map(|record| look(&record))
    }

    fn wait(&mut self, wake: &OwnedFd) {
        let mut fds = [
            PollFd::new(self, PollFlags::IN),
            PollFd::from_borrowed_fd(wake.as_fd(), PollFlags::IN),
        ];
        poll(&mut fds);
    }
}

/// Waits for one of these, or until [`POLL`] is over.
pub(super) fn poll(fds: &mut [PollFd<'_>]) {
    let timeout = Timespec { tv_sec: 0, tv_nsec: POLL.as_nanos() as i64 };
    // A signal is as good a reason to look as any.
    let _ = rustix::event::poll(fds, Some(&timeout));
}

/// Empties the ring until told to stop, and once more after that. `shares` says how much may be on its
/// way to `sender`: a channel that has room for all of it from the start takes 8 MiB for that.
pub(super) fn empty_ring(
    mut ring: impl Source,
    ring_bytes: u64,
    wake: &OwnedFd,
    sender: &Sender<Item>,
    shares: &Shares,
    progress: &Arc<Progress>,
) {
    let mut numbers = Numbers::default();
    let mut answered = 0;
    let mut asked: Option<(u64, Instant)> = None;
    loop {
        let stopping = progress.stop.load(Ordering::Acquire);
        let wanted = progress.fence.load(Ordering::Acquire);
        if wanted > answered && asked.is_none_or(|(number, _)| number != wanted) {
            asked = Some((wanted, Instant::now()));
        }
        let mounts = progress.mounts().take();
        let ripe = asked.filter(|(_, since)| since.elapsed() >= SETTLED);
        let mut taken = 0;
        // Whoever fills the ring as fast as it is emptied does not keep a fence waiting: more than
        // it holds cannot have been in it.
        while (ripe.is_none() && mounts.is_none()) || taken < ring_bytes {
            let record = ring.take(|record| {
                Progress::add(&progress.received, 1);
                progress.numbered.store(numbers.note(record), Ordering::Relaxed);
                taken += record.len() as u64;
                if shares.enter(&process(record)) {
                    Some(Bytes::from(record))
                } else {
                    Progress::add(&progress.overflowed, 1);
                    None
                }
            });
            let Some(record) = record else { break };
            let Some(record) = record else { continue };
            if sender.send(Item::Record(record)).is_err() {
                return;
            }
        }
        let mounts = mounts.map(Item::Mounts);
        let fence = ripe.map(|(number, _)| Item::Fence(number));
        for item in mounts.into_iter().chain(fence) {
            if let Item::Fence(number) = item {
                (answered, asked) = (number, None);
            }
            if sender.send(item).is_err() {
                return;
            }
        }
        if stopping {
            return;
        }
        ring.wait(wake);
    }
}

/// Whose record it is: the source of a flood.
pub(super) fn process(record: &[u8]) -> Option<u32> {
    let at = size_of::<Header>() + offset_of!(Actor, tgid);
    Some(u32::from_ne_bytes(record.get(at..at + 4)?.try_into().ok()?))
}

/// The next record or fence, or `None` when there was none for `timeout`; `Err` when there will be
/// no more.
///
/// # Errors
/// When the thread that empties the ring has ended and nothing is left.
pub(super) fn next(receiver: &Receiver<Item>, timeout: Duration) -> Result<Option<Item>, Ended> {
    match receiver.recv_timeout(timeout) {
        Ok(item) => Ok(Some(item)),
        Err(std::sync::mpsc::RecvTimeoutError::Timeout) => Ok(None),
        Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => Err(Ended),
    }
}

/// There will be no more records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ended;

#[cfg(test)]
mod tests {
    use super::*;

    fn record(cpu: u32, sequence: u64) -> Vec<u8> {
        let mut bytes = vec![0; size_of::<Header>()];
        let at = offset_of!(Header, cpu);
        bytes[at..at + 4].copy_from_slice(&cpu.to_ne_bytes());
        let at = offset_of!(Header, sequence);
        bytes[at..at + 8].copy_from_slice(&sequence.to_ne_bytes());
        bytes
    }

    #[test]
    fn a_number_that_does_not_come_is_missed() {
        let mut numbers = Numbers::default();
        for (received, (cpu, number, numbered)) in
            [(0, 0, 1), (1, 0, 2), (0, 1, 3), (1, 4, 7), (0, 2, 8)].into_iter().enumerate()
        {
            assert_eq!(numbers.note(&record(cpu, number)), numbered, "record {received}");
        }
        // Five came of eight.
    }

    #[test]
    fn a_record_that_was_overtaken_is_not_missed() {
        let mut numbers = Numbers::default();
        let numbered = [0, 2, 1, 3].map(|number| numbers.note(&record(0, number)));
        assert_eq!(numbered, [1, 3, 3, 4]);
    }

    #[test]
    fn damage_is_no_number() {
        let mut numbers = Numbers::default();
        assert_eq!(numbers.note(&[]), 0);
        assert_eq!(numbers.note(&record(u32::MAX, 7)), 0);
        assert!(numbers.next.is_empty());
    }
}
