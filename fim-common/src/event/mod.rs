//! The event: what users, journals and sinks see. One JSON object a line, fields named by the
//! Elastic Common Schema where it has a name, and `fim.*` where it has none.
//!
//! What is not known is absent, and `fim.unknown` says why. Ids are strings, as ECS types them
//! (`keyword`); sizes and process ids are numbers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smol_str::{ToSmolStr as _, format_smolstr};

use crate::policy;
use crate::state::{HashState, ObjectKind, ObjectState};
use crate::time::Timestamp;

pub mod actor;
mod content_diff;
mod expectation;
mod ntstatus;
mod package;
pub mod pretty;
pub mod schema;
mod shared;

pub use expectation::{
    Configuration, Expectation, Expected, Suppress, Suppressed, SuppressedProcess,
};
pub use package::{Manager, Package, PackageChange, PackageRun, RunFiles, Verdict};

use actor::{Container, Kubernetes, Process, User};
pub use content_diff::{ContentDiff, DiffState};
pub use shared::Shared;
pub use smol_str::SmolStr;

/// One event.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// When the kernel saw it.
    #[serde(rename = "@timestamp")]
    pub timestamp: Timestamp,
    /// What kind of event.
    pub event: Meta,
    /// The rule that decided.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rule: Option<Rule>,
    /// Tags of the rule.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub tags: Vec<String>,
    /// Threat classification, from the rule.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub threat: Option<Threat>,
    /// The object after the operation.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub file: Option<Box<File>>,
    /// The registry key or value after the operation.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub registry: Option<Box<Registry>>,
    /// The initiating process at the moment of the operation.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub process: Option<Shared<Process>>,
    /// The initiating user at the moment of the operation.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub user: Option<Shared<User>>,
    /// The container of the process.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub container: Option<Container>,
    /// The pod of the process.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub kubernetes: Option<Kubernetes>,
    /// The host.
    pub host: Shared<Host>,
    /// The agent.
    pub agent: Shared<Agent>,
    /// What ECS has no name for.
    pub fim: Fim,
}

/// `event.*`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Meta {
    /// Unique; a UUID of version 7.
    pub id: String,
    /// Gapless per agent start, from 1.
    pub sequence: u64,
    /// Event, alert, or the agent's own.
    pub kind: Kind,
    /// ECS categories.
    pub category: Vec<Category>,
    /// ECS types.
    #[serde(rename = "type")]
    pub types: Vec<Type>,
    /// What was done.
    pub action: Action,
    /// Whether it was done.
    pub outcome: Outcome,
    /// Which source saw it; absent for the agent's own events.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub provider: Option<Provider>,
    /// 0 (informational) to 100 (critical), from the rule.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub severity: Option<u8>,
}

/// `event.kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A change.
    Event,
    /// A change whose rule has at least the alerting severity.
    Alert,
    /// A measurement of the agent's own.
    Metric,
    /// A state of the agent's own.
    State,
}

/// `event.category`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// A file system object.
    File,
    /// A registry key or value.
    Registry,
    /// The agent or its configuration.
    Configuration,
    /// The host, for the agent's own events.
    Host,
    /// Installed software.
    Package,
}

/// `event.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Type {
    /// Came to be.
    Creation,
    /// Changed.
    Change,
    /// Is gone.
    Deletion,
    /// Denied, in addition to another type.
    Denied,
    /// Started.
    Start,
    /// Ended.
    End,
    /// Says something.
    Info,
    /// Says that something is wrong.
    Error,
}

/// `event.action`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// An object came to be.
    Created,
    /// Its content changed.
    Updated,
    /// Mode, owner, times, ACL, extended attributes or capabilities changed.
    AttributesModified,
    /// It has another name.
    Moved,
    /// It, or this name of it, is gone.
    Deleted,
    /// It has an additional name.
    Linked,
    /// A file system was mounted on or in a watched directory.
    Mounted,
    /// And unmounted.
    Unmounted,
    /// The agent watches: each operation after this event is in scope.
    AgentStarted,
    /// The agent has stopped; the last event of a start.
    AgentStopped,
    /// The configuration in force has changed.
    ConfigChanged,
    /// Operations were lost.
    Gap,
    /// What a gap covers has been compared with the disk.
    GapClosed,
    /// The agent did not see what it did itself: a hook has stopped.
    CanaryMissed,
    /// The last agent did not end in order: it was killed, or the machine lost power.
    AgentKilled,
    /// Somebody meddled with the agent: its programs or marks in the kernel, its program file, its
    /// state.
    AgentTampered,
    /// The clock of this host was set.
    ClockChanged,
    /// What rules suppressed since the last of these, or since the start.
    Suppressed,
    /// The agent lives.
    Heartbeat,
    /// A package manager has run: what it changed, as one event.
    PackageRun,
    /// Somebody had the baseline taken: what there is now is what is known.
    BaselineCreated,
    /// Somebody accepted what differs from the baseline.
    BaselineAccepted,
    /// A segment of the journal was removed.
    JournalDropped,
    /// There is no room for the journal.
    JournalFull,
    /// The end of the journal is missing, that was there when the agent ran last.
    JournalTruncated,
}

