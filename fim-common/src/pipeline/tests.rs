//! The pipeline without a kernel: operations on real files in, events out of the journal.

use std::collections::VecDeque;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;

use super::replay::NoNames;
use super::*;
use crate::event::actor::{Actor, Process};
use crate::event::{Agent, Event, Host, Property};
use crate::hash::PoolOptions;
use crate::journal::{Journal, JournalOptions, segments};
use crate::ledger::{Identity, Stage};
use crate::metrics::{Health, Metrics};
use crate::operation::{Modified, OperationKind};
use crate::policy::{Pattern, Rule};
use crate::scan::{Limits, Root};
use crate::state::{HashState, ObjectId, ObjectKind, ObjectState};

struct Bench {
    watched: tempfile::TempDir,
    state: tempfile::TempDir,
    losses: Losses,
    ledger: Arc<Ledger>,
    health: Arc<Health>,
    /// What is under way to the pipeline when it asks for a fence, fence by fence.
    under_way: Arc<Mutex<VecDeque<UnderWay>>>,
    /// In place of one rule for everything.
    policy: Option<Policy>,
    reloader: Mutex<Option<Reloader>>,
    /// What is compared at the start.
    start: (Option<Window>, Vec<Root>),
    verify: Option<Duration>,
    /// How long steps of a change wait for each other.
    window: Duration,
    /// The collector tells of no operations.
    finds_by_comparing: bool,
    /// One thread hashes, which calls this after each file.
    hashing: Mutex<Option<Box<dyn Fn() + Send + Sync>>>,
}

/// What a collector does before it answers a fence.
type UnderWay = Box<dyn FnOnce(&Losses) -> Vec<Operation> + Send>;

