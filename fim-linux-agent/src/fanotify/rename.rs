//! Renames: two names, two directories, and what moves along.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fim_common::operation::OperationKind;
use fim_common::state::ObjectState;

use super::batch::{Batch, Stamped};
use super::directories::Directory;
use super::exchange::{Entry, Exchange};
use super::outlet::Counters;
use super::parse::{Fid, Name};
use super::places::{Place, os};
use super::translate::{Draft, Patience, Translator};

/// The first half of a rename on a kernel that tells of it in two.
#[derive(Debug)]
pub(super) struct Half {
    pid: i32,
    is_directory: bool,
    entry: Entry,
    /// On the host, where it matters.
    path: Option<PathBuf>,
    /// Batches that have ended since.
    age: u8,
}

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
        patience: Patience,
    ) -> bool {
        let stamped = batch.events[at];
        let (from, to) = (self.side(batch, at, old), self.side(batch, at, new));
        let lost = matches!(from, Known::Lost) || matches!(to, Known::Lost);
        if patience.path && lost {
            return false;
        }
        let exchange = self.exchanges.half(batch, at, (old, new));
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
        let from_path = from.as_ref().and_then(|side| side.path.clone());
        let to_path = to.as_ref().and_then(|side| side.path.clone());
        // Something stands at the old name: this may be half of an exchange, and the other half a
        // moment away.
        if exchange.is_none()
            && patience.awaits_next(batch, at)
            && from_path.as_deref().is_some_and(|path| path.symlink_metadata().is_ok())
        {
            return false;
        }
        if is_directory {
            // With the first half of an exchange; that of a file moves no directory.
            let is_moved = exchange == Some(Exchange::Second { of_directory: true });
            if let (Some(from), Some(to), false) = (&from, &to, is_moved) {
                let fsid = to.name.directory.fsid();
                self.places.moved(fsid, &from.inner, &to.inner, exchange.is_some());
            }
            if let (Some(from), Some(to), None) = (&from, &to, exchange)
                && self.is_turned(stamped.event.pid, from.name, to.name)
            {
                self.forget_side(from);
                self.forget_side(to);
            }
            if let (Some(to), Some(object)) = (&to, object) {
                self.places.learn(&to.directory, to.name.name, object);
            }
            self.bases_moved(from_path.as_deref(), to_path.as_deref());
        }
        let within = |path: &Option<PathBuf>| {
            path.as_deref().is_some_and(|path| self.matters(path, is_directory))
        };
        let (from_in_scope, to_in_scope) = (within(&from_path), within(&to_path));
        let canary = || to_path.as_deref().is_some_and(|path| self.post.is_below(path));
        if !(from_in_scope || to_in_scope) || (self.is_own(stamped) && !canary()) {
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
        if seen.is_none() && exchange.is_none() && is_back() {
            // Moved there and back, maybe more than once: the kernel has merged equal moves, and
            // their order is gone.
            self.recheck(from_path.clone());
            self.recheck(to_path.clone());
        }
        let kind = OperationKind::Rename {
            from: from_path,
            from_in_scope,
            to_in_scope,
            // The kernel tells that some object lost a name, and not which one. The baseline knows
            // what stood there.
            replaced: None,
            exchange: exchange.is_some(),
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

    /// Kernels before 5.17: the first half of a rename. It waits for the other one, which has the
    /// better place in the queue: what came before may be merged into this one.
    pub(super) fn half_moved(
        &mut self,
        stamped: Stamped<'_>,
        directory: &Directory,
        name: Name<'_>,
    ) {
        self.halves.push_back(Half {
            pid: stamped.event.pid,
            is_directory: stamped.event.mask & libc::FAN_ONDIR != 0,
            entry: Entry::new(name),
            path: match directory.relevant {
                true => self.places.path(directory, name.directory.fsid(), name.name),
                false => None,
            },
            age: 0,
        });
    }

    /// The second half, at `to`. Returns whether there was a first one, and it was dealt with.
    pub(super) fn moved(&mut self, batch: &Batch<'_>, at: usize, to: Name<'_>) -> bool {
        let event = batch.events[at].event;
        let is_directory = event.mask & libc::FAN_ONDIR != 0;
        let first = self
            .halves
            .iter()
            .position(|half| half.pid == event.pid && half.is_directory == is_directory);
        let Some(half) = first.and_then(|first| self.halves.remove(first)) else {
            return false;
        };
        if half.entry.is(to) {
            // No rename(2) does this: the halves of several were merged, or those of an exchange.
            self.merged(batch, at, to);
            return true;
        }
        let patience = Patience { next: None, path: false };
        self.renamed(batch, at, (half.entry.name(), Some(to)), None, patience)
    }

    /// Whether the directory `old` is `new` now, and the last rename by this process was the other
    /// way round: the same directory came back, or the halves of an exchange were not known as such.
    fn is_turned(&mut self, pid: i32, old: Name<'_>, new: Name<'_>) -> bool {
        let last = self.last_move.replace((pid, Entry::new(old), Entry::new(new)));
        last.is_some_and(|(last, from, to)| last == pid && from.is(new) && to.is(old))
    }

    /// `name` was moved to and moved away, in an order that is gone: what stands there has to be
    /// looked at.
    pub(super) fn merged(&mut self, batch: &Batch<'_>, at: usize, name: Name<'_>) {
        Counters::add(&self.counters.filtered, 1);
        let Some(side) = self.side(batch, at, Some(name)).side() else {
            return;
        };
        let is_directory = batch.events[at].event.mask & libc::FAN_ONDIR != 0;
        self.recheck(side.path.clone().filter(|path| self.matters(path, is_directory)));
        if is_directory {
            self.forget_side(&side);
        }
    }

    fn matters(&self, path: &Path, is_directory: bool) -> bool {
        self.in_scope(path) || (is_directory && self.reaches(path))
    }

    /// Which directory stands here is not known any more.
    fn forget_side(&mut self, side: &Side<'_>) {
        let fsid = side.name.directory.fsid();
        self.places.forget_below(fsid, &side.inner);
        self.bases_moved(side.path.as_deref(), None);
        if let Some(path) = side.path.as_ref().filter(|path| self.matters(path, true)) {
            self.to_walk.push((fsid, path.clone(), side.inner.clone()));
        }
    }

    /// First halves that have found no other in the next batch either: the second one was merged
    /// into an earlier event. What stands at their paths has to be looked at.
    pub(super) fn age_halves(&mut self) {
        for half in &mut self.halves {
            half.age += 1;
        }
        while let Some(half) = self.halves.pop_front_if(|half| half.age > 1) {
            if half.is_directory {
                // It is somewhere else, with everything in it.
                self.places.forget();
            }
            self.recheck(half.path);
        }
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
