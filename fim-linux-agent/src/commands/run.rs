//! `fim run`: monitors in the foreground.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fim_common::baseline::{Baseline, StateDir, StateDirError};
use fim_common::collector::Gap;
use fim_common::config::Config;
use fim_common::event::actor::Actor;
use fim_common::event::{Action, SmolStr};
use fim_common::hash::{HashPool, PoolOptions};
use fim_common::ignored::Ignored;
use fim_common::journal::follow;
use fim_common::journal::{Journal, Torn};
use fim_common::ledger::{Checker, Ledger};
use fim_common::loss::Losses;
use fim_common::metrics::{self, Access, Health, Metrics};
use fim_common::packages::Databases;
use fim_common::pipeline::{
    Format, Names, Options as PipelineOptions, Output, OutputOptions, PackageOptions, Pipeline,
    Processes, Scanner, Stopping, keep_contents,
};
use fim_common::policy::Policy;
use fim_common::time::Timestamp;
use fim_sinks::{Journaling, Sinks};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc};

use super::accounts::{Accountant, Clock};
use super::canaries::Canaries;
use super::reload::Reloading;
use super::seeds::Seeds;
use super::{exit, replay};
use crate::backend::{self, Request};
use crate::canary::{self, Canary, Place, Post};
use crate::confine;
use crate::host;
use crate::memory;
use crate::process::{self, Table, users};
use crate::service;
use fim_commands::start::{
    self, contents, first_scan, open_journal, output_format, places, read_configuration, start_id,
};
pub use fim_commands::start::{Arguments, Failure, configuration};

/// How long events under way may take at the end.
const DRAIN: Duration = Duration::from_secs(10);
/// How long sinks may take then to send them; what is left is sent at the next start.
const LAST_FLUSH: Duration = Duration::from_secs(5);

/// Runs until SIGINT or SIGTERM.
///
/// # Errors
/// When the agent cannot start, or fails; with the exit code.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let (sha256, config) = read_configuration(arguments);
    let config = config?;
    if !host::is_privileged() {
        return Err(Failure::new(
            exit::NOT_PERMITTED,
            "fim needs privileges to monitor: run it as root, or give it CAP_BPF, CAP_PERFMON, \
             CAP_SYS_ADMIN, CAP_DAC_READ_SEARCH and CAP_SYS_PTRACE",
        ));
    }
    // While there is one thread: the rest inherit what is left.
    confine::drop_privileges().map_err(Failure::runtime)?;
    let state = StateDir::open(&arguments.state_dir).map_err(|error| match &error {
        StateDirError::Io { source, .. }
            if source.kind() == std::io::ErrorKind::PermissionDenied =>
        {
            Failure::new(exit::NOT_PERMITTED, &error)
        }
        _ => Failure::runtime(&error),
    })?;
    let metrics = Arc::new(Metrics::new().map_err(Failure::runtime)?);
    let health = Arc::new(Health::starting());
    let listener = match config.metrics.enabled {
        true => {
            let access = Access::new(&config.metrics);
            let access = access.map_err(|error| Failure::new(exit::USAGE, error))?;
            let listener = metrics::bind(config.metrics.listen).map_err(Failure::runtime)?;
            Some((listener, Arc::new(access)))
        }
        false => None,
    };
    let baseline = Arc::new(Baseline::open(state.path()).map_err(Failure::runtime)?);
    let journal = open_journal(&config, &state)?;
    match journal.torn() {
        Some(torn @ Torn::SetAside { .. }) => {
            tracing::warn!(?torn, "the journal ended in the middle of an event");
        }
        Some(torn) => tracing::info!(?torn, "the journal's last event was completed"),
        None => {}
    }

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(Failure::runtime)?;
    let result = runtime.block_on(monitor(Agent {
        format: output_format(arguments.output, &config),
        config,
        state,
        metrics,
        health,
        listener,
        baseline,
        journal,
        arguments: arguments.clone(),
        sha256,
        replay: arguments.replay,
    }));
    // Tasks that serve metrics have nothing to lose.
    runtime.shutdown_timeout(Duration::from_millis(500));
    result
}

struct Agent {
    config: Config,
    state: StateDir,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    listener: Option<(std::net::TcpListener, Arc<Access>)>,
    baseline: Arc<Baseline>,
    journal: Journal,
    format: Format,
    arguments: Arguments,
    /// Of the configuration file.
    sha256: Option<String>,
    replay: Option<u32>,
}

