//! From events to operations.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fim_common::collector::{Gap, Observation};
use fim_common::event::Provider;
use fim_common::event::actor::Actor;
use fim_common::ignored::Ignored;
use fim_common::operation::{Modified, Operation, OperationKind};
use fim_common::state::{ObjectId, ObjectKind, ObjectState};
use fim_common::time::Timestamp;

use super::batch::{Batch, Stamped};
use super::exchange::{Entry, Exchanges};
use super::names::coarse_now;
use super::object::Seen;
use super::outlet::{Counters, Outlet};
use super::parse::{Fid, Name};
use super::places::{Place, Places, os};
use super::recent::Recent;
use super::rename::Half;
use super::sys;
use super::{Part, Scope};
use crate::canary::Post;
use crate::process::{Alive, Sighting, Table};

/// Bits of operations on names.
pub(super) const NAMES: u64 = libc::FAN_CREATE
    | libc::FAN_MOVED_FROM
    | libc::FAN_MOVED_TO
    | libc::FAN_RENAME
    | libc::FAN_DELETE;

/// Every bit that tells of an operation.
pub(super) const OPERATIONS: u64 =
    NAMES | libc::FAN_MODIFY | libc::FAN_ATTRIB | libc::FAN_CLOSE_WRITE;

/// Every bit that is one operation: the halves of a rename are one together.
pub(super) const COUNTED: u64 = OPERATIONS & !libc::FAN_MOVED_FROM;

/// How long what a process did next is waited for: the kernel queues it at once.
const NEXT: Duration = Duration::from_millis(5);

/// What is worth waiting for, because the kernel must be about to queue it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// The event that belongs to another of the same process: the other half of an exchange, the
    /// removal that changed a number of names. When the queue was last looked into, in nanoseconds
    /// since boot.
    pub(super) next: Option<u64>,
    /// The removal of a directory that is gone: it tells where it was.
    pub(super) path: bool,
}

impl Patience {
    /// Whether what the process of event `at` did next may be queued any moment. Events that were
    /// read together are waited for together.
    pub(super) fn awaits_next(&self, batch: &Batch<'_>, at: usize) -> bool {
        let read = batch.events[at].boot;
        let is_young = |looked: u64| u128::from(looked.saturating_sub(read)) < NEXT.as_nanos();
        self.next.is_some_and(is_young) && batch.by_same_after(at).next().is_none()
    }
}

/// Turns batches into operations and hands them over.
pub(super) struct Translator {
    pub(super) places: Places,
    pub(super) scope: Scope,
    /// Trees whose events are the agent's own doing.
    pub(super) ignored: Ignored,
    /// The agent's process id, unless its own operations are wanted.
    pub(super) own: Option<i32>,
    pub(super) table: Arc<Mutex<Table>>,
    pub(super) counters: Arc<Counters>,
    pub(super) outlet: Outlet,
    /// Takes what the canary did.
    pub(super) post: Arc<Post>,
    /// Creations and removals name their object (5.17).
    pub(super) names_objects: bool,
    /// Operations of the batch at hand whose path is not known.
    pathless: u64,
    /// What was born before the first instant was there when the marks were set; what was born
    /// after the second was not. File systems take times from a clock that stands still between
    /// two ticks of 1 to 10 ms, or from an exact one (multigrain times, 6.13).
    pub(super) armed: (Timestamp, Timestamp),
    /// The object whose number of names changed last, and the process that did it.
    pub(super) relinked: Option<(Box<[u8]>, i32)>,
    pub(super) created: Recent,
    modified: Recent,
    /// Actors of the batch at hand.
    actors: HashMap<(i32, Alive), Arc<Actor>>,
    rechecks: BTreeSet<PathBuf>,
    /// First halves of renames that wait for their second ones.
    pub(super) halves: VecDeque<Half>,
    pub(super) exchanges: Exchanges,
    /// The last rename of a directory that was no exchange, and by which process.
    pub(super) last_move: Option<(i32, Entry, Entry)>,
    /// Nothing before this is missing.
    complete: Timestamp,
    /// New directories of file systems in which each one has to be marked.
    pub(super) to_walk: Vec<([u8; 8], PathBuf, PathBuf)>,
    /// What is not told, for the test that a hook which says nothing is found. The kernel is
    /// asked for it all the same: names are followed by it, those of others too.
    silenced: u64,
}

/// An operation before the common facts are added.
pub(super) struct Draft {
    pub(super) kind: OperationKind,
    pub(super) path: Option<PathBuf>,
    pub(super) object: Option<ObjectId>,
    pub(super) before: ObjectState,
    pub(super) after: ObjectState,
}

