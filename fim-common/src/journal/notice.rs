//! What the journal has to tell of itself; the pipeline makes events of it.

/// Something that happened to the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A segment was removed.
    Dropped(Dropped),
    /// There is no room: for people.
    Full {
        /// What is full.
        message: String,
    },
    /// The journal is shorter than the last run's seal says: for people.
    Truncated {
        /// What is missing.
        message: String,
    },
}

/// A segment that was removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// Its number.
    pub segment: u64,
    /// Why.
    pub reason: Reason,
    /// Its events, where its seal says.
    pub entries: Option<u64>,
    /// The chain of its last line, where its seal says.
    pub chain: Option<String>,
}

/// Why a segment was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// There were more than are to be kept.
    Count,
    /// It was older than is to be kept.
    Age,
    /// The disk was full.
    DiskFull,
}

impl Reason {
    /// The value in events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Age => "age",
            Self::DiskFull => "disk_full",
        }
    }
}
