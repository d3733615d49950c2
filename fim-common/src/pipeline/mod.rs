//! From operations to events.
//!
//! `Operation => policy => fold -> hash + diff => journal`
//!
//! One task owns all state. [`fold`] collects the operations that make one change of one object;
//! [`change`] compares the object with the baseline and builds the event; [`output`] numbers it
//! and writes it. Hashing happens on the threads of a pool, scans on a thread of their own; both
//! hand back values.
//!
//! Invariant: events of one path leave in the order of its operations.
//!
//! Invariant: nothing here waits for the disk on behalf of one file while others wait, and the
//! queue in front is bounded: a collector that finds it full knows how to report the loss.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc as std_mpsc};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::baseline::Baseline;
use crate::collector::{Fences, Observation};
use crate::event::Action;
use crate::hash::{HashOutcome, HashPool, Job};
use crate::ignored::Ignored;
use crate::ledger::{Ledger, Stage};
use crate::loss::Losses;
use crate::operation::{Operation, OperationKind};
use crate::policy::Policy;
use crate::scan::{Difference, ScanRule};
use crate::state::HashState;
use crate::time::Timestamp;

mod change;
mod doubt;
mod fold;
mod output;
mod recheck;
mod rescan;

#[cfg(test)]
mod tests;

use change::Draft;
use fold::Sessions;
pub use output::{Format, Output, OutputOptions, Sinks, Stopping};
pub use rescan::{Scanner, scope_of};

/// Names of ids, from the host's user database; `None`: the id has none.
pub trait Names: Send {
    /// Of a user.
    fn user(&mut self, uid: u32) -> Option<String>;
    /// Of a group.
    fn group(&mut self, gid: u32) -> Option<String>;
}

/// What the pipeline is made of.
pub struct Options {
    /// Resolved against this host.
    pub policy: Policy,
    /// What was known.
    pub baseline: Arc<Baseline>,
    /// Where events go.
    pub output: Output,
    /// Threads that hash.
    pub hashes: HashPool,
    /// Names of owners.
    pub names: Box<dyn Names>,
    /// Operations on one object within this time become one event.
    pub fold: Duration,
    /// A file still open is reported again when it has been quiet for this long.
    pub settle: Duration,
    /// From this severity on, an event is an alert.
    pub alert_severity: u8,
    /// What is nobody's business: the agent's own state.
    pub ignore: Ignored,
    /// Looks at the disk after a loss.
    pub scanner: Scanner,
    /// What collectors have lost.
    pub losses: Losses,
    /// Of the collector.
    pub fences: Fences,
    /// Counted here.
    pub ledger: Arc<Ledger>,
}

/// Files being written that are remembered at most; beyond, the quiet ones are forgotten, and
/// their next modification begins a new one.
const SESSIONS_MAX: usize = 65_536;
/// How often the ledger is told what waits.
const NOTE: Duration = Duration::from_millis(500);
/// Events that wait for their hash at most.
const WAITING_MAX: usize = 65_536;

/// The pipeline.
pub struct Pipeline {
    policy: Policy,
    baseline: Arc<Baseline>,
    output: Output,
    hashes: Arc<HashPool>,
    names: Box<dyn Names>,
    fold: Duration,
    settle: Duration,
    alert_severity: u8,
    ignore: Ignored,
    sessions: Sessions,
    /// Events that wait for their hash, by ticket.
    waiting: HashMap<u64, Draft>,
    /// The ticket of a path.
    tickets: HashMap<PathBuf, u64>,
    next_ticket: u64,
    hashed: mpsc::UnboundedReceiver<(u64, HashOutcome)>,
    hashed_sender: mpsc::UnboundedSender<(u64, HashOutcome)>,
    scanner: Scanner,
    found: std_mpsc::Receiver<rescan::Found>,
    scan_wake: Arc<tokio::sync::Notify>,
    losses: Losses,
    fences: Fences,
    ledger: Arc<Ledger>,
    rechecks: recheck::Rechecks,
    /// When the ledger was told last what waits.
    noted: Instant,
}