impl Action {
    /// The value in JSON and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::AttributesModified => "attributes_modified",
            Self::Moved => "moved",
            Self::Deleted => "deleted",
            Self::Linked => "linked",
            Self::Mounted => "mounted",
            Self::Unmounted => "unmounted",
            Self::AgentStarted => "agent_started",
            Self::AgentStopped => "agent_stopped",
            Self::ConfigChanged => "config_changed",
            Self::Gap => "gap",
            Self::GapClosed => "gap_closed",
            Self::CanaryMissed => "canary_missed",
            Self::AgentKilled => "agent_killed",
            Self::AgentTampered => "agent_tampered",
            Self::ClockChanged => "clock_changed",
            Self::Suppressed => "suppressed",
            Self::Heartbeat => "heartbeat",
            Self::PackageRun => "package_run",
            Self::BaselineCreated => "baseline_created",
            Self::BaselineAccepted => "baseline_accepted",
            Self::JournalDropped => "journal_dropped",
            Self::JournalFull => "journal_full",
            Self::JournalTruncated => "journal_truncated",
        }
    }
}

/// `event.outcome`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was done.
    Success,
    /// It was denied or failed; `fim.errno` says how.
    Failure,
}

impl Outcome {
    /// The value in JSON and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
        }
    }
}

/// `event.provider`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Provider {
    /// eBPF programs on the VFS and security functions.
    Bpf,
    /// fanotify.
    Fanotify,
    /// Event Tracing for Windows.
    Etw,
    /// A comparison of the disk with the baseline.
    Scan,
}

impl Provider {
    /// The value in JSON and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bpf => "bpf",
            Self::Fanotify => "fanotify",
            Self::Etw => "etw",
            Self::Scan => "scan",
        }
    }
}

/// `rule.*`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rule {
    /// Its name in the policy.
    pub name: SmolStr,
    /// Its category in the policy.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub category: Option<SmolStr>,
}

impl From<&policy::Rule> for Rule {
    fn from(rule: &policy::Rule) -> Self {
        Self { name: SmolStr::new(&rule.name), category: rule.category.as_ref().map(SmolStr::new) }
    }
}

/// `threat.*`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Threat {
    /// Technique.
    pub technique: Technique,
}

/// `threat.technique.*`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Technique {
    /// MITRE ATT&CK ids, `T1543.002`.
    pub id: Vec<String>,
}

/// `file.*`: the object after the operation (before it, for a deletion).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct File {
    /// Canonical path on the host; lossy where it is not UTF-8, see `fim.path_b64`.
    pub path: String,
    /// Last component.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// The alternate data stream that the path names (Windows).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub fork_name: Option<String>,
    /// The directory.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub directory: Option<String>,
    /// Type.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none", default)]
    pub kind: Option<ObjectKind>,
    /// Target of a symbolic link.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub target_path: Option<String>,
    /// `st_ino`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub inode: Option<SmolStr>,
    /// `st_dev` as `major:minor`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub device: Option<SmolStr>,
    /// Bytes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub size: Option<u64>,
    /// Permission bits, four octal digits.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mode: Option<SmolStr>,
    /// Owner's id.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uid: Option<SmolStr>,
    /// Group's id.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub gid: Option<SmolStr>,
    /// Owner's name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub owner: Option<SmolStr>,
    /// Group's name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub group: Option<SmolStr>,
    /// Last change of content.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mtime: Option<Timestamp>,
    /// Last change of content or attributes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ctime: Option<Timestamp>,
    /// Hashes of the content.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub hash: Option<Hash>,
    /// File attributes (`immutable`, `append_only`; on Windows `hidden`, `system` …).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub attributes: Option<Vec<String>>,
}

