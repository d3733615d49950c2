//! Paths as the disk spells them. The kernel tells a name as it was asked for: `c:\WINDOWS\x` is
//! `C:\Windows\X`, by which the baseline knows it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fim_common::baseline::Baseline;
use fim_common::operation::{Operation, OperationKind};
use fim_win32::file;

use crate::paths::fold;

/// Paths that are remembered at most; beyond, all are forgotten.
pub const SPELLINGS_MAX: usize = 16_384;
/// And for how long: a name that was given anew may be spelled another way.
const REMEMBERED: Duration = Duration::from_secs(2);
/// Names of a directory among which one that is gone is looked for.
const SIBLINGS_MAX: usize = 1000;

/// Spells paths.
pub(super) struct Spelling {
    baseline: Arc<Baseline>,
    known: HashMap<PathBuf, (PathBuf, Instant)>,
}

impl Spelling {
    pub(super) fn new(baseline: Arc<Baseline>) -> Self {
        Self { baseline, known: HashMap::new() }
    }

    /// Spells the paths of an operation on a file.
    pub(super) fn correct(&mut self, operation: &mut Operation) {
        let gone = matches!(operation.kind, OperationKind::Delete);
        if let Some(path) = &mut operation.path {
            *path = if gone { self.gone(path) } else { self.there(path) };
        }
        match &mut operation.kind {
            OperationKind::Rename { from: Some(from), .. } => *from = self.gone(from),
            OperationKind::Link { existing: Some(existing), .. } => {
                *existing = self.there(existing)
            }
            _ => {}
        }
        if gone || matches!(operation.kind, OperationKind::Rename { .. }) {
            self.known.clear();
        }
    }

    /// Of what may be there.
    fn there(&mut self, path: &Path) -> PathBuf {
        if let Some((known, at)) = self.known.get(path)
            && at.elapsed() < REMEMBERED
        {
            return known.clone();
        }
        match file::spelled(path) {
            Ok(spelled) => self.remember(path, spelled),
            // It is gone again, as temporary files are: nobody has to be found.
            Err(_) => {
                let spelled = self.by_parent(path);
                self.remember(path, spelled)
            }
        }
    }

    fn remember(&mut self, path: &Path, spelled: PathBuf) -> PathBuf {
        if self.known.len() >= SPELLINGS_MAX {
            self.known.clear();
        }
        self.known.insert(path.to_owned(), (spelled.clone(), Instant::now()));
        spelled
    }

    /// Of what is there no more: as it was spelled a moment ago; else its directory as the disk has
    /// it, and its name as the baseline does.
    fn gone(&mut self, path: &Path) -> PathBuf {
        if let Some((known, _)) = self.known.get(path) {
            return known.clone();
        }
        let spelled = self.by_parent(path);
        let Some(parent) = spelled.parent() else { return spelled };
        if self.baseline.get(&spelled).is_ok_and(|known| known.is_some()) {
            return spelled;
        }
        let folded = fold(&spelled.to_string_lossy());
        let siblings = self.baseline.tree(parent).take(SIBLINGS_MAX).flatten();
        let known =
            siblings.map(|(known, _)| known).find(|known| fold(&known.to_string_lossy()) == folded);
        known.unwrap_or(spelled)
    }

    /// With its directory as the disk has it.
    fn by_parent(&mut self, path: &Path) -> PathBuf {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return path.to_owned();
        };
        let parent = match self.known.get(parent) {
            Some((known, at)) if at.elapsed() < REMEMBERED => known.clone(),
            _ => {
                let spelled = file::spelled(parent).unwrap_or_else(|_| parent.to_owned());
                self.remember(parent, spelled)
            }
        };
        parent.join(name)
    }
}
