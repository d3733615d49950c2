//! `fim run`: monitors in the foreground.

use std::io::{IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fim_common::baseline::{Baseline, StateDir, StateDirError};
use fim_common::config::{Backend, Config};
use fim_common::hash::{HashPool, PoolOptions};
use fim_common::ignored::Ignored;
use fim_common::journal::{Journal, JournalOptions, Key, Torn};
use fim_common::ledger::{Checker, Ledger};
use fim_common::loss::Losses;
use fim_common::metrics::{self, Health, Metrics};
use fim_common::pipeline::{
    Format, Names, Options as PipelineOptions, Output, OutputOptions, Pipeline, Scanner, Stopping,
    scan_rule, scope_of,
};
use fim_common::policy::{self, Policy};
use fim_common::scan::{self, Difference, Mode, Progress, Scope};
use fim_common::time::Timestamp;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::accounts::Accountant;
use super::exit;
use crate::backend::{self, Request};
use crate::canary::{self, Canary, Place, Post};
use crate::host;
use crate::process::{self, Table, users};

/// How long events under way may take at the end.
const DRAIN: Duration = Duration::from_secs(10);

/// What the command line says.
#[derive(Debug, Default)]
pub struct Arguments {
    /// `--config`.
    pub config: Option<PathBuf>,
    /// `--backend`.
    pub backend: Option<Backend>,
    /// `--watch`.
    pub watch: Vec<PathBuf>,
    /// `--output`; `None`: by what standard output is.
    pub output: Option<Format>,
    /// `--state-dir`.
    pub state_dir: PathBuf,
    /// `--metrics`.
    pub metrics: Option<SocketAddr>,
}

/// Why the agent did not run, or stopped.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The exit code.
    pub code: u8,
    message: String,
}

impl Failure {
    fn new(code: u8, error: impl std::fmt::Display) -> Self {
        Self { code, message: error.to_string() }
    }

    fn runtime(error: impl std::fmt::Display) -> Self {
        Self::new(exit::FAILURE, error)
    }
}

/// The configuration that the command line asks for.
///
/// # Errors
/// With the exit code for bad configuration.
pub fn configuration(arguments: &Arguments) -> Result<Config, Failure> {
    let mut watch = Vec::with_capacity(arguments.watch.len());
    for path in &arguments.watch {
        let absolute = std::path::absolute(path).map_err(|error| {
            Failure::new(exit::USAGE, format!("--watch {}: {error}", path.display()))
        })?;
        watch.push(absolute);
    }
    let mut config = if arguments.config.is_none() && !watch.is_empty() {
        Config::from_watch_paths(watch)
    } else {
        let mut config = Config::load(arguments.config.as_deref())
            .map_err(|error| Failure::new(exit::USAGE, error))?;
        config.add_watch_paths(watch);
        config
    };
    if let Some(backend) = arguments.backend {
        config.backend = backend;
    }
    if let Some(listen) = arguments.metrics {
        config.metrics.enabled = true;
        config.metrics.listen = listen;
    }
    Ok(config)
}

/// Runs until SIGINT or SIGTERM.
///
/// # Errors
/// When the agent cannot start, or fails; with the exit code.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let config = configuration(arguments)?;
    if !host::is_privileged() {
        return Err(Failure::new(
            exit::NOT_PERMITTED,
            "fim needs privileges to monitor: run it as root, or give it CAP_BPF, CAP_PERFMON, \
             CAP_SYS_ADMIN, CAP_DAC_READ_SEARCH and CAP_SYS_PTRACE",
        ));
    }
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
        true => Some(metrics::bind(config.metrics.listen).map_err(Failure::runtime)?),
        false => None,
    };
    let baseline = Arc::new(Baseline::open(state.path()).map_err(Failure::runtime)?);
    let journal = Journal::open(
        &state.journal(),
        JournalOptions {
            segment_bytes: config.journal.max_segment_bytes,
            segments: config.journal.max_segments as usize,
            max_age: config.journal.max_age,
            fsync: config.journal.fsync,
            on_full: config.journal.on_full,
            key: Some(Key::open(state.path()).map_err(Failure::runtime)?),
        },
    )
    .map_err(Failure::runtime)?;
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
        config,
        state,
        metrics,
        health,
        listener,
        baseline,
        journal,
        format: arguments.output.unwrap_or_else(Format::for_stdout),
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
    listener: Option<std::net::TcpListener>,
    baseline: Arc<Baseline>,
    journal: Journal,
    format: Format,
}

/// Names of ids from the host's files.
struct HostNames(users::Names);

impl Names for HostNames {
    fn user(&mut self, uid: u32) -> Option<String> {
        self.0.refresh();
        self.0.user(uid).map(str::to_owned)
    }

    fn group(&mut self, gid: u32) -> Option<String> {
        self.0.refresh();
        self.0.group(gid).map(str::to_owned)
    }
}