impl Bench {
    fn new() -> Self {
        Self {
            watched: tempfile::tempdir().unwrap(),
            state: tempfile::tempdir().unwrap(),
            losses: Losses::default(),
            ledger: Arc::default(),
            health: Arc::new(Health::starting()),
            under_way: Arc::default(),
            policy: None,
            reloader: Mutex::default(),
            start: (None, Vec::new()),
            verify: None,
            window: Duration::ZERO,
            finds_by_comparing: false,
            hashing: Mutex::default(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.watched.path().join(name)
    }

    fn policy(&self) -> Policy {
        if let Some(policy) = &self.policy {
            return policy.clone();
        }
        let pattern = Pattern::literal(self.watched.path().to_owned());
        Policy::new(vec![Rule::new("test", vec![pattern])])
    }

    fn pool(&self) -> PoolOptions {
        match self.hashing.lock().unwrap().take() {
            Some(done) => PoolOptions {
                threads: 1,
                done: Some(Box::new(move |_| done())),
                ..PoolOptions::default()
            },
            None => PoolOptions::default(),
        }
    }

    /// Runs the steps against a pipeline, and returns what the journal then holds.
    fn run(&self, steps: impl AsyncFnOnce(&mpsc::Sender<Observation>)) -> Vec<Event> {
        let journal_dir = self.state.path().join("journal");
        let baseline = Arc::new(Baseline::open(self.state.path()).unwrap());
        let metrics = Arc::new(Metrics::new().unwrap());
        let output = Output::new(OutputOptions {
            journal: Some(Journal::open(&journal_dir, JournalOptions::default()).unwrap()),
            format: Format::None,
            host: Arc::new(Host::default()),
            agent: Arc::new(Agent::default()),
            metrics: Arc::clone(&metrics),
            health: Arc::clone(&self.health),
            ledger: Arc::clone(&self.ledger),
            heartbeat: None,
            stopping: Stopping::default(),
            written: tokio::sync::watch::Sender::new(()),
        })
        .unwrap();
        let policy = self.policy();
        let (sender, receiver) = mpsc::channel(1024);
        let answers = sender.downgrade();
        let (under_way, losses) = (Arc::clone(&self.under_way), self.losses.clone());
        let fences: Fences = Arc::new(move |number| {
            let next = under_way.lock().unwrap().pop_front();
            let operations = next.map_or_else(Vec::new, |next| next(&losses));
            let answers = answers.clone();
            tokio::spawn(async move {
                let Some(sender) = answers.upgrade() else { return };
                for operation in operations {
                    send(&sender, operation).await;
                }
                let _ = sender.send(Observation::Fence(number)).await;
            });
        });
        let mut pipeline = Pipeline::new(Options {
            policy: policy.clone(),
            baseline: Arc::clone(&baseline),
            output,
            hashes: HashPool::new(self.pool()).unwrap(),
            observer: Arc::new(crate::object::Disk),
            names: Box::new(NoNames),
            fold: Duration::from_millis(20),
            settle: Duration::from_millis(200),
            alert_severity: 70,
            ignore: Ignored::default(),
            scanner: Scanner::new(Arc::clone(&baseline), policy, Limits::default()).unwrap(),
            losses: self.losses.clone(),
            fences,
            ledger: Arc::clone(&self.ledger),
            contents: None,
            large: 1 << 30,
            packages: None,
            verify: self.verify,
            compared: Arc::default(),
        })
        .unwrap();
        pipeline.fold_steps(self.window);
        if self.finds_by_comparing {
            pipeline.finds_by_comparing();
        }
        *self.reloader.lock().unwrap() = Some(pipeline.reloader(vec![self.path("fim.toml")]));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (down, compare) = self.start.clone();
            pipeline.begin("test".to_owned(), down, compare);
            let work =
                tokio::spawn(pipeline.run(receiver, Duration::from_secs(10), || "end".to_owned()));
            steps(&sender).await;
            drop(sender);
            work.await.unwrap();
        });
        let counts = self.ledger.counts();
        for identity in Identity::ALL.iter().filter(|identity| identity.from != [Stage::Delivered])
        {
            assert_eq!(counts.imbalance(identity), 0, "{}: {counts:?}", identity.name);
        }
        let events: Vec<Event> = segments(&journal_dir)
            .unwrap()
            .iter()
            .flat_map(|segment| {
                fs::read_to_string(segment).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
            })
            .map(|line| serde_json::from_str(&line).unwrap())
            .collect();
        let numbers: Vec<u64> = events.iter().map(|event| event.event.sequence).collect();
        assert_eq!(numbers, (1..=events.len() as u64).collect::<Vec<_>>(), "gapless");
        assert_eq!(events.first().unwrap().event.action, Action::AgentStarted);
        assert_eq!(events.last().unwrap().event.action, Action::AgentStopped);
        events[1..events.len() - 1].to_vec()
    }
}

fn object(path: &Path) -> Option<ObjectId> {
    let metadata = path.symlink_metadata().ok()?;
    Some(ObjectId { device: metadata.dev(), inode: metadata.ino() })
}

pub(super) fn operation(kind: OperationKind, path: &Path, pid: u32) -> Operation {
    let actor =
        Actor { process: Some(Process { pid, ..Process::default() }.into()), ..Actor::default() };
    Operation {
        time: Timestamp::now(),
        provider: Provider::Bpf,
        kind,
        path: Some(path.to_owned()),
        path_in_process: None,
        object: object(path),
        before: ObjectState::default(),
        after: ObjectState { kind: Some(ObjectKind::File), ..ObjectState::default() },
        failure: None,
        actor: Arc::new(actor),
        details: None,
    }
}

async fn send(sender: &mpsc::Sender<Observation>, operation: Operation) {
    sender.send(Observation::Operation(Box::new(operation))).await.unwrap();
}

const OPEN: OperationKind = OperationKind::OpenWrite { truncate: false };

fn close(writers: u32, modified: Modified) -> OperationKind {
    OperationKind::CloseWrite { writers: Some(writers), modified }
}

