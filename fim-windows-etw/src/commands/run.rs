//! `run`: monitors in the foreground, or as the service does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use fim_commands::reload::{Reloading, own_rule};
use fim_commands::start::{
    self, Arguments, Failure, contents, first_scan, open_journal, output_format, places,
    read_configuration, start_id,
};
use fim_commands::{Site as _, exit};
use fim_common::baseline::{Baseline, StateDir, StateDirError};
use fim_common::config::Config;
use fim_common::event::Provider;
use fim_common::hash::{HashPool, PoolOptions};
use fim_common::ignored::Ignored;
use fim_common::journal::{Journal, follow};
use fim_common::ledger::Ledger;
use fim_common::loss::Losses;
use fim_common::metrics::{self, Access, Health, Metrics};
use fim_common::pipeline::{
    Format, Options as PipelineOptions, Output, OutputOptions, Pipeline, Scanner, Stopping,
    keep_contents,
};
use fim_sinks::{Journaling, Sinks};
use tokio::sync::{Notify, mpsc};

use crate::live::choice::{self, Chosen, Counters};
use crate::live::config_file::ConfigFile;
use crate::live::site::Here;

/// How long events under way may take at the end.
const DRAIN: Duration = Duration::from_secs(10);
/// How long sinks may take then to send them; what is left is sent at the next start.
const LAST_FLUSH: Duration = Duration::from_secs(5);

