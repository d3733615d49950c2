//! One execution in the table, with what has been worked out of it.

use std::sync::Arc;

use fim_common::event::actor::{Actor, Container, Kubernetes};

use super::actor::EntityId;
use super::description::{Ancestor, Credentials, Description, Key};
use super::procfs::TICK;

/// Where a description came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A record of the eBPF programs: the key is exact.
    Kernel,
    /// `/proc`: the start is rounded to a tick, the execution is not numbered; the addresses tell
    /// one execution from the next.
    Proc {
        /// [`super::procfs::Stat::layout`].
        layout: [u64; 4],
    },
}

/// Actors made of one execution that are kept for the next operation: threads and credentials
/// vary, but few of them at a time.
const ACTORS_MAX: usize = 16;

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) description: Description,
    pub(super) origin: Origin,
    /// Nanoseconds since boot at which it exited or executed another program.
    pub(super) ended: Option<u64>,
    pub(super) entity_id: EntityId,
    /// Worked out when the first actor is made; the inner ones are `None` on the host itself.
    pub(super) container: Option<Box<(Option<Container>, Option<Kubernetes>)>>,
    pub(super) actors: Vec<Made>,
    /// Of a parent: what the ancestors of its children are.
    pub(super) line: Option<Arc<[Ancestor]>>,
    /// Bytes that it takes, as the table counts them.
    pub(super) weight: usize,
}

#[derive(Debug)]
pub(super) struct Made {
    pub(super) credentials: Credentials,
    pub(super) tid: Option<u32>,
    pub(super) names: u64,
    pub(super) actor: Arc<Actor>,
}

impl Entry {
    pub(super) fn key(&self) -> Key {
        self.description.key
    }

    /// Whether this is the execution `key` (of the same tgid) names.
    pub(super) fn is(&self, key: Key) -> bool {
        let own = self.key();
        match self.origin {
            Origin::Kernel => own.start == key.start && own.exec_id == key.exec_id,
            Origin::Proc { .. } => self.started(key.start / TICK) && self.ended.is_none(),
        }
    }

    /// Whether it is of the process that was started in this tick.
    pub(super) fn started(&self, tick: u64) -> bool {
        self.key().start / TICK == tick
    }

    pub(super) fn made(
        &self,
        credentials: &Credentials,
        tid: Option<u32>,
        names: u64,
    ) -> Option<Arc<Actor>> {
        self.actors
            .iter()
            .find(|made| made.names == names && made.tid == tid && made.credentials == *credentials)
            .map(|made| Arc::clone(&made.actor))
    }

    /// Keeps an actor for the next operation. Returns the bytes by which the entry has grown.
    pub(super) fn keep(&mut self, made: Made) -> isize {
        let before = self.actors_weight();
        self.actors.retain(|old| old.names == made.names);
        if self.actors.len() >= ACTORS_MAX {
            self.actors.remove(0);
        }
        self.actors.reserve_exact(1);
        self.actors.push(made);
        let now = self.actors_weight();
        self.weight = self.weight - before + now;
        now as isize - before as isize
    }

    /// An actor has the arguments twice (one by one, and as a line), and its parent's too.
    fn actors_weight(&self) -> usize {
        const FIXED: usize = size_of::<Made>() + size_of::<Actor>() + 1_024;
        let args = |args: &Option<Vec<String>>| -> usize {
            args.iter().flatten().map(|arg| size_of::<String>() + 2 * arg.len()).sum()
        };
        let processes = self.actors.iter().map(|made| made.actor.process.as_deref());
        processes
            .map(|process| {
                let parent = process.and_then(|process| process.parent.as_deref());
                FIXED
                    + process.map_or(0, |process| args(&process.args))
                    + parent.map_or(0, |parent| args(&parent.args))
            })
            .sum()
    }
}
