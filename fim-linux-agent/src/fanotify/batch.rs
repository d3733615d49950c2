//! What was read in one go: events in the order of the queue, with a view ahead.

use std::collections::HashMap;

use fim_common::time::Timestamp;

use super::parse::{self, Event, Fid, Name, PidFd};
use super::sys;
use crate::process::Alive;

/// Events that were read together.
#[derive(Clone, Copy, Debug)]
struct Chunk {
    /// Number of the first event behind it.
    end: usize,
    time: Timestamp,
    boot: u64,
}

/// The bytes of a batch. The kernel made a descriptor for each event; they are closed as soon as
/// the bytes are taken in, and what they told is kept.
#[derive(Debug, Default)]
pub(super) struct Raw {
    bytes: Vec<u8>,
    /// Of each event: where it ends, and whether its process was there.
    events: Vec<(usize, Alive)>,
    chunks: Vec<Chunk>,
}

impl Raw {
    /// Bytes.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Events.
    pub(super) fn events(&self) -> usize {
        self.events.len()
    }

    /// Forgets the first `count` events.
    pub(super) fn consume(&mut self, count: usize) {
        let Some((end, _)) = count.checked_sub(1).and_then(|last| self.events.get(last)).copied()
        else {
            return;
        };
        self.bytes.drain(..end);
        self.events.drain(..count);
        self.events.iter_mut().for_each(|(other, _)| *other -= end);
        self.chunks.retain(|chunk| chunk.end > count);
        self.chunks.iter_mut().for_each(|chunk| chunk.end -= count);
    }

    /// Takes in what one read(2) returned. The error is that of the first event that is wrong;
    /// those before it are good.
    pub(super) fn take(
        &mut self,
        bytes: &[u8],
        time: Timestamp,
        boot: u64,
    ) -> Result<(), parse::ParseError> {
        let start = self.bytes.len();
        let mut events = parse::events(bytes);
        let mut end = 0;
        let mut result = Ok(());
        while let Some(event) = events.next() {
            match event {
                Ok(event) => {
                    end = bytes.len() - events.rest().len();
                    let alive = match event.pidfd {
                        PidFd::Open(descriptor) => {
                            sys::close(descriptor);
                            Alive::Yes
                        }
                        PidFd::Gone => Alive::No,
                        PidFd::Unknown => Alive::Unknown,
                    };
                    self.events.push((start + end, alive));
                }
                Err(error) => result = Err(error),
            }
        }
        // Bytes that are wrong are not kept: what is read after them is good again.
        self.bytes.extend(&bytes[..end]);
        self.chunks.push(Chunk { end: self.events.len(), time, boot });
        result
    }

    pub(super) fn batch(&self) -> Batch<'_> {
        let mut batch = Batch::default();
        let mut chunks = self.chunks.iter().peekable();
        let parsed = parse::events(&self.bytes).flatten();
        for (at, (event, (_, alive))) in parsed.zip(&self.events).enumerate() {
            while chunks.peek().is_some_and(|chunk| chunk.end <= at) {
                chunks.next();
            }
            let Some(chunk) = chunks.peek() else { break };
            if event.mask & libc::FAN_ONDIR != 0 {
                batch.note_directory(at, &event);
            }
            batch.events.push(Stamped { event, alive: *alive, time: chunk.time, boot: chunk.boot });
        }
        batch
    }
}

/// So many events of a process are looked at for one that belongs to another of its events: its
/// threads may lie between.
const NEAR: usize = 16;

/// So many events of all processes are looked at for those.
const FAR: usize = 1024;

/// An event, with when it was read and whether its process was there then.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamped<'a> {
    pub(super) event: Event<'a>,
    pub(super) alive: Alive,
    /// Wall clock.
    pub(super) time: Timestamp,
    /// Nanoseconds since boot.
    pub(super) boot: u64,
}

/// The events, and what those about directories tell of the paths of others.
#[derive(Debug, Default)]
pub(super) struct Batch<'a> {
    pub(super) events: Vec<Stamped<'a>>,
    /// Of each directory that was removed or moved: by which event.
    left: HashMap<&'a [u8], Vec<usize>>,
    /// Moves of directories.
    moves: Vec<(usize, Name<'a>, Name<'a>)>,
    /// First halves of moves, and who made them.
    halves: Vec<(i32, Name<'a>)>,
}

