//! What was gone when it was to be hashed, or looked at.
//!
//! Something was done to it that has still to be taken in: it was removed, or its directory has
//! another name. Its event waits for what was done until then, and is told of what it is by now: as
//! it was removed it is told before that, and in a directory that was renamed it is hashed there.

use std::collections::BTreeMap;

use super::Pipeline;
use super::change::Draft;
use crate::event::Action;
use crate::hash::HashOutcome;
use crate::state::HashState;

/// Such events at most: it takes many whose removal was lost to come so far.
const GONE_MAX: usize = if cfg!(test) { 16 } else { 32_768 };

/// Events that wait, by their tickets.
#[derive(Default)]
pub(super) struct Gone {
    held: BTreeMap<u64, Held>,
    /// The fence that is on its way; there is one at a time.
    asked: Option<u64>,
    /// No fence comes any more.
    over: bool,
}

/// One that waits.
struct Held {
    outcome: HashOutcome,
    /// The fence was asked for after it was gone.
    behind: bool,
}

impl Gone {
    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// It waits for nothing any more.
    pub(super) fn forget(&mut self, ticket: u64) {
        self.held.remove(&ticket);
    }
}

impl Pipeline {
    /// Whether an object is not where it was.
    pub(super) fn is_elsewhere(&self, draft: &Draft) -> bool {
        let ends = matches!(draft.action, Action::Deleted | Action::Mounted | Action::Unmounted);
        if ends || !self.observer.observes() {
            return false;
        }
        let Some(object) = draft.object else { return false };
        let state = self.observer.stat(&draft.path);
        !state.is_ok_and(|state| state.inode == Some(object.inode))
    }

    /// Has the event of such an object wait.
    pub(super) fn wait_for_gone(&mut self, draft: Draft) {
        let ticket = self.hold(draft);
        self.is_gone(ticket, HashOutcome::unread(HashState::Gone, None));
    }

    /// Has an event wait, if there is something to wait for, and room.
    pub(super) fn is_gone(&mut self, ticket: u64, outcome: HashOutcome) {
        if self.gone.over {
            return self.complete_hashed(ticket, outcome);
        }
        if self.gone.len() >= GONE_MAX {
            return self.tell_without_hash(ticket, HashState::Gone);
        }
        self.gone.held.insert(ticket, Held { outcome, behind: false });
        self.ask_for_gone();
    }

    fn ask_for_gone(&mut self) {
        if self.gone.asked.is_none() && !self.gone.held.is_empty() {
            let fence = self.request_fence();
            self.gone.asked = Some(fence);
            self.gone.held.values_mut().for_each(|held| held.behind = true);
        }
    }

    /// Everything before the fence has been taken in.
    pub(super) fn gone_behind(&mut self, number: u64) {
        // A later one stands for it.
        if self.gone.asked.take_if(|fence| *fence <= number).is_none() {
            return;
        }
        self.complete_gone(|held| held.behind);
        self.ask_for_gone();
    }

    /// Nothing more is taken in.
    pub(super) fn gone_is_over(&mut self) {
        self.gone.over = true;
        self.complete_gone(|_| true);
    }

    fn complete_gone(&mut self, which: impl Fn(&Held) -> bool) {
        let held = self.gone.held.iter().filter(|(_, held)| which(held));
        let tickets: Vec<u64> = held.map(|(ticket, _)| *ticket).collect();
        for ticket in tickets {
            // What was told of one may have hurried another.
            if let Some(Held { outcome, .. }) = self.gone.held.remove(&ticket) {
                self.complete_hashed(ticket, outcome);
            }
        }
    }
}