/// What a running agent is asked, and what it answers.
#[derive(Default)]
pub struct Control {
    /// To end.
    pub stop: Arc<Notify>,
    /// To read its configuration again.
    pub reload: Notify,
    watching: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Control {
    /// Calls this once everything is watched, from when on the agent can be asked. The first
    /// baseline may still be being taken.
    pub fn when_watching(&self, then: impl Fn() + Send + Sync + 'static) {
        // There is one who asks.
        let _ = self.watching.set(Box::new(then));
    }

    fn watching(&self) {
        if let Some(then) = self.watching.get() {
            then();
        }
    }
}

/// Runs until it is asked to stop.
///
/// # Errors
/// When the agent cannot start, or fails; with the exit code.
pub fn run(arguments: &Arguments, stop: &Arc<Notify>) -> Result<(), Failure> {
    run_as(arguments, &Control { stop: Arc::clone(stop), ..Control::default() })
}

/// As [`run`], for somebody who asks for more.
///
/// # Errors
/// As [`run`].
pub fn run_as(arguments: &Arguments, control: &Control) -> Result<(), Failure> {
    let (sha256, config) = read_configuration(arguments);
    let config = config?;
    let state = StateDir::open(&arguments.state_dir).map_err(|error| match &error {
        StateDirError::Io { source, .. }
            if source.kind() == std::io::ErrorKind::PermissionDenied =>
        {
            Failure::new(exit::NOT_PERMITTED, &error)
        }
        _ => Failure::runtime(&error),
    })?;
    let listener = match config.metrics.enabled {
        true => {
            let access = Access::new(&config.metrics);
            let access = access.map_err(|error| Failure::new(exit::USAGE, error))?;
            let listener = metrics::bind(config.metrics.listen).map_err(Failure::runtime)?;
            Some((listener, Arc::new(access)))
        }
        false => None,
    };
    let agent = Agent {
        baseline: Arc::new(Baseline::open(state.path()).map_err(Failure::runtime)?),
        journal: open_journal(&config, &state)?,
        metrics: Arc::new(Metrics::new().map_err(Failure::runtime)?),
        health: Arc::new(Health::starting()),
        format: output_format(arguments.output, &config),
        reloading: Reloading::new(
            arguments.clone(),
            &config,
            Here.policy(&config),
            sha256,
            own_rule(None),
        ),
        config,
        state,
        listener,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(Failure::runtime)?;
    let result = runtime.block_on(monitor(agent, control));
    // Tasks that serve metrics have nothing to lose.
    runtime.shutdown_timeout(Duration::from_millis(500));
    result
}

struct Agent {
    config: Config,
    reloading: Reloading,
    state: StateDir,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    listener: Option<(std::net::TcpListener, Arc<Access>)>,
    baseline: Arc<Baseline>,
    journal: Journal,
    format: Format,
}

async fn monitor(agent: Agent, control: &Control) -> Result<(), Failure> {
    let Agent {
        config,
        mut reloading,
        state,
        metrics,
        health,
        listener,
        baseline,
        journal,
        format,
    } = agent;
    let stop = &control.stop;
    let policy = reloading.policy().clone();
    let ignore = Ignored::new(vec![state.path().to_owned()], &[]);
    let (sender, observations) = mpsc::channel(config.collector.queue_events);
    let losses = Losses::default();
    let ledger = Arc::new(Ledger::default());
    let watched = reloading.watched();
    let started = tokio::task::block_in_place(|| {
        choice::start(&config, &watched, &baseline, sender, &losses)
    });
    let Chosen { mut collector, choice, counters } =
        started.map_err(|error| Failure::new(exit::UNAVAILABLE, error))?;
    metrics.set_backend(collector.provider().as_str());
    let mut file = reloading.file().and_then(ConfigFile::watch);
    control.watching();

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
        host: Arc::new(Here.host()),
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
    let mut pipeline = Pipeline::new(PipelineOptions {
        policy: policy.clone(),
        baseline: Arc::clone(&baseline),
        output,
        hashes,
        observer: Arc::new(fim_common::object::Disk),
        names: Here.names(),
        fold: config.events.fold,
        settle: config.events.settle,
        alert_severity: config.events.alert_severity,
        ignore: ignore.clone(),
        scanner: Scanner::new(Arc::clone(&baseline), policy.clone(), config.scan.limits)
            .map_err(Failure::runtime)?,
        losses: losses.clone(),
        fences: collector.fences(),
        ledger: Arc::clone(&ledger),
        contents: contents.clone(),
        large: config.hash.large,
        verify: config.scan.verify,
        compared: Arc::default(),
        packages: None,
    })
    .map_err(Failure::runtime)?;
    pipeline.fold_steps(config.fold.window);
    pipeline.sum_up_every(config.events.suppressed_interval);
    reloading.begin(&mut pipeline);
    if collector.provider() == Provider::Scan {
        pipeline.finds_by_comparing();
    }

    // The scan can take minutes: whoever asks for an end ends it.
    let cancel = Arc::new(AtomicBool::new(false));
    let scan = tokio::task::spawn_blocking({
        let (baseline, policy, cancel) =
            (Arc::clone(&baseline), policy.clone(), Arc::clone(&cancel));
        let (limits, contents) = (config.scan.limits, contents);
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
        () = stop.notified() => None,
    };
    let stopped_early = scanned.is_none();
    if stopped_early {
        cancel.store(true, Ordering::Relaxed);
    }
    metrics.set_baseline_objects(baseline.count().unwrap_or_default());
    let message = format!("{choice}; watching {}", places(&policy));
    let (down, compare) = scanned.unwrap_or_default();
    pipeline.begin(message, down, compare);
    health.started();

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
    let publish = tokio::spawn(publish(
        counters,
        Arc::clone(&metrics),
        Arc::clone(&baseline),
        Arc::clone(&ledger),
    ));
    let work = tokio::spawn(pipeline.run(observations, DRAIN, || "asked to stop".to_owned()));
    let mut is_full = false;
    loop {
        if stopped_early {
            break;
        }
        enum Asked {
            Step(fim_commands::reload::Step),
            Read(&'static str),
        }
        let is_busy = reloading.is_busy();
        let asked = tokio::select! {
            () = stop.notified() => break,
            () = stopping.wanted() => {
                is_full = true;
                break;
            }
            step = reloading.step() => Asked::Step(step),
            () = control.reload.notified(), if !is_busy => Asked::Read("service_control"),
            () = changed(file.as_mut()), if !is_busy => Asked::Read("file_change"),
        };
        tokio::task::block_in_place(|| match asked {
            Asked::Step(step) => reloading.take(step, &mut *collector, &baseline, None),
            Asked::Read(trigger) => {
                reloading.read(trigger, &mut *collector, None, &|config| Here.policy(config));
            }
        });
        sinks.apply(&reloading.sinks());
    }
    stopping.ask();
    tracing::info!("stopping");
    if let Err(error) = tokio::task::block_in_place(|| collector.stop()) {
        tracing::error!(%error, "the collector did not stop cleanly");
    }
    drop(collector);
    let finished = work.await;
    // All that the pipeline had to say is in the journal now.
    sinks.stop(LAST_FLUSH).await;
    publish.abort();
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

/// Waits until the configuration file may have changed.
async fn changed(file: Option<&mut ConfigFile>) {
    match file {
        Some(file) => file.changed().await,
        None => std::future::pending().await,
    }
}

/// Once a second: brings the metrics up to date.
async fn publish(
    counters: Counters,
    metrics: Arc<Metrics>,
    baseline: Arc<Baseline>,
    ledger: Arc<Ledger>,
) {
    let mut every = tokio::time::interval(Duration::from_secs(1));
    loop {
        every.tick().await;
        metrics.set_baseline_objects(baseline.count().unwrap_or_default());
        counters.publish(&metrics, &ledger);
    }
}
