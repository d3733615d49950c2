//! Two objects that change places (`RENAME_EXCHANGE`): the kernel tells of a rename of each.

use std::collections::VecDeque;

use super::batch::Batch;
use super::parse::{Fid, Name};

/// A name in a directory.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// A [`Fid`].
    directory: Box<[u8]>,
    name: Box<[u8]>,
}

impl Entry {
    pub(super) fn new(name: Name<'_>) -> Self {
        Self { directory: name.directory.key().into(), name: name.name.into() }
    }

    pub(super) fn name(&self) -> Option<Name<'_>> {
        Some(Name { directory: Fid::new(&self.directory)?, name: &self.name })
    }

    pub(super) fn is(&self, name: Name<'_>) -> bool {
        *self.directory == *name.directory.key() && *self.name == *name.name
    }
}

/// Which half of an exchange a rename is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exchange {
    First,
    /// Whether the first one was of a directory.
    Second {
        of_directory: bool,
    },
}

/// The first half of an exchange, which has been dealt with: the batch may have ended behind it.
#[derive(Debug)]
struct First {
    pid: i32,
    from: Entry,
    to: Entry,
    is_directory: bool,
}

/// Exchanges of which the first half has been dealt with and the second has not.
#[derive(Debug, Default)]
pub(super) struct Exchanges(VecDeque<First>);

impl Exchanges {
    /// Whether the rename at `at` is half of an exchange. To be asked once when it is dealt with:
    /// the first half is remembered until the second one is asked about.
    pub(super) fn half(
        &mut self,
        batch: &Batch<'_>,
        at: usize,
        (old, new): (Option<Name<'_>>, Option<Name<'_>>),
    ) -> Option<Exchange> {
        let (old, new) = (old?, new?);
        let pid = batch.events[at].event.pid;
        let is_directory = |at: usize| batch.events[at].event.mask & libc::FAN_ONDIR != 0;
        let is_other = |first: &First| first.pid == pid && first.from.is(new) && first.to.is(old);
        if let Some(first) = self.0.iter().position(is_other) {
            let first = self.0.remove(first)?;
            return Some(Exchange::Second { of_directory: first.is_directory });
        }
        let other = batch.other_half(at)?;
        if other < at {
            return Some(Exchange::Second { of_directory: is_directory(other) });
        }
        // The other half has been read: this many are never under way.
        const UNDER_WAY: usize = 64;
        if self.0.len() >= UNDER_WAY {
            self.0.pop_front();
        }
        let (from, to) = (Entry::new(old), Entry::new(new));
        self.0.push_back(First { pid, from, to, is_directory: is_directory(at) });
        Some(Exchange::First)
    }
}

#[cfg(test)]
mod tests {
    use fim_common::time::Timestamp;

    use super::super::batch::Raw;
    use super::super::parse::tests::{event_bytes, info};
    use super::*;

    /// A half, by process 1.
    fn half(mask: u64, from: &[u8], to: &[u8], object: &[u8]) -> Vec<u8> {
        let parts = [
            info(libc::FAN_EVENT_INFO_TYPE_OLD_DFID_NAME, 1, b"p", Some(from)),
            info(libc::FAN_EVENT_INFO_TYPE_NEW_DFID_NAME, 1, b"p", Some(to)),
            info(libc::FAN_EVENT_INFO_TYPE_FID, 1, object, None),
        ];
        event_bytes(libc::FAN_RENAME | mask, 1, &parts)
    }

    #[test]
    fn the_batch_may_end_between_the_halves() {
        const SECOND: Option<Exchange> = Some(Exchange::Second { of_directory: true });
        for consumed in [0, 1] {
            let mut raw = Raw::default();
            let events = [half(libc::FAN_ONDIR, b"a", b"b", b"1"), half(0, b"b", b"a", b"2")];
            raw.take(&events.concat(), Timestamp::from_unix(1, 0), 1).unwrap();
            let mut exchanges = Exchanges::default();
            let mut ask = |raw: &Raw, at: usize| {
                let batch = raw.batch();
                let event = batch.events[at].event;
                exchanges.half(&batch, at, (event.old, event.new))
            };
            assert_eq!(ask(&raw, 0), Some(Exchange::First));
            raw.consume(consumed);
            assert_eq!(ask(&raw, 1 - consumed), SECOND);
            // And no more: this would be a rename back.
            raw.consume(1 - consumed);
            assert_eq!(ask(&raw, 0), None);
        }
    }
}
