//! Which backend works here, and starting it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use fim_common::collector::{Collector, ObservationSender};
use fim_common::config::{self, Backend};
use fim_common::ignored::Ignored;
use fim_common::ledger::{Ledger, Stage};
use fim_common::loss::Losses;
use fim_common::metrics::{HookCounts, Metrics};
use fim_common::policy::Policy;
use fim_common::record::Hook;
use thiserror::Error;

use crate::bpf::collector::{self as bpf, BpfCollector, BpfError, ProcessFeed};
use crate::bpf::loader::LoadError;
use crate::bpf::replay::{self, Replay, Replaying};
use crate::canary::{Exempt, Post};
use crate::fanotify::{self, FanotifyCollector, FanotifyError};
use crate::process::Table;

/// Bytes of the ring that only carries process records: some 2,500 short-lived processes between two
/// looks. All of it is mapped twice, and so it counts twice in the agent's resident memory.
const PROCESS_RING: u32 = 2 << 20;

/// No backend works.
#[derive(Debug, Error)]
pub enum BackendError {
    /// As asked for.
    #[error("the bpf backend does not work here: {0}")]
    Bpf(#[from] BpfError),
    /// As asked for.
    #[error("the fanotify backend does not work here: {0}")]
    Fanotify(#[from] FanotifyError),
    /// Neither.
    #[error("no backend works here; bpf: {bpf}; fanotify: {fanotify}")]
    Neither {
        /// Why bpf does not.
        bpf: BpfError,
        /// Why fanotify does not.
        fanotify: FanotifyError,
    },
}

impl BackendError {
    /// Whether more privileges would help.
    pub fn is_permission(&self) -> bool {
        let bpf = |error: &BpfError| matches!(error, BpfError::Load(LoadError::NotPermitted(_)));
        let fanotify = |error: &FanotifyError| matches!(error, FanotifyError::NotPermitted(_));
        match self {
            Self::Bpf(error) => bpf(error),
            Self::Fanotify(error) => fanotify(error),
            Self::Neither { bpf: one, fanotify: other } => bpf(one) && fanotify(other),
        }
    }
}

/// A running backend.
pub struct Running {
    /// It.
    pub collector: Box<dyn Collector>,
    /// Its counters.
    pub monitor: Monitor,
    /// Has it tell of what the calling thread does.
    pub exempt: Exempt,
    /// One line: what was chosen, and why.
    pub choice: String,
    /// Where what is told was made beforehand.
    pub(crate) replay: Option<Replaying>,
}

/// Counters of a backend, for metrics.
pub enum Monitor {
    /// Of the eBPF programs.
    Bpf(bpf::Monitor),
    /// Of fanotify.
    Fanotify(Arc<fanotify::Counters>),
}

impl Monitor {
    /// Brings the metrics up to date.
    pub fn publish(&self, metrics: &Metrics) {
        use std::sync::atomic::Ordering::Relaxed;
        match self {
            Self::Bpf(monitor) => {
                for (hook, counters) in Hook::ALL.iter().zip(monitor.counters()) {
                    let counts = HookCounts {
                        seen: counters.seen,
                        filtered: counters.filtered,
                        submitted: counters.submitted,
                        lost: counters.lost,
                        error: counters.error,
                    };
                    metrics.set_kernel_operations(hook.name(), counts);
                }
                for (stage, reason, count) in monitor.dropped() {
                    metrics.set_dropped(stage, reason, count);
                }
                let status = monitor.status();
                for hook in Hook::ALL {
                    let mut of_hook = status.iter().filter(|status| status.hook == hook).peekable();
                    if of_hook.peek().is_some() {
                        let armed = of_hook.all(|status| status.failure.is_none());
                        metrics.set_hook_armed(hook.name(), armed);
                    }
                }
            }
            Self::Fanotify(counters) => {
                let counts = HookCounts {
                    seen: counters.seen.load(Relaxed),
                    filtered: counters.filtered.load(Relaxed),
                    submitted: counters.submitted.load(Relaxed),
                    lost: counters.lost.load(Relaxed),
                    error: counters.error.load(Relaxed),
                };
                metrics.set_kernel_operations("fanotify", counts);
                metrics.set_dropped("spill", "full", counts.lost);
                metrics.set_dropped("fanotify", "overflow", counters.overflows.load(Relaxed));
                metrics.set_dropped("fanotify", "malformed", counters.malformed.load(Relaxed));
                metrics.set_hook_armed("fanotify", true);
                metrics.set_queue_depth("fanotify_spill", counters.spilled.load(Relaxed) as usize);
            }
        }
    }
}

impl Monitor {
    /// What is wrong with the backend since somebody meddled with it.
    pub fn faults(&self) -> Vec<String> {
        match self {
            Self::Bpf(monitor) => monitor.faults(),
            // What of it cannot be armed is tried again with each look.
            Self::Fanotify(_) => Vec::new(),
        }
    }

    /// Writes the columns of the collector.
    pub fn enter(&self, ledger: &Ledger) {
        use std::sync::atomic::Ordering::Relaxed;
        match self {
            Self::Bpf(monitor) => monitor.enter(ledger),
            Self::Fanotify(counters) => {
                let submitted = counters.submitted.load(Relaxed);
                // One thread does it all: nothing is between these.
                for stage in [Stage::Delivered, Stage::Resolved, Stage::Received, Stage::Submitted]
                {
                    ledger.set(stage, submitted);
                }
                ledger.set(Stage::Error, counters.error.load(Relaxed));
                ledger.set(Stage::Lost, counters.lost.load(Relaxed));
                ledger.set(Stage::Filtered, counters.filtered.load(Relaxed));
                ledger.set(Stage::Seen, counters.seen.load(Relaxed));
            }
        }
    }
}

/// What a backend is to do.
pub struct Request<'a> {
    /// Which.
    pub backend: Backend,
    /// Resolved.
    pub policy: &'a Policy,
    /// Between the kernel and the pipeline.
    pub collector: config::Collector,
    /// Trees whose events are nobody's business.
    pub ignore: Ignored,
    /// The processes.
    pub table: Arc<Mutex<Table>>,
    /// Into the pipeline.
    pub sender: ObservationSender,
    /// Where losses are told.
    pub losses: Losses,
    /// Takes what the canary did.
    pub post: Arc<Post>,
    /// In place of a backend: this many rounds of a replay, of the files below this directory.
    pub replay: Option<(u32, PathBuf)>,
}

/// Starts the backend asked for; with `auto`, bpf where it works, else fanotify.
///
/// # Errors
/// When none of what was asked for works.
pub fn start(request: &Request<'_>) -> Result<Running, BackendError> {
    if let Some((rounds, root)) = &request.replay {
        return Ok(start_replay(request, *rounds, root)?);
    }
    match request.backend {
        Backend::Bpf => Ok(start_bpf(request, "as asked for")?),
        Backend::Fanotify => Ok(start_fanotify(request, "as asked for")?),
        Backend::Auto => match start_bpf(request, "it works here") {
            Ok(running) => Ok(running),
            Err(bpf) => match start_fanotify(request, &format!("bpf does not work here: {bpf}")) {
                Ok(running) => Ok(running),
                Err(fanotify) => Err(BackendError::Neither { bpf, fanotify }),
            },
        },
    }
}

fn start_bpf(request: &Request<'_>, reason: &str) -> Result<Running, BpfError> {
    let collector = BpfCollector::start(bpf_options(request))?;
    Ok(Running {
        exempt: collector.exempt(),
        monitor: Monitor::Bpf(collector.monitor()),
        choice: format!("backend bpf ({reason})"),
        collector: Box::new(collector),
        replay: None,
    })
}

fn start_replay(request: &Request<'_>, rounds: u32, root: &Path) -> Result<Running, BpfError> {
    let progress = Arc::new(replay::Progress::default());
    let options = bpf_options(request);
    let replay = Replay::of(root, rounds, Arc::clone(&progress))?;
    let collector = BpfCollector::replay(replay, options)?;
    Ok(Running {
        exempt: Arc::new(|_| ()),
        monitor: Monitor::Bpf(collector.monitor()),
        choice: format!("{rounds} rounds of a replay"),
        replay: Some(Replaying { progress, monitor: collector.monitor() }),
        collector: Box::new(collector),
    })
}

fn bpf_options(request: &Request<'_>) -> bpf::Options {
    bpf::Options {
        watches: bpf::watches(request.policy, &request.post),
        prunes: request.policy.prunes(),
        attempts: bpf::wants_attempts(request.policy),
        ring_bytes: request.collector.ring_bytes,
        table: Arc::clone(&request.table),
        sender: request.sender.clone(),
        losses: request.losses.clone(),
        post: Arc::clone(&request.post),
    }
}

fn start_fanotify(request: &Request<'_>, reason: &str) -> Result<Running, FanotifyError> {
    let table = &request.table;
    let (feed, processes) = match ProcessFeed::start(PROCESS_RING, request.losses.clone()) {
        Ok(feed) => (Some(feed), "processes from eBPF tracepoints"),
        Err(error) => {
            tracing::warn!(
                %error,
                "no eBPF tracepoints: a process that ends before its event is read has no name"
            );
            (None, "processes from /proc")
        }
    };
    if let Err(error) = lock(table).snapshot() {
        tracing::warn!(%error, "/proc cannot be listed");
    }
    let (scope, watch_paths) = fanotify::scope_of(request.policy, &request.post);
    let sync: Box<dyn FnMut() + Send> = match feed {
        Some(mut feed) => {
            let table = Arc::clone(table);
            Box::new(move || feed.drain(&mut lock(&table)))
        }
        None => Box::new(|| ()),
    };
    let collector = FanotifyCollector::start(fanotify::Options {
        scope,
        watch_paths,
        ignore: request.ignore.clone(),
        ignore_self: true,
        sync,
        table: Arc::clone(table),
        sender: request.sender.clone(),
        losses: request.losses.clone(),
        post: Arc::clone(&request.post),
        spill: request.collector.spill_events,
        unlimited_queue: request.collector.unlimited_queue,
    })?;
    Ok(Running {
        // It knows the canary by its directories.
        exempt: Arc::new(|_| ()),
        monitor: Monitor::Fanotify(collector.counters()),
        choice: format!("backend fanotify ({reason}), {processes}"),
        collector: Box::new(collector),
        replay: None,
    })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
