//! The fanotify backend, for kernels that refuse tracing programs on file operations.
//!
//! `fanotify queue => batch => place => operation`, on one thread ([`reader`]): [`parse`] turns
//! bytes into events, [`places`] file handles into paths as of the event, [`translate`] events
//! into operations, [`outlet`] hands them over.
//!
//! What fanotify cannot see is listed in `docs/limitations.md`. In short: attempts that failed;
//! stores through a mapping; the moment of an operation (its time is when the event was read,
//! usually well under a millisecond later); the order of what one process did to one name while
//! its event was waiting; and which of mode, owner, times or attribute was set.

mod batch;
mod directories;
mod exchange;
mod filesystems;
mod marks;
mod names;
mod object;
mod outlet;
pub mod parse;
mod places;
mod probe;
mod reader;
mod recent;
mod rename;
mod sys;
mod translate;

#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fim_common::collector::{Collector, Fences, ObservationSender};
use fim_common::event::Provider;
use fim_common::ignored::Ignored;
use fim_common::loss::Losses;
use fim_common::policy::Policy;

pub use outlet::Counters;
pub use probe::probe;

use crate::canary::Post;
use crate::process::Table;
use outlet::Outlet;
use places::Places;
use probe::{Features, Queue};
use reader::{Command, Commands, Reader};
use sys::Group;
use translate::Translator;

/// Whether something at this canonical path is watched. Called for every event in a directory
/// that is in or on the way to a watched tree, on the reader's thread: it must be quick.
pub type Scope = Arc<dyn Fn(&Path, Part) -> bool + Send + Sync>;

/// What a [`Scope`] is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The object itself.
    Object,
    /// What lies or will lie below it: a directory that is renamed takes that along.
    Below,
}

/// How long [`FanotifyCollector::update`] waits for the reader; and [`Collector::stop`], while it does
/// nothing. More than it waits itself for a pipeline that takes nothing.
const REPLY: Duration = Duration::from_secs(10);

/// Operations that tests have held while nobody takes them.
#[cfg(test)]
const SPILL: usize = 262_144;

/// What a [`FanotifyCollector`] needs.
pub struct Options {
    /// What is watched.
    pub scope: Scope,
    /// Canonical paths of files and directories, existing or not, that hold everything in scope:
    /// they say which file systems are marked.
    pub watch_paths: Vec<PathBuf>,
    /// Trees whose events are nobody's business: the agent's own state.
    pub ignore: Ignored,
    /// Whether what the agent's own process does is left out.
    pub ignore_self: bool,
    /// Applies what the process records have told so far to the table; called before the
    /// processes of events are looked up there.
    pub sync: Box<dyn FnMut() + Send>,
    /// The processes.
    pub table: Arc<Mutex<Table>>,
    /// Into the pipeline.
    pub sender: ObservationSender,
    /// Where losses are told.
    pub losses: Losses,
    /// Takes what the canary did.
    pub post: Arc<Post>,
    /// Most operations that are held while the pipeline is busy: up to 2 KiB each.
    pub spill: usize,
    /// Whether the kernel's queue has no limit but memory.
    pub unlimited_queue: bool,
}

