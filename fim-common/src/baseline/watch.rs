//! What others write while a scan runs.
//!
//! A scan reads an object now and writes it to the baseline a moment later. In between the
//! pipeline may have written what a later event said, or removed the path: the scan must not put
//! the older state back. So while scans run, the paths that others write are noted with a running
//! number, and a scan's write is refused when its path, or a directory above it, was written after
//! the scan read it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::{Baseline, BaselineError, Inner, row};
use crate::state::ObjectState;

/// Paths noted at most, some 20 MB. Beyond, every path counts as written: scans then read again
/// what they are about to write, which is slower and still right.
const MAXIMUM: usize = 100_000;

/// The notes, while there are scans.
#[derive(Default)]
pub(super) struct Notes {
    scans: usize,
    generation: u64,
    paths: HashMap<PathBuf, u64>,
    /// The generation up to which there were too many paths.
    overflow: u64,
}

impl Notes {
    /// Somebody else than a scan writes a path or a whole tree.
    pub(super) fn note(&mut self, path: &Path) {
        if self.scans == 0 {
            return;
        }
        self.generation += 1;
        if self.paths.len() >= MAXIMUM {
            self.paths.clear();
            self.overflow = self.generation;
        }
        self.paths.insert(path.to_owned(), self.generation);
    }

    fn written_since(&self, path: &Path, generation: u64) -> bool {
        generation < self.overflow
            || (!self.paths.is_empty()
                && path
                    .ancestors()
                    .any(|path| self.paths.get(path).is_some_and(|noted| *noted > generation)))
    }
}

/// One object as a scan found it.
#[derive(Debug)]
pub(crate) struct Scanned {
    pub(crate) path: PathBuf,
    /// What the baseline had when the disk was read.
    pub(crate) before: Option<ObjectState>,
    pub(crate) after: ObjectState,
}

/// As long as it lives, writes are noted.
pub(crate) struct Watch<'a> {
    baseline: &'a Baseline,
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        let mut inner = self.baseline.lock();
        inner.notes.scans -= 1;
        if inner.notes.scans == 0 {
            inner.notes = Notes::default();
        }
    }
}

impl Watch<'_> {
    /// The number of the last write: to be asked before the disk is read.
    pub(crate) fn generation(&self) -> u64 {
        self.baseline.lock().notes.generation
    }

    /// What the baseline has for a path now; `None` when somebody wrote there since `generation`,
    /// or it is not `expected` any more, so that the disk has to be read again.
    pub(crate) fn unchanged(
        &self,
        path: &Path,
        expected: Option<&ObjectState>,
        generation: u64,
    ) -> Result<bool, BaselineError> {
        let mut inner = self.baseline.lock();
        self.is_unchanged(&mut inner, path, expected, generation)
    }

    /// Sets what a scan found at a path (`None`: nothing), unless it is not
    /// [`Watch::unchanged`]; returns whether it was set.
    pub(crate) fn set(
        &self,
        path: &Path,
        expected: Option<&ObjectState>,
        found: Option<&ObjectState>,
        generation: u64,
    ) -> Result<bool, BaselineError> {
        let mut inner = self.baseline.lock();
        if !self.is_unchanged(&mut inner, path, expected, generation)? {
            return Ok(false);
        }
        self.baseline.write_locked(&mut inner, 1, |connection| match found {
            Some(state) => super::put(connection, path, state, None),
            None => super::delete(connection, path),
        })?;
        Ok(true)
    }

    /// [`Watch::set`] for many under one lock; returns those that were not set.
    pub(crate) fn set_all(
        &self,
        objects: Vec<Scanned>,
        generation: u64,
    ) -> Result<Vec<Scanned>, BaselineError> {
        let mut inner = self.baseline.lock();
        let mut refused = Vec::new();
        for object in objects {
            let written = inner.notes.written_since(&object.path, generation);
            let set = if written {
                false
            } else if object.before.is_none() {
                // The common case: one statement instead of two.
                self.baseline.write_locked(&mut inner, 1, |connection| {
                    let (dir, name) = row::split(&object.path);
                    let mut statement = connection.prepare_cached(row::ADD)?;
                    row::bind(&mut statement, dir, name, &object.after, None)
                })? == 1
            } else if self.is_unchanged(
                &mut inner,
                &object.path,
                object.before.as_ref(),
                generation,
            )? {
                self.baseline.write_locked(&mut inner, 1, |connection| {
                    super::put(connection, &object.path, &object.after, None)
                })?;
                true
            } else {
                false
            };
            if !set {
                refused.push(object);
            }
        }
        Ok(refused)
    }

    fn is_unchanged(
        &self,
        inner: &mut Inner,
        path: &Path,
        expected: Option<&ObjectState>,
        generation: u64,
    ) -> Result<bool, BaselineError> {
        if inner.notes.written_since(path, generation) {
            return Ok(false);
        }
        let current = inner
            .get(path)
            .map_err(|error| BaselineError::from_sqlite(&self.baseline.path, error, 0))?;
        Ok(current.as_ref() == expected)
    }
}

impl Baseline {
    /// Has writes noted, for a scan.
    pub(crate) fn watch(&self) -> Watch<'_> {
        self.lock().notes.scans += 1;
        Watch { baseline: self }
    }
}