impl Translator {
    #[expect(clippy::too_many_arguments, reason = "it is made in one place, from its parts")]
    pub(super) fn new(
        places: Places,
        scope: Scope,
        ignored: Ignored,
        own: Option<i32>,
        table: Arc<Mutex<Table>>,
        counters: Arc<Counters>,
        outlet: Outlet,
        names_objects: bool,
        post: Arc<Post>,
    ) -> Self {
        Self {
            places,
            scope,
            ignored,
            own,
            table,
            counters,
            outlet,
            post,
            names_objects,
            pathless: 0,
            armed: (coarse_now(), Timestamp::now()),
            relinked: None,
            created: Recent::new(),
            modified: Recent::new(),
            actors: HashMap::new(),
            rechecks: BTreeSet::new(),
            halves: VecDeque::new(),
            exchanges: Exchanges::default(),
            last_move: None,
            complete: Timestamp::now(),
            to_walk: Vec::new(),
            silenced: if crate::canary::is_silenced("unlink") { libc::FAN_DELETE } else { 0 },
        }
    }

    /// Works on the first `end` events; what comes behind them is for looking ahead. Stops at one
    /// that something is missing for, as far as there is patience. Returns the number of the
    /// first event that is left.
    pub(super) fn work(&mut self, batch: &Batch<'_>, end: usize, patience: Patience) -> usize {
        (0..end).find(|&at| !self.event(batch, at, patience)).unwrap_or(end)
    }

    /// The events read until `read` have been worked on.
    pub(super) fn finish(&mut self, read: Timestamp) {
        // Who is alive, and with which user, is asked anew for each batch.
        self.actors.clear();
        if self.pathless > 0 {
            self.outlet.loss(Gap {
                from: self.complete,
                to: read,
                count: Some(std::mem::take(&mut self.pathless)),
                hooks: vec!["fanotify_path".to_owned()],
                scope: Vec::new(),
            });
        }
        self.complete = read;
        self.age_halves();
        for path in std::mem::take(&mut self.rechecks) {
            self.outlet.notice(Observation::Recheck(path));
        }
        self.places.finish();
    }

    /// Asks for a comparison of `path` with the baseline, once the batch is done.
    pub(super) fn recheck(&mut self, path: Option<PathBuf>) {
        self.rechecks.extend(path);
    }

    /// Whether the event was dealt with.
    fn event(&mut self, batch: &Batch<'_>, at: usize, patience: Patience) -> bool {
        let stamped = batch.events[at];
        let event = stamped.event;
        if event.mask & libc::FAN_Q_OVERFLOW != 0 {
            self.overflow(stamped);
            return true;
        }
        let count = u64::from((event.mask & COUNTED).count_ones());
        let dealt = match (event.old, event.new, event.name, event.object) {
            (None, None, Some(name), object) => self.named(batch, at, name, object, patience),
            (None, None, None, Some(object)) => self.nameless(batch, at, object, patience),
            (None, None, None, None) => true,
            (old, new, ..) => self.renamed(batch, at, (old, new), event.object, patience),
        };
        if dealt {
            Counters::add(&self.counters.seen, count);
        }
        dealt
    }

    /// The kernel's queue was full; without a limit that means that memory ran out.
    fn overflow(&mut self, stamped: Stamped<'_>) {
        tracing::error!("the kernel's fanotify queue overflowed: operations are lost");
        Counters::add(&self.counters.overflows, 1);
        self.places.forget();
        self.outlet.loss(Gap {
            from: self.complete,
            to: stamped.time,
            count: None,
            hooks: vec!["fanotify_queue".to_owned()],
            scope: Vec::new(),
        });
    }