fn actions(events: &[Event]) -> Vec<(Action, String)> {
    events
        .iter()
        .map(|event| {
            let path = Path::new(&event.file.as_ref().unwrap().path);
            (event.event.action, path.file_name().unwrap().to_string_lossy().into_owned())
        })
        .collect()
}

#[test]
fn a_new_file_is_one_event_with_the_hash_of_its_content() {
    let bench = Bench::new();
    let path = bench.path("a");
    let events = bench.run(async |sender| {
        fs::write(&path, "x\n").unwrap();
        send(sender, operation(OperationKind::Create, &path, 7)).await;
        send(sender, operation(OPEN, &path, 7)).await;
        send(sender, operation(OperationKind::Modify, &path, 7)).await;
        send(sender, operation(close(0, Modified::Yes), &path, 7)).await;
    });
    assert_eq!(actions(&events), [(Action::Created, "a".to_owned())]);
    let event = &events[0];
    assert_eq!(
        event.file.as_ref().unwrap().hash.as_ref().unwrap().sha256,
        "73cb3858a687a8494ca3323053016282f3dad39d42cf62ca4e79dda2aac7d9ac"
    );
    assert_eq!(event.fim.hash_state, Some(HashState::Exact));
    let names: Vec<&str> =
        event.fim.operations.iter().map(|folded| folded.operation.as_str()).collect();
    assert_eq!(names, ["create", "open_write", "modify", "close_write"]);
    assert!(event.fim.writers.is_empty(), "the only writer is the process");
}

#[test]
fn the_first_modification_is_told_before_the_close_and_the_hash_after_it() {
    let bench = Bench::new();
    let path = bench.path("log");
    fs::write(&path, "1").unwrap();
    let events = bench.run(async |sender| {
        send(sender, operation(OPEN, &path, 1)).await;
        send(sender, operation(OPEN, &path, 2)).await;
        fs::write(&path, "12").unwrap();
        send(sender, operation(OperationKind::Modify, &path, 1)).await;
        // Longer than the fold window, by the pipeline's own clock: the event is out when the
        // queue behind it is taken.
        tokio::time::sleep(Duration::from_millis(60)).await;
        send(sender, operation(close(1, Modified::Yes), &path, 2)).await;
        send(sender, operation(close(0, Modified::Yes), &path, 1)).await;
    });
    let states: Vec<_> =
        events.iter().map(|event| (event.event.action, event.fim.hash_state)).collect();
    assert_eq!(
        states,
        [(Action::Updated, Some(HashState::Skipped)), (Action::Updated, Some(HashState::Exact))]
    );
    let named: Vec<u32> = events[0].fim.writers.iter().map(|writer| writer.process.pid).collect();
    assert_eq!(named, [2], "everybody who had it open is named");
}

#[test]
fn a_doubtful_close_is_told_only_when_the_content_differs() {
    let bench = Bench::new();
    let path = bench.path("f");
    let events = bench.run(async |sender| {
        fs::write(&path, "same").unwrap();
        send(sender, operation(OperationKind::Create, &path, 1)).await;
        send(sender, operation(close(0, Modified::Yes), &path, 1)).await;
        send(sender, operation(OPEN, &path, 2)).await;
        send(sender, operation(close(0, Modified::Unknown), &path, 2)).await;
    });
    assert_eq!(actions(&events), [(Action::Created, "f".to_owned())]);
}

