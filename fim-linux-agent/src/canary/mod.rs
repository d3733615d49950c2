//! The canary: on each watched file system the agent does every operation to a file of its own, and
//! expects to see it. A hook that stopped without a word is found that way, by the operation that
//! nobody sees.
//!
//! `round: operations ([`operations`]) in a private directory ([`place`]) -> kernel -> collector ->
//! [`Post`] -> latency, or a miss`
//!
//! Invariant: nothing in a canary's directory reaches the pipeline: the collectors hand it to the
//! [`Post`] instead.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fim_common::event::Action;
use fim_common::loss::Losses;
use fim_common::metrics::{Health, Metrics};
use fim_common::operation::{Operation, OperationKind};
use tokio::sync::oneshot;

mod operations;
mod place;

pub(crate) use place::{Place, make, places};

/// After this an operation counts as not seen. A collector that is behind gets a second chance.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two rounds at least: of what a process writes to one file again and again the bpf programs
/// tell every 250 ms.
const APART: Duration = Duration::from_millis(500);
/// What an agent with a problem is unhealthy by.
const PART: &str = "canary";

/// What was seen in the canaries' directories: filled by a collector, asked by the canary.
#[derive(Debug, Default)]
pub struct Post {
    directories: RwLock<Vec<PathBuf>>,
    /// The agent's process id: asking for it is a system call.
    own: u32,
    /// A round is under way.
    listening: AtomicBool,
    seen: Mutex<HashMap<PathBuf, Vec<(OperationKind, Instant)>>>,
    changed: Condvar,
}

impl Post {
    /// For canaries in these directories.
    pub fn new(directories: Vec<PathBuf>) -> Self {
        Self { directories: directories.into(), own: std::process::id(), ..Self::default() }
    }