/// Why fanotify cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FanotifyError {
    /// Run as root, or give the capabilities.
    #[error("fanotify needs CAP_SYS_ADMIN and CAP_DAC_READ_SEARCH: {0}")]
    NotPermitted(#[source] io::Error),
    /// Another kernel is needed.
    #[error("this kernel's fanotify does not report names (5.9 is the first that does): {0}")]
    Unsupported(#[source] io::Error),
    /// The watched paths are on file systems that cannot be watched.
    #[error("nothing that is to be watched can be: {0}")]
    NothingWatchable(String),
    /// The system is out of something, or `/proc` is not there.
    #[error("fanotify: {0}")]
    Io(#[from] io::Error),
    /// The reader has ended.
    #[error("the fanotify reader has stopped")]
    Stopped,
}

/// What people are told, and what a scan has to cover.
#[derive(Debug, Default)]
struct Standing {
    marks: String,
    problems: Vec<String>,
    roots: Vec<PathBuf>,
}

impl Standing {
    fn update(&mut self, places: &Places) {
        self.marks = places.filesystems.describe();
        self.problems = places
            .filesystems
            .problems
            .iter()
            .map(|(path, why)| format!("{}: {why}", path.display()))
            .collect();
        for problem in &self.problems {
            tracing::warn!(problem, "not watchable");
        }
        let mut roots: Vec<PathBuf> =
            places.watched.iter().filter(|path| path.symlink_metadata().is_ok()).cloned().collect();
        // A path sorts before everything below it.
        roots.sort_unstable();
        roots.dedup_by(|path, kept| path.starts_with(&*kept));
        self.roots = roots;
    }
}

/// What to watch for this policy, and for the canary: the scope, and the paths that hold it.
pub fn scope_of(policy: &Policy, post: &Post) -> (Scope, Vec<PathBuf>) {
    let watched = policy.watches().into_iter().map(|watch| match watch.first {
        Some(first) => watch.base.join(first),
        None => watch.base,
    });
    let watched = watched.chain(post.directories()).collect();
    let policy = policy.clone();
    let scope = move |path: &Path, part| match part {
        Part::Object => policy.covers(path).is_some(),
        Part::Below => policy.reaches_below(path),
    };
    (Arc::new(scope), watched)
}

/// Watches by fanotify. Dropping it stops it.
pub struct FanotifyCollector {
    features: Features,
    post: Arc<Post>,
    commands: Commands,
    standing: Arc<Mutex<Standing>>,
    counters: Arc<Counters>,
    thread: Option<JoinHandle<()>>,
}

impl FanotifyCollector {
    /// Marks the file systems and starts the reader: each operation after it returns is seen.
    ///
    /// # Errors
    /// When the kernel does not permit or does not know it, or when nothing can be watched.
    pub fn start(options: Options) -> Result<Self, FanotifyError> {
        let queue = match options.unlimited_queue {
            true => Queue::Unlimited,
            false => Queue::Limited,
        };
        let (group, features) = probe::negotiate(queue)?;
        Self::start_on(group, features, options)
    }

    fn start_on(group: Group, features: Features, options: Options) -> Result<Self, FanotifyError> {
        let counters = Arc::new(Counters::default());
        let post = Arc::clone(&options.post);
        let commands = Commands::new()?;
        let standing = Arc::new(Mutex::new(Standing::default()));
        let translator = Translator::new(
            Places::new(options.watch_paths),
            options.scope,
            options.ignore,
            options.ignore_self.then(|| std::process::id() as i32),
            options.table,
            Arc::clone(&counters),
            Outlet::new(options.sender, options.losses, Arc::clone(&counters), options.spill),
            features.names_objects(),
            options.post,
        );
        let mut reader = Reader::new(
            group,
            features.mask(),
            translator,
            options.sync,
            commands.clone(),
            Arc::clone(&standing),
            Arc::clone(&counters),
        )?;
        reader.arm()?;
        if reader.translator.places.filesystems.is_empty()
            && !reader.translator.places.watched.is_empty()
        {
            let standing = standing.lock().unwrap_or_else(PoisonError::into_inner);
            return Err(FanotifyError::NothingWatchable(standing.problems.join("; ")));
        }
        let thread =
            std::thread::Builder::new().name("fanotify".to_owned()).spawn(move || reader.run())?;
        Ok(Self { features, post, commands, standing, counters, thread: Some(thread) })
    }

    /// Watches something else from now on. What was queued before is still judged by the old
    /// scope. Returns once everything is marked.
    ///
    /// # Errors
    /// When mounts cannot be listed, or the reader has ended.
    pub fn update(&self, scope: Scope, watch_paths: Vec<PathBuf>) -> Result<(), FanotifyError> {
        let (reply, answer) = sync_channel(1);
        self.commands.send(Command::Update { scope, watched: watch_paths, reply });
        match answer.recv_timeout(REPLY) {
            Ok(result) => Ok(result?),
            Err(_) => Err(FanotifyError::Stopped),
        }
    }

    /// What became of the operations.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Watched paths that cannot be watched, each with the reason.
    pub fn problems(&self) -> Vec<String> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).problems.clone()
    }
}

impl Collector for FanotifyCollector {
    fn provider(&self) -> Provider {
        Provider::Fanotify
    }

    fn roots(&self) -> Vec<PathBuf> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).roots.clone()
    }

    fn rescope(&mut self, policy: &Policy) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let (scope, watched) = scope_of(policy, &self.post);
        Ok(self.update(scope, watched)?)
    }

    fn summary(&self) -> String {
        let standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = format!("fanotify on {}", standing.marks);
        for missing in self.features.missing() {
            text.push_str("; without ");
            text.push_str(missing);
        }
        for problem in &standing.problems {
            text.push_str("; not watchable: ");
            text.push_str(problem);
        }
        text
    }

    fn fences(&self) -> Fences {
        let commands = self.commands.clone();
        Arc::new(move |number| commands.send(Command::Fence(number)))
    }

    fn stop(&mut self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        self.commands.send(Command::Stop);
        // A path on a network file system that does not answer can hold it up for good.
        let done = || {
            let Counters { seen, spilled, .. } = &*self.counters;
            [seen, spilled].map(|counter| counter.load(std::sync::atomic::Ordering::Relaxed))
        };
        let (mut last, mut since) = (done(), Instant::now());
        while !thread.is_finished() {
            if done() != last {
                (last, since) = (done(), Instant::now());
            } else if since.elapsed() >= REPLY {
                return Err("the fanotify reader hangs".into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        thread.join().map_err(|_| "the fanotify reader panicked".into())
    }
}

impl Drop for FanotifyCollector {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            tracing::error!(%error, "fanotify was not stopped cleanly");
        }
    }
}
