//! What the commands of an agent share: what is asked for, what is opened, and what comes first.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use fim_common::baseline::{Baseline, StateDir};
use fim_common::config::sink::{Sink, Target};
use fim_common::config::{Backend, Config, Loaded};
use fim_common::content::Contents;
use fim_common::event::{Agent, Window};
use fim_common::ignored::Ignored;
use fim_common::journal::{Journal, JournalOptions, Key};
use fim_common::pipeline::{Format, scope_of};
use fim_common::policy::{Policy, RegistryPattern};
use fim_common::scan::{self, Limits, Mode, Root};
use fim_common::time::Timestamp;

use crate::exit;
use crate::survey::Survey;

/// What the command line says.
#[derive(Clone, Debug, Default)]
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
    /// `fim replay`: how many rounds, in place of a backend.
    pub replay: Option<u32>,
}

impl Arguments {
    /// `--watch` without `--config` takes the place of every file.
    pub fn has_no_file(&self) -> bool {
        self.config.is_none() && !self.watch.is_empty()
    }
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
    /// With an exit code.
    pub fn new(code: u8, error: impl std::fmt::Display) -> Self {
        Self { code, message: error.to_string() }
    }

    /// Something failed at run time.
    pub fn runtime(error: impl std::fmt::Display) -> Self {
        Self::new(exit::FAILURE, error)
    }
}

/// The configuration that the command line asks for.
///
/// # Errors
/// With the exit code for bad configuration.
pub fn configuration(arguments: &Arguments) -> Result<Config, Failure> {
    read_configuration(arguments).1
}

/// The configuration that the command line asks for, and the SHA-256 of its file.
pub fn read_configuration(arguments: &Arguments) -> (Option<String>, Result<Config, Failure>) {
    if arguments.has_no_file() {
        return (None, overridden(arguments, Config::from_watch_paths(Vec::new())));
    }
    let Loaded { sha256, config } = Loaded::read(arguments.config.as_deref());
    let config = config.map_err(|error| Failure::new(exit::USAGE, error));
    (sha256, config.and_then(|config| overridden(arguments, config)))
}

/// What the command line says in place of the file.
fn overridden(arguments: &Arguments, mut config: Config) -> Result<Config, Failure> {
    let mut watch = Vec::with_capacity(arguments.watch.len());
    for path in &arguments.watch {
        if let Some(key) = registry_key(path) {
            config.add_watch_key(key);
            continue;
        }
        let absolute = std::path::absolute(path).map_err(|error| {
            Failure::new(exit::USAGE, format!("--watch {}: {error}", path.display()))
        })?;
        watch.push(absolute);
    }
    config.add_watch_paths(watch);
    if let Some(backend) = arguments.backend {
        config.backend = backend;
    }
    if let Some(sink) = stdout_sink(&config)
        && arguments.output.is_some_and(|format| format != Format::None)
    {
        let message = format!(
            "standard output belongs to the sink {:?}: leave --output out, or say --output none",
            sink.name
        );
        return Err(Failure::new(exit::USAGE, message));
    }
    if let Some(listen) = arguments.metrics {
        config.metrics.enabled = true;
        config.metrics.listen = listen;
    }
    Ok(config)
}

/// What standard output gets of `--output`: nothing where a sink has it.
pub fn output_format(asked: Option<Format>, config: &Config) -> Format {
    match stdout_sink(config) {
        Some(_) => Format::None,
        None => asked.unwrap_or_else(Format::for_stdout),
    }
}

/// The sink that standard output belongs to.
pub fn stdout_sink(config: &Config) -> Option<&Sink> {
    config.sinks.iter().find(|sink| sink.target == Target::Stdout)
}