/// `registry.*`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Registry {
    /// `HKLM`, `HKU`; absent where it is not known, or the hive has no name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub hive: Option<String>,
    /// The key below the hive.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub key: Option<String>,
    /// The value; `(Default)` for the key's default value. Absent where the event is about the key.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub value: Option<String>,
    /// Hive, key and value.
    pub path: String,
    /// The data that was set.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub data: Option<RegistryData>,
}

/// `registry.data.*`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RegistryData {
    /// `REG_SZ`, `REG_DWORD` …
    #[serde(rename = "type", skip_serializing_if = "Option::is_none", default)]
    pub kind: Option<String>,
    /// Its texts; of a number, its decimal digits.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub strings: Option<Vec<String>>,
    /// The bytes in base64, as far as they were recorded.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub bytes: Option<String>,
}

/// `file.hash.*`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Hash {
    /// SHA-256, 64 lower-case hexadecimal digits.
    pub sha256: String,
}

/// One side of `fim.before` / `fim.after`: only what is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Side {
    /// Path, where it differs from `file.path`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub path: Option<String>,
    /// Type.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none", default)]
    pub kind: Option<ObjectKind>,
    /// Bytes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub size: Option<u64>,
    /// Permission bits, four octal digits.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mode: Option<SmolStr>,
    /// Owner's id.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uid: Option<SmolStr>,
    /// Group's id.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub gid: Option<SmolStr>,
    /// Last change of content.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mtime: Option<Timestamp>,
    /// `st_ino`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub inode: Option<SmolStr>,
    /// POSIX ACL entries in getfacl(1)'s short text.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub acl: Option<Vec<String>>,
    /// Other extended attributes, values in base64.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub xattrs: Option<BTreeMap<String, String>>,
    /// File capabilities in getcap(8)'s text.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub capabilities: Option<String>,
    /// File attributes (`immutable`, `append_only` …).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub attributes: Option<Vec<String>>,
    /// SHA-256 of the content.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sha256: Option<String>,
    /// Target of a symbolic link.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub target_path: Option<String>,
    /// Data of a registry value.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub data: Option<RegistryData>,
}

/// A property of an object that can differ, as named in `fim.changes`.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Property {
    /// Whether it is there at all.
    Existence,
    /// Its path.
    Path,
    /// Its type.
    Type,
    /// Its content.
    Content,
    /// Its size.
    Size,
    /// Its permission bits.
    Mode,
    /// Its owner's id.
    Uid,
    /// Its group's id.
    Gid,
    /// Its modification time.
    Mtime,
    /// Which inode it is.
    Inode,
    /// Its ACL.
    Acl,
    /// Its other extended attributes.
    Xattrs,
    /// Its capabilities.
    Capabilities,
    /// Its file attributes.
    Attributes,
    /// The target of the link.
    TargetPath,
    /// Its security descriptor: owner, group, access or audit rules (Windows).
    Security,
}

