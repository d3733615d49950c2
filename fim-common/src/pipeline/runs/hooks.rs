//! Where the pipeline meets runs: what is told goes through here.

use std::time::Instant;

use super::{Answer, Runs};
use crate::event::Event;
use crate::pipeline::Pipeline;
use crate::time::Timestamp;

/// The next answer; never without packages.
pub(in crate::pipeline) async fn answer(runs: &mut Option<Runs>) -> Option<Answer> {
    match runs {
        Some(runs) => runs.verifier.answer().await,
        None => std::future::pending().await,
    }
}

impl Pipeline {
    /// Tells of a change, at once or when it is known whether it was to be expected.
    pub(in crate::pipeline) fn judge_then_tell(&mut self, event: Box<Event>) {
        let Some(runs) = &mut self.runs else { return self.output.event(event) };
        let time = event.timestamp;
        match runs.take(event) {
            Some(event) => self.output.event(event),
            None => self.note_holding(Some(time)),
        }
    }

    /// Has the baseline, which knows of changes before they are told, know that too.
    fn note_holding(&mut self, since: Option<Timestamp>) {
        let Some(runs) = &mut self.runs else { return };
        let change = match since {
            Some(_) => !runs.noted,
            None => runs.noted && runs.is_empty(),
        };
        if !change {
            return;
        }
        runs.noted = since.is_some();
        // At once, together with what it knows: an agent that is killed tells of all or of none.
        match self.baseline.set_holding(since) {
            Ok(()) => self.commit(),
            Err(error) => tracing::error!(%error, "the baseline cannot be written"),
        }
    }

    pub(in crate::pipeline) fn package_answer(&mut self, answer: Answer) {
        if let Some(runs) = &mut self.runs {
            runs.answered(answer);
        }
        self.tell_judged();
    }

    /// Goes on with runs that wait for a time or for other stages.
    pub(in crate::pipeline) fn runs_due(&mut self, now: Instant) {
        if self.runs.as_ref().is_some_and(Runs::is_hashing) {
            // What a run did is judged as a whole.
            self.tell_steps();
        }
        let Some(mut runs) = self.runs.take() else { return };
        if !runs.runs.is_empty() || runs.count > 0 {
            let next_ticket = self.next_ticket;
            let waiting = || self.waiting.keys().min().copied();
            let oldest = runs.is_hashing().then(waiting).flatten();
            runs.tick(now, next_ticket, oldest, &mut || self.request_fence());
        }
        self.runs = Some(runs);
        self.tell_judged();
    }

    pub(in crate::pipeline) fn runs_fenced(&mut self, number: u64) {
        let fold = self.fold;
        if let Some(runs) = &mut self.runs {
            runs.fenced(number, Instant::now(), fold);
        }
    }

    fn tell_judged(&mut self) {
        let Some(runs) = &mut self.runs else { return };
        for event in std::mem::take(&mut runs.out) {
            self.output.event(event);
        }
        for (actor, summary) in std::mem::take(&mut runs.summaries) {
            self.output.package_run(actor.as_deref(), *summary);
        }
        self.note_holding(None);
    }

    /// The agent stops: what is held is told, at the latest at `end`.
    pub(in crate::pipeline) async fn finish_runs(&mut self, end: tokio::time::Instant) {
        if let Some(runs) = &mut self.runs {
            runs.finish();
            while !runs.is_idle() {
                match tokio::time::timeout_at(end, runs.verifier.answer()).await {
                    Ok(Some(answer)) => runs.answered(answer),
                    Ok(None) | Err(_) => break,
                }
            }
            runs.give_up();
        }
        self.tell_judged();
    }
}
