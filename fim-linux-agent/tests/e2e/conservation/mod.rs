//! Nothing vanishes: what is done is told or counted, what was lost is found on the disk, a flood
//! hides nothing elsewhere, and nobody's operation is disturbed.

mod canary;
mod elsewhere;
mod flood;
mod interference;
mod open;
mod tampering;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fim_common::baseline::Baseline;
use fim_common::state::{ObjectKind, ObjectState};

use crate::agent::{Agent, Setup, dump};
use crate::environment::patience;
use crate::event::sha256;
use crate::lifecycle::{page, samples};
use crate::scratch::{Scratch, directory};
use crate::stream::Line;

/// An agent of its own, with a configuration of its own.
struct Bench {
    agent: Agent,
    watched: PathBuf,
    // The last one: what is in it is in use by the agent.
    _scratch: Scratch,
}

impl Bench {
    /// Watches a directory with these directories in it, made by `prepare`.
    fn start(name: &str, collector: &str, loses: bool, prepare: impl FnOnce(&Path)) -> Self {
        let scratch = Scratch::new(name);
        let watched = scratch.directory("watched");
        prepare(&watched);
        let config = scratch.path().join("fim.toml");
        let text = format!(
            "[collector]\n{collector}\n[canary]\ninterval = 0\n\
             [[rule]]\nname = \"conservation\"\npaths = [{watched:?}]\n"
        );
        fs::write(&config, text).unwrap();
        let setup = Setup { config: Some(config), loses, ..Setup::new(scratch.path(), &[]) };
        Self { agent: Agent::start(setup), watched, _scratch: scratch }
    }

    fn place(&self, name: &str) -> PathBuf {
        let path = self.watched.join(name);
        if !path.exists() {
            directory(&path);
        }
        path
    }

    /// Waits until `done` holds of what the agent counts.
    fn settled(&self, what: &str, done: impl Fn(&Counts) -> bool) -> Counts {
        at(&self.agent, what, done)
    }

    /// Lines about losses.
    fn losses(&self) -> Vec<Arc<Line>> {
        losses(&self.agent)
    }

    /// Operations that gap events have counted.
    fn told_as_lost(&self) -> u64 {
        let lines = self.losses();
        let gaps = lines.iter().filter(|line| line.action == "gap");
        gaps.map(|line| line.event().number("fim.gap.count").unwrap_or(0)).sum()
    }

    /// Waits until the agent has told of all that it lost, has compared it with the disk, and has
    /// nothing else to do; at least `taken` operations are with the pipeline or lost.
    fn closed(&self, taken: u64) -> Counts {
        let what = "everything is taken in, and each gap is closed";
        self.settled(what, |counts| {
            let last = self.losses().last().is_none_or(|line| line.action == "gap_closed");
            last && counts.is_idle()
                && counts.stage("taken") + self.told_as_lost() >= taken
                && counts.lost() == self.told_as_lost()
        })
    }

    /// The baseline has what is on the disk and nothing else.
    fn baseline_is_disk(&self) {
        let baseline = Baseline::open_read_only(&self.agent.setup.state_dir).unwrap();
        let mut objects = BTreeMap::new();
        disk(&self.watched, &mut objects);
        let mut wrong = Vec::new();
        for (path, state) in &objects {
            let known = baseline.get(path).unwrap().map(|known| comparable(&known));
            if known.as_ref() != Some(state) {
                wrong.push(format!("{}: on disk {state:?}, known {known:?}", path.display()));
            }
        }
        assert!(
            wrong.is_empty(),
            "{} of {} objects: {:#?}\n{}",
            wrong.len(),
            objects.len(),
            &wrong[..wrong.len().min(5)],
            self.agent.log()
        );
        assert_eq!(baseline.count().unwrap(), objects.len() as u64, "objects that are gone");
    }
}

/// Waits until `done` holds of what an agent counts.
fn at(agent: &Agent, what: &str, done: impl Fn(&Counts) -> bool) -> Counts {
    let deadline = Instant::now() + patience() * 2;
    loop {
        let (status, text) = page(agent.setup.metrics, "/metrics");
        assert!(status.contains(" 200 "), "{status}\n{text}");
        let counts = Counts(samples(&text));
        if done(&counts) {
            return counts;
        }
        assert!(
            Instant::now() < deadline,
            "{what}: never\n{}{}{}",
            counts.ledger(),
            dump(&losses(agent)),
            agent.log()
        );
        // Not the synchronisation, but so as not to keep the agent from its work.
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn losses(agent: &Agent) -> Vec<Arc<Line>> {
    let mut lines = agent.stream.lines();
    lines.retain(|line| matches!(&*line.action, "gap" | "gap_closed"));
    lines
}

/// Every object at and below `path`.
fn disk(path: &Path, objects: &mut BTreeMap<PathBuf, ObjectState>) {
    let metadata = path.symlink_metadata().unwrap();
    let kind = ObjectKind::from_mode(metadata.mode());
    let file = kind == Some(ObjectKind::File);
    let state = ObjectState {
        kind,
        mode: Some(metadata.mode() & 0o7777),
        uid: Some(metadata.uid()),
        inode: Some(metadata.ino()),
        size: file.then_some(metadata.len()),
        target_path: fs::read_link(path).ok(),
        sha256: file.then(|| sha256(&fs::read(path).unwrap())),
        ..ObjectState::default()
    };
    objects.insert(path.to_owned(), state);
    if kind == Some(ObjectKind::Dir) {
        for entry in fs::read_dir(path).unwrap() {
            disk(&entry.unwrap().path(), objects);
        }
    }
}

/// What of a state is compared.
fn comparable(state: &ObjectState) -> ObjectState {
    ObjectState {
        kind: state.kind,
        mode: state.mode,
        uid: state.uid,
        inode: state.inode,
        size: state.size.filter(|_| state.kind == Some(ObjectKind::File)),
        target_path: state.target_path.clone(),
        sha256: state.sha256.clone(),
        ..ObjectState::default()
    }
}

/// What the agent counts.
struct Counts(BTreeMap<String, f64>);

impl Counts {
    fn stage(&self, stage: &str) -> u64 {
        self.value(&format!("fim_ledger_operations_total{{stage=\"{stage}\"}}"))
    }

    fn hook(&self, hook: &str, result: &str) -> u64 {
        self.value(&format!("fim_kernel_operations_total{{hook=\"{hook}\",result=\"{result}\"}}"))
    }

    fn value(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0.0) as u64
    }

    /// Everything that is lost, wherever.
    fn lost(&self) -> u64 {
        let queue = |stage, reason| {
            self.value(&format!(
                "fim_events_dropped_total{{reason=\"{reason}\",stage=\"{stage}\"}}"
            ))
        };
        self.stage("lost")
            + self.stage("error")
            + queue("queue", "full")
            + queue("decode", "malformed")
            + queue("kernel", "recursion")
    }

    /// Nothing is under way, and all sums agree.
    fn is_idle(&self) -> bool {
        let off = |(name, value): (&String, &f64)| {
            name.starts_with("fim_ledger_imbalance{") && *value != 0.0
        };
        let rechecks = self.value("fim_queue_depth{queue=\"recheck\"}");
        self.stage("pending") == 0 && rechecks == 0 && !self.0.iter().any(off)
    }

    fn ledger(&self) -> String {
        let shown = self.0.iter().filter(|(name, _)| {
            name.starts_with("fim_ledger")
                || name.starts_with("fim_events_dropped")
                || name.starts_with("fim_canary") && !name.contains("bucket")
        });
        shown.map(|(name, value)| format!("{name} {value}\n")).collect()
    }
}
