//! Where the pipeline meets the steps of changes: what is told of objects goes through here.

use std::path::Path;
use std::time::{Duration, Instant};

use super::whole::{Told, told};
use super::{Bundle, Step};
use crate::baseline::LastChange;
use crate::event::Event;
use crate::ledger::Stage;
use crate::pipeline::{Pipeline, change};

impl Pipeline {
    /// How long an event that may be a step of a change waits for the others; zero: not at all.
    pub fn fold_steps(&mut self, window: Duration) {
        self.tell_steps();
        // Objects that nobody can look at have no state before or after.
        let window = if self.observer.observes() { window } else { Duration::ZERO };
        self.steps.set_times(window, self.fold);
    }

    /// Takes an event that may be a step.
    pub(in crate::pipeline) fn take_step(&mut self, step: Step) {
        let now = self.now();
        let left = self.steps.take(step, now);
        self.tell_bundles();
        if let Some(step) = left {
            self.tell_now(step.event, step.count);
        }
    }

    /// Tells something about `path` that is no step, behind what waits.
    pub(in crate::pipeline) fn tell_alone(&mut self, path: &Path, event: Box<Event>, count: u64) {
        self.steps.release_path(path);
        self.tell_bundles();
        self.tell_now(event, count);
    }

    /// Tells what has waited long enough.
    pub(in crate::pipeline) fn steps_due(&mut self, now: Instant) {
        self.steps.release_due(now);
        self.tell_bundles();
    }

    /// Tells everything that waits.
    pub(in crate::pipeline) fn tell_steps(&mut self) {
        self.steps.release_all();
        self.tell_bundles();
    }

    fn tell_bundles(&mut self) {
        for bundle in self.steps.take_out() {
            self.tell_bundle(bundle);
        }
    }

    fn tell_bundle(&mut self, bundle: Bundle) {
        let of = bundle.path().map(Path::to_owned);
        let (policy, alert_severity) = (&self.policy, self.alert_severity);
        let all = told(bundle, &mut |event: &mut Event, step: &Step| {
            change::judge_again(
                event,
                &step.path,
                &step.actor,
                &step.writers,
                policy,
                alert_severity,
            )
        });
        for Told { event, count, absorbed } in all {
            for id in &absorbed {
                self.unhashed.retain(|_, told| told.id() != id);
            }
            if event.fim.hash_follows
                && let Some(follows) =
                    self.unhashed.values_mut().find(|told| told.id() == event.event.id)
            {
                follows.replace(&event);
            }
            if let Some(path) = of.as_ref().filter(|_| !absorbed.is_empty()) {
                self.remember(path, &event);
            }
            self.tell_now(event, count);
        }
    }

    /// The baseline says who changed the object last by what was told, not by one step of it.
    fn remember(&self, path: &Path, event: &Event) {
        let last = LastChange::of(event).filter(|_| !event.fim.unasked);
        if let Some(last) = last
            && let Err(error) = self.baseline.set_last_change(path, &last)
        {
            tracing::error!(%error, "the baseline cannot be written");
        }
    }

    /// Tells an event about `count` operations, if a rule asks for it.
    fn tell_now(&mut self, event: Box<Event>, count: u64) {
        if event.fim.unasked {
            return self.ledger.add(Stage::Unchanged, count);
        }
        self.tell(event, count);
    }
}
