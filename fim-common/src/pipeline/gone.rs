//! What was gone when it was to be hashed, or looked at.
//!
//! Something was done to it that has still to be taken in: it was removed, or its directory has
//! another name. Its event waits for what was done until then, and is told of what it is by now: as
//! it was removed it is told before that, and in a directory that was renamed it is hashed there.

use super::change::Draft;
use super::{Pipeline, WAITING_MAX};
use crate::event::Action;
use crate::hash::HashOutcome;
use crate::state::HashState;

/// Events that wait, by their tickets.
#[derive(Default)]
pub(super) struct Gone {
    /// For this fence, which was asked for after they were gone.
    asked: Option<(u64, Vec<(u64, HashOutcome)>)>,
    /// For the one after it: there is one at a time.
    next: Vec<(u64, HashOutcome)>,
    /// No fence comes any more.
    over: bool,
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
        if self.waiting.len() > WAITING_MAX {
            return self.give_up(ticket, HashState::Gone);
        }
        self.is_gone(ticket, HashOutcome::unread(HashState::Gone, None));
    }

    /// Has an event wait, if there is something to wait for.
    pub(super) fn is_gone(&mut self, ticket: u64, outcome: HashOutcome) {
        if self.gone.over {
            return self.complete_hashed(ticket, outcome);
        }
        self.gone.next.push((ticket, outcome));
        self.ask_for_gone();
    }

    fn ask_for_gone(&mut self) {
        if self.gone.asked.is_none() && !self.gone.next.is_empty() {
            let waiting = std::mem::take(&mut self.gone.next);
            let fence = self.request_fence();
            self.gone.asked = Some((fence, waiting));
        }
    }

    /// Everything before the fence has been taken in.
    pub(super) fn gone_behind(&mut self, number: u64) {
        // A later one stands for it.
        let Some((_, waiting)) = self.gone.asked.take_if(|(fence, _)| *fence <= number) else {
            return;
        };
        for (ticket, outcome) in waiting {
            self.complete_hashed(ticket, outcome);
        }
        self.ask_for_gone();
    }

    /// Nothing more is taken in.
    pub(super) fn gone_is_over(&mut self) {
        self.gone.over = true;
        let asked = self.gone.asked.take().map(|(_, waiting)| waiting).unwrap_or_default();
        for (ticket, outcome) in asked.into_iter().chain(std::mem::take(&mut self.gone.next)) {
            self.complete_hashed(ticket, outcome);
        }
    }
}
