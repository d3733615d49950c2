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

use smol_str::SmolStr;
use tokio::sync::mpsc;

use crate::baseline::{self, Baseline, LastChange};
use crate::collector::{Fences, Observation};
use crate::content::Contents;
use crate::event::{Action, Event, Provider, Window};
use crate::hash::{HashOutcome, HashPool, Job};
use crate::ignored::Ignored;
use crate::ledger::{Ledger, Stage};
use crate::loss::Losses;
use crate::object::Observer;
use crate::operation::{Operation, OperationKind};
use crate::policy::Policy;
use crate::scan::{Difference, Root, ScanRule};
use crate::state::HashState;
use crate::time::Timestamp;

mod aside;
mod attempts;
mod backlog;
mod change;
mod diffs;
mod doubt;
mod fold;
mod gone;
mod ids;
mod mounts;
mod other_names;
mod output;
mod own;
mod recheck;
mod registry;
mod reload;
mod renames;
mod replay;
mod rescan;
pub use replay::{Replay, ReplayError, ReplayOptions};
mod runs;
mod steps;
mod suppressed;
mod verdict;
mod verifier;
mod verify;

#[cfg(test)]
mod tests;

use change::Draft;
pub use diffs::keep_contents;
use fold::Sessions;
pub use output::{Format, Output, OutputOptions, Sinks, Stopping, own_event};
pub use reload::{Refused, Reload, Reloader};
pub use rescan::{Scanner, scope_of};
pub use runs::{PackageOptions, Processes};
use steps::{Step, Steps};
use verify::Verify;

/// Names of ids, from the host's user database; `None`: the id has none.
pub trait Names: Send {
    /// Of a user.
    fn user(&mut self, uid: u32) -> Option<SmolStr>;
    /// Of a group.
    fn group(&mut self, gid: u32) -> Option<SmolStr>;
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
    /// Looks at objects.
    pub observer: Arc<dyn Observer>,
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
    /// What is done about packages; `None`: nothing.
    pub packages: Option<PackageOptions>,
    /// The time within which all content is compared with the disk once; `None`: never.
    pub verify: Option<Duration>,
    /// Notified when what [`Pipeline::begin`] was to compare is compared.
    pub compared: Arc<tokio::sync::Notify>,
    /// Earlier contents, for rules with `content_diff`; `None`: there is no such rule.
    pub contents: Option<Arc<Contents>>,
    /// Larger files are hashed aside; bytes.
    pub large: u64,
}

/// Files being written that are remembered at most; beyond, the quiet ones are forgotten, and
/// their next modification begins a new one.
const SESSIONS_MAX: usize = 65_536;
/// A collector that hands over one operation at a time would have this thread woken for each, which
/// costs more than the operation. Once all that there is has been taken, more is left to gather for
/// this long.
const GATHER: Duration = Duration::from_millis(1);
/// How often the ledger is told what waits.
const NOTE: Duration = Duration::from_millis(500);
/// How often an agent leaves word that it lives, for the one that is started after it was killed.
const ALIVE: Duration = Duration::from_secs(30);
/// How often something is sent from the collector through the pipeline, to see that it gets through.
const PULSE: Duration = Duration::from_secs(5);