#[test]
fn a_change_is_told_under_each_watched_name_of_the_file() {
    let bench = Bench::new();
    let (used, other) = (bench.path("used"), bench.path("other"));
    let text = |path: &Path| Some(crate::event::path_text(path));
    let events = bench.run(async |sender| {
        fs::write(&used, "1\n").unwrap();
        send(sender, operation(OperationKind::Create, &used, 1)).await;
        send(sender, operation(close(0, Modified::Yes), &used, 1)).await;
        fs::hard_link(&used, &other).unwrap();
        let link =
            OperationKind::Link { existing: Some(used.clone()), first: false, elsewhere: None };
        send(sender, operation(link, &other, 1)).await;
        // Of this one the baseline has to learn, before it is asked for names.
        bench.events(3).await;
        fs::write(&used, "22\n").unwrap();
        send(sender, operation(OPEN, &used, 7)).await;
        send(sender, operation(OperationKind::Modify, &used, 7)).await;
        send(sender, operation(close(0, Modified::Yes), &used, 7)).await;
    });
    let updated = |path: &Path| {
        let name = text(path);
        let mut of = events.iter().filter(|event| {
            event.event.action == Action::Updated
                && event.file.as_ref().map(|file| file.path.clone()) == name
        });
        let event = of.next().unwrap_or_else(|| panic!("{name:?}: {:?}", actions(&events)));
        assert!(of.next().is_none(), "{name:?}: {:?}", actions(&events));
        event
    };
    assert_eq!(events.len(), 4, "{:?}", actions(&events));
    let (by_used, by_other) = (updated(&used), updated(&other));
    assert_eq!(by_used.fim.link_path, None);
    assert_eq!(by_other.fim.link_path, text(&used));
    for event in [by_used, by_other] {
        assert_eq!(event.process.as_ref().unwrap().pid, 7);
        assert_eq!(event.fim.hash_state, Some(HashState::Exact));
        let before = event.fim.before.as_ref().unwrap().sha256.as_deref();
        let after = event.fim.after.as_ref().unwrap().sha256.as_deref();
        assert_eq!(
            before,
            Some("4355a46b19d348dc2f57c046f8ef63d4538ebb936000f3c9ee954a27460dd865")
        );
        assert_eq!(after, Some("f14b4987904bcb5814e4459a057ed4d20f58a633152288a761214dcd28780b56"));
        assert!(event.fim.changes.contains(&Property::Content), "{:?}", event.fim.changes);
    }
}

#[test]
fn events_of_one_path_keep_their_order_even_when_it_is_gone_before_it_was_read() {
    let bench = Bench::new();
    let events = bench.run(async |sender| {
        for number in 0..50 {
            let path = bench.path(&format!("n{number}"));
            fs::write(&path, "x").unwrap();
            send(sender, operation(OperationKind::Create, &path, 1)).await;
            send(sender, operation(close(0, Modified::Yes), &path, 1)).await;
            let delete = operation(OperationKind::Delete, &path, 1);
            fs::remove_file(&path).unwrap();
            send(sender, delete).await;
        }
    });
    assert_eq!(events.len(), 100);
    for number in 0..50 {
        let name = format!("n{number}");
        let of_name: Vec<Action> = actions(&events)
            .into_iter()
            .filter(|(_, path)| *path == name)
            .map(|(action, _)| action)
            .collect();
        assert_eq!(of_name, [Action::Created, Action::Deleted], "{name}");
    }
}

#[test]
fn a_rename_takes_the_known_state_along_and_tells_what_it_replaced() {
    let bench = Bench::new();
    let (from, to) = (bench.path("new"), bench.path("old"));
    let events = bench.run(async |sender| {
        for (path, text) in [(&to, "old content"), (&from, "x\n")] {
            fs::write(path, text).unwrap();
            send(sender, operation(OperationKind::Create, path, 1)).await;
            send(sender, operation(close(0, Modified::Yes), path, 1)).await;
        }
        // Both events have to be complete before the names change on disk.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let replaced = object(&to);
        fs::rename(&from, &to).unwrap();
        let kind = OperationKind::Rename {
            from: Some(from.clone()),
            from_in_scope: true,
            to_in_scope: true,
            replaced,
            exchange: false,
        };
        send(sender, operation(kind, &to, 1)).await;
    });
    let moved = events.last().unwrap();
    assert_eq!(moved.event.action, Action::Moved);
    let before = moved.fim.before.as_ref().unwrap();
    assert!(before.path.as_ref().unwrap().ends_with("/new"));
    let sha = "73cb3858a687a8494ca3323053016282f3dad39d42cf62ca4e79dda2aac7d9ac";
    assert_eq!(before.sha256.as_deref(), Some(sha));
    assert_eq!(moved.file.as_ref().unwrap().hash.as_ref().unwrap().sha256, sha);
    assert_eq!(moved.fim.replaced.as_ref().unwrap().size, Some(11));
    assert_eq!(moved.fim.changes.first(), Some(&Property::Path));
}