/// `fim.*`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Fim {
    /// The exact bytes of `file.path` in base64, where they are not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub path_b64: Option<String>,
    /// The path as the process saw it, where it differs.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub path_in_process: Option<String>,
    /// The path as the kernel has it, where `file.path` or `registry.path` is another one
    /// (Windows: `\Device\HarddiskVolume3\…`, `\REGISTRY\MACHINE\…`).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub original_path: Option<String>,
    /// The rights with which the process runs (Windows).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub token: Option<Box<actor::Token>>,
    /// The other name of a watched file: the watched one by which it was changed that has the name
    /// `file.path` too, the one where nothing is watched to which it was linked, or the one that a
    /// rename which failed would have given it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub link_path: Option<String>,
    /// The error of a failed attempt, `EACCES`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub errno: Option<String>,
    /// The known state before.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub before: Option<Box<Side>>,
    /// The known state after.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub after: Option<Box<Side>>,
    /// What a rename replaced at `file.path`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub replaced: Option<Box<Side>>,
    /// What differs.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub changes: Vec<Property>,
    /// How far the hash belongs to this event.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub hash_state: Option<HashState>,
    /// The content is hashed aside because it is large: an event `updated` that names this one in
    /// `fim.follows` brings the hash.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub hash_follows: bool,
    /// The `event.id` of the event whose hash this one brings.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub follows: Option<String>,
    /// What text changed, for rules with `content_diff`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub diff: Option<Box<ContentDiff>>,
    /// The raw operations folded into this event.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub operations: Vec<FoldedOperation>,
    /// Every process that had the file open for writing, when it is more than the one in
    /// `process`.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub writers: Vec<Writer>,
    /// Ancestors of the process, nearest first.
    #[serde(skip_serializing_if = "are_none", default)]
    pub ancestors: Shared<Vec<actor::Ancestor>>,
    /// What is not known of this event, and why: `{"process.args": "not_resident"}`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub unknown: BTreeMap<String, String>,
    /// `gap` and `gap_closed`: what was lost.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub gap: Option<Box<Gap>>,
    /// What the rule makes of who did it and when, where it says something of that.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expectation: Option<Box<Expectation>>,
    /// `suppressed`: what was, by rule and entry.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub suppressed: Vec<Suppressed>,
    /// `config_changed`: from what to what.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub configuration: Option<Box<Configuration>>,
    /// Not of the JSON: no rule asks for the event as it is, but it may be a step of a change that one
    /// asks for.
    #[serde(skip)]
    pub unasked: bool,
    /// Not of the JSON: the event is to be counted, not told.
    #[serde(skip)]
    pub suppress: Option<Suppress>,
    /// Whether the change was to be expected, by the package databases and who did it; absent when
    /// neither says anything.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub verdict: Option<Verdict>,
    /// Why `fim.verdict` is as it is; see docs/verdicts.md.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub verdict_reason: Option<String>,
    /// The package that has the path.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub package: Option<Package>,
    /// The run of a package manager that the change is part of; in `package_run` all of it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub package_run: Option<Box<PackageRun>>,
    /// When it was done, of what a comparison with the disk found; when nobody looked, of
    /// `agent_started`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub window: Option<Window>,
    /// `baseline_created` and `baseline_accepted`: what was taken into the baseline.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub baseline: Option<Box<BaselineChange>>,
    /// The agent's own events: what there is to say, for people.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub message: Option<String>,
    /// `agent_started`, `heartbeat` and `journal_dropped`: where the journal stands.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub journal: Option<Box<Journal>>,
    /// Hash chain of the journal: of this event and all before it. The last member of the line.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub chain: Option<String>,
}

fn are_none(ancestors: &Shared<Vec<actor::Ancestor>>) -> bool {
    ancestors.is_empty()
}

/// One element of `fim.operations`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FoldedOperation {
    /// `create`, `open_write`, `modify`, `close_write`, `truncate`, `set_attributes` …
    pub operation: SmolStr,
    /// How often it was seen. The kernel reports at most one `modify` a clock tick.
    pub count: u64,
    /// Bytes written, where the collector knows.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub bytes: Option<u64>,
    /// The first.
    pub first: Timestamp,
    /// The last.
    pub last: Timestamp,
    /// The name it was done to, or that it gave, where that is not `file.path`: of a temporary file
    /// or a backup of the same change.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub path: Option<String>,
    /// `rename`: the name before, in a change that consists of several steps.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub from: Option<String>,
    /// The content that it left in passing: not the one before the change, and not the one after.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sha256: Option<String>,
}

impl FoldedOperation {
    /// One operation, or `count` at once.
    pub fn new(operation: &str, count: u64, at: Timestamp) -> Self {
        Self {
            operation: operation.into(),
            count,
            bytes: None,
            first: at,
            last: at,
            path: None,
            from: None,
            sha256: None,
        }
    }
}

/// One element of `fim.writers`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Writer {
    /// The process.
    pub process: Shared<Process>,
    /// Its user.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub user: Option<Shared<User>>,
}

/// `fim.gap`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Gap {
    /// Nothing before this is missing.
    pub from: Timestamp,
    /// Nothing after this is missing.
    pub to: Timestamp,
    /// Records lost, where they could be counted.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub count: Option<u64>,
    /// Hooks or queues in which the loss happened.
    pub hooks: Vec<String>,
    /// The directories that are re-checked; empty: every watched root.
    pub scope: Vec<String>,
}

/// `fim.window`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Window {
    /// Not before: since then nobody looked. Absent where that is not known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub from: Option<Timestamp>,
    /// Not after: then it was looked at, or was watched again.
    pub to: Timestamp,
}

/// `fim.baseline`: how many objects were taken into the baseline, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BaselineChange {
    /// Objects that were looked at.
    pub objects: u64,
    /// Of those: that the baseline did not have.
    pub created: u64,
    /// That it had otherwise.
    pub updated: u64,
    /// That it had and that are gone.
    pub deleted: u64,
    /// That could not be read, and are in it as they were.
    pub unreadable: u64,
    /// At and below these paths; empty: everything that is watched.
    pub paths: Vec<String>,
}