/// Names of ids from the host's files.
pub(super) struct HostNames(users::Names);

impl HostNames {
    pub(super) fn new() -> Self {
        Self(users::Names::new(Path::new("/")))
    }
}

impl Names for HostNames {
    fn user(&mut self, uid: u32) -> Option<SmolStr> {
        self.0.refresh();
        self.0.user(uid).map(SmolStr::new)
    }

    fn group(&mut self, gid: u32) -> Option<SmolStr> {
        self.0.refresh();
        self.0.group(gid).map(SmolStr::new)
    }
}

/// The processes of the host, from the table.
struct HostProcesses(Arc<Mutex<Table>>);

impl Processes for HostProcesses {
    fn is_running(&mut self, pid: u32, entity_id: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_running(pid, entity_id)
    }

    fn actor(&mut self, pid: u32, entity_id: &str) -> Option<Arc<Actor>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).actor_named(pid, entity_id)
    }
}

async fn monitor(agent: Agent) -> Result<(), Failure> {
    let Agent {
        config,
        state,
        metrics,
        health,
        listener,
        baseline,
        journal,
        format,
        arguments,
        sha256,
        replay,
    } = agent;
    // Before anything is armed: a signal from here on ends the agent in order.
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::runtime)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::runtime)?;

    let table = Arc::new(Mutex::new(Table::new(process::Options::default())));
    let mut reloading =
        Reloading::new(arguments, &config, sha256, &table).map_err(Failure::runtime)?;
    let policy = reloading.policy().clone();
    let canary_places = canary_places(&config, &policy, &state);
    let directories: Vec<PathBuf> =
        canary_places.iter().map(|place| place.directory.clone()).collect();
    let post = Arc::new(Post::new(directories.clone()));
    let trees = [state.path().to_owned()].into_iter().chain(directories.iter().cloned()).collect();
    let ignore = Ignored::new(trees, &directories);
    let ignored = ignore.clone();
    // The collector tells what others do to the state.
    let unseen = Ignored::new(directories.clone(), &directories);
    let processes = Arc::clone(&table);
    let (sender, observations) = mpsc::channel(config.collector.queue_events);
    let losses = Losses::default();
    // The last agent was killed before it told of what it held.
    let packages = baseline.take_holding().map_err(Failure::runtime)?;
    let untold = baseline.take_untold().map_err(Failure::runtime)?;
    for (hook, from) in [("packages", packages), ("fold", untold)] {
        let Some(from) = from else { continue };
        losses.report(Gap {
            from,
            to: Timestamp::now(),
            count: None,
            hooks: vec![hook.to_owned()],
            scope: Vec::new(),
        });
    }
    if let Some(alive) = baseline.killed_after().map_err(Failure::runtime)? {
        let message = format!(
            "the last agent did not end in order: it was killed, or the machine lost power; it \
             was alive at {alive}"
        );
        tracing::warn!("{message}");
        losses.notice(Action::AgentKilled, message);
    }
    let ledger = Arc::new(Ledger::default());
    let request = Request {
        backend: config.backend,
        policy: &reloading.watched(),
        collector: config.collector,
        ignore: unseen,
        table,
        sender,
        losses: losses.clone(),
        post: Arc::clone(&post),
        replay: replay.map(|rounds| (rounds, first_watched(reloading.policy()))),
    };
    let mut running =
        tokio::task::block_in_place(|| backend::start(&request)).map_err(|error| {
            let code = if error.is_permission() { exit::NOT_PERMITTED } else { exit::UNAVAILABLE };
            Failure::new(code, error)
        })?;
    drop(request);
    let provider = running.collector.provider();
    metrics.set_backend(provider.as_str());
    tracing::info!("{}", running.choice);
    tracing::info!("{}", running.collector.summary());

    let hashes = HashPool::new(PoolOptions {
        threads: config.hash.workers as usize,
        done: Some(Box::new({
            let metrics = Arc::clone(&metrics);
            move |outcome| metrics.hashed(Duration::from_secs_f64(outcome.seconds), outcome.bytes)
        })),
        ..PoolOptions::default()
    })
    .map_err(Failure::runtime)?;
    let stopping = Stopping::default();
    let written = tokio::sync::watch::Sender::new(());
    let mut sinks = Sinks::start(
        Journaling {
            state: state.path().to_owned(),
            journal: state.journal(),
            opened_at: follow::end(&state.journal()).map_err(Failure::runtime)?,
            written: written.clone(),
            ledger: Arc::clone(&ledger),
            metrics: Arc::clone(&metrics),
        },
        config.sinks.clone(),
    )
    .map_err(|error| Failure::runtime(format!("the sinks cannot begin: {error}")))?;
    let output = Output::new(OutputOptions {
        journal: Some(journal),
        format,
        host: Arc::new(host::host()),
        agent: Arc::new(start::agent(Some(state.agent_id()), &start_id())),
        metrics: Arc::clone(&metrics),
        health: Arc::clone(&health),
        ledger: Arc::clone(&ledger),
        heartbeat: config.journal.heartbeat,
        stopping: stopping.clone(),
        written,
    })
    .map_err(Failure::runtime)?;
    let contents = contents(&config, &policy, &state)?;
    let scanner = Scanner::new(Arc::clone(&baseline), policy.clone(), config.scan.limits)
        .map_err(Failure::runtime)?;
    let compared = Arc::new(Notify::new());
    let mut pipeline = Pipeline::new(PipelineOptions {
        policy: policy.clone(),
        baseline: Arc::clone(&baseline),
        output,
        hashes,
        observer: Arc::new(fim_common::object::Disk),
        names: Box::new(HostNames::new()),
        fold: config.events.fold,
        settle: config.events.settle,
        alert_severity: config.events.alert_severity,
        ignore: ignore.clone(),
        scanner,
        losses: losses.clone(),
        fences: running.collector.fences(),
        ledger: Arc::clone(&ledger),
        contents: contents.clone(),
        large: config.hash.large,
        verify: config.scan.verify,
        compared: Arc::clone(&compared),
        packages: config.packages.enabled.then(|| PackageOptions {
            databases: Databases::new("/"),
            processes: Box::new(HostProcesses(processes)),
            hold: config.packages.hold,
            details: config.packages.details,
            alert_severity: config.packages.alert_severity,
            limit: config.hash.max_size,
            freed: memory::give_back,
        }),
    })
    .map_err(Failure::runtime)?;

    pipeline.fold_steps(config.fold.window);
    pipeline.sum_up_every(config.events.suppressed_interval);
    reloading.begin(&mut pipeline);

    // The scan can take minutes: a signal ends it.
    let cancel = Arc::new(AtomicBool::new(false));
    let scan = tokio::task::spawn_blocking({
        let (baseline, policy, cancel) =
            (Arc::clone(&baseline), policy.clone(), Arc::clone(&cancel));
        let (limits, contents) = (config.scan.limits, contents.clone());
        move || {
            let found = first_scan(&baseline, policy.clone(), ignore, limits, &cancel)
                .map_err(Failure::runtime)?;
            if let Some(contents) = &contents {
                keep_contents(contents, &baseline, &policy, &cancel).map_err(Failure::runtime)?;
            }
            Ok::<_, Failure>(found)
        }
    });
    let scanned = tokio::select! {
        scanned = scan => Some(scanned.map_err(Failure::runtime)??),
        _ = interrupt.recv() => None,
        _ = terminate.recv() => None,
    };
    let stopped_early = scanned.is_none();
    if stopped_early {
        cancel.store(true, Ordering::Relaxed);
    }
    metrics.set_baseline_objects(baseline.count().unwrap_or_default());
    running.collector.watch_linked(baseline.linked().map_err(Failure::runtime)?);
    // What a scan took: 20 MiB and more.
    memory::give_back();
    let message = format!("{}; watching {}", running.choice, places(&policy));
    let (down, compare) = scanned.unwrap_or_default();
    pipeline.begin(message, down, compare);
    if let Err(error) = confine::forbid() {
        tracing::warn!(%error, "system calls that the agent does not need are not forbidden");
    }
    health.started();
    service::notify("READY=1");
    if let Some(contents) = contents.as_ref().filter(|_| !stopped_early)
        && let Err(error) = contents.sweep()
    {
        tracing::warn!(%error, "contents that no file has any more cannot be removed");
    }

    let (closed, wait_closed) = tokio::sync::oneshot::channel::<()>();
    let server = listener.map(|(listener, access)| {
        let (metrics, health) = (Arc::clone(&metrics), Arc::clone(&health));
        tokio::spawn(async move {
            let shutdown = async {
                let _ = wait_closed.await;
            };
            if let Err(error) = metrics::serve(listener, metrics, health, access, shutdown).await {
                tracing::error!(%error, "metrics are not served any more");
            }
        })
    });
    let canaries = match config.canary.interval.filter(|_| !stopped_early) {
        Some(interval) => {
            let canary = Canary::start(canary::Options {
                interval,
                places: canary_places,
                post: Arc::clone(&post),
                exempt: Arc::clone(&running.exempt),
                metrics: Arc::clone(&metrics),
                health: Arc::clone(&health),
                losses: losses.clone(),
            });
            let canary = canary.map_err(Failure::runtime)?;
            Some(Canaries::new(canary, post, ignored, state.canonical(), state.agent_id()))
        }
        None => None,
    };
    reloading.attend(canaries, Seeds::new(state.path().to_owned(), contents));
    let accountant = Accountant {
        monitor: running.monitor,
        metrics: Arc::clone(&metrics),
        health: Arc::clone(&health),
        baseline: Arc::clone(&baseline),
        state: state.path().to_owned(),
        ledger: Arc::clone(&ledger),
        losses,
        checker: Checker::default(),
        clock: Clock::default(),
    };
    let publish = tokio::spawn(accountant.run());
    // Only now that the pipeline runs: it is told to stop when there is nothing to be said any more.
    let watchdog = match service::watchdog() {
        Ok(limit) => limit,
        Err(error) => {
            tracing::warn!(%error, "the service manager's watchdog is not served");
            None
        }
    };
    let watchdog = watchdog.map(|limit| tokio::spawn(service::watch(limit, Arc::clone(&health))));
    let replay = running.replay.take().map(|replay| replay::Watch::begin(replay, &ledger));
    let work = tokio::spawn(pipeline.run(observations, DRAIN, || "asked to stop".to_owned()));

    let mut is_full = false;
    if !stopped_early {
        loop {
            let step = tokio::select! {
                _ = interrupt.recv() => break,
                _ = terminate.recv() => break,
                () = stopping.wanted() => {
                    is_full = true;
                    break;
                }
                () = replay::over(replay.as_ref()) => break,
                () = compared.notified() => {
                    match baseline.linked() {
                        // Among what was found there may be other names of files.
                        Ok(linked) => running.collector.watch_linked(linked),
                        Err(error) => tracing::error!(%error, "the baseline cannot be read"),
                    }
                    memory::give_back();
                    continue;
                }
                step = reloading.step() => step,
            };
            let collector = running.collector.as_mut();
            tokio::task::block_in_place(|| reloading.take(step, collector, &baseline));
            sinks.apply(&reloading.sinks());
        }
    }
    stopping.ask();
    tracing::info!("stopping");
    service::notify("STOPPING=1");
    // A second signal means: now.
    let impatient = tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tracing::error!("a second signal: stopping without writing what is under way");
        std::process::exit(i32::from(exit::FAILURE));
    });
    // While it is still seen, so that what it removes is known to be its own.
    tokio::task::block_in_place(|| reloading.end_canaries());
    if let Err(error) = tokio::task::block_in_place(|| running.collector.stop()) {
        tracing::error!(%error, "the collector did not stop cleanly");
    }
    drop(running.collector);
    let finished = work.await;
    // All that the pipeline had to say is in the journal now.
    sinks.stop(LAST_FLUSH).await;
    publish.abort();
    if let Some(watchdog) = watchdog {
        watchdog.abort();
    }
    impatient.abort();
    drop(closed);
    if let Some(server) = server {
        let _ = tokio::time::timeout(Duration::from_millis(200), server).await;
    }
    drop(state);
    if let Some(replay) = replay {
        replay.report(&ledger).map_err(Failure::runtime)?;
    }
    finished.map_err(|_| Failure::runtime("the pipeline has panicked"))?;
    match is_full {
        true => Err(Failure::runtime("the journal is full, and on_full = \"stop\"")),
        false => Ok(()),
    }
}

/// The directory that a replay is about: the first that the configuration names.
fn first_watched(policy: &Policy) -> PathBuf {
    policy.watches().into_iter().next().map(|watch| watch.base).unwrap_or_default()
}

/// Makes the canary's directories, where that is possible.
fn canary_places(config: &Config, policy: &Policy, state: &StateDir) -> Vec<Place> {
    if config.canary.interval.is_none() {
        return Vec::new();
    }
    let mut places = canary::places(&policy.watches(), &state.canonical(), state.agent_id());
    canary::make(&mut places);
    places
}
