//! What text a change of content changed.
//!
//! For rules with `content_diff` the content that the baseline's hash stands for is kept in the
//! state directory, compressed, one file for each content, named by its SHA-256: it stays right
//! when a file is renamed, and two files of one content share it. Of files that are `secret`
//! nothing that could be read is kept, only a keyed digest of each line: enough to count the lines
//! that differ.
//!
//! Invariant: a difference is between exactly the two contents whose hashes stand in its event.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};

use crate::event::{ContentDiff, DiffState};
use crate::hash::hex;

mod compare;
mod secret;
mod store;

#[cfg(test)]
mod tests;

pub use secret::is_secret_by_default;

use store::Store;

/// Below the state directory.
const DIRECTORY: &str = "content";
/// Of the digests of secret lines; made at first use.
const KEY: &str = "key";

/// What is kept of a content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Keep {
    /// All of it.
    Text,
    /// A keyed digest of each line.
    Digests,
}

/// How much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Larger contents are not kept; bytes.
    pub file: u64,
    /// Where a difference is cut; bytes of its text.
    pub diff: usize,
    /// What all kept contents may take on disk; bytes.
    pub total: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { file: 1 << 20, diff: 16 << 10, total: 256 << 20 }
    }
}

/// Contents that are kept, and what differs between them.
#[derive(Debug)]
pub struct Contents {
    limits: Limits,
    key: [u8; 32],
    store: Store,
    /// How many files have a content, as far as it is known: one that nobody has is removed.
    uses: Mutex<HashMap<String, u64>>,
}

impl Contents {
    /// Opens those below `state_dir`, or begins.
    ///
    /// # Errors
    /// When the directory or its key cannot be read or made.
    pub fn open(state_dir: &Path, limits: Limits) -> io::Result<Self> {
        let directory = state_dir.join(DIRECTORY);
        let store = Store::open(&directory, limits.total)?;
        let key = key(&directory.join(KEY))?;
        Ok(Self { limits, key, store, uses: Mutex::default() })
    }

    /// Content beyond this is not kept; bytes.
    pub fn max_file(&self) -> u64 {
        self.limits.file
    }

    /// Whether something of this content is kept.
    pub fn has(&self, sha256: &str, keep: Keep) -> bool {
        self.store.has(sha256, keep)
    }

    /// Keeps the content of one more file. `bytes` is what `sha256` is the hash of.
    ///
    /// # Errors
    /// When it cannot be written, or there is no room below the limit: later differences to it are
    /// not known then, and say so.
    pub fn keep(&self, sha256: &str, bytes: &[u8], keep: Keep) -> io::Result<()> {
        self.use_of(sha256, 1);
        if self.store.has(sha256, keep) {
            return Ok(());
        }
        match keep {
            Keep::Text => self.store.put(sha256, keep, bytes),
            Keep::Digests => self.store.put(sha256, keep, &secret::digests(&self.key, bytes)),
        }
    }

    /// Notes that a file has this content, which is kept already.
    pub fn used(&self, sha256: &str) {
        self.use_of(sha256, 1);
    }

    /// What differs between the content that had the hash `before` and `bytes`, whose hash is
    /// `after`. From now on the new one is kept.
    pub fn changed(
        &self,
        before: Option<&str>,
        after: &str,
        bytes: &[u8],
        keep: Keep,
    ) -> ContentDiff {
        let diff = match before {
            Some(before) => self.compare(before, after, bytes, keep),
            None => ContentDiff::new(after, DiffState::NoPrevious),
        };
        if let Err(error) = self.keep(after, bytes, keep) {
            tracing::warn!(%error, "a content cannot be kept: the next difference to it is not known");
        }
        if let Some(before) = before
            && before != after
            && self.use_of(before, -1) == 0
        {
            self.store.remove(before);
        }
        diff
    }

    fn compare(&self, before: &str, after: &str, bytes: &[u8], keep: Keep) -> ContentDiff {
        let new = |state| ContentDiff { from: Some(before.to_owned()), ..ContentDiff::new(after, state) };
        let old = match self.store.get(before, keep, self.limits.file) {
            Ok(Some(old)) if keep == Keep::Text && hex(&Sha256::digest(&old)) != before => {
                tracing::warn!(sha256 = before, "a kept content is damaged");
                self.store.remove(before);
                return new(DiffState::NoPrevious);
            }
            Ok(Some(old)) => old,
            Ok(None) => return new(DiffState::NoPrevious),
            Err(error) => {
                tracing::warn!(%error, sha256 = before, "a kept content cannot be read");
                return new(DiffState::NoPrevious);
            }
        };
        match keep {
            Keep::Text if is_binary(&old) || is_binary(bytes) => new(DiffState::Binary),
            Keep::Text => {
                let text = compare::unified(&old, bytes, self.limits.diff);
                ContentDiff {
                    unified: Some(text.unified),
                    lines_added: Some(text.added),
                    lines_removed: Some(text.removed),
                    ..new(if text.cut { DiffState::Truncated } else { DiffState::Complete })
                }
            }
            Keep::Digests => {
                let (added, removed) =
                    compare::count(&secret::parse(&old), &secret::parse(&secret::digests(&self.key, bytes)));
                ContentDiff {
                    lines_added: Some(added),
                    lines_removed: Some(removed),
                    ..new(DiffState::Secret)
                }
            }
        }
    }

    /// Removes what no file has, as far as [`Contents::keep`] and [`Contents::used`] were told.
    /// Call it when all files are known.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn sweep(&self) -> io::Result<u64> {
        let uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        self.store.retain(|sha256| uses.contains_key(sha256))
    }

    /// Adds to the number of files that have a content; what it is then.
    fn use_of(&self, sha256: &str, change: i64) -> u64 {
        let mut uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        let count = uses.entry(sha256.to_owned()).or_insert(0);
        *count = count.saturating_add_signed(change);
        let count = *count;
        if count == 0 {
            uses.remove(sha256);
        }
        count
    }
}

/// As diff(1) and git decide: text has no NUL.
fn is_binary(bytes: &[u8]) -> bool {
    bytes.contains(&0)
}

/// The secret that the digests of lines are made with. Without it they would tell a line to
/// whoever can guess it.
fn key(path: &Path) -> io::Result<[u8; 32]> {
    let mut key = [0_u8; 32];
    match fs::File::open(path) {
        Ok(mut file) => match file.read_exact(&mut key) {
            Ok(()) => return Ok(key),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            Err(error) => return Err(error),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // Two UUIDs of version 4 are 244 random bits of the system.
    let mut hasher = Sha256::new();
    hasher.update(uuid::Uuid::new_v4().as_bytes());
    hasher.update(uuid::Uuid::new_v4().as_bytes());
    key.copy_from_slice(&hasher.finalize());
    store::write(path, &key)?;
    Ok(key)
}

/// Where contents are kept below the state directory.
pub fn directory(state_dir: &Path) -> PathBuf {
    state_dir.join(DIRECTORY)
}