impl Pipeline {
    /// Ready to run.
    pub fn new(options: Options) -> Self {
        let (hashed_sender, hashed) = mpsc::unbounded_channel();
        let mut scanner = options.scanner;
        let (found, scan_wake) = scanner.take_results();
        Self {
            policy: options.policy,
            baseline: options.baseline,
            output: options.output,
            hashes: Arc::new(options.hashes),
            names: options.names,
            fold: options.fold,
            settle: options.settle,
            alert_severity: options.alert_severity,
            ignore: options.ignore,
            sessions: Sessions::default(),
            waiting: HashMap::new(),
            tickets: HashMap::new(),
            next_ticket: 0,
            hashed,
            hashed_sender,
            scanner,
            found,
            scan_wake,
            losses: options.losses,
            fences: options.fences,
            ledger: options.ledger,
            rechecks: recheck::Rechecks::default(),
            noted: Instant::now(),
        }
    }

    /// Writes what a scan at start found, and says that the agent watches.
    pub fn begin(&mut self, message: String, differences: Vec<Difference>) {
        self.output.agent(Action::AgentStarted, message);
        for difference in differences {
            self.difference(difference);
        }
        self.output.flush();
    }

    /// Runs until the collector has closed its end, then finishes what is under way, at the
    /// latest after `deadline`, and says that the agent has stopped.
    pub async fn run(
        mut self,
        mut observations: mpsc::Receiver<Observation>,
        deadline: Duration,
        message: impl FnOnce() -> String,
    ) {
        let scan_wake = Arc::clone(&self.scan_wake);
        let losses = self.losses.clone();
        loop {
            let due = self.sessions.next_due();
            let flush = self.output.flush_due();
            let note = Some(self.noted + NOTE);
            let wake = [due, flush, self.rechecks.due(), note].into_iter().flatten().min();
            let sleep = async {
                match wake {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = losses.reported() => self.take_losses(),
                Some((ticket, outcome)) = self.hashed.recv() => self.hashed(ticket, outcome),
                observation = observations.recv() => match observation {
                    Some(observation) => {
                        self.observe(observation);
                        // One pass over the clock for many observations.
                        for round in 0..256 {
                            let Ok(observation) = observations.try_recv() else { break };
                            self.observe(observation);
                            if round % 16 == 0 {
                                // A slow machine takes a second for all of them.
                                self.take_losses();
                            }
                        }
                        self.output.metrics().set_queue_depth("pipeline", observations.len());
                    }
                    None => break,
                },
                () = scan_wake.notified() => self.take_found(),
                () = sleep => {}
            }
            let now = Instant::now();
            self.flush_due(now);
            self.recheck_due(now);
            self.output.flush_if_due();
            if now.duration_since(self.noted) >= NOTE {
                self.noted = now;
                // Others read it, and an agent that is killed loses what is not committed.
                if let Err(error) = self.baseline.flush() {
                    tracing::error!(%error, "the baseline cannot be written");
                }
                self.note_pending();
            }
        }
        self.finish(deadline, message).await;
    }

    async fn finish(mut self, deadline: Duration, message: impl FnOnce() -> String) {
        let end = tokio::time::Instant::now() + deadline;
        // Told, and compared at the next start.
        self.take_losses();
        self.flush_all();
        while !self.waiting.is_empty() {
            match tokio::time::timeout_at(end, self.hashed.recv()).await {
                Ok(Some((ticket, outcome))) => self.hashed(ticket, outcome),
                Ok(None) | Err(_) => break,
            }
        }
        let mut left: Vec<u64> = self.waiting.keys().copied().collect();
        left.sort_unstable();
        for ticket in left {
            self.give_up(ticket, HashState::Skipped);
        }
        self.scanner.stop();
        if let Err(error) = self.baseline.flush() {
            tracing::error!(%error, "the baseline cannot be written");
        }
        if let Err(error) = self.baseline.set_stopped(Timestamp::now()) {
            tracing::error!(%error, "the baseline cannot be written");
        }
        self.note_pending();
        self.output.agent(Action::AgentStopped, message());
        self.output.finish();
    }

    fn observe(&mut self, observation: Observation) {
        match observation {
            Observation::Operation(operation) => self.operation(*operation),
            Observation::Recheck(path) => self.recheck(vec![path], false),
            Observation::Fence(number) => self.fence(number),
        }
    }

    fn operation(&mut self, operation: Operation) {
        self.ledger.add(Stage::Taken, 1);
        // A rename to there from elsewhere takes something away.
        let from = match &operation.kind {
            OperationKind::Rename { from: Some(from), .. } => Some(from),
            _ => None,
        };
        if let Some(path) = &operation.path
            && self.ignore.contains(path)
            && from.is_none_or(|from| self.ignore.contains(from))
        {
            return self.ledger.add(Stage::Ignored, 1);
        }
        fold::take(self, operation);
        if self.sessions.len() > SESSIONS_MAX {
            self.sessions.forget_quiet();
        }
    }

    /// Hashes what a draft is about, if it has content that a rule wants hashed; then completes it.
    fn hash_then_complete(&mut self, draft: Draft) {
        let limit = match self.policy.covers(&draft.path) {
            Some(rule) if rule.hash && draft.wants_hash() => rule.max_hash_size,
            _ => return self.complete(draft, None),
        };
        let expected = draft.object;
        let job = Job { path: draft.path.clone(), expected, limit };
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.tickets.insert(draft.path.clone(), ticket);
        self.waiting.insert(ticket, draft);
        let sender = self.hashed_sender.clone();
        if self.waiting.len() > WAITING_MAX {
            // More files change than can be hashed for minutes: their events are told now.
            self.output.metrics().dropped("hash", "queue_full", 1);
            return self.give_up(ticket, HashState::Skipped);
        }
        self.output.metrics().set_queue_depth("hash", self.waiting.len());
        let hashes = Arc::clone(&self.hashes);
        tokio::spawn(async move {
            // Waits aside for a slot in the pool, so that the events of other files go on.
            let outcome = hashes.submit(job).await;
            if let Ok(outcome) = outcome.await {
                // Only when the pipeline has ended is there nobody to receive.
                let _ = sender.send((ticket, outcome));
            }
        });
    }

    fn hashed(&mut self, ticket: u64, outcome: HashOutcome) {
        // Gone: something else happened to the path, and the event did not wait.
        let Some(draft) = self.waiting.remove(&ticket) else { return };
        self.output.metrics().set_queue_depth("hash", self.waiting.len());
        if self.tickets.get(&draft.path) == Some(&ticket) {
            self.tickets.remove(&draft.path);
        }
        let path = draft.path.clone();
        self.complete(draft, Some(outcome));
        self.release(&path);
    }

    /// Completes the event of `path` that waits for a hash, without it: something happened to the
    /// path that must be told after it.
    fn hurry(&mut self, path: &Path) {
        if let Some(ticket) = self.tickets.get(path).copied() {
            self.give_up(ticket, HashState::Gone);
        }
    }

    fn give_up(&mut self, ticket: u64, state: HashState) {
        if let Some(draft) = self.waiting.remove(&ticket) {
            if self.tickets.get(&draft.path) == Some(&ticket) {
                self.tickets.remove(&draft.path);
            }
            let path = draft.path.clone();
            self.complete_unhashed(draft, state);
            self.release(&path);
        }
    }

    fn complete_unhashed(&mut self, draft: Draft, state: HashState) {
        let outcome = HashOutcome { state, sha256: None, after: None, bytes: 0, seconds: 0.0 };
        self.complete(draft, Some(outcome));
    }

    fn complete(&mut self, draft: Draft, outcome: Option<HashOutcome>) {
        let count = draft.count();
        let Some(event) = change::event(
            draft,
            outcome,
            &self.policy,
            &self.baseline,
            self.names.as_mut(),
            self.alert_severity,
        ) else {
            return self.ledger.add(Stage::Unchanged, count);
        };
        self.ledger.add(Stage::Told, count);
        self.output.event(event);
    }

    /// Tells of a failed attempt.
    fn attempt(&mut self, draft: Draft) {
        let event = change::attempt(draft, &self.policy, self.names.as_mut(), self.alert_severity);
        let Some(event) = event else { return self.ledger.add(Stage::Unchanged, 1) };
        self.ledger.add(Stage::Told, 1);
        self.output.event(event);
    }

    /// Tells what a scan found.
    fn difference(&mut self, difference: Difference) {
        if self.ignore.contains(&difference.path) {
            return;
        }
        let arrival = self.rechecks.arrival(&difference.path);
        let (policy, names) = (&self.policy, self.names.as_mut());
        let event = match arrival {
            Some(whole) => {
                change::moved_along(difference, &whole, policy, names, self.alert_severity)
            }
            None => change::difference(difference, policy, names, self.alert_severity),
        };
        if let Some(event) = event {
            self.output.event(event);
        }
    }
}

/// Whether an object is scanned, and how, by the policy.
pub fn scan_rule(policy: &Policy, path: &Path) -> Option<ScanRule> {
    let rule = policy.covers(path)?;
    Some(ScanRule { hash: rule.hash, max_size: rule.max_hash_size })
}
