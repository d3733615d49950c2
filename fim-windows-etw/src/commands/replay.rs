//! `replay`: the events of a recorded trace.
//!
//! `trace -> decode -> correlate => Operation => policy => fold -> event -> standard output`

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use fim_common::collector::Gap;
use fim_common::config::Config;
use fim_common::event::{Agent, Host, Os};
use fim_common::pipeline::{Format, Replay, ReplayOptions};
use fim_common::policy::{Pattern, PatternError, Policy, Rule};
use fim_common::time::Timestamp;

use super::exit;
use super::stats::{self, Stats};
use crate::correlate::{Correlator, Everything, Options};
use crate::decode::{self, KERNEL_FILE};
use crate::etl::{EtlError, EventKey, LogFileHeader, Source, Summary, Trace};
use crate::filetime::timestamp;
use crate::paths::{Devices, NoLongNames};
use crate::process::NoAccounts;

/// What to replay, and how to show it.
pub struct Arguments {
    /// The trace.
    pub file: PathBuf,
    /// Statistics in place of events.
    pub stats: bool,
    /// For people, else JSON.
    pub pretty: bool,
    /// Paths and globs of a rule each.
    pub watch: Vec<String>,
    /// Rules.
    pub config: Option<PathBuf>,
    /// Devices, and what they are.
    pub map: Vec<(String, String)>,
}

/// A path given with `--watch` is none.
#[derive(Debug, thiserror::Error)]
#[error("--watch {text}: {error}")]
pub struct BadPattern {
    text: String,
    error: PatternError,
}

/// The outcome of a request on a file.
const OPERATION_END: EventKey =
    EventKey { source: Source::Manifest(KERNEL_FILE), id: 24, version: 0 };

/// Damages that are told one by one.
const TOLD_MAX: usize = 20;

