//! What can be wrong with the journal, by what the operator can do about it.

use std::io;
use std::path::{Path, PathBuf};

/// Why the journal cannot be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// A line in the middle is not an event. The file was left as it is.
    #[error(
        "the journal {} is damaged at line {line} (byte {offset}: {why}); it was left untouched: \
         keep a copy, then move it out of the directory, and fim starts a new segment",
        path.display()
    )]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// The first bad line, from 1.
        line: u64,
        /// Where it begins.
        offset: u64,
        /// What is wrong with it.
        why: String,
    },
    /// Something else has a journal's name. It was left as it is.
    #[error(
        "{} is not a journal of fim ({why}); it was left untouched: move it out of the directory",
        path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is.
        why: String,
    },
    /// No space is left. The journal ends with a whole line.
    #[error("no space is left to write the journal {}", path.display())]
    Full {
        /// The segment.
        path: PathBuf,
    },
    /// Its limit is reached, and its oldest segment is still needed.
    #[error(
        "the journal in {} is full: {by} has not read segment {segment} yet; let it go on, remove \
         its cursor, or say on_full = \"drop_oldest\"",
        path.display()
    )]
    Held {
        /// The directory.
        path: PathBuf,
        /// The oldest segment.
        segment: u64,
        /// Name of the cursor.
        by: String,
    },
    /// It may not be written.
    #[error("the journal {} cannot be written: {source}", path.display())]
    ReadOnly {
        /// The segment or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The event could not be put into words; nothing was written.
    #[error("an event cannot be written as JSON: {source}")]
    Event {
        /// Why.
        source: serde_json::Error,
    },
    /// Anything else.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl JournalError {
    /// Whether room is all that is missing.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::Held { .. })
    }

    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge
            | io::ErrorKind::WriteZero => Self::Full { path },
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                Self::ReadOnly { path, source }
            }
            _ => Self::Io { path, source },
        }
    }
}