async fn monitor(agent: Agent) -> Result<(), Failure> {
    let Agent { config, state, metrics, health, listener, baseline, journal, format } = agent;
    // Before anything is armed: a signal from here on ends the agent in order.
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::runtime)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::runtime)?;

    let policy = config.policy().resolved(&policy::canonical);
    let canary_places = canary_places(&config, &policy, &state);
    let directories: Vec<PathBuf> =
        canary_places.iter().map(|place| place.directory.clone()).collect();
    let post = Arc::new(Post::new(directories.clone()));
    let trees = [state.path().to_owned()].into_iter().chain(directories.iter().cloned()).collect();
    let ignore = Ignored::new(trees, &directories);
    let table = Arc::new(Mutex::new(Table::new(process::Options::default())));
    let (sender, observations) = mpsc::channel(config.collector.queue_events);
    let losses = Losses::default();
    let ledger = Arc::new(Ledger::default());
    let request = Request {
        backend: config.backend,
        policy: &policy,
        collector: config.collector,
        ignore: ignore.clone(),
        table,
        sender,
        losses: losses.clone(),
        post: Arc::clone(&post),
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
    let output = Output::new(OutputOptions {
        journal,
        format,
        host: Arc::new(host::host()),
        agent: Arc::new(host::agent(Some(state.agent_id()), &start_id())),
        metrics: Arc::clone(&metrics),
        health: Arc::clone(&health),
        ledger: Arc::clone(&ledger),
        heartbeat: config.journal.heartbeat,
        stopping: stopping.clone(),
    })
    .map_err(Failure::runtime)?;
    let scanner = Scanner::new(Arc::clone(&baseline), policy.clone()).map_err(Failure::runtime)?;
    let mut pipeline = Pipeline::new(PipelineOptions {
        policy: policy.clone(),
        baseline: Arc::clone(&baseline),
        output,
        hashes,
        names: Box::new(HostNames(users::Names::new(Path::new("/")))),
        fold: config.events.fold,
        settle: config.events.settle,
        alert_severity: config.events.alert_severity,
        ignore: ignore.clone(),
        scanner,
        losses: losses.clone(),
        fences: running.collector.fences(),
        ledger: Arc::clone(&ledger),
    });

    // The scan can take minutes: a signal ends it.
    let cancel = Arc::new(AtomicBool::new(false));
    let scan = tokio::task::spawn_blocking({
        let (baseline, policy, cancel) =
            (Arc::clone(&baseline), policy.clone(), Arc::clone(&cancel));
        move || catch_up(&baseline, &policy, &ignore, &cancel)
    });
    let scanned = tokio::select! {
        scanned = scan => Some(scanned.map_err(Failure::runtime)?.map_err(Failure::runtime)?),
        _ = interrupt.recv() => None,
        _ = terminate.recv() => None,
    };
    let stopped_early = scanned.is_none();
    if stopped_early {
        cancel.store(true, Ordering::Relaxed);
    }
    metrics.set_baseline_objects(baseline.count().unwrap_or_default());
    running.collector.watch_linked(baseline.linked().map_err(Failure::runtime)?);
    let message = format!("{}; watching {}", running.choice, places(&policy));
    pipeline.begin(message, scanned.unwrap_or_default());
    health.started();
    notify("READY=1");

    let (closed, wait_closed) = tokio::sync::oneshot::channel::<()>();
    let server = listener.map(|listener| {
        let (metrics, health) = (Arc::clone(&metrics), Arc::clone(&health));
        tokio::spawn(async move {
            let shutdown = async {
                let _ = wait_closed.await;
            };
            if let Err(error) = metrics::serve(listener, metrics, health, shutdown).await {
                tracing::error!(%error, "metrics are not served any more");
            }
        })
    });
    let canary = match config.canary.interval.filter(|_| !stopped_early) {
        Some(interval) => Some(
            Canary::start(canary::Options {
                interval,
                places: canary_places,
                post,
                exempt: Arc::clone(&running.exempt),
                metrics: Arc::clone(&metrics),
                health: Arc::clone(&health),
                losses: losses.clone(),
            })
            .map_err(Failure::runtime)?,
        ),
        None => None,
    };
    let accountant = Accountant {
        monitor: running.monitor,
        metrics: Arc::clone(&metrics),
        health: Arc::clone(&health),
        baseline: Arc::clone(&baseline),
        ledger,
        losses,
        checker: Checker::default(),
    };
    let publish = tokio::spawn(accountant.run());
    let work = tokio::spawn(pipeline.run(observations, DRAIN, || "asked to stop".to_owned()));

    let mut is_full = false;
    if !stopped_early {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            () = stopping.wanted() => is_full = true,
        }
    }
    stopping.ask();
    tracing::info!("stopping");
    notify("STOPPING=1");
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
    tokio::task::block_in_place(|| drop(canary));
    if let Err(error) = tokio::task::block_in_place(|| running.collector.stop()) {
        tracing::error!(%error, "the collector did not stop cleanly");
    }
    drop(running.collector);
    let finished = work.await;
    publish.abort();
    impatient.abort();
    drop(closed);
    if let Some(server) = server {
        let _ = tokio::time::timeout(Duration::from_millis(200), server).await;
    }
    drop(state);
    finished.map_err(|_| Failure::runtime("the pipeline has panicked"))?;
    match is_full {
        true => Err(Failure::runtime("the journal is full, and on_full = \"stop\"")),
        false => Ok(()),
    }
}

