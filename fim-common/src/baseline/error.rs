//! What can be wrong with the baseline, by what the operator can do about it.

use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

/// Why the baseline cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum BaselineError {
    /// The file is not a whole database. It was left as it is.
    #[error(
        "the baseline {} is damaged ({why}); it was left untouched: restore it from a copy, or \
         move it and its -wal and -shm files away and take a new one with `{} baseline create`",
        path.display(),
        super::PROGRAM
    )]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The file is something else than a baseline of fim. It was left as it is.
    #[error(
        "{} is not a baseline of fim ({why}); it was left untouched: move it away, or choose \
         another directory with --state-dir",
        path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is.
        why: String,
    },
    /// A later version of fim wrote it. It was left as it is.
    #[error(
        "the baseline {} has format {found}, and this fim knows formats up to {known}; it was \
         left untouched: install the fim that wrote it, or a later one",
        path.display()
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The latest known one.
        known: i64,
    },
    /// No space is left. What was written before and committed is whole.
    #[error(
        "no space is left to write the baseline {} ({lost} changes of it were lost); free some, \
         then have the watched directories compared again",
        path.display()
    )]
    Full {
        /// The database.
        path: PathBuf,
        /// Buffered changes that had to be given up: objects to compare with the disk again.
        lost: u64,
    },
    /// It may not be written.
    #[error("the baseline {} cannot be written: {why}", path.display())]
    ReadOnly {
        /// The database.
        path: PathBuf,
        /// In the database's words.
        why: String,
    },
    /// Another process held it for longer than the time limit of five seconds.
    #[error("the baseline {} is locked by another process", path.display())]
    Busy {
        /// The database.
        path: PathBuf,
    },
    /// A file operation beside the database failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Anything else that the database says.
    #[error("the baseline {}: {source}", path.display())]
    Database {
        /// The database.
        path: PathBuf,
        /// In its words.
        source: rusqlite::Error,
    },
}

impl BaselineError {
    /// Sorts an error of SQLite; `lost` is the number of changes that were rolled back with it.
    pub(super) fn from_sqlite(path: &Path, source: rusqlite::Error, lost: u64) -> Self {
        let path = path.to_owned();
        let why = source.to_string();
        match source.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full { path, lost },
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Damaged { path, why }
            }
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                Self::ReadOnly { path, why }
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy { path },
            _ => Self::Database { path, source },
        }
    }

    pub(super) fn io(path: &Path, source: std::io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                Self::Full { path, lost: 0 }
            }
            std::io::ErrorKind::ReadOnlyFilesystem | std::io::ErrorKind::PermissionDenied => {
                Self::ReadOnly { path, why: source.to_string() }
            }
            _ => Self::Io { path, source },
        }
    }
}
