//! Where no session can be started: change notifications say that something changed, and a look
//! says what. Nobody is named, and what is undone between two looks is not seen.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fim_common::baseline::Baseline;
use fim_common::collector::{Collector, Fences, Gap, Observation, ObservationSender};
use fim_common::event::Provider;
use fim_common::loss::Losses;
use fim_common::operation::Operation;
use fim_common::pipeline::scope_of;
use fim_common::policy::Policy;
use fim_common::scan::Root;
use fim_common::time::Timestamp;
use fim_win32::registry::{Change, Signal, Woken};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use super::registry::{self, Scope};

/// Notifications of one path come in bursts: they are gathered until nothing came for so long.
const QUIET: Duration = Duration::from_millis(100);
/// And no longer than this.
const PATIENCE: Duration = Duration::from_secs(1);
/// Paths gathered at most; beyond, all that is watched is looked at.
const GATHERED_MAX: usize = 1024;
/// How often all that is watched is looked at whatever the notifications say.
const RESCAN: Duration = Duration::from_secs(300);
/// The same for the registry, which is small.
const REGISTRY_RESCAN: Duration = Duration::from_secs(30);

/// What its thread is told.
enum Message {
    Changed(notify::Result<notify::Event>),
    Registry(Vec<Operation>),
    Fence(u64),
    Rescope { roots: Vec<Root>, policy: Policy },
    Stop,
}

/// Counters, for metrics.
#[derive(Debug, Default)]
pub struct Counters {
    /// Notifications that came.
    pub seen: AtomicU64,
    /// Operations on registry keys that were handed over.
    pub submitted: AtomicU64,
    /// Times that notifications were lost.
    pub overflows: AtomicU64,
}

/// What is watched.
pub struct Options {
    /// By these rules.
    pub policy: Policy,
    /// What is known.
    pub baseline: Arc<Baseline>,
    /// Into the pipeline.
    pub sender: ObservationSender,
    /// Where losses are told.
    pub losses: Losses,
}

/// The collector.
pub struct WatchCollector {
    messages: Sender<Message>,
    worker: Option<JoinHandle<()>>,
    registry: Option<RegistryThread>,
    baseline: Arc<Baseline>,
    losses: Losses,
    roots: Vec<Root>,
    /// Directories that give notifications, and whether also of what is below.
    watched: BTreeMap<PathBuf, bool>,
    keys: usize,
    counters: Arc<Counters>,
    watcher: RecommendedWatcher,
}

/// What looks at the keys.
struct RegistryThread {
    stop: Signal,
    thread: JoinHandle<()>,
}

