//! Runs of package managers: their changes are held back until the database says what there is to
//! be, and are told as one event.
//!
//! `event => whose run? -> held -> facts (verifier) -> verdict => told, or counted in the run`
//!
//! Changes of packages' files that are not part of a run take the same way, without the wait.
//!
//! Invariant: events of one path leave in the order in which they came: each path has a queue, and
//! a part of it that is being verified goes before the rest.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use attributes::Attributes;

use super::steps::merge;
use super::verdict::{Judged, Lineage, judge};
use super::verifier::{Answer, Facts, Job, Verifier};
use crate::event::actor::Actor;
use crate::event::{
    Action, Event, FoldedOperation, Kind, Manager, Outcome, PackageChange, PackageRun, RunFiles,
    Verdict, exact_path, path_text,
};
use crate::packages::Databases;
use crate::packages::programs::{Program, final_path};
use crate::state::ObjectKind;
use crate::time::Timestamp;

mod attributes;
mod fold;
mod hooks;

pub(super) use hooks::answer;

/// How often the process of a run is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// Events that are held at most, about 3 KiB each; beyond, they are verified early.
const HELD_MAX: usize = 32_768;
/// Packages and paths that a summary names.
const PACKAGES_MAX: usize = 1000;
const PATHS_MAX: usize = 100;
/// Runs that are remembered after their end, so that what comes late is not taken for a new one.
const ENDED_MAX: usize = 1024;
/// How often what has been held for too long is verified.
const EXPIRE: Duration = Duration::from_secs(2);

/// Processes, as the agent knows them.
pub trait Processes: Send {
    /// Whether the execution `entity_id` of process `pid` goes on.
    fn is_running(&mut self, pid: u32, entity_id: &str) -> bool;
    /// Who that is.
    fn actor(&mut self, pid: u32, entity_id: &str) -> Option<Arc<Actor>>;
}

/// What is done about packages.
pub struct PackageOptions {
    /// Of the host.
    pub databases: Databases,
    /// Of the host.
    pub processes: Box<dyn Processes>,
    /// How long an event of a run may wait for the run's end.
    pub hold: Duration,
    /// Changes that were expected are told one by one, too.
    pub details: bool,
    /// From this severity on, a change of a run is an alert although it may be in order.
    pub alert_severity: u8,
    /// Larger files are not compared with the database; bytes.
    pub limit: u64,
    /// Called when what reading the databases took of memory is free.
    pub freed: fn(),
}

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Running,
    /// Its process has ended; what it did is taken in up to this fence.
    Fence(u64),
    /// What was taken in may still be folded.
    Folding(Instant),
    /// Events with tickets before this one may wait for their hashes.
    Hashing(u64),
    /// What is left of it is being verified.
    Verifying,
}

struct Run {
    program: &'static Program,
    pid: u32,
    actor: Option<Arc<Actor>>,
    start: Timestamp,
    end: Option<Timestamp>,
    /// Whether the program is the one of its package; `None`: not known yet.
    genuine: Option<bool>,
    stage: Stage,
    looked: Instant,
    /// What was said of each path, the worst.
    paths: HashMap<PathBuf, Verdict>,
    attributes: Attributes,
    actions: BTreeMap<String, u64>,
    operations: Vec<FoldedOperation>,
    /// Told as unknown before the end: judged again then.
    early: HashSet<PathBuf>,
    packages: Option<Vec<PackageChange>>,
    /// Packages of apk whose files it wrote, with their version: apk does not say what it installed
    /// again.
    written: BTreeMap<String, String>,
}

struct Held {
    event: Box<Event>,
    path: PathBuf,
    from: Option<PathBuf>,
    run: Option<String>,
    /// The process is the package manager itself.
    direct: bool,
    since: Instant,
}

/// A part of the queues that is being verified.
type Batch = Vec<(PathBuf, Vec<Held>)>;

/// All runs, and what is held.
pub(super) struct Runs {
    options: PackageOptions,
    verifier: Verifier,
    runs: HashMap<String, Run>,
    /// Runs by the executions of package managers that are part of them.
    members: HashMap<String, String>,
    ended: VecDeque<String>,
    /// By the path that it is about in the end.
    queues: BTreeMap<PathBuf, Vec<Held>>,
    count: usize,
    /// Paths in `deciding`.
    busy: HashSet<PathBuf>,
    deciding: HashMap<u64, Batch>,
    /// Batches of paths of `Run::early`.
    again: HashMap<u64, String>,
    next_batch: u64,
    expired: Instant,
    /// The baseline has it that something is held.
    noted: bool,
    /// To be told, in order.
    #[expect(clippy::vec_box, reason = "they come in boxes and go on in them")]
    out: Vec<Box<Event>>,
    /// Summaries to be told.
    summaries: Vec<(Option<Arc<Actor>>, Box<Summary>)>,
}