/// The pipeline.
pub struct Pipeline {
    policy: Policy,
    baseline: Arc<Baseline>,
    output: Output,
    hashes: Arc<HashPool>,
    observer: Arc<dyn Observer>,
    names: Box<dyn Names>,
    fold: Duration,
    settle: Duration,
    alert_severity: u8,
    ignore: Ignored,
    sessions: Sessions,
    /// Events that wait for their hash, by ticket.
    waiting: HashMap<u64, Draft>,
    /// Of these, those that were gone when they were to be hashed.
    gone: gone::Gone,
    /// What was told without its hash.
    backlog: backlog::Backlog,
    /// The ticket of a path.
    tickets: HashMap<PathBuf, u64>,
    next_ticket: u64,
    hashed: mpsc::UnboundedReceiver<(u64, HashOutcome)>,
    hashed_sender: mpsc::UnboundedSender<(u64, HashOutcome)>,
    contents: Option<Arc<Contents>>,
    large: u64,
    /// Events whose hash is still to come, by ticket.
    unhashed: HashMap<u64, aside::Told>,
    scanner: Scanner,
    found: std_mpsc::Receiver<rescan::Found>,
    scan_wake: Arc<tokio::sync::Notify>,
    losses: Losses,
    fences: Fences,
    /// The time it is in what is replayed; `None`: it is now.
    replayed: Option<Instant>,
    ledger: Arc<Ledger>,
    rechecks: recheck::Rechecks,
    suppression: suppressed::Suppression,
    reloads: reload::Reloads,
    own: own::Own,
    /// When the ledger was told last what waits.
    noted: Instant,
    runs: Option<runs::Runs>,
    /// Events that may be steps of one change.
    steps: Steps,
    /// When the baseline was told last that the agent lives.
    alive: Option<Instant>,
    /// When a fence was asked for that is to show that the pipeline gets on, and its number until
    /// it is there.
    pulse: (Instant, Option<u64>),
    verify: Option<Verify>,
    compared: Arc<tokio::sync::Notify>,
}

