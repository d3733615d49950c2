//! Objects with no name, with one, and with several.

use std::path::Path;

use fim_common::operation::OperationKind;
use fim_common::state::unnamed_inode;
use fim_common::time::Timestamp;

use super::batch::{Batch, Stamped};
use super::object::Seen;
use super::outlet::Counters;
use super::parse::{Event, Fid};
use super::translate::{COUNTED, Draft, NAMES, OPERATIONS, Patience, Translator};

impl Translator {
    /// Creation of an object, or of another name of one.
    pub(super) fn creation(
        &mut self,
        seen: Option<&Seen>,
        object: Option<Fid<'_>>,
        batch: &Batch<'_>,
        at: usize,
    ) -> OperationKind {
        let stamped = batch.events[at];
        let link = OperationKind::Link { existing: None, first: false, elsewhere: None };
        if stamped.event.mask & libc::FAN_ONDIR != 0 {
            return OperationKind::Create;
        }
        if let Some(object) = object
            && !self.created.insert(object.key())
        {
            return link;
        }
        let is_link = seen.is_some_and(|seen| {
            self.is_older(seen).unwrap_or_else(|| {
                let is_relinked = self.is_relinked(stamped, object);
                let has_others = seen.state.nlink.is_some_and(|names| names > 1);
                // The number of names is that of now: one may have been removed since.
                let had_others = || object.is_some_and(|object| batch.is_removed_after(at, object));
                match is_relinked {
                    true => has_others || had_others(),
                    false => has_others && seen.born.is_none(),
                }
            })
        });
        if is_link { link } else { OperationKind::Create }
    }

    /// Whether the object was there when the marks were set, if the time of its birth tells.
    fn is_older(&self, seen: &Seen) -> Option<bool> {
        match seen.born? {
            born if born < self.armed.0 => Some(true),
            born if born > self.armed.1 => Some(false),
            _ => None,
        }
    }

    /// Whether the process has just changed the number of names of the object: link(2) does that
    /// first (fsnotify_link). So does a link to a file from `O_TMPFILE`, which is its creation.
    fn is_relinked(&self, stamped: Stamped<'_>, object: Option<Fid<'_>>) -> bool {
        self.relinked.as_ref().is_some_and(|(key, pid)| {
            *pid == stamped.event.pid && object.is_some_and(|object| object.key() == &**key)
        })
    }

    /// Whether the removal of another name will tell that event `at`, if its process has done no
    /// more so far, was link(2): the object at `path` has one name, but this may be what is left of
    /// two. An object that is known by the time of its birth needs none of this.
    pub(super) fn may_be_link(
        &self,
        batch: &Batch<'_>,
        at: usize,
        path: &Path,
        object: Option<Fid<'_>>,
    ) -> bool {
        let stamped = batch.events[at];
        stamped.event.mask & NAMES == libc::FAN_CREATE
            && self.is_relinked(stamped, object)
            && self
                .look(path, object)
                .is_some_and(|seen| self.is_older(&seen).is_none() && seen.state.nlink == Some(1))
    }

    /// An event about an object that was reached without a name.
    pub(super) fn nameless(
        &mut self,
        batch: &Batch<'_>,
        at: usize,
        object: Fid<'_>,
        patience: Patience,
    ) -> bool {
        let stamped = batch.events[at];
        let mask = stamped.event.mask;
        let count = u64::from((mask & COUNTED).count_ones());
        // A change of the number of names: the event that tells of it, by unlink(2) or link(2),
        // comes next, but for what others do meanwhile.
        let is_links = mask & OPERATIONS == libc::FAN_ATTRIB;
        let tells = |(_, event): (usize, &Event<'_>)| {
            // Before 5.17 that event does not name the object.
            event.object.is_none_or(|told| told == object)
                && event.mask & (libc::FAN_DELETE | libc::FAN_CREATE) != 0
        };
        let is_told = is_links && batch.by_same_after(at).any(tells);
        if is_links && !is_told && patience.awaits_next(batch, at) {
            return false;
        }
        if is_links {
            self.relinked = Some((object.key().into(), stamped.event.pid));
        }
        // A file server or debugger that opened it by handle: some name of it will do.
        let path = (!is_told).then(|| self.places.path_of_object(object)).flatten();
        match path.filter(|path| self.look(path, Some(object)).is_some()) {
            Some(path) if self.concerns(stamped, &path) => {
                self.expand(batch, at, mask, path, Some(object));
            }
            None if !is_told
                && !self.is_own(stamped)
                && self.places.has_name(object) == Some(true) =>
            {
                self.unnamed(stamped, object);
            }
            _ => Counters::add(&self.counters.filtered, count),
        }
        true
    }

    /// Something was done to an object of which the kernel has no name in memory (d_obtain_alias):
    /// it was opened by its handle. The pipeline may know it by its identity.
    fn unnamed(&mut self, stamped: Stamped<'_>, object: Fid<'_>) {
        const TOLD: [u64; 3] = [libc::FAN_MODIFY, libc::FAN_ATTRIB, libc::FAN_CLOSE_WRITE];
        let mask = stamped.event.mask & COUNTED;
        let id = self.id(None, Some(object));
        let told: u64 = if id.is_some() { TOLD.iter().sum() } else { 0 };
        let others = u64::from((mask & !told).count_ones());
        Counters::add(&self.counters.filtered, others);
        for bit in TOLD.into_iter().filter(|bit| mask & told & bit != 0) {
            let kind = self.done_to(bit, object.key());
            let (before, after) = Default::default();
            self.emit(stamped, Draft { kind, path: None, object: id, before, after });
        }
    }

    /// Something was done through a descriptor that was opened with `O_TMPFILE`: to whatever name the
    /// object has been given by then.
    pub(super) fn temporary(
        &mut self,
        batch: &Batch<'_>,
        at: usize,
        mask: u64,
        object: Option<Fid<'_>>,
        patience: Patience,
    ) -> bool {
        let stamped = batch.events[at];
        // Given a name later, its creation comes with its state.
        let named = object.filter(|object| !batch.is_created_after(at, *object));
        let found = named.and_then(|object| {
            let path = self.places.path_of_object(object)?;
            let path = Some(path).filter(|path| self.concerns(stamped, path))?;
            let seen = self.look(&path, Some(object))?;
            Some((object, path, seen))
        });
        let Some((object, path, seen)) = found else {
            let count = u64::from((mask & COUNTED).count_ones());
            Counters::add(&self.counters.filtered, count);
            return true;
        };
        if !self.created.contains(object.key()) && self.is_older(&seen) != Some(true) {
            // It has got its name since the event was read: that is about to be queued
            // (fsnotify_link).
            if patience.path {
                return false;
            }
            // Or it was created too long ago to be remembered: this is not waited for again.
            self.created.insert(object.key());
        }
        self.expand(batch, at, mask, path, Some(object));
        true
    }

    /// Whether the kernel gave this name to a file that was opened with `O_TMPFILE`.
    pub(super) fn is_nameless(&mut self, name: &[u8], object: Option<Fid<'_>>) -> bool {
        unnamed_inode(name).is_some_and(|number| {
            object.is_none_or(|object| {
                self.places.number(object).0.is_none_or(|inode| number == inode)
            })
        })
    }
}

/// The clock that file systems take times from (ktime_get_coarse_real_ts64).
pub(super) fn coarse_now() -> Timestamp {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    Timestamp::from_unix(now.tv_sec, now.tv_nsec as u32)
}
