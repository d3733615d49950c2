//! A rule: which objects, and what to do when something happens to one of them.

use std::path::Path;

use crate::content::{self, Keep};
use crate::event::Action;

use super::pattern::Pattern;
use super::{Condition, Expect, RegistryPattern};

/// Severity of a rule that has none.
pub const DEFAULT_SEVERITY: u8 = 50;
/// Larger files are not hashed unless the configuration says so.
pub const DEFAULT_MAX_HASH_SIZE: u64 = 256 << 20;

/// One rule of the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Unique in the policy; `rule.name` of its events.
    pub name: String,
    /// The objects.
    pub paths: Vec<Pattern>,
    /// Objects that this rule leaves out; other rules may still have them.
    pub exclude: Vec<Pattern>,
    /// The same paths inside every container are meant too.
    pub containers: bool,
    /// Registry keys and values; nothing but the Windows agent has them.
    pub registry: Vec<RegistryPattern>,
    /// What has to happen to them.
    pub operations: Operations,
    /// 0 (informational) to 100 (critical).
    pub severity: u8,
    /// `rule.category` of its events.
    pub category: Option<String>,
    /// `tags` of its events.
    pub tags: Vec<String>,
    /// MITRE ATT&CK ids, `threat.technique.id` of its events.
    pub techniques: Vec<String>,
    /// Whether content is hashed.
    pub hash: bool,
    /// Larger files are not hashed; bytes.
    pub max_hash_size: u64,
    /// Whether attempts that fail are told.
    pub attempts: bool,
    /// The rule is about operations for which one of these holds; empty: all.
    pub only: Vec<Condition>,
    /// Operations that are expected: told, and no alert.
    pub allow: Vec<Condition>,
    /// Operations that are counted, and told in summaries only.
    pub suppress: Vec<Condition>,
    /// What is expected of the objects.
    pub expect: Option<Expect>,
    /// The maintenance windows in which changes are expected, by name; empty: all.
    pub maintenance: Vec<String>,
    /// Whether events say what text changed.
    pub content_diff: bool,
    /// Whether the content is secret; `None`: that of some well-known files is.
    pub secret: Option<bool>,
}

impl Rule {
    /// A rule with every operation, the default severity, and content hashed.
    pub fn new(name: impl Into<String>, paths: Vec<Pattern>) -> Self {
        Self {
            name: name.into(),
            paths,
            exclude: Vec::new(),
            containers: false,
            operations: Operations::ALL,
            severity: DEFAULT_SEVERITY,
            category: None,
            tags: Vec::new(),
            techniques: Vec::new(),
            hash: true,
            max_hash_size: DEFAULT_MAX_HASH_SIZE,
            attempts: true,
            content_diff: false,
            secret: None,
            registry: Vec::new(),
            only: Vec::new(),
            allow: Vec::new(),
            suppress: Vec::new(),
            expect: None,
            maintenance: Vec::new(),
        }
    }

    /// In which form the content of the object at `path` may be kept.
    pub fn keep(&self, path: &Path) -> Keep {
        match self.secret.unwrap_or_else(|| content::is_secret_by_default(path)) {
            true => Keep::Digests,
            false => Keep::Text,
        }
    }
}

/// A set of actions that a rule asks for.
///
/// A file system mounted over a watched directory, and its unmounting, are in each set: they
/// hide or replace everything that the rule watches there.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Operations(u8);

/// What a rule can ask for, in the order of their bits.
const ACTIONS: [Action; 6] = [
    Action::Created,
    Action::Updated,
    Action::AttributesModified,
    Action::Moved,
    Action::Deleted,
    Action::Linked,
];

impl Operations {
    /// Everything that can happen to an object.
    pub const ALL: Self = Self((1 << ACTIONS.len()) - 1);

    /// The names a configuration can use.
    pub fn names() -> impl Iterator<Item = &'static str> {
        ACTIONS.iter().map(|action| action.as_str())
    }

    /// The action of that name, if a rule can ask for it.
    pub fn action(name: &str) -> Option<Action> {
        ACTIONS.into_iter().find(|action| action.as_str() == name)
    }

    /// Whether a rule with this set is about `action`.
    pub fn contains(self, action: Action) -> bool {
        match action {
            Action::Created
            | Action::Updated
            | Action::AttributesModified
            | Action::Moved
            | Action::Deleted
            | Action::Linked => self.iter().any(|member| member == action),
            Action::Mounted | Action::Unmounted => true,
            Action::AgentStarted
            | Action::AgentStopped
            | Action::ConfigChanged
            | Action::Gap
            | Action::GapClosed
            | Action::CanaryMissed
            | Action::AgentKilled
            | Action::AgentTampered
            | Action::ClockChanged
            | Action::Suppressed
            | Action::Heartbeat
            | Action::PackageRun
            | Action::BaselineCreated
            | Action::BaselineAccepted
            | Action::JournalDropped
            | Action::JournalFull
            | Action::JournalTruncated => false,
        }
    }

    /// The actions asked for.
    pub fn iter(self) -> impl Iterator<Item = Action> {
        (0..)
            .zip(ACTIONS)
            .filter(move |(bit, _)| self.0 & (1u8 << bit) != 0)
            .map(|(_, action)| action)
    }
}

impl FromIterator<Action> for Operations {
    /// Actions that do not happen to objects are left out.
    fn from_iter<I: IntoIterator<Item = Action>>(actions: I) -> Self {
        let bit = |action| ACTIONS.iter().position(|&known| known == action);
        Self(actions.into_iter().filter_map(bit).fold(0, |set, bit| set | 1 << bit))
    }
}

impl std::fmt::Debug for Operations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.iter().map(Action::as_str)).finish()
    }
}