impl Pipeline {
    /// Ready to run.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn new(options: Options) -> std::io::Result<Self> {
        let runs = options.packages.map(runs::Runs::new).transpose()?;
        let (hashed_sender, hashed) = mpsc::unbounded_channel();
        let mut scanner = options.scanner;
        let (found, scan_wake) = scanner.take_results();
        let verify = options.verify.map(|interval| Verify::new(interval, &options.baseline));
        options.baseline.announce();
        Ok(Self {
            policy: options.policy,
            baseline: options.baseline,
            output: options.output,
            hashes: Arc::new(options.hashes),
            observer: options.observer,
            names: options.names,
            fold: options.fold,
            settle: options.settle,
            alert_severity: options.alert_severity,
            ignore: options.ignore,
            sessions: Sessions::default(),
            waiting: HashMap::new(),
            gone: gone::Gone::default(),
            backlog: backlog::Backlog::default(),
            tickets: HashMap::new(),
            next_ticket: 0,
            hashed,
            hashed_sender,
            contents: options.contents,
            large: options.large,
            unhashed: HashMap::new(),
            scanner,
            found,
            scan_wake,
            losses: options.losses,
            fences: options.fences,
            ledger: options.ledger,
            rechecks: recheck::Rechecks::default(),
            suppression: suppressed::Suppression::default(),
            reloads: reload::Reloads::default(),
            own: own::Own::default(),
            noted: Instant::now(),
            runs,
            steps: Steps::default(),
            alive: None,
            pulse: (Instant::now(), None),
            verify,
            compared: options.compared,
            replayed: None,
        })
    }

    /// Says that the agent watches, and has `compare` compared with what was known when the last
    /// agent stopped: `down`, where that is known.
    ///
    /// Operations since the hooks were armed wait in the queue. They are told as what they are,
    /// and what is left then is told as found by the scan: nothing twice, and nothing not at all.
    pub fn begin(&mut self, message: String, down: Option<Window>, compare: Vec<Root>) {
        self.output.started(message, down);
        self.recheck_start(compare, down.and_then(|down| down.from));
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
        let mut gathering: Option<Instant> = None;
        loop {
            let due = self.sessions.next_due();
            let flush = self.output.flush_due();
            let note = Some(self.noted + NOTE);
            let suppressed = self.suppression.due();
            let runs = self.runs.as_ref().and_then(runs::Runs::due);
            let verify = self.verify.as_ref().map(Verify::due);
            let steps = self.steps.next_due();
            let recheck = self.rechecks.due();
            let wake = [due, flush, recheck, note, gathering, suppressed, runs, verify, steps];
            let wake = wake.into_iter().flatten().min();
            let sleep = async {
                match wake {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = losses.reported() => self.take_losses(),
                command = self.reloads.next() => self.reload(command),
                Some((ticket, outcome)) = self.hashed.recv() => self.hashed(ticket, outcome),
                observation = observations.recv(), if gathering.is_none() => match observation {
                    Some(observation) => {
                        self.observe(observation);
                        // One pass over the clock for many observations.
                        for round in 0..256 {
                            let Ok(observation) = observations.try_recv() else {
                                gathering = Some(Instant::now() + GATHER);
                                break;
                            };
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
                Some(answer) = runs::answer(&mut self.runs) => self.package_answer(answer),
                () = sleep => {}
            }
            let now = Instant::now();
            gathering = gathering.filter(|until| *until > now);
            self.flush_due(now);
            self.steps_due(now);
            self.recheck_due(now);
            if self.suppression.due().is_some_and(|due| due <= now) {
                self.tell_suppressed();
            }
            self.runs_due(now);
            self.verify_due(now);
            self.output.flush_if_due();
            if now.duration_since(self.noted) >= NOTE {
                self.noted = now;
                if self.alive.is_none_or(|at| now.duration_since(at) >= ALIVE) {
                    self.alive = Some(now);
                    if let Err(error) = self.baseline.set_alive(Timestamp::now()) {
                        tracing::error!(%error, "the baseline cannot be written");
                    }
                }
                // Others read it, and an agent that is killed loses what is not committed.
                self.commit();
                self.make_up_for_hashes();
                self.note_pending();
                self.tell_meddling();
                if self.pulse.1.is_none() && now.duration_since(self.pulse.0) >= PULSE {
                    self.pulse = (now, Some(self.request_fence()));
                }
            }
        }
        self.finish(deadline, message).await;
    }

    async fn finish(mut self, deadline: Duration, message: impl FnOnce() -> String) {
        let end = tokio::time::Instant::now() + deadline;
        // Told, and compared at the next start.
        self.take_losses();
        self.gone_is_over();
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
        self.tell_steps();
        self.give_up_aside();
        self.finish_runs(end).await;
        self.scanner.stop();
        self.commit();
        if let Err(error) = self.baseline.set_stopped(Timestamp::now()) {
            tracing::error!(%error, "the baseline cannot be written");
        }
        self.note_pending();
        self.tell_meddling();
        self.tell_suppressed();
        self.output.agent(Action::AgentStopped, message());
        // What went wrong is logged, and the journal has the events.
        let _ = self.output.finish();
    }

    /// Has on disk what the baseline knows, behind the events that tell of it: in this order an agent
    /// that is killed tells of a change twice, and never not at all. For what waits there is a mark.
    fn commit(&mut self) {
        // Of a rename that waits for its hash the baseline knows already.
        let all = self.output.write_out() && self.steps.is_empty() && self.waiting.is_empty();
        if let Err(error) = self.baseline.commit_told(all) {
            tracing::error!(%error, "the baseline cannot be written");
        }
    }

    fn observe(&mut self, observation: Observation) {
        match observation {
            Observation::Operation(operation) => self.operation(operation),
            Observation::Recheck(path) => self.recheck(vec![path], false),
            Observation::Fence(number) => self.fence(number),
        }
    }

    /// The time by which operations are folded.
    fn now(&self) -> Instant {
        self.replayed.unwrap_or_else(Instant::now)
    }

    fn operation(&mut self, mut operation: Box<Operation>) {
        self.ledger.add(Stage::Taken, 1);
        if operation.path.is_none() {
            operation.path = self.known_path(&operation);
        }
        self.reloads.note(&operation);
        self.own.note(&operation);
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

    /// The path of a file of which the collector has only the identity: it was opened by its handle.
    fn known_path(&self, operation: &Operation) -> Option<PathBuf> {
        use OperationKind::{
            CloseWrite, Map, Modify, OpenWrite, RemoveXattr, SetAttributes, SetFlags, SetXattr,
            Truncate,
        };
        let content = matches!(
            operation.kind,
            CloseWrite { .. }
                | Map
                | Modify
                | OpenWrite { .. }
                | RemoveXattr { .. }
                | SetAttributes
                | SetFlags
                | SetXattr { .. }
                | Truncate
        );
        // One without any name is another matter.
        if !content || operation.after.nlink == Some(0) {
            return None;
        }
        let object = operation.object?;
        let paths = self.baseline.paths_of(object).inspect_err(|error| {
            tracing::error!(%error, "the baseline cannot be read");
        });
        // The baseline may be behind, and the number another file's.
        let is_it = |path: &PathBuf| {
            crate::object::stat(path).is_ok_and(|state| state.inode == Some(object.inode))
        };
        paths.ok()?.into_iter().find(is_it)
    }

    /// Hashes what a draft is about, if it has content that a rule wants hashed; then completes it.
    fn hash_then_complete(&mut self, draft: Draft) {
        let rule = draft.wants_hash().then(|| self.policy.covers(&draft.path)).flatten();
        let rule = match rule {
            Some(rule) if rule.hash && self.observer.observes() => rule,
            _ if self.is_elsewhere(&draft) => return self.wait_for_gone(draft),
            _ => return self.complete(draft, None),
        };
        let mut job = Job {
            path: draft.path.clone(),
            expected: draft.object,
            limit: rule.max_hash_size,
            compare: None,
            aside: None,
        };
        let severity = rule.severity;
        let keep = rule.content_diff.then(|| rule.keep(&draft.path));
        if self.is_large(&draft, job.limit) {
            job.aside = Some(severity);
            return self.complete_then_hash(draft, job);
        }
        job.compare = keep.and_then(|keep| self.compare(&draft, keep));
        let ticket = self.hold(draft);
        if self.is_backlogged() {
            return self.tell_without_hash(ticket, HashState::Skipped);
        }
        self.submit(ticket, job);
    }

    /// Keeps a draft until what it waits for comes with its ticket.
    fn hold(&mut self, draft: Draft) -> u64 {
        let ticket = self.ticket();
        self.tickets.insert(draft.path.clone(), ticket);
        self.waiting.insert(ticket, draft);
        ticket
    }

    fn ticket(&mut self) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        ticket
    }

    /// Has a job done by the pool.
    fn submit(&self, ticket: u64, job: Job) {
        self.note_waiting();
        let sender = self.hashed_sender.clone();
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

    fn note_waiting(&self) {
        let waiting = self.waiting.len() + self.unhashed.len();
        self.output.metrics().set_queue_depth("hash", waiting);
    }

    fn hashed(&mut self, ticket: u64, outcome: HashOutcome) {
        if let Some(told) = self.unhashed.remove(&ticket) {
            return self.follow_up(told, outcome);
        }
        let draft = self.waiting.get(&ticket);
        if draft.is_some_and(|draft| outcome.state == HashState::Gone || self.is_elsewhere(draft)) {
            return self.is_gone(ticket, outcome);
        }
        self.complete_hashed(ticket, outcome);
    }

    fn complete_hashed(&mut self, ticket: u64, outcome: HashOutcome) {
        // Gone: something else happened to the path, and the event did not wait.
        let Some(draft) = self.take_waiting(ticket) else { return };
        self.note_waiting();
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
        self.complete_hashed(ticket, HashOutcome::unread(state, None));
    }

    /// Takes a draft out of all that knows it as waiting.
    fn take_waiting(&mut self, ticket: u64) -> Option<Draft> {
        let draft = self.waiting.remove(&ticket)?;
        self.gone.forget(ticket);
        // Another one may wait under its path by now.
        if self.tickets.get(&draft.path) == Some(&ticket) {
            self.tickets.remove(&draft.path);
        }
        Some(draft)
    }

    fn complete_unhashed(&mut self, draft: Draft, state: HashState) {
        let outcome = HashOutcome::unread(state, None);
        self.complete(draft, Some(outcome));
    }

    fn complete(&mut self, mut draft: Draft, outcome: Option<HashOutcome>) {
        if outcome.as_ref().is_some_and(|outcome| outcome.state == HashState::Gone)
            && let Some(path) = self.name_left(&draft)
        {
            let used = std::mem::replace(&mut draft.path, path);
            draft.by_gone_name = true;
            let nameless = change::is_nameless(&used, draft.object);
            draft.link_path = (!nameless).then_some(used);
            // It may have been told by the inode, which knows its names.
            draft.content = change::Content::Doubtful;
            return self.hash_then_complete(draft);
        }
        let count = draft.count();
        let others = self.under_other_names(&draft);
        let again = outcome.as_ref().filter(|_| !others.is_empty()).cloned();
        match self.step(draft, outcome) {
            Some(step) => self.take_step(step),
            None => self.ledger.add(Stage::Unchanged, count),
        }
        for other in others {
            self.complete_other_name(other, again.as_ref());
        }
    }

    /// The event of a draft, which may be a step of a change.
    fn step(&mut self, draft: Draft, outcome: Option<HashOutcome>) -> Option<Step> {
        let from = draft.from.clone();
        let from_covered = from.as_ref().is_some_and(|from| self.policy.covers(from).is_some());
        let (path, actor, writers) =
            (draft.path.clone(), draft.actor.clone(), draft.writers.clone());
        let (count, exchange) = (draft.count(), draft.exchange);
        let object = draft.object.map(|object| object.inode);
        let event = self.event(draft, outcome)?;
        let told = event.file.as_ref().and_then(|file| file.inode.as_ref()?.parse().ok());
        let mut step = Step::new(event, count, path, actor);
        (step.from, step.from_covered, step.exchange) = (from, from_covered, exchange);
        (step.writers, step.inode) = (writers, object.or(told));
        Some(step)
    }

    /// The event of a draft, and with it what the baseline has from now on.
    fn event(&mut self, draft: Draft, outcome: Option<HashOutcome>) -> Option<Box<Event>> {
        let path = draft.path.clone();
        let mut known = None;
        let mut event = change::event(
            draft,
            outcome,
            &self.policy,
            &self.baseline,
            self.observer.as_ref(),
            self.names.as_mut(),
            self.alert_severity,
            self.steps.gathers(),
            &mut known,
        );
        if let Some(event) = &mut event {
            event.event.id = self.output.new_id();
        }
        if let Some(state) = known {
            // Who changed it last is remembered only with an event that was told.
            let told = event.as_deref().filter(|event| !event.fim.unasked);
            let result = match told.and_then(baseline::Told::of) {
                Some(last) => self.baseline.put_by(&path, &state, last),
                None => self.baseline.put(&path, &state),
            };
            if let Err(error) = result {
                tracing::error!(%error, "the baseline cannot be written");
            }
        }
        event
    }

    /// Tells of a failed attempt.
    fn attempt(&mut self, draft: Draft) {
        let path = draft.path.clone();
        let (observer, names) = (self.observer.as_ref(), self.names.as_mut());
        let event = change::attempt(draft, &self.policy, observer, names, self.alert_severity);
        let Some(event) = event else { return self.ledger.add(Stage::Unchanged, 1) };
        self.tell_alone(&path, event, 1);
    }

    /// Tells what a scan found.
    fn difference(&mut self, difference: Difference) {
        if self.ignore.contains(&difference.path) {
            return;
        }
        let path = difference.path.clone();
        let arrival = self.rechecks.arrival(&path);
        let diff = self.diff_found(&difference);
        let (policy, names) = (&self.policy, self.names.as_mut());
        let window = self.rechecks.window();
        let event = match arrival {
            Some(whole) => {
                change::moved_along(difference, &whole, policy, names, self.alert_severity)
            }
            None => change::difference(difference, policy, names, self.alert_severity),
        };
        if let Some(mut event) = event {
            event.fim.diff = diff.map(Box::new);
            event.event.id = self.output.new_id();
            if event.event.provider == Some(Provider::Scan) {
                event.fim.window = Some(window);
            }
            if event.event.action != Action::Deleted
                && let Some(last) = LastChange::of(&event)
                && let Err(error) = self.baseline.set_last_change(&path, &last)
            {
                tracing::error!(%error, "the baseline cannot be written");
            }
            // What a scan found is no operation that was counted before.
            self.tell_alone(&path, event, 0);
        }
    }
}

/// The event of a difference that a scan found outside of an agent; `None`: no rule wants to know.
pub fn scan_event(
    difference: Difference,
    policy: &Policy,
    names: &mut dyn Names,
    alert_severity: u8,
) -> Option<Box<Event>> {
    change::difference(difference, policy, names, alert_severity)
}

/// Whether an object is scanned, and how, by the policy.
pub fn scan_rule(policy: &Policy, path: &Path) -> Option<ScanRule> {
    let rule = policy.covers(path)?;
    Some(ScanRule { hash: rule.hash, max_size: rule.max_hash_size })
}
