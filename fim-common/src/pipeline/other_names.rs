//! An object with several watched names (a file, symbolic link, FIFO, socket or device): what changes
//! it under one of them changes it under all.

use std::path::PathBuf;

use super::Pipeline;
use super::change::Draft;
use crate::event::Action;
use crate::hash::HashOutcome;
use crate::object;
use crate::state::{HashState, ObjectId, ObjectKind};

/// Other names under which a change is told at most; a comparison finds it under those beyond.
const NAMES_MAX: usize = 16;

impl Pipeline {
    /// The drafts of the same change under the other watched names of the file.
    pub(super) fn under_other_names(&self, draft: &Draft) -> Vec<Draft> {
        let content = matches!(draft.action, Action::Updated | Action::AttributesModified);
        // Most files have one name, and most collectors say so.
        let has_one = draft.after.nlink.is_some_and(|names| names < 2)
            || draft.after.kind == Some(ObjectKind::Dir);
        if !content || has_one || draft.is_other_name() || !self.observer.observes() {
            return Vec::new();
        }
        let Some(id) = object_of_several_names(draft) else { return Vec::new() };
        self.watched_names(draft, id)
            .take(NAMES_MAX)
            .map(|path| draft.under_other_name(path, id))
            .collect()
    }

    /// The name that is left of a file, where the one by which it was changed had gone before: who
    /// has it open may go on with it.
    pub(super) fn name_left(&self, draft: &Draft) -> Option<PathBuf> {
        let content = matches!(draft.action, Action::Updated | Action::AttributesModified);
        let is_file = draft.after.kind.is_none_or(|kind| kind == ObjectKind::File);
        let one = draft.after.nlink == Some(1);
        if !(content && is_file && one) || draft.is_other_name() || draft.by_gone_name {
            return None;
        }
        if !self.is_elsewhere(draft) {
            return None;
        }
        let object = draft.object?;
        // The kernel's device number is not stat(2)'s on btrfs.
        let directory = draft.path.parent().and_then(|parent| object::stat(parent).ok());
        let device = directory.and_then(|directory| directory.device);
        let id = ObjectId { device: device.unwrap_or(object.device), ..object };
        self.watched_names(draft, id).next()
    }

    /// The other watched names of the file.
    fn watched_names(&self, draft: &Draft, id: ObjectId) -> impl Iterator<Item = PathBuf> {
        let paths = self.baseline.paths_of(id).unwrap_or_else(|error| {
            tracing::error!(%error, "the baseline cannot be read");
            Vec::new()
        });
        paths.into_iter().filter(move |path| {
            *path != draft.path
                && !self.ignore.contains(path)
                && self.policy.covers(path).is_some()
                // The baseline may be behind.
                && object::stat(path).is_ok_and(|state| state.id() == Some(id))
        })
    }

    /// Tells of a change under another name than the one by which it was made and told, of which
    /// `outcome` came.
    pub(super) fn complete_other_name(&mut self, draft: Draft, outcome: Option<&HashOutcome>) {
        let hashes = self.policy.covers(&draft.path).is_some_and(|rule| rule.hash);
        // It is gone under the one name.
        let outcome = outcome.filter(|outcome| outcome.state != HashState::Gone);
        // What was done by this name before is told before.
        self.hurry(&draft.path);
        if hashes && outcome.is_none() && draft.wants_hash() {
            // The rule of the one name does not ask for what that of the other does.
            return self.hash_then_complete(draft);
        }
        // What text changed is told once, by the rule that asks for it.
        let outcome = outcome.filter(|_| hashes);
        let outcome = outcome.map(|outcome| HashOutcome { diff: None, ..outcome.clone() });
        self.complete(draft, outcome);
    }
}

/// The object, where it has several names or may have them.
fn object_of_several_names(draft: &Draft) -> Option<ObjectId> {
    let meant = draft.object.filter(|object| object.device != 0);
    if draft.after.nlink.is_some() && meant.is_some() {
        return meant;
    }
    match object::stat(&draft.path) {
        Ok(state) if draft.object.is_none_or(|object| state.inode == Some(object.inode)) => {
            // The names of a directory are those of what it holds.
            let several = state.kind != Some(ObjectKind::Dir) && state.nlink.is_some_and(|n| n > 1);
            state.id().filter(|_| several)
        }
        // This name of it is gone.
        _ => meant,
    }
}