    /// An event about `name`, which is not a rename.
    pub(super) fn named(
        &mut self,
        batch: &Batch<'_>,
        at: usize,
        name: Name<'_>,
        object: Option<Fid<'_>>,
        patience: Patience,
    ) -> bool {
        let stamped = batch.events[at];
        let mut mask = stamped.event.mask;
        let count = u64::from((mask & COUNTED).count_ones());
        let directory = match self.places.directory(batch, at, name.directory) {
            Place::At(directory) => directory,
            Place::Lost if patience.path => return false,
            // Done through a descriptor to what had no name already when the marks were set: its
            // removal would have told where it was. (Else that is lost too, and counted.)
            Place::Lost
                if mask & NAMES == 0
                    && object.is_some_and(|object| self.places.has_name(object) == Some(false)) =>
            {
                Counters::add(&self.counters.filtered, count);
                return true;
            }
            Place::Lost => {
                self.lost(stamped, count);
                return true;
            }
            Place::Foreign => {
                Counters::add(&self.counters.filtered, count);
                return true;
            }
        };
        let is_directory = mask & libc::FAN_ONDIR != 0;
        let appeared = mask & (libc::FAN_CREATE | libc::FAN_MOVED_TO) != 0;
        if let (true, true, Some(object)) = (is_directory, appeared, object) {
            self.places.learn(&directory, name.name, object);
        }
        // Kernels before 5.17 tell of a rename in two halves. Merged into one event they are of two
        // renames, in an order that is gone; so with an exchange.
        let both = libc::FAN_MOVED_FROM | libc::FAN_MOVED_TO;
        if mask & both == both {
            self.merged(batch, at, name);
            mask &= !both;
        }
        if mask & libc::FAN_MOVED_TO != 0 && self.moved(batch, at, name) {
            mask &= !libc::FAN_MOVED_TO;
        }
        if mask & libc::FAN_MOVED_FROM != 0 {
            self.half_moved(stamped, &directory, name);
            mask &= !libc::FAN_MOVED_FROM;
        }
        let count = u64::from((mask & COUNTED).count_ones());
        if count == 0 {
            return true;
        }
        let path = match directory.relevant {
            true => self.places.path(&directory, name.directory.fsid(), name.name),
            false => None,
        };
        let path = path.filter(|path| self.concerns(stamped, path));
        // Its name now may be in scope, wherever it was opened.
        if mask & (libc::FAN_CREATE | libc::FAN_DELETE) == 0
            && self.is_nameless(name.name, object)
            && path.as_deref().and_then(|path| self.look(path, object)).is_none()
        {
            return self.temporary(batch, at, mask, object, patience);
        }
        let Some(path) = path else {
            Counters::add(&self.counters.filtered, count);
            return true;
        };
        if self.may_be_link(batch, at, &path, object) && patience.awaits_next(batch, at) {
            return false;
        }
        if is_directory && appeared {
            self.to_walk.push((
                name.directory.fsid(),
                path.clone(),
                directory.inner.join(os(name.name)),
            ));
        }
        self.expand(batch, at, mask, path, object);
        true
    }

    /// One operation for each bit, in causal order: the kernel merges what one process did to one
    /// object under one name while the event was waiting.
    pub(super) fn expand(
        &mut self,
        batch: &Batch<'_>,
        at: usize,
        mask: u64,
        path: PathBuf,
        object: Option<Fid<'_>>,
    ) {
        let stamped = batch.events[at];
        // What has only been removed is not there.
        let only_removed = mask & COUNTED == libc::FAN_DELETE;
        let seen = if only_removed { None } else { self.look(&path, object) };
        let mut order = [
            libc::FAN_CREATE,
            libc::FAN_MOVED_TO,
            libc::FAN_MODIFY,
            libc::FAN_ATTRIB,
            libc::FAN_CLOSE_WRITE,
            libc::FAN_DELETE,
        ];
        // It is there: the removal was of an earlier name of the same object, which came back.
        if mask & libc::FAN_CREATE != 0 && mask & libc::FAN_DELETE != 0 && seen.is_some() {
            order.rotate_right(1);
        }
        // The number of an object that is gone may be another's when the event is told.
        let is_gone = |object| !only_removed && self.places.has_name(object) == Some(false);
        let id = match seen.is_none() && object.is_some_and(is_gone) {
            true => None,
            false => self.id(seen.as_ref(), object),
        };
        let key = object.map_or(path.as_os_str().as_encoded_bytes(), Fid::key).to_owned();
        for bit in order.into_iter().filter(|bit| mask & bit != 0) {
            if bit & self.silenced != 0 {
                Counters::add(&self.counters.filtered, 1);
                continue;
            }
            let (kind, keep) = match bit {
                libc::FAN_CREATE => (self.creation(seen.as_ref(), object, batch, at), true),
                libc::FAN_MOVED_TO => (
                    OperationKind::Rename {
                        from: None,
                        from_in_scope: false,
                        to_in_scope: true,
                        replaced: None,
                        exchange: false,
                    },
                    true,
                ),
                libc::FAN_MODIFY | libc::FAN_ATTRIB | libc::FAN_CLOSE_WRITE => {
                    (self.done_to(bit, &key), true)
                }
                _ => {
                    if mask & libc::FAN_ONDIR != 0 && !self.names_objects {
                        self.recheck(Some(path.clone()));
                    }
                    (OperationKind::Delete, false)
                }
            };
            let state = seen.as_ref().map(|seen| seen.state.clone()).unwrap_or_default();
            let directory = (mask & libc::FAN_ONDIR != 0).then_some(ObjectKind::Dir);
            let (before, after) = match keep {
                true => (ObjectState::default(), state),
                false => {
                    (ObjectState { kind: directory, ..Default::default() }, Default::default())
                }
            };
            self.emit(stamped, Draft { kind, path: Some(path.clone()), object: id, before, after });
        }
    }