impl WatchCollector {
    /// Begins to watch. Places that are not there are found when all is looked at again.
    ///
    /// # Errors
    /// When the system refuses a thread or notifications as such.
    pub fn start(options: Options) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let (messages, inbox) = channel();
        let outbox = messages.clone();
        let watcher = notify::recommended_watcher(move |event| {
            // Fails when we are stopping.
            let _ = outbox.send(Message::Changed(event));
        })?;
        let counters = Arc::new(Counters::default());
        let mut collector = Self {
            messages,
            worker: None,
            registry: None,
            baseline: options.baseline,
            losses: options.losses.clone(),
            roots: scope_of(&options.policy),
            watched: BTreeMap::new(),
            keys: 0,
            counters: Arc::clone(&counters),
            watcher,
        };
        collector.watch_directories();
        collector.watch_registry(Scope::of(&options.policy))?;
        let worker = Worker {
            inbox,
            roots: collector.roots.clone(),
            policy: options.policy,
            sender: options.sender,
            losses: options.losses,
            counters,
        };
        let thread = std::thread::Builder::new().name("watch".to_owned());
        collector.worker = Some(thread.spawn(move || worker.work())?);
        Ok(collector)
    }

    /// Asks for notifications of the roots, and no others.
    fn watch_directories(&mut self) {
        let mut wanted: BTreeMap<PathBuf, bool> = BTreeMap::new();
        for root in &self.roots {
            let deep = root.depth.is_none_or(|depth| depth > 1) && root.path.is_dir();
            // A file is watched by its directory: it may be replaced.
            let place =
                if root.path.is_dir() { Some(root.path.as_path()) } else { root.path.parent() };
            if let Some(place) = place.filter(|place| place.is_dir()) {
                *wanted.entry(place.to_owned()).or_default() |= deep;
            }
        }
        // What is not wanted any more, or in another way.
        self.watched.retain(|place, deep| {
            let stays = wanted.get(place) == Some(deep);
            if !stays && let Err(error) = self.watcher.unwatch(place) {
                tracing::debug!(place = %place.display(), %error, "notifications go on");
            }
            stays
        });
        for (place, deep) in wanted {
            if self.watched.contains_key(&place) {
                continue;
            }
            let mode = if deep { RecursiveMode::Recursive } else { RecursiveMode::NonRecursive };
            match self.watcher.watch(&place, mode) {
                Ok(()) => drop(self.watched.insert(place, deep)),
                Err(error) => {
                    let place = place.display().to_string();
                    tracing::warn!(place, %error, "is only looked at now and then");
                }
            }
        }
    }

    /// Looks at these keys from now on: when this returns, what is there is known. What the baseline
    /// has is what it had when we were last there.
    fn watch_registry(&mut self, scope: Scope) -> std::io::Result<()> {
        self.end_registry();
        self.keys = scope.places().count();
        if scope.is_empty() {
            return Ok(());
        }
        let stop = Signal::new()?;
        let (messages, asked) = (self.messages.clone(), stop.clone());
        let (baseline, losses) = (Arc::clone(&self.baseline), self.losses.clone());
        let (looked, first_look) = sync_channel(1);
        let thread = std::thread::Builder::new().name("registry".to_owned()).spawn(move || {
            watch_registry(&baseline, &scope, &messages, &asked, &losses, &looked)
        })?;
        self.registry = Some(RegistryThread { stop, thread });
        // Fails when the thread has panicked, which is told when it is ended.
        let _ = first_look.recv();
        Ok(())
    }

    /// Ends the thread, which hands over what it has found; false: it has panicked.
    fn end_registry(&mut self) -> bool {
        let Some(RegistryThread { stop, thread }) = self.registry.take() else { return true };
        stop.give();
        thread.join().is_ok()
    }

    /// Its counters.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }
}

impl Collector for WatchCollector {
    fn provider(&self) -> Provider {
        Provider::Scan
    }

    fn roots(&self) -> Vec<PathBuf> {
        self.roots.iter().map(|root| root.path.clone()).collect()
    }

    fn summary(&self) -> String {
        format!(
            "change notifications for {} directories and {} registry keys; who did it is not known",
            self.watched.len(),
            self.keys
        )
    }

    fn fences(&self) -> Fences {
        let messages = std::sync::Mutex::new(self.messages.clone());
        Arc::new(move |number| {
            let messages = messages.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let _ = messages.send(Message::Fence(number));
        })
    }

    fn rescope(&mut self, policy: &Policy) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        self.roots = scope_of(policy);
        let (roots, policy) = (self.roots.clone(), policy.clone());
        let scope = Scope::of(&policy);
        self.messages.send(Message::Rescope { roots, policy })?;
        self.watch_directories();
        self.watch_registry(scope)?;
        Ok(())
    }

    fn stop(&mut self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        // The registry's thread first: it hands over what it has found.
        let mut clean = self.end_registry();
        let _ = self.messages.send(Message::Stop);
        clean &= self.worker.take().is_none_or(|thread| thread.join().is_ok());
        if clean { Ok(()) } else { Err("a thread of the collector has panicked".into()) }
    }
}