/// `fim.journal`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Journal {
    /// Number of the segment; of `journal_dropped`, of the one that was removed.
    pub segment: u64,
    /// Events in it before this one; of `journal_dropped`, all that it had, where that is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub entries: Option<u64>,
    /// `fim.chain` of the event before this one; of `journal_dropped`, of its last event.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub head: Option<String>,
    /// The Ed25519 key that segments are signed with: 32 bytes in base64.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub public_key: Option<String>,
    /// `journal_dropped`: `count`, `age` or `disk_full`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
}

/// `host.*`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Host {
    /// Host name; absent for a trace of another host, which does not say it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// Machine id.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub id: Option<String>,
    /// Boot.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub boot: Option<Boot>,
    /// Machine architecture.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub architecture: Option<String>,
    /// Operating system.
    pub os: Os,
}

/// `host.boot.*`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Boot {
    /// Boot id.
    pub id: String,
}

/// `host.os.*`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Os {
    /// `linux`, `windows`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `Debian GNU/Linux`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// `12`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub version: Option<String>,
    /// Kernel release.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub kernel: Option<String>,
}

/// `agent.*`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Agent {
    /// `fim`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Version of the agent.
    pub version: String,
    /// Unique to the installation (the state directory).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub id: Option<String>,
    /// Unique to this start of the agent; `event.sequence` counts within it.
    pub ephemeral_id: String,
}

/// A path as JSON carries it: text, lossy where it must be.
pub fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The path that an event is about, by its exact bytes.
pub fn exact_path(event: &Event) -> Option<PathBuf> {
    match &event.fim.path_b64 {
        None => event.file.as_ref().map(|file| PathBuf::from(&file.path)),
        Some(text) => {
            let bytes = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
            Some(crate::platform::path(bytes))
        }
    }
}

/// The exact bytes of a path in base64, when `path_text` cannot carry them.
pub fn path_base64(path: &Path) -> Option<String> {
    match path.to_str() {
        Some(_) => None,
        None => Some(
            base64::engine::general_purpose::STANDARD.encode(path.as_os_str().as_encoded_bytes()),
        ),
    }
}

/// The name of an error as errno(3) has it; `E` and the number for one that no file operation
/// on Linux is known to fail with. A negative number is an NTSTATUS, and has the name of that.
pub fn errno_name(errno: i32) -> String {
    if errno < 0 {
        return ntstatus::name(errno as u32);
    }
    // include/uapi/asm-generic/errno-base.h and errno.h; the same on x86-64 and arm64.
    const NAMES: [(i32, &str); 26] = [
        (1, "EPERM"),
        (2, "ENOENT"),
        (4, "EINTR"),
        (5, "EIO"),
        (6, "ENXIO"),
        (9, "EBADF"),
        (11, "EAGAIN"),
        (12, "ENOMEM"),
        (13, "EACCES"),
        (16, "EBUSY"),
        (17, "EEXIST"),
        (18, "EXDEV"),
        (20, "ENOTDIR"),
        (21, "EISDIR"),
        (22, "EINVAL"),
        (26, "ETXTBSY"),
        (27, "EFBIG"),
        (28, "ENOSPC"),
        (30, "EROFS"),
        (31, "EMLINK"),
        (36, "ENAMETOOLONG"),
        (39, "ENOTEMPTY"),
        (40, "ELOOP"),
        (95, "EOPNOTSUPP"),
        (116, "ESTALE"),
        (122, "EDQUOT"),
    ];
    let name = NAMES.iter().find(|(number, _)| *number == errno).map(|(_, name)| *name);
    name.map_or_else(|| format!("E{errno}"), str::to_owned)
}

/// Permission bits as events carry them: four octal digits.
pub fn mode_text(mode: u32) -> SmolStr {
    format_smolstr!("{:04o}", mode & 0o7777)
}

impl Side {
    /// The side that `state` describes; `path` only where it is worth saying.
    pub fn new(state: &ObjectState, path: Option<&Path>) -> Self {
        Self {
            path: path.map(path_text),
            kind: state.kind,
            size: state.size,
            mode: state.mode.map(mode_text),
            uid: state.uid.map(|id| id.to_smolstr()),
            gid: state.gid.map(|id| id.to_smolstr()),
            mtime: state.mtime,
            inode: state.inode.map(|inode| inode.to_smolstr()),
            acl: state.acl.clone(),
            xattrs: state.xattrs.clone(),
            capabilities: state.capabilities.clone(),
            attributes: state.attributes.clone(),
            sha256: state.sha256.clone(),
            target_path: state.target_path.as_deref().map(path_text),
            data: None,
        }
    }
}
