//! `fim.diff`: what text a change of content changed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `fim.diff`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ContentDiff {
    /// How much of the difference is here.
    pub state: DiffState,
    /// SHA-256 of the content before.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub from: Option<String>,
    /// SHA-256 of the content after.
    pub to: String,
    /// The difference as `diff -u` writes it, from the first `@@` on; bytes that are not UTF-8 are
    /// replaced.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub unified: Option<String>,
    /// Lines that were not there before; a line that was altered is removed and added.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lines_added: Option<u64>,
    /// Lines that are not there any more.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lines_removed: Option<u64>,
}

impl ContentDiff {
    /// One that says nothing but that.
    pub fn new(to: &str, state: DiffState) -> Self {
        Self {
            state,
            from: None,
            to: to.to_owned(),
            unified: None,
            lines_added: None,
            lines_removed: None,
        }
    }
}

/// `fim.diff.state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DiffState {
    /// All of it is.
    Complete,
    /// It is cut at `content.max_diff`.
    Truncated,
    /// The file is secret: only the lines are counted.
    Secret,
    /// One of the contents is not text: it has a NUL byte.
    Binary,
    /// One of the contents is larger than `content.max_file`.
    TooLarge,
    /// The content before is not kept: the file is new, or was larger, or binary, or the rule is.
    NoPrevious,
}