impl Drop for WatchCollector {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

fn watch_registry(
    baseline: &Baseline,
    scope: &Scope,
    messages: &Sender<Message>,
    stop: &Signal,
    losses: &Losses,
    looked: &SyncSender<()>,
) {
    loop {
        // In this order, so that nothing is missed: what changes from here on wakes us again.
        let change = Change::of(scope.places());
        match registry::compare(baseline, scope) {
            Ok(found) if found.is_empty() => {}
            Ok(found) => drop(messages.send(Message::Registry(found))),
            Err(error) => {
                tracing::error!(%error, "the registry cannot be compared with the baseline");
                let now = Timestamp::now();
                let hooks = vec!["registry".to_owned()];
                losses.report(Gap { from: now, to: now, count: None, hooks, scope: Vec::new() });
            }
        }
        // Somebody waits for the first time only.
        let _ = looked.try_send(());
        let woken = change.and_then(|change| change.wait(stop, REGISTRY_RESCAN));
        match woken {
            Ok(Woken::Signal) => {
                // What came in just before belongs to this run.
                if let Ok(found) = registry::compare(baseline, scope) {
                    let _ = messages.send(Message::Registry(found));
                }
                return;
            }
            Ok(Woken::Changed | Woken::Timeout) => {}
            Err(error) => {
                tracing::warn!(%error, "registry notifications do not work");
                match Change::of([]).and_then(|none| none.wait(stop, REGISTRY_RESCAN)) {
                    Ok(Woken::Signal) | Err(_) => return,
                    Ok(_) => {}
                }
            }
        }
    }
}

struct Worker {
    inbox: Receiver<Message>,
    roots: Vec<Root>,
    policy: Policy,
    sender: ObservationSender,
    losses: Losses,
    counters: Arc<Counters>,
}

impl Worker {
    fn work(mut self) {
        let mut paths: BTreeSet<PathBuf> = BTreeSet::new();
        let mut since: Option<Instant> = None;
        let mut rescanned = Instant::now();
        loop {
            let timeout = if since.is_some() { QUIET } else { Duration::from_secs(1) };
            let message = self.inbox.recv_timeout(timeout);
            let quiet = matches!(message, Err(RecvTimeoutError::Timeout));
            let late = since.is_some_and(|since| since.elapsed() >= PATIENCE);
            let ending = matches!(message, Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected));
            match message {
                Ok(Message::Changed(event)) => {
                    self.counters.seen.fetch_add(1, Relaxed);
                    self.changed(event, &mut paths);
                    if !paths.is_empty() {
                        since.get_or_insert_with(Instant::now);
                    }
                }
                Ok(Message::Registry(operations)) => {
                    for operation in operations {
                        self.counters.submitted.fetch_add(1, Relaxed);
                        self.send(Observation::Operation(Box::new(operation)));
                    }
                }
                Ok(Message::Fence(number)) => self.send(Observation::Fence(number)),
                Ok(Message::Rescope { roots, policy }) => {
                    (self.roots, self.policy) = (roots, policy);
                }
                Ok(Message::Stop) | Err(_) => {}
            }
            if quiet || late || ending {
                since = None;
                for path in std::mem::take(&mut paths) {
                    self.send(Observation::Recheck(path));
                }
            }
            if ending {
                return;
            }
            if rescanned.elapsed() >= RESCAN {
                rescanned = Instant::now();
                self.everything();
            }
        }
    }

    fn changed(&self, event: notify::Result<notify::Event>, paths: &mut BTreeSet<PathBuf>) {
        let event = match event {
            Ok(event) if !event.need_rescan() => event,
            other => {
                self.counters.overflows.fetch_add(1, Relaxed);
                tracing::warn!(?other, "notifications were lost: all that is watched is compared");
                let now = Timestamp::now();
                let hooks = vec!["notifications".to_owned()];
                let gap = Gap { from: now, to: now, count: None, hooks, scope: Vec::new() };
                return self.losses.report(gap);
            }
        };
        if matches!(event.kind, EventKind::Access(_)) {
            return;
        }
        for path in event.paths.into_iter().filter(|path| self.concerns(path)) {
            paths.insert(path);
        }
        if paths.len() > GATHERED_MAX {
            paths.clear();
            self.everything();
        }
    }

    /// Whether something watched may be at or below a path.
    fn concerns(&self, path: &Path) -> bool {
        self.policy.covers(path).is_some()
            || self.roots.iter().any(|root| root.path.starts_with(path))
    }

    fn everything(&self) {
        for root in &self.roots {
            self.send(Observation::Recheck(root.path.clone()));
        }
    }

    fn send(&self, observation: Observation) {
        // Fails when the pipeline has ended.
        let _ = self.sender.blocking_send(observation);
    }
}
