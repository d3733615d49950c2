//! Real operations on a real kernel, as root. Without root they say so and do nothing.

mod load;
mod mount;
mod operations;
mod who;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fim_common::collector::{Collector as _, Observation};
use fim_common::operation::{Modified, Operation, OperationKind};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;

use super::{FanotifyCollector, Options, SPILL, Scope};
use crate::process::{self, Table};

/// Whether these tests can be run; if not, says why.
fn can_run() -> bool {
    match super::probe::negotiate() {
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
        let done = Command::new("umount").args(["-R", "-l", path]).status();
        assert!(done.is_ok_and(|status| status.success()), "{path} cannot be unmounted");
    }
}

fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
}

/// A collector and what it hands over.
struct Watch {
    collector: FanotifyCollector,
    receiver: mpsc::Receiver<Observation>,
    root: PathBuf,
    markers: u32,
    base: PathBuf,
}

impl Watch {
    /// Watches `watched` (a directory that exists), everything below included.
    fn new(watched: &Path) -> Self {
        Self::with(watched, |_| {})
    }

    fn with(watched: &Path, change: impl FnOnce(&mut Options)) -> Self {
        let root = watched.to_owned();
        let (sender, receiver) = mpsc::channel(1 << 16);
        let mut options = Options {
            scope: below(&root),
            watch_paths: vec![root.clone()],
            ignore: Vec::new(),
            ignore_self: false,
            sync: Box::new(|| {}),
            table: Arc::new(Mutex::new(Table::new(process::Options::default()))),
            sender,
            spill: SPILL,
        };
        change(&mut options);
        let collector = FanotifyCollector::start(options).unwrap();
        Self { collector, receiver, base: root.clone(), root, markers: 0 }
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
        self.observations()
            .into_iter()
            .filter_map(|observation| match observation {
                Observation::Operation(operation) => Some(*operation),
                Observation::Recheck(_) => None,
                Observation::Gap(gap) => panic!("{gap:?}"),
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
            OperationKind::Rename { from, exchange, replaced, .. } => {
                let from = from.as_deref().map_or("nowhere".to_owned(), below);
                let how = match (exchange, replaced) {
                    (true, _) => " exchange",
                    (_, Some(_)) => " replacing",
                    _ => "",
                };
                format!("rename {from} {path}{how}")
            }
            OperationKind::CloseWrite { modified, .. } => {
                format!("close_write {path} {}", match modified {
                    Modified::Yes => "yes",
                    Modified::No => "no",
                    Modified::Unknown => "unknown",
                })
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
    Arc::new(move |path| path.starts_with(&root))
}
