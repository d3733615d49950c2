//! Real operations on a real kernel, as root. Without root they say so and do nothing.

mod load;
mod mount;
mod old;
mod operations;
mod who;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use fim_common::collector::{Collector as _, Observation};
use fim_common::loss::Losses;
use fim_common::operation::{Modified, Operation, OperationKind};
use fim_common::time::Timestamp;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;

use super::{FanotifyCollector, Options, SPILL, Scope};
use crate::process::{self, Table};

/// Whether these tests can be run; if not, says why.
fn can_run() -> bool {
    match super::probe::negotiate(super::Queue::Unlimited) {
        Ok(_) => true,
        Err(error) => {
            println!("skipped: {error}");
            false
        }
    }
}

/// A file system of its own, so that the rest of the machine stays out of the way.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        run("mount", &["-t", "tmpfs", "fim-test", directory.path().to_str().unwrap()]);
        Self(directory)
    }

    fn path(&self) -> PathBuf {
        self.0.path().canonicalize().unwrap()
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let path = self.0.path().to_str().unwrap();
        // A process of the test may still be on its way out of it.
        let status = spawn(Command::new("umount").args(["-R", "-l", path])).wait().unwrap();
        assert!(status.success(), "{path} cannot be unmounted");
    }
}

static FORKS: RwLock<()> = RwLock::new(());

/// While this is held no process is forked: one would share open files until it executes
/// something, and be the one that closes them.
fn alone() -> impl Drop {
    FORKS.write().unwrap_or_else(PoisonError::into_inner)
}

fn spawn(command: &mut Command) -> std::process::Child {
    let _forks = FORKS.read().unwrap_or_else(PoisonError::into_inner);
    command.spawn().unwrap()
}

fn run(program: &str, args: &[&str]) {
    let mut command = Command::new(program);
    command.args(args).stderr(std::process::Stdio::piped());
    let output = spawn(&mut command).wait_with_output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
}

/// Waits for the clock that file systems take times from: what is made after it is younger than
/// what was made before. That may have its time from the exact clock (multigrain times, 6.13), and
/// the coarse one can be behind that even at its tick: it counts whole intervals.
fn tick() {
    let before = Timestamp::now();
    while super::names::coarse_now() <= before {
        std::thread::yield_now();
    }
}

/// A collector and what it hands over.
struct Watch {
    collector: FanotifyCollector,
    receiver: mpsc::Receiver<Observation>,
    losses: Losses,
    root: PathBuf,
    markers: u32,
    base: PathBuf,
}

impl Watch {
    /// Watches `watched` (a directory that exists), everything below included.
    fn new(watched: &Path) -> Self {
        Self::with(watched, |_| {})
    }

    /// With what a kernel before 5.15 offers.
    fn old(watched: &Path) -> Self {
        Self::start(
            watched,
            |_| {},
            |options| {
                let (group, features) = super::probe::negotiate_old().unwrap();
                FanotifyCollector::start_on(group, features, options)
            },
        )
    }

    fn with(watched: &Path, change: impl FnOnce(&mut Options)) -> Self {
        Self::start(watched, change, FanotifyCollector::start)
    }

    fn start(
        watched: &Path,
        change: impl FnOnce(&mut Options),
        start: impl FnOnce(Options) -> Result<FanotifyCollector, super::FanotifyError>,
    ) -> Self {
        let root = watched.to_owned();
        let (sender, receiver) = mpsc::channel(1 << 16);
        let losses = Losses::default();
        let mut options = Options {
            scope: below(&root),
            watch_paths: vec![root.clone()],
            ignore: fim_common::ignored::Ignored::default(),
            ignore_self: false,
            sync: Box::new(|| {}),
            table: Arc::new(Mutex::new(Table::new(process::Options::default()))),
            sender,
            losses: losses.clone(),
            post: Arc::default(),
            spill: SPILL,
            unlimited_queue: true,
        };
        change(&mut options);
        tick();
        let collector = start(options).unwrap();
        tick();
        Self { collector, receiver, losses, base: root.clone(), root, markers: 0 }
    }

    fn next(&mut self, deadline: Instant) -> Observation {
        loop {
            match self.receiver.try_recv() {
                Ok(observation) => return observation,
                Err(TryRecvError::Empty) => {
                    assert!(Instant::now() < deadline, "the marker does not come");
                    std::thread::yield_now();
                }
                Err(TryRecvError::Disconnected) => panic!("the collector has ended"),
            }
        }
    }

    /// Everything up to now: a marker is made, and what comes before it is returned.
    fn observations(&mut self) -> Vec<Observation> {
        self.markers += 1;
        let marker = self.base.join(format!(".marker-{}", self.markers));
        fs::create_dir(&marker).unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut before = Vec::new();
        loop {
            match self.next(deadline) {
                Observation::Operation(operation) if operation.path.as_ref() == Some(&marker) => {
                    // What the batch of the marker asks to be compared comes behind it.
                    return before;
                }
                other => before.push(other),
            }
        }
    }

    fn operations(&mut self) -> Vec<Operation> {
        let observations = self.observations();
        assert_eq!(self.losses.take(), None);
        observations
            .into_iter()
            .filter_map(|observation| match observation {
                Observation::Operation(operation) => Some(*operation),
                Observation::Recheck(_) | Observation::Fence(_) => None,
            })
            .collect()
    }

    /// The operations in short: name and path below the root.
    fn short(&mut self) -> Vec<String> {
        let operations = self.operations();
        operations.iter().map(|operation| self.text(operation)).collect()
    }

    fn text(&self, operation: &Operation) -> String {
        let below = |path: &Path| match path.strip_prefix(&self.root) {
            Ok(below) => below.display().to_string(),
            Err(_) => "outside".to_owned(),
        };
        let path = operation.path.as_deref().map_or("nowhere".to_owned(), below);
        match &operation.kind {
            OperationKind::Rename { from, exchange, .. } => {
                let from = from.as_deref().map_or("nowhere".to_owned(), below);
                let how = if *exchange { " exchange" } else { "" };
                format!("rename {from} {path}{how}")
            }
            OperationKind::CloseWrite { modified, .. } => {
                format!(
                    "close_write {path} {}",
                    match modified {
                        Modified::Yes => "yes",
                        Modified::No => "no",
                        Modified::Unknown => "unknown",
                    }
                )
            }
            kind => format!("{} {path}", kind.name()),
        }
    }

    fn stop(mut self) -> Vec<Observation> {
        self.collector.stop().unwrap();
        let mut rest = Vec::new();
        while let Ok(observation) = self.receiver.try_recv() {
            rest.push(observation);
        }
        rest
    }
}

fn below(root: &Path) -> Scope {
    let root = root.to_owned();
    Arc::new(move |path, _| path.starts_with(&root))
}