    /// What `bit` says was done to the object of this handle itself, whatever its name.
    pub(super) fn done_to(&mut self, bit: u64, key: &[u8]) -> OperationKind {
        match bit {
            libc::FAN_MODIFY => {
                self.modified.insert(key);
                OperationKind::Modify
            }
            libc::FAN_CLOSE_WRITE => {
                // A store through a mapping makes no event: without one it is not known.
                let modified =
                    if self.modified.remove(key) { Modified::Yes } else { Modified::Unknown };
                OperationKind::CloseWrite { writers: None, modified }
            }
            _ => OperationKind::SetAttributes,
        }
    }

    pub(super) fn lost(&mut self, stamped: Stamped<'_>, count: u64) {
        tracing::trace!(event = ?stamped.event, "directory of an event is gone");
        Counters::add(&self.counters.error, count);
        // Before 5.17 this is what every removal of a tree looks like, wherever it was; there the
        // removed directories are compared instead.
        if self.names_objects {
            self.pathless += count;
        }
    }

    pub(super) fn in_scope(&self, path: &Path) -> bool {
        self.post.is_below(path)
            || ((self.scope)(path, Part::Object) && !self.ignored.contains(path))
    }

    /// Whether a directory at `path` may hold something that is watched, if it is not itself.
    pub(super) fn reaches(&self, path: &Path) -> bool {
        (self.scope)(path, Part::Below) && !self.ignored.contains(path)
    }

    /// Whether an operation on `path` is anybody's business: not the agent's own, its canary's
    /// excepted.
    pub(super) fn concerns(&self, stamped: Stamped<'_>, path: &Path) -> bool {
        self.in_scope(path) && (!self.is_own(stamped) || self.post.is_below(path))
    }

    pub(super) fn is_own(&self, stamped: Stamped<'_>) -> bool {
        self.own == Some(stamped.event.pid)
    }

    /// What stands at `path`, if that is the object of the event.
    pub(super) fn look(&self, path: &Path, object: Option<Fid<'_>>) -> Option<Seen> {
        let seen = Seen::at(path)?;
        let Some(object) = object else {
            return Some(seen);
        };
        // The inode number alone may be another file's by now; the handle has its generation too.
        let here = sys::fid_of(object.fsid(), path, true)
            .or_else(|_| sys::fid_of(object.fsid(), path, false));
        here.is_ok_and(|here| here == object.key()).then_some(seen)
    }

    pub(super) fn id(&mut self, seen: Option<&Seen>, object: Option<Fid<'_>>) -> Option<ObjectId> {
        if let Some(id) = seen.and_then(Seen::id) {
            return Some(id);
        }
        let (inode, device) = self.places.number(object?);
        Some(ObjectId { device: device?, inode: inode? })
    }

    pub(super) fn emit(&mut self, stamped: Stamped<'_>, draft: Draft) {
        let actor = self.actor(stamped);
        let operation = Operation {
            time: stamped.time,
            provider: Provider::Fanotify,
            kind: draft.kind,
            path: draft.path,
            path_in_process: None,
            object: draft.object,
            before: draft.before,
            after: draft.after,
            failure: None,
            actor,
            details: None,
        };
        if self.post.take(&operation) {
            return Counters::add(&self.counters.filtered, 1);
        }
        self.outlet.operation(stamped.time, operation);
    }

    fn actor(&mut self, stamped: Stamped<'_>) -> Arc<Actor> {
        let pid = stamped.event.pid;
        let table = &self.table;
        let make = || {
            let mut table = table.lock().unwrap_or_else(PoisonError::into_inner);
            let pid = u32::try_from(pid).unwrap_or(0);
            table.actor_of(Sighting { pid, alive: stamped.alive, read: stamped.boot })
        };
        Arc::clone(self.actors.entry((pid, stamped.alive)).or_insert_with(make))
    }
}
