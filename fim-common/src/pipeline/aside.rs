//! Large files: their event does not wait for the hash, which follows in an event of its own.

use std::path::{Path, PathBuf};

use super::Pipeline;
use super::backlog::WAITING_MAX;
use super::change::Draft;
use crate::event::{Action, Event, Hash, Kind, Property, Type};
use crate::hash::{HashOutcome, Job};
use crate::ledger::Stage;
use crate::state::{HashState, ObjectState};

/// An event that was told without its hash.
pub(super) struct Told {
    path: PathBuf,
    event: Box<Event>,
}

impl Told {
    /// The `event.id`.
    pub(super) fn id(&self) -> &str {
        &self.event.event.id
    }

    /// What was told is this.
    pub(super) fn replace(&mut self, event: &Event) {
        *self.event = event.clone();
    }
}

impl Pipeline {
    /// Whether hashing the content of a draft would keep its event waiting.
    pub(super) fn is_large(&self, draft: &Draft, limit: u64) -> bool {
        let size = std::fs::symlink_metadata(&draft.path).map_or(0, |metadata| metadata.len());
        size > self.large && size <= limit && self.unhashed.len() < WAITING_MAX
    }

    /// Tells of a large file at once, and has it hashed aside.
    pub(super) fn complete_then_hash(&mut self, draft: Draft, job: Job) {
        let count = draft.count();
        let outcome = HashOutcome::unread(HashState::Skipped, None);
        let path = draft.path.clone();
        let others = self.under_other_names(&draft);
        match self.step(draft, Some(outcome)) {
            Some(mut step) => {
                step.event.fim.hash_follows = true;
                let ticket = self.ticket();
                self.unhashed.insert(ticket, Told { path, event: step.event.clone() });
                self.take_step(step);
                self.submit(ticket, job);
            }
            None => self.ledger.add(Stage::Unchanged, count),
        }
        for other in others {
            self.complete_other_name(other, None);
        }
    }

    /// Tells the hash that an event said would follow.
    pub(super) fn follow_up(&mut self, told: Told, outcome: HashOutcome) {
        self.note_waiting();
        if let (HashState::Exact, Some(hashed)) = (outcome.state, &outcome.after) {
            self.store_hash(&told.path, hashed, outcome.sha256.as_deref());
        }
        if let Some(event) = self.steps.waiting(told.id()) {
            // Nobody has to be told again.
            event.fim.hash_follows = false;
            event.fim.hash_state = Some(outcome.state);
            if let Some(sha256) = outcome.sha256 {
                event.fim.after.get_or_insert_default().sha256 = Some(sha256.clone());
                if let Some(file) = &mut event.file {
                    file.hash = Some(Hash { sha256 });
                }
            }
            return;
        }
        // What was counted and not told is not told now.
        if told.event.fim.suppress.is_none() && !told.event.fim.unasked {
            let path = told.path.clone();
            self.tell_alone(&path, event(told.event, outcome), 0);
        }
    }

    /// Gives up what is still to be hashed aside, and says so; the next start compares it.
    pub(super) fn give_up_aside(&mut self) {
        let mut left: Vec<(u64, Told)> = self.unhashed.drain().collect();
        left.sort_unstable_by_key(|(ticket, _)| *ticket);
        for (_, told) in left {
            self.follow_up(told, HashOutcome::unread(HashState::Skipped, None));
        }
    }

    /// The baseline gets the hash, if what it has is the object that was hashed.
    fn store_hash(&self, path: &Path, hashed: &ObjectState, sha256: Option<&str>) {
        let result = self.baseline.get(path).and_then(|stored| {
            let Some(mut stored) = stored else { return Ok(()) };
            let same = stored.inode == hashed.inode
                && stored.size == hashed.size
                && stored.mtime == hashed.mtime;
            if !same {
                return Ok(());
            }
            stored.sha256 = sha256.map(str::to_owned);
            self.baseline.put(path, &stored)
        });
        if let Err(error) = result {
            tracing::error!(%error, "the baseline cannot be written");
        }
    }
}

/// The event that brings the hash of what `told` told.
fn event(told: Box<Event>, outcome: HashOutcome) -> Box<Event> {
    let mut event = told;
    event.fim.follows = Some(std::mem::take(&mut event.event.id));
    event.fim.hash_follows = false;
    event.fim.hash_state = Some(outcome.state);
    // The change was told, and whatever was to be alerted.
    event.event.kind = Kind::Event;
    event.event.action = Action::Updated;
    event.event.types = vec![Type::Change];
    event.fim.operations.clear();
    let before = event.fim.before.as_ref().and_then(|side| side.sha256.clone());
    event.fim.changes.clear();
    if let Some(sha256) = outcome.sha256 {
        if before.is_some_and(|before| before != sha256) {
            event.fim.changes.push(Property::Content);
        }
        event.fim.after.get_or_insert_default().sha256 = Some(sha256.clone());
        if let Some(file) = &mut event.file {
            file.hash = Some(Hash { sha256 });
        }
    }
    event
}