/// Makes the canary's directories, where that is possible.
fn canary_places(config: &Config, policy: &Policy, state: &StateDir) -> Vec<Place> {
    if config.canary.interval.is_none() {
        return Vec::new();
    }
    // As the kernel will name it.
    let path = std::fs::canonicalize(state.path()).unwrap_or_else(|_| state.path().to_owned());
    let mut places = canary::places(&policy.watches(), &path, state.agent_id());
    places.retain(|place| match place.make() {
        Ok(()) => true,
        Err(error) => {
            let file_system = place.file_system.as_str();
            tracing::info!(file_system, %error, "no canary on this file system");
            false
        }
    });
    places
}

fn start_id() -> String {
    // 122 random bits from the kernel, RFC 9562.
    std::fs::read_to_string("/proc/sys/kernel/random/uuid")
        .map_or_else(|_| Timestamp::now().as_nanos().to_string(), |id| id.trim().to_owned())
}

fn places(policy: &Policy) -> String {
    const SHOWN: usize = 4;
    let roots = scope_of(policy);
    let mut text = roots
        .iter()
        .take(SHOWN)
        .map(|root| root.path.display().to_string())
        .collect::<Vec<_>>()
        .join(", ");
    if roots.len() > SHOWN {
        text.push_str(&format!(" and {} more", roots.len() - SHOWN));
    }
    text
}

/// Takes the baseline at the first start, and at a later one finds what was changed while the
/// agent was down.
fn catch_up(
    baseline: &Baseline,
    policy: &Policy,
    ignore: &Ignored,
    cancel: &AtomicBool,
) -> Result<Vec<Difference>, scan::ScanError> {
    let roots = scope_of(policy);
    let ignored = |path: &Path| ignore.contains(path);
    let rule = |path: &Path| scan_rule(policy, path).filter(|_| !ignored(path));
    let descend = |path: &Path| {
        (policy.covers(path).is_some() && !ignored(path))
            || roots.iter().any(|root| path.starts_with(&root.path) || root.path.starts_with(path))
    };
    let scope = Scope { roots: &roots, rule: &rule, descend: &descend };
    let mut fresh = Vec::new();
    let mut known = Vec::new();
    for root in &roots {
        match baseline.scan_complete(&root.path)? {
            Some(_) => known.push(root.clone()),
            None => fresh.push(root.clone()),
        }
    }
    let bar = Bar::new();
    let progress = |progress: Progress| bar.show(progress);
    let options = scan::Options { threads: 0, deep: false, cancel, progress: &progress };
    let mut differences = Vec::new();
    for (roots, mode) in [(&fresh, Mode::First), (&known, Mode::Update)] {
        if roots.is_empty() {
            continue;
        }
        let summary = scan::reconcile(
            baseline,
            Scope { roots, ..scope },
            mode,
            options,
            &mut |difference| differences.push(difference),
        )?;
        bar.clear();
        tracing::info!(
            objects = summary.objects,
            bytes = summary.bytes,
            differences = summary.differences,
            unreadable = summary.errors,
            "{}",
            if mode == Mode::First { "baseline taken" } else { "compared with the baseline" }
        );
        if !summary.cancelled {
            for root in roots {
                baseline.set_scan_complete(&root.path, Timestamp::now())?;
            }
        }
    }
    baseline.take_stopped()?;
    baseline.flush()?;
    Ok(differences)
}

/// The progress of a scan, on a terminal.
struct Bar {
    shown: bool,
    since: Instant,
}

impl Bar {
    fn new() -> Self {
        Self { shown: std::io::stderr().is_terminal(), since: Instant::now() }
    }

    fn show(&self, progress: Progress) {
        if !self.shown {
            return;
        }
        let seconds = self.since.elapsed().as_secs_f64().max(0.001);
        // A terminal that cannot be written to is no reason to stop.
        let _ = write!(
            std::io::stderr(),
            "\r\x1b[Ktaking the baseline: {} objects, {} MiB, {:.0} objects/s",
            progress.objects,
            progress.bytes >> 20,
            progress.objects as f64 / seconds
        );
    }

    fn clear(&self) {
        if self.shown {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

/// Tells the service manager, if there is one: sd_notify(3).
fn notify(message: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let result = UnixDatagram::unbound().and_then(|socket| {
        use std::os::linux::net::SocketAddrExt as _;
        use std::os::unix::ffi::OsStrExt as _;
        match path.as_bytes().strip_prefix(b"@") {
            Some(name) => socket.send_to_addr(
                message.as_bytes(),
                &std::os::unix::net::SocketAddr::from_abstract_name(name)?,
            ),
            None => socket.send_to(message.as_bytes(), &path),
        }
    });
    if let Err(error) = result {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}
