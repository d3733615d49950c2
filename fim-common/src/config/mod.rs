//! The configuration: what the file says, checked, with a default for everything.
//!
//! The file is read into `raw`, where every value knows its place, and then validated into
//! [`Config`], whose values need no more checks. All that is wrong with the values is reported at
//! once, each with file, line and column.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use crate::content;
use crate::journal::{Fsync, OnFull};
use crate::policy::{self, Pattern, Policy, RegistryPattern, Rule, Window};
use crate::scan::Limits;

mod fold;
mod raw;
mod reference;
mod render;
mod render_sinks;
mod rules;
pub mod sink;
mod sinks;
mod sinks_kafka;
mod source;
mod validate;

#[cfg(test)]
mod rules_tests;
#[cfg(test)]
mod sinks_tests;
#[cfg(test)]
mod tests;

pub use fold::Fold;
pub use reference::reference_markdown;
pub use render::{quoted, to_toml};
pub use source::Loaded;

/// Where the configuration lies when nothing else is said.
pub const DEFAULT_PATH: &str = crate::platform::CONFIGURATION;

/// The configuration in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The file it was read from; `None`: nobody wrote one.
    pub file: Option<PathBuf>,
    /// The source of events.
    pub backend: Backend,
    /// The journal.
    pub journal: Journal,
    /// Metrics and health.
    pub metrics: Metrics,
    /// Hashing.
    pub hash: Hash,
    /// Earlier contents.
    pub content: content::Limits,
    /// How operations become events.
    pub events: Events,
    /// One change, one event.
    pub fold: Fold,
    /// Between the kernel and the pipeline.
    pub collector: Collector,
    /// The agent's check of itself.
    pub canary: Canary,
    /// What package managers change.
    pub packages: Packages,
    /// Comparing the disk with the baseline.
    pub scan: Scan,
    /// Where events go besides the journal, names unique.
    pub sinks: Vec<sink::Sink>,
    /// The rules in force, not empty, names unique; those of the file before the built-in.
    pub rules: Vec<Rule>,
    /// The maintenance windows, names unique.
    pub windows: Vec<Window>,
}

/// A choice of the source of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// The best that works here.
    #[default]
    Auto,
    /// eBPF programs.
    Bpf,
    /// fanotify.
    Fanotify,
}

impl Backend {
    /// Each with its name.
    const ALL: [(&'static str, Self); 3] =
        [("auto", Self::Auto), ("bpf", Self::Bpf), ("fanotify", Self::Fanotify)];

    /// Its name in the configuration and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Bpf => "bpf",
            Self::Fanotify => "fanotify",
        }
    }
}

impl std::str::FromStr for Backend {
    type Err = UnknownBackend;

    fn from_str(name: &str) -> Result<Self, UnknownBackend> {
        let known = Self::ALL.into_iter().find(|(known, _)| *known == name);
        known.map(|(_, backend)| backend).ok_or(UnknownBackend)
    }
}

/// No backend has this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("unknown backend; allowed: auto, bpf, fanotify")]
pub struct UnknownBackend;

/// `[journal]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Journal {
    /// A segment that has reached this many bytes is closed.
    pub max_segment_bytes: u64,
    /// How many segments are kept.
    pub max_segments: u32,
    /// Segments whose last event is older are removed; `None`: only their number counts.
    pub max_age: Option<Duration>,
    /// When the disk is asked to keep what was written.
    pub fsync: Fsync,
    /// What is done when there is no room.
    pub on_full: OnFull,
    /// How often the agent says that it lives; `None`: never.
    pub heartbeat: Option<Duration>,
}

/// `[metrics]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// Whether they are served.
    pub enabled: bool,
    /// Where.
    pub listen: SocketAddr,
    /// The files of certificates and their key; `None`: in clear text.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// A name, and the file of its password; `None`: nobody is asked.
    pub login: Option<(String, PathBuf)>,
}

/// `[hash]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hash {
    /// Larger files are not hashed; bytes. In force through [`Rule::max_hash_size`].
    pub max_size: u64,
    /// Threads that hash; 0: as many as there are cores.
    pub workers: u32,
    /// Larger files are hashed aside; bytes.
    pub large: u64,
}

/// `[events]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Events {
    /// From this severity on, an event is an alert.
    pub alert_severity: u8,
    /// Operations on the same object within this time become one event.
    pub fold: Duration,
    /// A file still written to is reported again when it has been quiet for this long.
    pub settle: Duration,
    /// How often what was suppressed is summed up.
    pub suppressed_interval: Duration,
}

/// `[collector]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Collector {
    /// Size of the kernel's ring: a power of two of at least 4096 bytes.
    pub ring_bytes: u32,
    /// Observations that may wait for the pipeline.
    pub queue_events: usize,
    /// fanotify: operations that are held beyond that.
    pub spill_events: usize,
    /// fanotify: the kernel's queue has no limit but memory.
    pub unlimited_queue: bool,
    /// Windows: bytes of a buffer of a session.
    pub etw_buffer: u32,
    /// Windows: buffers of a session at most.
    pub etw_buffers: u32,
    /// Windows: bytes of records that may wait.
    pub etw_queue: usize,
}

/// `[canary]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Canary {
    /// How often; `None`: never.
    pub interval: Option<Duration>,
}

/// `[packages]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packages {
    /// Changes are compared with the package databases.
    pub enabled: bool,
    /// How long an event of a run may wait for its end.
    pub hold: Duration,
    /// Changes that were to be expected are told one by one, too.
    pub details: bool,
    /// From this severity on, a change of a run that cannot be verified is an alert.
    pub alert_severity: u8,
}