/// Opens the journal, to write to it.
///
/// # Errors
/// When it, or the key that it is signed with, is damaged or cannot be read.
pub fn open_journal(config: &Config, state: &StateDir) -> Result<Journal, Failure> {
    let options = JournalOptions {
        segment_bytes: config.journal.max_segment_bytes,
        segments: config.journal.max_segments as usize,
        max_age: config.journal.max_age,
        fsync: config.journal.fsync,
        on_full: config.journal.on_full,
        key: Some(Key::open(state.path()).map_err(Failure::runtime)?),
    };
    Journal::open(&state.journal(), options).map_err(Failure::runtime)
}

/// This start of the agent.
pub fn agent(id: Option<&str>, start: &str) -> Agent {
    Agent {
        kind: "fim".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        id: id.map(str::to_owned),
        ephemeral_id: start.to_owned(),
    }
}

/// A new `agent.ephemeral_id`: 122 random bits, RFC 9562.
pub fn start_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// The registry key that `--watch` names, where there is a registry.
pub fn registry_key(path: &Path) -> Option<RegistryPattern> {
    let text = path.to_str().filter(|_| cfg!(windows))?;
    RegistryPattern::parse(text, None).ok()
}

/// The watched places, for a line of text.
pub fn places(policy: &Policy) -> String {
    const SHOWN: usize = 4;
    let roots = scope_of(policy);
    let files = roots.iter().map(|root| root.path.display().to_string());
    let keys = policy.registry_keys().into_iter().filter(|_| cfg!(windows));
    let keys = keys.map(|key| key.source().to_owned());
    let mut places: Vec<String> = files.chain(keys).collect();
    let more = places.len().saturating_sub(SHOWN);
    places.truncate(SHOWN);
    let mut text = places.join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

/// Takes the baseline of what is watched for the first time. Returns since when nobody watched,
/// and what has to be compared because of that, which the pipeline has done.
///
/// # Errors
/// When the baseline cannot be read or written.
pub fn first_scan(
    baseline: &Baseline,
    policy: Policy,
    ignore: Ignored,
    limits: Limits,
    cancel: &AtomicBool,
) -> Result<(Option<Window>, Vec<Root>), scan::ScanError> {
    let to = Timestamp::now();
    let mut survey = Survey::new(policy, ignore);
    for root in baseline.scanned()? {
        // Nobody asks for it any more, and it is gone, as a container that was removed.
        if !survey.watches(&root) && std::fs::symlink_metadata(&root).is_err() {
            baseline.forget_below(&root)?;
        }
    }
    let mut fresh = Vec::new();
    let mut known = Vec::new();
    for root in std::mem::take(&mut survey.roots) {
        match baseline.scan_complete(&root.path)? {
            Some(_) => known.push(root),
            None => fresh.push(root),
        }
    }
    survey.roots = fresh;
    if !survey.roots.is_empty() {
        let summary = survey.with_progress(limits, false, cancel, None, |scope, options| {
            scan::reconcile(baseline, scope, Mode::First, options, &mut |_| {})
        })?;
        tracing::info!(
            objects = summary.objects,
            bytes = summary.bytes,
            unreadable = summary.errors,
            "baseline taken"
        );
        if !summary.cancelled {
            for root in &survey.roots {
                baseline.set_scan_complete(&root.path, Timestamp::now())?;
            }
        }
    }
    let from = baseline.take_down_since()?;
    baseline.flush()?;
    let down = (from.is_some() || !known.is_empty()).then_some(Window { from, to });
    Ok((down, known))
}

/// Where earlier contents are kept, if a rule asks for it.
///
/// # Errors
/// When they cannot be kept there.
pub fn contents(
    config: &Config,
    policy: &Policy,
    state: &StateDir,
) -> Result<Option<Arc<Contents>>, Failure> {
    if !policy.rules().iter().any(|rule| rule.content_diff) {
        return Ok(None);
    }
    let contents = Contents::open(state.path(), config.content).map_err(|error| {
        let place = state.path().display();
        Failure::runtime(format!("contents cannot be kept below {place}: {error}"))
    })?;
    Ok(Some(Arc::new(contents)))
}
