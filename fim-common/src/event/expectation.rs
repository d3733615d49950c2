//! What the policy expected, what it suppressed, and that it was changed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// `fim.expectation`: what the rule makes of who changed the object, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Expectation {
    /// By what.
    pub by: Expected,
    /// Whether the change is as the rule expects: then it is no alert, else it is one, whatever
    /// the severity.
    pub met: bool,
    /// The maintenance window that was open.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub window: Option<String>,
    /// The entry of `allow` that holds: its `reason`, or what it says.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub allowed: Option<String>,
}

/// `fim.expectation.by`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Expected {
    /// `expect = "never"`.
    Never,
    /// `expect = "maintenance"`.
    Maintenance,
    /// An entry of `allow`.
    Allow,
}

/// Why an event is counted and not told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suppress {
    /// What the entry of `suppress` says.
    pub condition: String,
    /// Its `reason`.
    pub reason: Option<String>,
}

/// One element of `fim.suppressed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Suppressed {
    /// The rule.
    pub rule: String,
    /// What its entry of `suppress` says.
    pub condition: String,
    /// The entry's `reason`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// Events that were not told.
    pub count: u64,
    /// The first of them.
    pub first: Timestamp,
    /// The last.
    pub last: Timestamp,
    /// Their paths, the first 32 that were seen.
    pub paths: Vec<String>,
    /// Events on paths beyond those.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub elsewhere: u64,
    /// Who, the first 16 that were seen.
    pub processes: Vec<SuppressedProcess>,
}

/// One element of `fim.suppressed[].processes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SuppressedProcess {
    /// Path of the executable, or the name where it is not known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub executable: Option<String>,
    /// Effective user, by name or id.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub user: Option<String>,
    /// Events.
    pub count: u64,
}

/// `fim.configuration`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Configuration {
    /// The file.
    pub file: String,
    /// What made the agent look at it: `file_change` or `SIGHUP`.
    pub trigger: String,
    /// SHA-256 of the file that was in force; absent: there was none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub before_sha256: Option<String>,
    /// SHA-256 of the file that was found, in force from now on if `event.outcome` is `success`;
    /// absent: there is none, or it cannot be read.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub after_sha256: Option<String>,
    /// Names of rules that are new.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub rules_added: Vec<String>,
    /// Names of rules that are gone.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub rules_removed: Vec<String>,
    /// Names of rules that say something else.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub rules_changed: Vec<String>,
    /// Keys and tables outside of the rules that say something else and are in force.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub settings_changed: Vec<String>,
    /// Keys and tables that say something else, in force after a restart.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub restart_needed: Vec<String>,
    /// What is wrong with the file, with line and column.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub errors: Vec<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}