/// `[scan]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scan {
    /// What a scan may take of the machine.
    pub limits: Limits,
    /// The time within which all content is compared once; `None`: never.
    pub verify: Option<Duration>,
}

impl Default for Config {
    /// What is in force when nobody wrote a file: the recommended policy.
    fn default() -> Self {
        Self {
            file: None,
            backend: Backend::Auto,
            journal: Journal {
                max_segment_bytes: 64 << 20,
                max_segments: 16,
                max_age: None,
                fsync: Fsync::Interval,
                on_full: OnFull::Block,
                heartbeat: Some(Duration::from_secs(60)),
            },
            metrics: Metrics {
                enabled: true,
                listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9977)),
                tls: None,
                login: None,
            },
            hash: Hash { max_size: policy::DEFAULT_MAX_HASH_SIZE, workers: 0, large: 64 << 20 },
            content: content::Limits::default(),
            events: Events {
                alert_severity: 70,
                fold: Duration::from_millis(50),
                settle: Duration::from_secs(1),
                suppressed_interval: Duration::from_secs(3600),
            },
            fold: Fold::default(),
            collector: Collector {
                ring_bytes: 8 << 20,
                queue_events: 65_536,
                spill_events: 262_144,
                unlimited_queue: true,
                etw_buffer: 256 << 10,
                etw_buffers: 128,
                etw_queue: 64 << 20,
            },
            canary: Canary { interval: Some(Duration::from_secs(60)) },
            packages: Packages {
                enabled: true,
                hold: Duration::from_secs(60),
                details: false,
                alert_severity: 100,
            },
            scan: Scan { limits: Limits::default(), verify: Some(Duration::from_secs(604_800)) },
            sinks: Vec::new(),
            rules: policy::recommended(),
            windows: Vec::new(),
        }
    }
}

impl Config {
    /// Reads the file that was `named`, or the one at [`DEFAULT_PATH`] if there is one.
    ///
    /// # Errors
    /// When the named file is missing, the file cannot be read or is writable by others, or
    /// something in it is wrong.
    pub fn load(named: Option<&Path>) -> Result<Self, Error> {
        Loaded::read(named).config
    }

    /// Reads a file whose rules are about Windows paths. There is no file, and no rule, unless it
    /// is named: the recommended rules are those of Linux.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_windows(file: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(file).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => Error::Missing { file: file.into() },
            _ => Error::Read { file: file.into(), source },
        })?;
        validate::windows_config(&text, file).map_err(|problems| Error::Invalid { problems })
    }

    /// The configuration in `text`; `file` is what errors name.
    ///
    /// # Errors
    /// When something in it is wrong.
    pub fn parse(text: &str, file: &Path) -> Result<Self, Error> {
        validate::config(text, file).map_err(|problems| Error::Invalid { problems })
    }

    /// The defaults, with a recursive rule for each of `paths` in place of the recommended ones:
    /// what `--watch` means without `--config`. The paths are absolute.
    pub fn from_watch_paths(paths: Vec<PathBuf>) -> Self {
        let mut config = Self { rules: Vec::new(), ..Self::default() };
        config.add_watch_paths(paths);
        config
    }

    /// Adds a recursive rule for each of `paths`, which are absolute. A path twice is one rule.
    pub fn add_watch_paths(&mut self, paths: Vec<PathBuf>) {
        for path in paths {
            let name = format!("watch:{}", path.display());
            let pattern = match cfg!(windows) {
                true => Pattern::literal_windows(&path),
                false => Pattern::literal(path),
            };
            if !self.rules.iter().any(|rule| rule.paths == [pattern.clone()]) {
                let max_hash_size = self.hash.max_size;
                self.rules.push(Rule { max_hash_size, ..Rule::new(name, vec![pattern]) });
            }
        }
    }

    /// Adds a rule for a registry key and what is below it. A key twice is one rule.
    pub fn add_watch_key(&mut self, key: RegistryPattern) {
        if !self.rules.iter().any(|rule| rule.registry == [key.clone()]) {
            let name = format!("watch:{}", key.source());
            self.rules.push(Rule { registry: vec![key], ..Rule::new(name, Vec::new()) });
        }
    }

    /// The policy of the rules, not yet [resolved](Policy::resolved).
    pub fn policy(&self) -> Policy {
        let rules = self.rules.clone();
        let policy = if cfg!(windows) { Policy::for_windows(rules) } else { Policy::new(rules) };
        policy.with_windows(self.windows.clone())
    }
}

/// Why there is no configuration. The agent exits with 64 for each.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The file that was named is not there.
    #[error("{}: no such file; it was named with --config, so the recommended policy is not used in its place", file.display())]
    Missing {
        /// It.
        file: PathBuf,
    },
    /// The file could not be read.
    #[error("{}: cannot be read: {source}", file.display())]
    Read {
        /// It.
        file: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Somebody else could say what the agent does.
    #[error("{}: refused: {why}; it decides what is watched, so that nobody but root and the user of the agent may be able to change it", file.display())]
    Writable {
        /// The file.
        file: PathBuf,
        /// By whom, and what to do.
        why: String,
    },
    /// The file is no text.
    #[error("{}:{line}: not UTF-8, which TOML has to be", file.display())]
    Encoding {
        /// It.
        file: PathBuf,
        /// The line in which the first wrong byte stands, from 1.
        line: usize,
    },
    /// Something in the file is wrong.
    #[error("{}", lines(problems))]
    Invalid {
        /// What; not empty, in the order of the file.
        problems: Vec<Problem>,
    },
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}:{line}:{column}: {message}", file.display())]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong, and what is allowed.
    pub message: String,
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}
