//! An event on its way to a sink.

use fim_common::event::{Action, Kind};
use fim_common::journal::cursor::Position;
use fim_common::time::Timestamp;
use serde::Deserialize;

/// An event.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    /// As the journal has it, without the newline.
    pub(crate) line: Vec<u8>,
    /// As the receiver wants it; `None`: as the journal has it.
    pub(crate) formatted: Option<Vec<u8>>,
    /// What sinks need of it.
    pub(crate) brief: Brief,
    /// Where the journal goes on behind it.
    pub(crate) end: Position,
}

impl Item {
    /// What is sent.
    pub(crate) fn payload(&self) -> &[u8] {
        self.formatted.as_deref().unwrap_or(&self.line)
    }
}

/// As much of an event as every sink needs.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Brief {
    /// When.
    #[serde(rename = "@timestamp")]
    pub(crate) timestamp: Timestamp,
    /// `event.*`.
    pub(crate) event: Meta,
    /// `host.*`.
    pub(crate) host: Host,
}

/// `event.*`.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Meta {
    pub(crate) id: String,
    pub(crate) sequence: u64,
    pub(crate) kind: Kind,
    pub(crate) action: Action,
    pub(crate) severity: Option<u8>,
}

/// `host.*`.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Host {
    #[serde(default)]
    pub(crate) name: Option<String>,
}
