//! What a maintainer script puts back: a package manager unpacks a file as root's, and the package's
//! script gives it the group, the mode or the capabilities again that it had before the run.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::path::{Path, PathBuf};

use super::Held;
use crate::event::{Action, Side};
use crate::state::ObjectState;

/// The attributes of paths before a run touched them, as far as they are known: a digest of each,
/// since there are as many as a package has files.
#[derive(Default)]
pub(super) struct Attributes {
    hasher: RandomState,
    before: HashMap<PathBuf, Option<u64>>,
}

impl Attributes {
    /// Takes down what the first event of each path says of before.
    pub(super) fn note(&mut self, queue: &[Held]) {
        for held in queue {
            if !self.before.contains_key(&held.path) {
                let before = held.event.fim.before.as_ref().map(|before| self.digest(before));
                self.before.insert(held.path.clone(), before);
            }
        }
    }

    /// Whether `path` is in the end, by the last event of `queue` and by what is there, as it was
    /// before the run.
    pub(super) fn are_restored(
        &self,
        path: &Path,
        queue: &[Held],
        found: Option<&ObjectState>,
    ) -> bool {
        let Some(Some(before)) = self.before.get(path) else { return false };
        let mut events = queue.iter().rev().filter(|held| held.path == path);
        let last = events.next().filter(|held| held.event.event.action != Action::Deleted);
        let after = last.and_then(|held| held.event.fim.after.as_ref());
        let (Some(after), Some(found)) = (after, found) else { return false };
        let there = Side::new(found, None);
        self.digest(after) == *before
            && (&after.mode, &after.uid, &after.gid) == (&there.mode, &there.uid, &there.gid)
    }

    fn digest(&self, side: &Side) -> u64 {
        let Side { kind, mode, uid, gid, acl, xattrs, capabilities, attributes, .. } = side;
        let kind = kind.map(|kind| kind as u8);
        self.hasher.hash_one((kind, mode, uid, gid, acl, xattrs, capabilities, attributes))
    }
}
