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
use std::sync::{Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};

use crate::event::{ContentDiff, DiffState};
use crate::hash::hex;
use crate::{durable, platform};

mod compare;
mod secret;
mod store;

#[cfg(test)]
mod tests;

use secret::has_private_key;
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
    /// Which file has which content, as far as it is known: one that no file has is removed.
    uses: Mutex<Uses>,
}

#[derive(Debug, Default)]
struct Uses {
    contents: HashMap<PathBuf, String>,
    /// How many files have each.
    counts: HashMap<String, u64>,
}

impl Uses {
    /// The file has this content from now on; gives the one that it had, if no file has that now.
    fn set(&mut self, path: &Path, sha256: &str) -> Option<String> {
        *self.counts.entry(sha256.to_owned()).or_insert(0) += 1;
        let had = self.contents.insert(path.to_owned(), sha256.to_owned())?;
        let count = self.counts.get_mut(&had)?;
        *count = count.saturating_sub(1);
        if *count > 0 {
            return None;
        }
        self.counts.remove(&had);
        Some(had)
    }
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

    /// Keeps the content that the file at `path` has. `bytes` is what `sha256` is the hash of.
    ///
    /// # Errors
    /// When it cannot be written, or there is no room below the limit: later differences to it are
    /// not known then, and say so.
    pub fn keep(&self, path: &Path, sha256: &str, bytes: &[u8], keep: Keep) -> io::Result<()> {
        let orphan = self.uses().set(path, sha256);
        if let Some(orphan) = orphan {
            self.store.remove(&orphan);
        }
        if self.store.has(sha256, keep) {
            return Ok(());
        }
        match keep {
            Keep::Text if is_binary(bytes) || has_private_key(bytes) => Ok(()),
            Keep::Text => self.store.put(sha256, keep, bytes),
            Keep::Digests => self.store.put(sha256, keep, &secret::digests(&self.key, bytes)),
        }
    }

    /// Notes that the file at `path` has a content that is kept already; whether it is.
    pub fn has(&self, path: &Path, sha256: &str, keep: Keep) -> bool {
        let has = self.store.has(sha256, keep);
        if has {
            // What it had before is removed by the next sweep.
            let _ = self.uses().set(path, sha256);
        }
        has
    }

    /// What differs between the content that had the hash `before` and `bytes`, whose hash is
    /// `after`. From now on the new one is kept.
    pub fn changed(
        &self,
        path: &Path,
        before: Option<&str>,
        after: &str,
        bytes: &[u8],
        keep: Keep,
    ) -> ContentDiff {
        let diff = match before {
            Some(before) => self.compare(before, after, bytes, keep),
            None if keep == Keep::Text && is_binary(bytes) => {
                ContentDiff::new(after, DiffState::Binary)
            }
            None => ContentDiff::new(after, DiffState::NoPrevious),
        };
        if let Err(error) = self.keep(path, after, bytes, keep) {
            tracing::warn!(
                %error,
                path = %path.display(),
                "a content cannot be kept: the next difference to it is not known"
            );
        }
        diff
    }

    fn uses(&self) -> MutexGuard<'_, Uses> {
        // It is consistent at every moment.
        self.uses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn compare(&self, before: &str, after: &str, bytes: &[u8], keep: Keep) -> ContentDiff {
        let new =
            |state| ContentDiff { from: Some(before.to_owned()), ..ContentDiff::new(after, state) };
        let old = match self.store.get(before, keep, self.limits.file) {
            Ok(Some(old)) if keep == Keep::Text && hex(&Sha256::digest(&old)) != before => {
                tracing::warn!(sha256 = before, "a kept content is damaged");
                self.store.remove(before);
                return new(DiffState::NoPrevious);
            }
            Ok(Some(old)) => old,
            // Nor would there be a difference if it had been kept, as what is binary is not.
            Ok(None) if keep == Keep::Text && is_binary(bytes) => return new(DiffState::Binary),
            Ok(None) if keep == Keep::Text && has_private_key(bytes) => {
                return new(DiffState::Secret);
            }
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
                if has_private_key(bytes) {
                    return ContentDiff {
                        lines_added: Some(text.added),
                        lines_removed: Some(text.removed),
                        ..new(DiffState::Secret)
                    };
                }
                ContentDiff {
                    unified: Some(text.unified),
                    lines_added: Some(text.added),
                    lines_removed: Some(text.removed),
                    ..new(if text.cut { DiffState::Truncated } else { DiffState::Complete })
                }
            }
            Keep::Digests => {
                let (added, removed) = compare::count(
                    &secret::parse(&old),
                    &secret::parse(&secret::digests(&self.key, bytes)),
                );
                ContentDiff {
                    lines_added: Some(added),
                    lines_removed: Some(removed),
                    ..new(DiffState::Secret)
                }
            }
        }
    }

    /// Removes what no file has, as far as [`Contents::keep`] and [`Contents::has`] were told. Call
    /// it when all files are known. How many contents those were.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn sweep(&self) -> io::Result<u64> {
        let uses = self.uses();
        self.store.retain(|sha256| uses.counts.contains_key(sha256))
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
    platform::random(&mut key)?;
    durable::replace(path, &key, 0o600)?;
    Ok(key)
}