/// Replays a trace.
///
/// # Errors
/// When the file is no trace or cannot be read, or the arguments are wrong. A damaged trace is
/// replayed as far as it can be read, and then has the exit code 1.
pub fn replay(arguments: &Arguments) -> anyhow::Result<u8> {
    // What is wrong with the arguments is said before anything is read.
    let config = config(arguments)?;
    let policy = policy(arguments, config.as_ref())?;
    let name = arguments.file.display();
    let file = File::open(&arguments.file).with_context(|| format!("{name}"))?;
    let mut trace = Trace::open(file, &[OPERATION_END]).with_context(|| format!("{name}"))?;
    let header = trace.header().clone();

    let default = Config::default();
    let events = config.as_ref().map_or(default.events, |config| config.events);
    let mut pipeline = Replay::new(ReplayOptions {
        policy,
        format: match (arguments.stats, arguments.pretty) {
            (true, _) => Format::None,
            (false, true) => Format::Pretty,
            (false, false) => Format::Json,
        },
        host: host(&header),
        agent: agent(),
        fold: events.fold,
        settle: events.settle,
        alert_severity: events.alert_severity,
    })?;
    let mut devices = Devices::default();
    for (device, path) in &arguments.map {
        devices.map(device, path);
    }
    let mut correlator = Correlator::new(Options {
        devices,
        long_names: Box::new(NoLongNames),
        accounts: Box::new(NoAccounts),
        scope: Box::new(Everything),
        outcomes: trace.has(OPERATION_END),
    });

    let mut stats = Stats::default();
    let mut operations = Vec::new();
    let mut last = header.start;
    let mut failed: Option<EtlError> = None;
    loop {
        let record = match trace.next_record() {
            Ok(Some(record)) => record,
            Ok(None) => break,
            Err(error) => {
                failed = Some(error);
                break;
            }
        };
        last = last.max(record.filetime);
        let decoded = decode::decode(&record);
        stats.count(record.key, decoded.as_ref().err().copied());
        if let Ok(event) = &decoded {
            correlator.take(&record, event, &mut operations);
        }
        for operation in operations.drain(..) {
            stats.operations += 1;
            pipeline.operation(operation);
        }
    }
    correlator.finish(&mut operations);
    for operation in operations.drain(..) {
        stats.operations += 1;
        pipeline.operation(operation);
    }
    pipeline.settle();
    let summary = trace.summary();
    let (from, to) = (timestamp(header.start), timestamp(last.max(header.end)));
    for gap in gaps(&header, summary, &stats, from, to) {
        pipeline.gap(&gap);
    }
    let (events, mut printed) = pipeline.finish();
    stats.events = events;

    if arguments.stats {
        let report = stats.report(&header, summary, &correlator.counts());
        let mut out = std::io::stdout().lock();
        let text = if arguments.pretty { report.table() } else { report.json()? };
        printed = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
    complain(arguments, summary, &header, &stats);
    if let Some(error) = failed {
        return Err(anyhow::Error::new(error).context(format!("{name}")));
    }
    match printed {
        // Whoever reads may have seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
        printed => printed.context("standard output cannot be written")?,
    }
    Ok(if summary.damaged > 0 { exit::FAILURE } else { exit::OK })
}

fn config(arguments: &Arguments) -> anyhow::Result<Option<Config>> {
    Ok(arguments.config.as_deref().map(Config::load_windows).transpose()?)
}

/// The rules that were asked for; without any, everything is told.
fn policy(arguments: &Arguments, config: Option<&Config>) -> Result<Policy, BadPattern> {
    let mut rules = config.map_or_else(Vec::new, |config| config.rules.clone());
    for text in &arguments.watch {
        let patterns = Pattern::parse_windows(text)
            .map_err(|error| BadPattern { text: text.clone(), error })?;
        rules.push(Rule::new(format!("watch:{text}"), patterns));
    }
    if rules.is_empty() {
        rules.push(Rule { severity: 0, ..Rule::new("everything", vec![Pattern::everything()]) });
    }
    Ok(Policy::for_windows(rules))
}

/// Where the trace was recorded, as far as it says it.
fn host(header: &LogFileHeader) -> Host {
    let (major, minor) = header.version;
    Host {
        os: Os {
            kind: "windows".to_owned(),
            name: None,
            version: Some(format!("{major}.{minor}")),
            kernel: Some(format!("{major}.{minor}.{}", header.build)),
        },
        ..Host::default()
    }
}

fn agent() -> Agent {
    // Each replay is a start of its own: its events are numbered from 1.
    let now = Timestamp::now().as_nanos();
    Agent {
        kind: "fim".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        id: None,
        ephemeral_id: format!("replay-{now:x}-{}", std::process::id()),
    }
}

/// What the trace lacks.
fn gaps(
    header: &LogFileHeader,
    summary: &Summary,
    stats: &Stats,
    from: Timestamp,
    to: Timestamp,
) -> Vec<Gap> {
    let mut gaps = Vec::new();
    let gap = |hook: &str, count| Gap {
        from,
        to,
        count,
        hooks: vec![hook.to_owned()],
        scope: Vec::new(),
    };
    if header.events_lost > 0 || header.buffers_lost > 0 {
        // How many events a lost buffer had is not known.
        let count = (header.buffers_lost == 0).then_some(u64::from(header.events_lost));
        gaps.push(gap("etw", count));
    }
    if summary.damaged > 0 {
        gaps.push(gap("file", None));
    }
    let unread: u64 = stats.unread().map(|(_, versions, misfits)| versions + misfits).sum();
    if unread > 0 {
        gaps.push(gap("etw_undecoded", Some(unread)));
    }
    gaps
}

fn complain(arguments: &Arguments, summary: &Summary, header: &LogFileHeader, stats: &Stats) {
    let file = arguments.file.display();
    for damage in summary.damages.iter().take(TOLD_MAX) {
        tracing::error!(%file, "damaged: {damage}");
    }
    if summary.damaged as usize > TOLD_MAX {
        tracing::error!(%file, damages = summary.damaged, "damaged: and more of it");
    }
    if summary.disordered > 0 {
        tracing::warn!(
            %file,
            records = summary.disordered,
            "too many buffers cover the same time to keep all records in order"
        );
    }
    if header.events_lost > 0 || header.buffers_lost > 0 {
        tracing::warn!(
            %file,
            events = header.events_lost,
            buffers = header.buffers_lost,
            "lost when the trace was recorded"
        );
    }
    for (key, versions, misfits) in stats.unread().take(TOLD_MAX) {
        tracing::warn!(
            %file,
            id = key.id,
            version = key.version,
            provider = stats::provider(key.source),
            unknown_version = versions,
            payload_does_not_fit = misfits,
            "events of this kind are not used"
        );
    }
}
