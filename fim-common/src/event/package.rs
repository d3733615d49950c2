//! What an event says of packages.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// `fim.verdict`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// A package manager did it, and what is there is what its database says.
    Expected,
    /// A package's file is not as the package has it, or somebody else changed it.
    Unexpected,
    /// Nothing proves either.
    Unknown,
}

/// Whose database of packages.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Manager {
    /// dpkg (Debian, Ubuntu).
    Dpkg,
    /// rpm (Fedora, RHEL, SUSE).
    Rpm,
    /// apk (Alpine).
    Apk,
}

impl Manager {
    /// The value in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dpkg => "dpkg",
            Self::Rpm => "rpm",
            Self::Apk => "apk",
        }
    }
}

/// `fim.package`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version, as the package manager writes it.
    pub version: String,
    /// Whose database has it.
    pub manager: Manager,
}

/// `fim.package_run`. All but `id` and `manager` is in `package_run` only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PackageRun {
    /// Unique to the run: the `process.entity_id` of the package manager.
    pub id: String,
    /// The program: `apt`, `dpkg`, `dnf`, `rpm`, `apk` …
    pub manager: String,
    /// The first change that was seen of it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub start: Option<Timestamp>,
    /// When its process was found to have ended; absent when it has not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub end: Option<Timestamp>,
    /// Packages whose version changed or that were installed again; the first 1,000.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub packages: Vec<PackageChange>,
    /// Packages beyond those.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub packages_omitted: Option<u64>,
    /// What was changed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub files: Option<RunFiles>,
}

/// `fim.package_run.packages[]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PackageChange {
    /// Its name.
    pub name: String,
    /// Whose database has it.
    pub manager: Manager,
    /// The version before; absent when it was not installed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub before: Option<String>,
    /// The version after; absent when it was removed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub after: Option<String>,
}

/// `fim.package_run.files`: what became of the watched files. A path counts once, by the worst that
/// was said of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunFiles {
    /// Paths that are as the database says. They have no events of their own.
    pub expected: u64,
    /// Paths of which nothing proves that, each with events of its own.
    pub unknown: u64,
    /// Paths that are not as the database says, each with an alert of its own.
    pub unexpected: u64,
    /// Changes that have no events of their own, by what they would have been.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub actions: BTreeMap<String, u64>,
    /// The first 100 of the unknown.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub unknown_paths: Vec<String>,
    /// The first 100 of the unexpected.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub unexpected_paths: Vec<String>,
}