impl<'a> Batch<'a> {
    fn note_directory(&mut self, at: usize, event: &Event<'a>) {
        if event.mask & (libc::FAN_DELETE | libc::FAN_RENAME) != 0
            && let Some(object) = event.object
        {
            self.left.entry(object.key()).or_default().push(at);
        }
        if let (Some(old), Some(new)) = (event.old, event.new) {
            self.moves.push((at, old, new));
        }
        // Before 5.17 in two halves.
        if event.mask & libc::FAN_MOVED_TO != 0
            && let Some(from) = self.halves.iter().position(|(pid, _)| *pid == event.pid)
            && let Some(to) = event.name
        {
            let (_, from) = self.halves.remove(from);
            self.moves.push((at, from, to));
        }
        if event.mask & libc::FAN_MOVED_FROM != 0
            && let Some(from) = event.name
        {
            self.halves.push((event.pid, from));
        }
    }

    /// The name that a directory had at event `at`, by the first later event that takes it away;
    /// and which event that is.
    pub(super) fn name_at(&self, directory: Fid<'_>, at: usize) -> Option<(usize, Name<'a>)> {
        let later = self.left.get(directory.key())?;
        let later = *later.iter().find(|event| **event >= at)?;
        let event = &self.events.get(later)?.event;
        event.old.or(event.name).map(|name| (later, name))
    }

    /// Whether a later event tells that `object` got a name.
    pub(super) fn is_created_after(&self, at: usize, object: Fid<'_>) -> bool {
        self.is_told_after(at, libc::FAN_CREATE, object)
    }

    /// Whether a later event tells that `object` lost a name (from 5.17 on).
    pub(super) fn is_removed_after(&self, at: usize, object: Fid<'_>) -> bool {
        self.is_told_after(at, libc::FAN_DELETE, object)
    }

    fn is_told_after(&self, at: usize, bit: u64, object: Fid<'_>) -> bool {
        let tells = |event: &Event<'_>| event.mask & bit != 0 && event.object == Some(object);
        self.events.iter().skip(at + 1).any(|stamped| tells(&stamped.event))
    }

    /// Whether a directory was moved.
    pub(super) fn has_moves(&self) -> bool {
        !self.moves.is_empty()
    }

    /// Moves of directories after event `at`, the last one first: which event, from, to.
    pub(super) fn moves_after(&self, at: usize) -> Vec<(usize, Name<'a>, Name<'a>)> {
        self.moves.iter().rev().filter(|(n, ..)| *n > at).copied().collect()
    }

