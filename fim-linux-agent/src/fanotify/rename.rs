//! Renames: two names, two directories, and what moves along.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fim_common::operation::OperationKind;
use fim_common::state::{ObjectId, ObjectState};

use super::batch::Batch;
use super::directories::Directory;
use super::outlet::Counters;
use super::parse::{Fid, Name};
use super::places::{Place, os};
use super::translate::{Draft, OPERATIONS, Translator};

/// One side of a rename.
struct Side<'a> {
    name: Name<'a>,
    directory: Arc<Directory>,
    /// Path from the root of the file system.
    inner: PathBuf,
    /// Path on the host.
    path: Option<PathBuf>,
}

/// What is known of a side.
enum Known<'a> {
    Here(Side<'a>),
    Lost,
    Foreign,
}

impl<'a> Known<'a> {
    fn side(self) -> Option<Side<'a>> {
        match self {
            Self::Here(side) => Some(side),
            Self::Lost | Self::Foreign => None,
        }
    }
}

impl Translator {
    /// A rename from `old` to `new`. Returns whether it was dealt with.
    pub(super) fn renamed(
        &mut self,
        batch: &Batch<'_>,
        at: usize,
        (old, new): (Option<Name<'_>>, Option<Name<'_>>),
        object: Option<Fid<'_>>,
        patient: bool,
    ) -> bool {
        let stamped = batch.events[at];
        let (from, to) = (self.side(batch, at, old), self.side(batch, at, new));
        let lost = matches!(from, Known::Lost) || matches!(to, Known::Lost);
        if patient && lost {
            return false;
        }
        let (from, to) = (from.side(), to.side());
        let is_directory = stamped.event.mask & libc::FAN_ONDIR != 0;
        let relevant = [&from, &to].into_iter().flatten().any(|side| side.directory.relevant);
        if !relevant && !is_directory {
            if lost {
                self.lost(stamped, 1);
            } else {
                Counters::add(&self.counters.filtered, 1);
            }
            return true;
        }
        let half = batch.other_half(at);
        let from_path = from.as_ref().and_then(|side| side.path.clone());
        let to_path = to.as_ref().and_then(|side| side.path.clone());
        // Something stands at the old name: this may be half of an exchange, and the other half a
        // moment away.
        if patient
            && half.is_none()
            && at + 1 == batch.events.len()
            && from_path.as_deref().is_some_and(|path| path.symlink_metadata().is_ok())
        {
            return false;
        }
        if is_directory {
            if let (Some(from), Some(to)) = (&from, &to)
                && half.is_none_or(|half| half > at)
            {
                let fsid = to.name.directory.fsid();
                self.places.moved(fsid, &from.inner, &to.inner, half.is_some());
            }
            if let (Some(to), Some(object)) = (&to, object) {
                self.places.learn(&to.directory, to.name.name, object);
            }
            self.bases_moved(from_path.as_deref(), to_path.as_deref());
        }
        let within = |path: &Option<PathBuf>| path.as_deref().is_some_and(|p| self.in_scope(p));
        let (from_in_scope, to_in_scope) = (within(&from_path), within(&to_path));
        if !(from_in_scope || to_in_scope) || self.is_own(stamped) {
            Counters::add(&self.counters.filtered, 1);
            return true;
        }
        if is_directory {
            // What is in it has come or gone without events of its own.
            if from_in_scope != to_in_scope {
                self.recheck(if to_in_scope { to_path.clone() } else { from_path.clone() });
            }
            if let (Some(to), Some(path), true) = (&to, &to_path, to_in_scope) {
                self.to_walk.push((to.name.directory.fsid(), path.clone(), to.inner.clone()));
            }
        }
        let seen = to_path.as_deref().and_then(|path| self.look(path, object));
        let is_back = || from_path.as_deref().is_some_and(|p| self.look(p, object).is_some());
        if seen.is_none() && half.is_none() && is_back() {
            // Moved there and back, maybe more than once: the kernel has merged equal moves, and
            // their order is gone.
            self.recheck(from_path.clone());
            self.recheck(to_path.clone());
        }
        let replaced = half.is_none().then(|| self.replaced(batch, at, object)).flatten();
        let kind = OperationKind::Rename {
            from: from_path,
            from_in_scope,
            to_in_scope,
            replaced,
            exchange: half.is_some(),
        };
        let object = self.id(seen.as_ref(), object);
        let after = seen.map(|seen| seen.state).unwrap_or_default();
        let before = ObjectState::default();
        self.emit(stamped, Draft { kind, path: to_path, object, before, after });
        true
    }

    fn side<'a>(&mut self, batch: &Batch<'_>, at: usize, name: Option<Name<'a>>) -> Known<'a> {
        let Some(name) = name else {
            return Known::Foreign;
        };
        match self.places.directory(batch, at, name.directory) {
            Place::At(directory) => {
                let inner = directory.inner.join(os(name.name));
                let path = self.places.path(&directory, name.directory.fsid(), name.name);
                Known::Here(Side { name, directory, inner, path })
            }
            Place::Lost => Known::Lost,
            Place::Foreign => Known::Foreign,
        }
    }

    /// Kernels before 5.17: the two halves of a rename are events of their own.
    pub(super) fn moved(
        &mut self,
        batch: &Batch<'_>,
        at: usize,
        to: usize,
        from: Name<'_>,
        patient: bool,
    ) -> bool {
        let stamped = batch.events[at];
        let mask = stamped.event.mask;
        let (Some(second), true) = (batch.events.get(to), to != at) else {
            return false;
        };
        // What else was merged into the first half happened before it.
        if mask & OPERATIONS != libc::FAN_MOVED_FROM {
            let mut rest = stamped;
            rest.event.mask &= !libc::FAN_MOVED_FROM;
            let single = Batch::of(rest);
            self.named(&single, 0, from, stamped.event.object, false);
        }
        if second.event.mask & OPERATIONS == libc::FAN_MOVED_TO {
            self.done(to);
        }
        // Without the first part nothing is left to wait for.
        let patient = patient && mask & OPERATIONS == libc::FAN_MOVED_FROM;
        self.renamed(batch, at, (Some(from), second.event.name), None, patient)
    }

    /// What stood at the new name: its number of names changes at once, which is an event of its
    /// own (fsnotify_move calls fsnotify_link_count on it).
    fn replaced(
        &mut self,
        batch: &Batch<'_>,
        at: usize,
        object: Option<Fid<'_>>,
    ) -> Option<ObjectId> {
        let own = batch.events[at].event;
        let next = batch.events.get(at + 1)?.event;
        let target = match (next.name, next.object) {
            (None, Some(target)) => target,
            // A directory is reported by itself.
            (Some(name), None) if name.name.is_empty() => name.directory,
            _ => return None,
        };
        let matches = own.mask & libc::FAN_RENAME != 0
            && own.pid == next.pid
            && next.mask & OPERATIONS == libc::FAN_ATTRIB
            && object != Some(target);
        matches.then(|| self.id(None, Some(target))).flatten()
    }

    /// A directory on the way to watched trees was moved: other things stand at their paths now.
    fn bases_moved(&mut self, from: Option<&Path>, to: Option<&Path>) {
        let moved = |base: &Path| {
            [from, to].into_iter().flatten().any(|path| base != path && base.starts_with(path))
        };
        let bases: Vec<PathBuf> =
            self.places.watched.iter().filter(|base| moved(base)).cloned().collect();
        for base in bases {
            self.recheck(Some(base));
        }
    }
}