/// What a run comes to.
pub(super) struct Summary {
    pub(super) run: PackageRun,
    pub(super) operations: Vec<FoldedOperation>,
    /// Something was found unexpected that was told as unknown before.
    pub(super) alert: bool,
}

impl Runs {
    pub(super) fn new(options: PackageOptions) -> std::io::Result<Self> {
        let databases = Databases::new(options.databases.root());
        let verifier = Verifier::start(databases, options.limit, options.freed)?;
        Ok(Self {
            options,
            verifier,
            runs: HashMap::new(),
            members: HashMap::new(),
            ended: VecDeque::new(),
            queues: BTreeMap::new(),
            count: 0,
            busy: HashSet::new(),
            deciding: HashMap::new(),
            again: HashMap::new(),
            next_batch: 0,
            expired: Instant::now(),
            noted: false,
            out: Vec::new(),
            summaries: Vec::new(),
        })
    }

    /// Takes an event; returns it if there is nothing to find out about it.
    pub(super) fn take(&mut self, mut event: Box<Event>) -> Option<Box<Event>> {
        if event.event.outcome != Outcome::Success {
            return Some(event);
        }
        let Some(path) = exact_path(&event) else { return Some(event) };
        let from = match event.event.action {
            Action::Moved => {
                event.fim.before.as_ref().and_then(|b| b.path.clone()).map(PathBuf::from)
            }
            Action::Created
            | Action::Updated
            | Action::AttributesModified
            | Action::Deleted
            | Action::Linked => None,
            _ => return Some(event),
        };
        let run = self.run_of(&event);
        let direct = event.process.as_ref().is_some_and(|p| manager(p.program));
        let temporary = final_path(&path).filter(|_| direct && run.is_some());
        let base = temporary.clone().unwrap_or_else(|| path.clone());
        if run.is_none() && !self.queues.contains_key(&base) && !self.busy.contains(&base) {
            // What is found at the start comes before the databases have been read.
            let owned = self.verifier.index().is_none_or(|index| {
                index.has(&path) || from.as_ref().is_some_and(|from| index.has(from))
            });
            if !owned {
                return Some(event);
            }
        }
        if let Some(run) = &run {
            event.fim.package_run = Some(Box::new(self.reference(run)));
            if direct {
                self.fold(run, &base, &path, from.as_deref(), &mut event);
                if temporary.is_some() && event.event.action == Action::Deleted {
                    // What made it was just counted; so is its end.
                    self.count_folded(&run.clone(), &event);
                    return None;
                }
            }
        }
        let now = Instant::now();
        let by_hand = run.is_none();
        let earlier = from.clone();
        let held = Held { event, path, from, run, direct, since: now };
        self.queues.entry(base.clone()).or_default().push(held);
        self.count += 1;
        if by_hand {
            // What was said of the earlier name goes before.
            self.verify(earlier.into_iter().chain([base]).collect());
        } else if self.count > HELD_MAX {
            self.verify_all();
        }
        None
    }