    /// Whether the move at `at` is half of an exchange: the other object's half is next to it. A
    /// rename(2) there and back is of one object; two objects can only change places at once.
    pub(super) fn other_half(&self, at: usize) -> Option<usize> {
        let own = self.events.get(at)?.event;
        let is_other = |event: &Event<'_>| {
            event.mask & libc::FAN_RENAME != 0
                && event.old.is_some()
                && event.old == own.new
                && event.new == own.old
                && event.object.is_some()
                && event.object != own.object
        };
        let mut near = self.by_same_before(at).chain(self.by_same_after(at));
        near.find(|(_, event)| is_other(event)).map(|(other, _)| other)
    }

    /// What the process of event `at` did next, as far as that is near: what others did meanwhile
    /// may lie between.
    pub(super) fn by_same_after(&self, at: usize) -> impl Iterator<Item = (usize, &Event<'a>)> {
        self.by_same(at, (at + 1..self.events.len()).take(FAR))
    }

    fn by_same_before(&self, at: usize) -> impl Iterator<Item = (usize, &Event<'a>)> {
        self.by_same(at, (0..at).rev().take(FAR))
    }

    fn by_same(
        &self,
        at: usize,
        others: impl Iterator<Item = usize>,
    ) -> impl Iterator<Item = (usize, &Event<'a>)> {
        let pid = self.events[at].event.pid;
        let events = others.map(|other| (other, &self.events[other].event));
        events.filter(move |(_, event)| event.pid == pid).take(NEAR)
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse::tests::{event_bytes, info};
    use super::*;

    fn old(handle: &[u8], name: &[u8]) -> Vec<u8> {
        info(libc::FAN_EVENT_INFO_TYPE_OLD_DFID_NAME, 1, handle, Some(name))
    }
    fn new(handle: &[u8], name: &[u8]) -> Vec<u8> {
        info(libc::FAN_EVENT_INFO_TYPE_NEW_DFID_NAME, 1, handle, Some(name))
    }
    fn object(handle: &[u8]) -> Vec<u8> {
        info(libc::FAN_EVENT_INFO_TYPE_FID, 1, handle, None)
    }

    #[test]
    fn ahead_and_around() {
        let moved = libc::FAN_RENAME | libc::FAN_ONDIR;
        let events = [
            event_bytes(libc::FAN_CREATE, 1, &[object(b"a")]),
            event_bytes(moved, 1, &[old(b"p", b"a"), new(b"p", b"b"), object(b"a")]),
            event_bytes(moved, 1, &[old(b"p", b"b"), new(b"p", b"a"), object(b"b")]),
            event_bytes(moved, 1, &[old(b"p", b"b"), new(b"q", b"c"), object(b"a")]),
        ];
        let mut raw = Raw::default();
        raw.take(&events[..2].concat(), Timestamp::from_unix(1, 0), 1).unwrap();
        raw.take(&events[2..].concat(), Timestamp::from_unix(2, 0), 2).unwrap();
        let batch = raw.batch();
        assert_eq!(batch.events.len(), 4);
        assert_eq!([1, 2].map(|at| batch.events[at].boot), [1, 2]);
        assert_eq!(batch.other_half(1), Some(2));
        assert_eq!(batch.other_half(2), Some(1));
        assert_eq!(batch.other_half(3), None);
        let fid = batch.events[0].event.object.unwrap();
        assert_eq!(batch.name_at(fid, 0).map(|(at, name)| (at, name.name)), Some((1, &b"a"[..])));
        assert_eq!(batch.name_at(fid, 2).map(|(at, name)| (at, name.name)), Some((3, &b"b"[..])));
        let names: Vec<_> = batch.moves_after(1).iter().map(|(_, _, new)| new.name).collect();
        assert_eq!(names, [b"c", b"a"]);
    }

    #[test]
    fn what_others_do_lies_between() {
        let half = |from: &[u8], to: &[u8], which: &[u8]| {
            event_bytes(libc::FAN_RENAME, 1, &[old(b"p", from), new(b"p", to), object(which)])
        };
        let other = event_bytes(libc::FAN_MODIFY, 2, &[object(b"x")]);
        let take = |between: usize| {
            let mut raw = Raw::default();
            let events = [half(b"a", b"b", b"1"), other.repeat(between), half(b"b", b"a", b"2")];
            raw.take(&events.concat(), Timestamp::from_unix(1, 0), 1).unwrap();
            raw
        };
        let raw = take(FAR - 1);
        assert_eq!(raw.batch().other_half(0), Some(FAR));
        assert_eq!(raw.batch().other_half(FAR), Some(0));
        assert_eq!(raw.batch().by_same_after(FAR).count(), 0);
        assert_eq!(take(FAR).batch().other_half(0), None);
    }

    #[test]
    fn good_events_before_a_wrong_one_are_kept() {
        let good = event_bytes(libc::FAN_CREATE, 1, &[object(b"a")]);
        let mut raw = Raw::default();
        let wrong = [good.clone(), good.clone(), vec![0; 40]].concat();
        assert!(raw.take(&wrong, Timestamp::default(), 1).is_err());
        raw.take(&good, Timestamp::default(), 2).unwrap();
        let batch = raw.batch();
        assert_eq!(batch.events.iter().map(|event| event.boot).collect::<Vec<_>>(), [1, 1, 2]);
        raw.consume(0);
        assert_eq!((raw.events(), raw.len()), (3, 3 * good.len()));
        raw.consume(1);
        raw.take(&good, Timestamp::default(), 3).unwrap();
        let boots: Vec<_> = raw.batch().events.iter().map(|event| event.boot).collect();
        assert_eq!(boots, [1, 2, 3]);
        raw.consume(3);
        assert_eq!((raw.events(), raw.len()), (0, 0));
    }
}
