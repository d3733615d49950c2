//! What the operator chooses.

use std::time::Duration;

use super::Key;

/// How the journal is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalOptions {
    /// Bytes after which a new segment is begun. A segment may exceed it by one event.
    pub segment_bytes: u64,
    /// Segments kept, the one being written included; the oldest are removed. At least 1.
    pub segments: usize,
    /// Segments whose last event is older are removed.
    pub max_age: Option<Duration>,
    /// When the disk is asked to keep what was written.
    pub fsync: Fsync,
    /// What is done when there is no room.
    pub on_full: OnFull,
    /// Segments are signed with it; `None`: they are chained, and not signed.
    pub key: Option<Key>,
}

impl Default for JournalOptions {
    /// 16 segments of 64 MiB: a gigabyte, some two million events.
    fn default() -> Self {
        Self {
            segment_bytes: 64 * 1024 * 1024,
            segments: 16,
            max_age: None,
            fsync: Fsync::Interval,
            on_full: OnFull::Block,
            key: None,
        }
    }
}

/// When the disk is asked to keep what was written (fdatasync(2)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fsync {
    /// With each write: a power cut loses the events of the last 20 ms.
    Always,
    /// Once a second: a power cut loses the events of about that.
    #[default]
    Interval,
    /// When a segment is closed and when the agent stops: a power cut loses what the kernel had not
    /// written by itself, half a minute as a rule.
    Never,
}

impl Fsync {
    /// Each with its name.
    pub const ALL: [(&'static str, Self); 3] =
        [("always", Self::Always), ("interval", Self::Interval), ("never", Self::Never)];

    /// Its name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Interval => "interval",
            Self::Never => "never",
        }
    }
}

/// What is done when the disk is full, or the limit is reached while a cursor still needs the
/// oldest segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFull {
    /// The oldest segment is removed.
    DropOldest,
    /// The pipeline waits for room; what the queues before it cannot hold becomes a gap.
    #[default]
    Block,
    /// The agent stops.
    Stop,
}

impl OnFull {
    /// Each with its name.
    pub const ALL: [(&'static str, Self); 3] =
        [("drop_oldest", Self::DropOldest), ("block", Self::Block), ("stop", Self::Stop)];

    /// Its name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DropOldest => "drop_oldest",
            Self::Block => "block",
            Self::Stop => "stop",
        }
    }
}