    /// Where the canaries are.
    pub fn directories(&self) -> Vec<PathBuf> {
        self.directories.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether this is a canary's.
    pub fn is_below(&self, path: &Path) -> bool {
        let directories = self.directories.read().unwrap_or_else(PoisonError::into_inner);
        directories.iter().any(|directory| path.starts_with(directory))
    }

    /// There are canaries in these, too. The collector is told afterwards.
    pub(crate) fn add(&self, more: &[Place]) {
        let mut directories = self.directories.write().unwrap_or_else(PoisonError::into_inner);
        directories.extend(more.iter().map(|place| place.directory.clone()));
    }

    /// There are none in these any more.
    pub(crate) fn remove(&self, gone: &[Place]) {
        let mut directories = self.directories.write().unwrap_or_else(PoisonError::into_inner);
        directories.retain(|directory| gone.iter().all(|place| place.directory != *directory));
    }

    /// Takes what a canary did; `false`: it is somebody else's.
    pub fn take(&self, operation: &Operation) -> bool {
        // What somebody else does in there is told.
        let own = operation.actor.process.as_ref().is_some_and(|by| by.pid == self.own);
        let Some(path) = operation.path.as_deref().filter(|path| own && self.is_below(path)) else {
            return false;
        };
        if self.listening.load(Ordering::Relaxed) {
            let sighting = (operation.kind.clone(), Instant::now());
            self.lock().entry(path.to_owned()).or_default().push(sighting);
            self.changed.notify_all();
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PathBuf, Vec<(OperationKind, Instant)>>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until each of `expected` was seen, but not for longer than `patience`. Returns when,
    /// in their order.
    fn wait(&self, expected: &[Expected], patience: Duration) -> Vec<Option<Instant>> {
        let deadline = Instant::now() + patience;
        let mut seen = self.lock();
        loop {
            let found: Vec<Option<Instant>> = expected
                .iter()
                .map(|expected| {
                    let sightings = seen.get(&expected.path)?;
                    let of_kind = |(kind, _): &&(OperationKind, Instant)| (expected.is)(kind);
                    sightings.iter().find(of_kind).map(|(_, at)| *at)
                })
                .collect();
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || found.iter().all(Option::is_some) {
                return found;
            }
            seen = self.changed.wait_timeout(seen, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// An operation that was done and is to be seen.
struct Expected {
    /// Its name in metrics.
    operation: &'static str,
    path: PathBuf,
    /// How collectors may tell of it.
    is: fn(&OperationKind) -> bool,
    /// When it had been done.
    done: Instant,
}

/// Lets the kernel tell of what the calling thread does (`true`), or not.
pub type Exempt = Arc<dyn Fn(bool) + Send + Sync>;

/// What a [`Canary`] needs.
pub(crate) struct Options {
    pub(crate) interval: Duration,
    pub(crate) places: Vec<Place>,
    pub(crate) post: Arc<Post>,
    pub(crate) exempt: Exempt,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) health: Arc<Health>,
    pub(crate) losses: Losses,
}

/// Other places for a running canary.
struct Move {
    /// Made, and watched.
    to: Vec<Place>,
    /// No longer needed.
    from: Vec<Place>,
    /// Told when nothing is done in them any more.
    done: oneshot::Sender<()>,
}

/// Runs until it is dropped.
pub(crate) struct Canary {
    moves: Option<Sender<Move>>,
    stopping: Arc<AtomicBool>,
    places: Vec<Place>,
    thread: Option<JoinHandle<()>>,
}

impl Canary {
    /// Starts with a first round at once.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub(crate) fn start(options: Options) -> std::io::Result<Self> {
        let (moves, inbox) = channel();
        let stopping = Arc::new(AtomicBool::new(false));
        let places = options.places.clone();
        let thread = std::thread::Builder::new().name(PART.to_owned()).spawn({
            let stopping = Arc::clone(&stopping);
            move || options.run(&inbox, &stopping)
        })?;
        Ok(Self { moves: Some(moves), stopping, places, thread: Some(thread) })
    }

    /// Those of `places` in which there is no canary yet.
    pub(crate) fn lacks(&self, places: Vec<Place>) -> Vec<Place> {
        let mut places = places;
        places.retain(|place| !self.places.contains(place));
        places
    }

    /// Goes on in these places and no others; `fresh` of them are new, made and watched. Returns
    /// those that it leaves, and what is told when it has: until then they have to be watched.
    pub(crate) fn move_to(
        &mut self,
        places: Vec<Place>,
        fresh: Vec<Place>,
    ) -> (Vec<Place>, oneshot::Receiver<()>) {
        let (done, moved) = oneshot::channel();
        let from: Vec<Place> =
            self.places.iter().filter(|place| !places.contains(place)).cloned().collect();
        self.places = places;
        if let Some(moves) = &self.moves {
            // An error means that the thread has ended, which it does with this.
            let _ = moves.send(Move { to: fresh, from: from.clone(), done });
        }
        (from, moved)
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.moves = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the canary has panicked");
        }
    }
}

impl Options {
    fn run(mut self, moves: &Receiver<Move>, stopping: &AtomicBool) {
        set_up(&mut self.places);
        let mut number = 0;
        loop {
            number += 1;
            let mut problems = Vec::new();
            for place in &self.places {
                if let Some(problem) = self.check(place, &mut number, stopping) {
                    problems.push(problem.clone());
                    // Before it is told: who is told may ask.
                    self.health.failed(PART, problems.join("; "));
                    self.losses.notice(Action::CanaryMissed, problem);
                }
            }
            if problems.is_empty() {
                self.health.recovered(PART);
            }
            let ended = Instant::now();
            let mut next = ended + self.interval;
            loop {
                match moves.recv_timeout(next.saturating_duration_since(Instant::now())) {
                    Ok(moved) => {
                        self.move_to(moved);
                        next = next.min(ended + APART);
                    }
                    Err(RecvTimeoutError::Timeout) => break,
                    Err(RecvTimeoutError::Disconnected) => return self.tear_down(),
                }
            }
        }
    }

    fn tear_down(&self) {
        for place in &self.places {
            place.tear_down();
        }
    }

    fn move_to(&mut self, Move { mut to, from, done }: Move) {
        for place in &from {
            place.tear_down();
        }
        self.places.retain(|place| !from.contains(place));
        set_up(&mut to);
        self.places.extend(to);
        let _ = done.send(());
    }

    /// One round, and a second one if something was not seen. Returns what is to be told: what was
    /// missed twice.
    fn check(&self, place: &Place, number: &mut u64, stopping: &AtomicBool) -> Option<String> {
        let first = self.round(place, *number);
        let stopping = || stopping.load(Ordering::Relaxed);
        if first.is_empty() || stopping() {
            return None;
        }
        *number += 1;
        let second = self.round(place, *number);
        let missed: Vec<&str> =
            first.into_iter().filter(|operation| second.contains(operation)).collect();
        if missed.is_empty() || stopping() {
            return None;
        }
        for operation in &missed {
            self.metrics.canary_missed(operation, &place.file_system);
        }
        let message = format!(
            "the agent did not see what it did itself on {}: {}; a hook has stopped, or the agent \
             is far behind",
            place.file_system,
            missed.join(", ")
        );
        tracing::error!("{message}");
        Some(message)
    }

    /// The operations that were not seen.
    fn round(&self, place: &Place, number: u64) -> Vec<&'static str> {
        self.post.lock().clear();
        self.post.listening.store(true, Ordering::Relaxed);
        (self.exempt)(true);
        let expected = operations::all(place, number);
        (self.exempt)(false);
        let seen = self.post.wait(&expected, PATIENCE);
        self.post.listening.store(false, Ordering::Relaxed);
        let mut missed = Vec::new();
        for (expected, seen) in expected.iter().zip(seen) {
            match seen {
                Some(at) => {
                    let latency = at.saturating_duration_since(expected.done);
                    self.metrics.canary(expected.operation, &place.file_system, latency);
                }
                None => missed.push(expected.operation),
            }
        }
        missed
    }
}

/// Makes the files that stay, and drops the places where that is not possible.
fn set_up(places: &mut Vec<Place>) {
    places.retain(|place| match place.set_up() {
        Ok(()) => true,
        Err(error) => {
            let file_system = place.file_system.as_str();
            tracing::info!(file_system, %error, "no canary on this file system");
            false
        }
    });
}

/// Whether a test build was told to do without this hook, and to say nothing of it.
pub(crate) fn is_silenced(hook: &str) -> bool {
    cfg!(debug_assertions) && std::env::var("FIM_TEST_SILENCED_HOOK").is_ok_and(|name| name == hook)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fim_common::event::actor::{Actor, Process};
    use fim_common::time::Timestamp;

    fn operation(kind: OperationKind, path: &str) -> Operation {
        by(std::process::id(), kind, path)
    }

    fn by(pid: u32, kind: OperationKind, path: &str) -> Operation {
        let process = Process { pid, ..Process::default() };
        Operation {
            time: Timestamp::now(),
            provider: fim_common::event::Provider::Bpf,
            kind,
            path: Some(path.into()),
            path_in_process: None,
            object: None,
            before: Default::default(),
            after: Default::default(),
            details: None,
            failure: None,
            actor: Arc::new(Actor { process: Some(process.into()), ..Actor::default() }),
        }
    }

    #[test]
    fn only_what_is_in_its_directories_is_taken() {
        let post = Post::new(vec!["/a/.canary".into()]);
        for (path, taken) in [("/a/.canary/x", true), ("/a/.canary", true), ("/a/x", false)] {
            assert_eq!(post.take(&operation(OperationKind::Create, path)), taken, "{path}");
        }
        let foreign = by(1, OperationKind::Create, "/a/.canary/x");
        assert!(!post.take(&foreign), "by somebody else");
        assert!(!Post::default().take(&operation(OperationKind::Create, "/a/x")));
    }

    #[test]
    fn what_was_not_seen_is_missed() {
        let post = Post::new(vec!["/c".into()]);
        let expected = |path: &str, is| Expected {
            operation: "test",
            path: path.into(),
            is,
            done: Instant::now(),
        };
        let wanted = [
            expected("/c/a", |kind| *kind == OperationKind::Create),
            expected("/c/a", |kind| *kind == OperationKind::Delete),
            expected("/c/b", |kind| *kind == OperationKind::Create),
        ];
        post.take(&operation(OperationKind::Create, "/c/a"));
        let seen = post.wait(&wanted, Duration::ZERO);
        assert!(seen.iter().all(Option::is_none), "before anybody listened");
        post.listening.store(true, Ordering::Relaxed);
        post.take(&operation(OperationKind::Create, "/c/a"));
        post.take(&operation(OperationKind::Delete, "/c/b"));
        let seen = post.wait(&wanted, Duration::ZERO);
        assert_eq!(seen.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, false]);
    }

    #[test]
    fn every_operation_works_on_an_ordinary_file_system() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place {
            directory: directory.path().join("canary"),
            file_system: "/".to_owned(),
            updates_times: true,
        };
        place.make().unwrap();
        place.set_up().unwrap();
        for number in 0..3 {
            let expected = operations::all(&place, number);
            let names: Vec<&str> = expected.iter().map(|expected| expected.operation).collect();
            for name in [
                "create", "write", "close", "chmod", "truncate", "rename", "link", "unlink",
                "mkdir", "rmdir", "symlink",
            ] {
                assert!(names.contains(&name), "{name} is not in {names:?}");
            }
        }
        place.tear_down();
        assert!(!place.directory.exists());
    }
}
