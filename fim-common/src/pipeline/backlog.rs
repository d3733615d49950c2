//! More files that change than can be hashed.
//!
//! Their events are told without a hash. What the baseline lacks by that is made up for as soon as
//! there is room again: a comparison reads the content of what has no hash.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::Pipeline;
use crate::state::HashState;

/// Events that wait for their hash at most.
pub(super) const WAITING_MAX: usize = if cfg!(test) { 64 } else { 65_536 };
/// Directories that are remembered; of more, everything is compared.
const DIRECTORIES_MAX: usize = 1_024;

/// What was told without its hash.
#[derive(Default)]
pub(super) struct Backlog {
    directories: BTreeSet<PathBuf>,
    beyond: bool,
}

impl Pipeline {
    /// Events that wait to be hashed. What waits since it is gone is not hashed any more.
    fn to_hash(&self) -> usize {
        self.waiting.len().saturating_sub(self.gone.len())
    }

    /// Whether there is no room for another one.
    pub(super) fn is_backlogged(&self) -> bool {
        self.to_hash() > WAITING_MAX
    }

    /// Tells an event now, without its hash.
    pub(super) fn tell_without_hash(&mut self, ticket: u64, state: HashState) {
        self.output.metrics().dropped("hash", "queue_full", 1);
        let draft = self.waiting.get(&ticket);
        if let Some(directory) = draft.and_then(|draft| draft.path.parent()) {
            match self.backlog.directories.len() < DIRECTORIES_MAX {
                true => _ = self.backlog.directories.insert(directory.to_owned()),
                false => self.backlog.beyond = true,
            }
        }
        self.give_up(ticket, state);
    }

    /// Directories that hold what was told so.
    pub(super) fn to_make_up_for(&self) -> usize {
        self.backlog.directories.len()
    }

    /// Has compared what was told so, once there is room.
    pub(super) fn make_up_for_hashes(&mut self) {
        if self.backlog.directories.is_empty() || self.to_hash() > WAITING_MAX / 2 {
            return;
        }
        let Backlog { directories, beyond } = std::mem::take(&mut self.backlog);
        let paths = if beyond { Vec::new() } else { directories.into_iter().collect() };
        // `gap_closed` says that the baseline is what is on the disk.
        self.recheck(paths, true);
    }
}