/// As useradd does it with `/etc/passwd`: it opens and closes the file without writing to it, and
/// renames another one over it before anybody has looked.
#[test]
fn what_was_looked_at_too_late_is_still_what_a_rename_replaces() {
    for (changed, kind) in [
        (false, close(0, Modified::Unknown)),
        (true, close(0, Modified::Yes)),
        (true, OperationKind::SetAttributes),
    ] {
        let bench = Bench { window: Duration::from_millis(50), ..Bench::new() };
        let (path, temporary) = (bench.path("passwd"), bench.path("passwd+"));
        fs::write(&path, "old content").unwrap();
        let known = crate::object::stat(&path).unwrap();
        let known = ObjectState { sha256: Some("0".repeat(64)), ..known };
        Baseline::open(bench.state.path()).unwrap().put(&path, &known).unwrap();
        let events = bench.run(async |sender| {
            let touched = operation(kind.clone(), &path, 1);
            let replaced = object(&path);
            fs::write(&temporary, "new\n").unwrap();
            let made = operation(OperationKind::Create, &temporary, 1);
            let written = operation(close(0, Modified::Yes), &temporary, 1);
            fs::rename(&temporary, &path).unwrap();
            let rename = OperationKind::Rename {
                from: Some(temporary.clone()),
                from_in_scope: true,
                to_in_scope: true,
                replaced,
                exchange: false,
            };
            let renamed = operation(rename, &path, 1);
            for one in [touched, made, written, renamed] {
                send(sender, one).await;
            }
        });
        let last = events.last().unwrap();
        assert_eq!(last.event.action, Action::Updated, "{kind:?}: {:?}", actions(&events));
        assert_eq!(last.file.as_ref().unwrap().path, path.to_string_lossy());
        let before = last.fim.before.as_ref().unwrap();
        assert_eq!(before.inode, known.inode.map(|inode| inode.to_string().into()));
        let content = before.sha256.is_some();
        let is_attributes = matches!(kind, OperationKind::SetAttributes);
        assert_eq!(content, !changed || is_attributes, "{kind:?}: a content that it had no more");
    }
}

/// As crudini does it: it has the file open until another one has been renamed over it.
#[test]
fn a_close_of_what_was_replaced_leaves_what_replaced_it_known() {
    for modified in [Modified::Unknown, Modified::Yes] {
        let bench = Bench::new();
        let path = bench.path("f");
        fs::write(&path, "old content").unwrap();
        let late = operation(close(0, modified), &path, 1);
        fs::write(bench.path("g"), "new\n").unwrap();
        fs::rename(bench.path("g"), &path).unwrap();
        let known = crate::object::stat(&path).unwrap();
        let known = ObjectState { sha256: Some("0".repeat(64)), ..known };
        Baseline::open(bench.state.path()).unwrap().put(&path, &known).unwrap();
        bench.run(async |sender| send(sender, late).await);
        let found = Baseline::open(bench.state.path()).unwrap().get(&path).unwrap();
        assert_eq!(found.and_then(|found| found.inode), known.inode, "{modified:?}");
    }
}

#[path = "renames_tests.rs"]
mod renames;

#[path = "loss_tests.rs"]
mod losses;
#[path = "policy_tests.rs"]
mod policy;

#[path = "start_tests.rs"]
mod start;