    /// The running run that did it.
    fn run_of(&mut self, event: &Event) -> Option<String> {
        let process = event.process.as_ref()?;
        // Nearest first; a container has databases of its own.
        if event.container.is_some() {
            return None;
        }
        let own = (process.program, process.pid, process.entity_id.as_deref());
        let above = event.fim.ancestors.iter();
        let above = above.map(|a| (a.program, a.pid, a.entity_id.as_deref()));
        let managers: Vec<(&'static Program, u32, &str)> = std::iter::once(own)
            .chain(above)
            .filter_map(|(program, pid, id)| Some((program?, pid, id?)))
            .filter(|(program, ..)| program.manager().is_some())
            .collect();
        let (program, pid, id) = *managers.last()?;
        // Deep below, the outermost is out of sight, but was seen above one of the others.
        let known = managers.iter().rev().find_map(|(_, _, id)| self.members.get(*id)).cloned();
        let run = known.unwrap_or_else(|| id.to_owned());
        if self.ended.contains(&run) {
            return None;
        }
        for (_, _, id) in &managers {
            if !self.members.contains_key(*id) {
                self.members.insert((*id).to_owned(), run.clone());
            }
        }
        if !self.runs.contains_key(&run) {
            let actor = self.options.processes.actor(pid, id);
            self.verifier.ask(Job::Program { run: run.clone(), program });
            self.runs.insert(
                run.clone(),
                Run {
                    program,
                    pid,
                    actor,
                    start: event.timestamp,
                    end: None,
                    genuine: None,
                    stage: Stage::Running,
                    looked: Instant::now(),
                    paths: HashMap::new(),
                    attributes: Attributes::default(),
                    actions: BTreeMap::new(),
                    operations: Vec::new(),
                    early: HashSet::new(),
                    packages: None,
                    written: BTreeMap::new(),
                },
            );
        }
        // One that turned out not to be of its package is nobody.
        self.runs.get(&run).is_some_and(|run| run.genuine != Some(false)).then_some(run)
    }

    fn reference(&self, id: &str) -> PackageRun {
        let manager = self.runs.get(id).and_then(|run| run.program.manager()).unwrap_or_default();
        PackageRun { id: id.to_owned(), manager: manager.to_owned(), ..PackageRun::default() }
    }

    fn count_folded(&mut self, run: &str, event: &Event) {
        if let Some(run) = self.runs.get_mut(run) {
            *run.actions.entry(event.event.action.as_str().to_owned()).or_default() += 1;
            merge(&mut run.operations, &event.fim.operations);
        }
    }

    /// Has the queues of these paths verified, as they are now.
    fn verify(&mut self, bases: Vec<PathBuf>) {
        let mut batch: Batch = Vec::new();
        let mut paths = HashSet::new();
        let mut programs: Vec<&'static Program> = Vec::new();
        for base in bases {
            if self.busy.contains(&base) {
                // Its turn comes with the answer.
                continue;
            }
            let Some(queue) = self.queues.remove(&base) else { continue };
            self.count = self.count.saturating_sub(queue.len());
            for held in &queue {
                paths.insert(held.path.clone());
                paths.extend(held.from.clone());
                let program = held.event.process.as_ref().and_then(|process| process.program);
                programs.extend(program.filter(|program| !programs.contains(program)));
            }
            self.busy.insert(base.clone());
            batch.push((base, queue));
        }
        if batch.is_empty() {
            return;
        }
        let number = self.next_batch;
        self.next_batch += 1;
        self.deciding.insert(number, batch);
        self.verifier.ask(Job::Check { batch: number, paths, programs });
    }

    fn verify_all(&mut self) {
        self.verify(self.queues.keys().cloned().collect());
    }

    /// Takes in an answer of the verifier.
    pub(super) fn answered(&mut self, answer: Answer) {
        match answer {
            Answer::Program { run, genuine } => {
                if let Some(known) = self.runs.get_mut(&run) {
                    known.genuine = Some(genuine);
                    if !genuine {
                        let path = known.program.path;
                        tracing::warn!(path, "a package manager is not the one of its package");
                        self.end(&run);
                        self.verify_all();
                    }
                }
            }
            Answer::Check { batch, facts, programs } => self.decide(batch, &facts, &programs),
            Answer::Installed { run, packages } => {
                if let Some(run) = self.runs.get_mut(&run) {
                    run.packages = Some(packages);
                }
            }
            Answer::Unreadable(problem) => {
                tracing::error!(
                    problem,
                    "a package database cannot be read: verdicts are unknown until it can"
                );
            }
        }
        self.close_runs();
    }

    fn decide(
        &mut self,
        number: u64,
        facts: &HashMap<PathBuf, Facts>,
        programs: &[&'static Program],
    ) {
        if let Some(run) = self.again.remove(&number) {
            return self.judge_again(&run, facts);
        }
        let Some(batch) = self.deciding.remove(&number) else { return };
        let mut next = Vec::new();
        for (base, queue) in batch {
            self.busy.remove(&base);
            let restored = self.restored(&queue, facts);
            for held in queue {
                let is_restored = restored.contains(&held.path);
                self.judge(held, is_restored, facts, programs);
            }
            let waits = |held: &Held| {
                let run = held.run.as_ref().and_then(|run| self.runs.get(run));
                run.is_none_or(|run| run.stage == Stage::Verifying)
            };
            if self.queues.get(&base).is_some_and(|queue| queue.iter().any(waits)) {
                next.push(base);
            }
        }
        self.verify(next);
    }

    /// The paths of a queue that a run leaves with the attributes that they had before it.
    fn restored(&mut self, queue: &[Held], facts: &HashMap<PathBuf, Facts>) -> HashSet<PathBuf> {
        // What somebody else did in between is no part of what the run did.
        let Some(id) = queue.first().and_then(|held| held.run.clone()) else {
            return HashSet::new();
        };
        if queue.iter().any(|held| held.run.as_ref() != Some(&id)) {
            return HashSet::new();
        }
        let Some(run) = self.runs.get_mut(&id) else { return HashSet::new() };
        run.attributes.note(queue);
        let is_restored = |path: &&PathBuf| {
            let found = facts.get(*path).and_then(|facts| facts.found.state.as_ref());
            run.attributes.are_restored(path, queue, found)
        };
        queue.iter().map(|held| &held.path).filter(is_restored).cloned().collect()
    }

    fn judge(
        &mut self,
        held: Held,
        restored: bool,
        facts: &HashMap<PathBuf, Facts>,
        programs: &[&'static Program],
    ) {
        let Held { mut event, path, from, run, direct, .. } = held;
        let Some(known) = facts.get(&path) else { return self.out.push(event) };
        // The program may have been found not to be genuine since.
        let id = run.filter(|run| self.runs.contains_key(run));
        let run = id.as_ref().and_then(|id| self.runs.get_mut(id));
        let program = event.process.as_ref().and_then(|process| process.program);
        let lineage = run.as_ref().filter(|run| run.genuine == Some(true)).map(|run| Lineage {
            direct,
            program: program.filter(|program| programs.contains(program)),
            ended: run.stage == Stage::Verifying && run.end.is_some(),
            restored,
        });
        let from = from.as_ref().and_then(|from| facts.get(from));
        let Judged { verdict, reason, package } = judge(&event, &path, known, from, lineage);
        event.fim.verdict = verdict;
        event.fim.verdict_reason = verdict.map(|_| reason.to_owned());
        event.fim.package = package;
        let met = event.fim.expectation.as_ref().map(|expectation| expectation.met);
        if met.is_none() {
            let severity = event.event.severity.unwrap_or(0);
            match (verdict, &lineage) {
                (Some(Verdict::Unexpected), _) => event.event.kind = Kind::Alert,
                (Some(_), Some(_)) if severity < self.options.alert_severity => {
                    event.event.kind = Kind::Event;
                }
                _ => {}
            }
        }
        if lineage.is_none() {
            event.fim.package_run = None;
            return self.out.push(event);
        }
        let (Some(run), Some(verdict)) = (run, verdict) else { return self.out.push(event) };
        if reason == "run_in_progress" {
            run.early.insert(path.clone());
        }
        let counted = final_path(&path).filter(|_| direct).unwrap_or(path);
        if reason != "temporary" {
            note(&mut run.paths, counted, verdict);
        }
        let is_placed =
            matches!(event.event.action, Action::Created | Action::Updated | Action::Moved)
                && event.file.as_ref().is_some_and(|file| file.kind != Some(ObjectKind::Dir));
        if reason == "as_packaged"
            && is_placed
            && let Some(package) = event.fim.package.as_ref().filter(|p| p.manager == Manager::Apk)
        {
            run.written.insert(package.name.clone(), package.version.clone());
        }
        if verdict == Verdict::Expected {
            *run.actions.entry(event.event.action.as_str().to_owned()).or_default() += 1;
            merge(&mut run.operations, &event.fim.operations);
            // What the policy says is never to happen is told, whoever does it.
            if !self.options.details && met != Some(false) {
                return;
            }
        }
        self.out.push(event);
    }

    /// What was unknown while a run went on, at its end: only what the database has and is not so
    /// is worse than was said.
    fn judge_again(&mut self, id: &str, facts: &HashMap<PathBuf, Facts>) {
        let Some(run) = self.runs.get_mut(id).filter(|run| run.end.is_some()) else { return };
        for path in std::mem::take(&mut run.early) {
            let Some(facts) = facts.get(&path) else { continue };
            let verdict = match &facts.owner {
                Some((_, entry)) if !entry.configuration => match facts.found.matches {
                    Some(true) => Verdict::Expected,
                    Some(false) => Verdict::Unexpected,
                    None if facts.found.state.is_none() => Verdict::Unexpected,
                    None => Verdict::Unknown,
                },
                None if facts.found.state.is_none() => Verdict::Expected,
                _ => Verdict::Unknown,
            };
            if verdict == Verdict::Unexpected {
                note(&mut run.paths, path, verdict);
                *run.actions.entry(LATE.to_owned()).or_default() += 1;
            } else if run.paths.get(&path) == Some(&Verdict::Unknown) {
                run.paths.insert(path, verdict);
            }
        }
    }

    /// When something is to be done without an event.
    pub(super) fn due(&self) -> Option<Instant> {
        let looks = self.runs.values().filter_map(|run| match run.stage {
            Stage::Running => Some(run.looked + LOOK),
            Stage::Folding(at) => Some(at),
            // The fence, the hash or the answer wakes the pipeline.
            Stage::Fence(_) | Stage::Hashing(_) | Stage::Verifying => None,
        });
        let held = (self.count > 0).then_some(self.expired + EXPIRE);
        looks.chain(held).min()
    }

    /// Looks at the processes of runs, and goes on with those that have ended. `fence` asks for one.
    pub(super) fn tick(
        &mut self,
        now: Instant,
        next_ticket: u64,
        oldest_ticket: Option<u64>,
        fence: &mut dyn FnMut() -> u64,
    ) {
        let mut ended = Vec::new();
        for (id, run) in &mut self.runs {
            match run.stage {
                Stage::Running if now >= run.looked + LOOK => {
                    run.looked = now;
                    if !self.options.processes.is_running(run.pid, id) {
                        run.end = Some(Timestamp::now());
                        run.stage = Stage::Fence(fence());
                    }
                }
                Stage::Folding(at) if now >= at => run.stage = Stage::Hashing(next_ticket),
                _ => {}
            }
            if let Stage::Hashing(ticket) = run.stage
                && oldest_ticket.is_none_or(|oldest| oldest >= ticket)
            {
                run.stage = Stage::Verifying;
                ended.push(id.clone());
            }
        }
        for id in ended {
            self.verify_run(&id);
        }
        if self.count > 0 && now >= self.expired + EXPIRE {
            self.expired = now;
            let hold = self.options.hold;
            let old = |held: &Held| now.duration_since(held.since) >= hold;
            let bases = self.queues.iter().filter(|(_, queue)| queue.first().is_some_and(old));
            self.verify(bases.map(|(base, _)| base.clone()).collect());
        }
        self.close_runs();
    }

    /// What came before the fence has been taken in.
    pub(super) fn fenced(&mut self, number: u64, now: Instant, fold: Duration) {
        for run in self.runs.values_mut() {
            if matches!(run.stage, Stage::Fence(fence) if fence <= number) {
                run.stage = Stage::Folding(now + fold);
            }
        }
    }

    /// The run is over, and so is the wait for what it did.
    fn verify_run(&mut self, id: &str) {
        let of_run = |queue: &&Vec<Held>| queue.iter().any(|h| h.run.as_deref() == Some(id));
        let bases = self.queues.iter().filter(|(_, queue)| of_run(queue));
        let bases = bases.map(|(base, _)| base.clone()).collect();
        self.verify(bases);
        let Some(run) = self.runs.get(id) else { return };
        if !run.early.is_empty() {
            let number = self.next_batch;
            self.next_batch += 1;
            self.again.insert(number, id.to_owned());
            let paths = run.early.clone();
            self.verifier.ask(Job::Check { batch: number, paths, programs: Vec::new() });
        }
        let since = run.start.as_nanos().div_euclid(1_000_000_000) as i64;
        self.verifier.ask(Job::Installed { run: id.to_owned(), since });
    }

    /// Tells of runs of which everything is known.
    fn close_runs(&mut self) {
        let done: Vec<String> = self
            .runs
            .iter()
            .filter(|(id, run)| {
                let mut held = self.queues.values().chain(
                    self.deciding.values().flat_map(|batch| batch.iter().map(|(_, queue)| queue)),
                );
                run.stage == Stage::Verifying
                    && run.packages.is_some()
                    && !self.again.values().any(|again| again == *id)
                    && !held.any(|queue| queue.iter().any(|h| h.run.as_ref() == Some(*id)))
            })
            .map(|(id, _)| id.clone())
            .collect();
        for id in done {
            if let Some(run) = self.end(&id) {
                self.summarise(id, run);
            }
        }
    }

    fn end(&mut self, id: &str) -> Option<Run> {
        self.ended.push_back(id.to_owned());
        if self.ended.len() > ENDED_MAX
            && let Some(oldest) = self.ended.pop_front()
        {
            self.members.retain(|_, run| *run != oldest);
        }
        self.runs.remove(id)
    }

    fn summarise(&mut self, id: String, run: Run) {
        let mut packages = run.packages.unwrap_or_default();
        for (name, version) in run.written {
            let known = |known: &PackageChange| known.manager == Manager::Apk && known.name == name;
            if !packages.iter().any(known) {
                let (before, after) = (Some(version.clone()), Some(version));
                packages.push(PackageChange { name, manager: Manager::Apk, before, after });
            }
        }
        let omitted = packages.len().saturating_sub(PACKAGES_MAX) as u64;
        packages.truncate(PACKAGES_MAX);
        let mut actions = run.actions;
        let alert = actions.remove(LATE).is_some();
        let of = |verdict| {
            let mut paths: Vec<&PathBuf> =
                run.paths.iter().filter(|(_, v)| **v == verdict).map(|(path, _)| path).collect();
            paths.sort_unstable();
            paths
        };
        let named = |paths: &[&PathBuf]| {
            paths.iter().take(PATHS_MAX).map(|path| path_text(path)).collect::<Vec<_>>()
        };
        let (unknown, unexpected) = (of(Verdict::Unknown), of(Verdict::Unexpected));
        if packages.is_empty() && run.paths.is_empty() {
            // `apt update`, `dpkg -l`: nothing that is watched, nothing installed.
            return;
        }
        let files = RunFiles {
            expected: of(Verdict::Expected).len() as u64,
            unknown: unknown.len() as u64,
            unexpected: unexpected.len() as u64,
            actions,
            unknown_paths: named(&unknown),
            unexpected_paths: named(&unexpected),
        };
        let summary = PackageRun {
            manager: run.program.manager().unwrap_or_default().to_owned(),
            start: Some(run.start),
            end: run.end,
            packages,
            packages_omitted: (omitted > 0).then_some(omitted),
            files: Some(files),
            id,
        };
        let summary = Summary { run: summary, operations: run.operations, alert };
        self.summaries.push((run.actor, Box::new(summary)));
    }

    pub(super) fn is_hashing(&self) -> bool {
        self.runs.values().any(|run| matches!(run.stage, Stage::Hashing(_) | Stage::Folding(_)))
    }

    /// The agent stops: everything is verified as it is. Call [`Runs::answered`] until
    /// [`Runs::is_idle`].
    pub(super) fn finish(&mut self) {
        let ids: Vec<String> = self.runs.keys().cloned().collect();
        for id in ids {
            if let Some(run) = self.runs.get_mut(&id)
                && run.stage != Stage::Verifying
            {
                // While it goes on, what differs may be about to be right.
                run.stage = Stage::Verifying;
                self.verify_run(&id);
            }
        }
        self.verify_all();
    }

    pub(super) fn is_idle(&self) -> bool {
        self.runs.is_empty() && self.is_empty()
    }

    /// Nothing is held.
    fn is_empty(&self) -> bool {
        self.queues.is_empty() && self.deciding.is_empty()
    }

    /// There is no time left: what is held is told as it is.
    pub(super) fn give_up(&mut self) {
        let mut deciding: Vec<(u64, Batch)> = self.deciding.drain().collect();
        deciding.sort_unstable_by_key(|(number, _)| *number);
        let batches = deciding.into_iter().flat_map(|(_, batch)| batch);
        let queues = std::mem::take(&mut self.queues);
        for held in batches.chain(queues).flat_map(|(_, queue)| queue) {
            let mut event = held.event;
            event.fim.verdict = Some(Verdict::Unknown);
            event.fim.verdict_reason = Some("agent_stopped".to_owned());
            self.out.push(event);
        }
        self.count = 0;
    }
}

/// In [`Run::actions`]: something was found out late.
const LATE: &str = "";

fn manager(program: Option<&'static Program>) -> bool {
    program.is_some_and(|program| program.manager().is_some())
}

/// The worst that was said of a path counts.
fn note(paths: &mut HashMap<PathBuf, Verdict>, path: PathBuf, verdict: Verdict) {
    let rank = |verdict: Verdict| match verdict {
        Verdict::Expected => 0,
        Verdict::Unknown => 1,
        Verdict::Unexpected => 2,
    };
    let known = paths.entry(path).or_insert(verdict);
    if rank(verdict) > rank(*known) {
        *known = verdict;
    }
}
