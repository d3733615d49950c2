//! The disk against the baseline.
//!
//! Collectors go on while this runs, and the pipeline writes what they see to the same baseline.
//! So nothing is reported or written on the strength of what a thread read a moment ago: a finding
//! is confirmed against the baseline as it is now, and, where somebody else has written there
//! since the scan began, the disk is read again. An operation that the pipeline has taken into
//! account is not reported again; one that it has yet to see may be reported by both, with the
//! same states.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use super::walk::{Finding, Found, Visited, run};
use super::{Difference, Mode, Options, Root, ScanError, ScanRule, Scope, Summary, distinct};
use crate::baseline::{Baseline, BaselineError, Scanned, Watch};
use crate::event::Property;
use crate::state::{HashState, ObjectKind, ObjectState};
use crate::{diff, hash, object};

/// States gathered for one lock of the baseline.
const BATCH: usize = 256;
/// How often an object is read again because somebody wrote it meanwhile.
const ATTEMPTS: usize = 4;

/// Compares the disk with the baseline, and hands what differs to `found`, in no particular
/// order, in the calling thread. Contents are read only where size, mtime, ctime or inode differ
/// (or with [`Options::deep`]). Of directories, size and times are not differences: what happened
/// in them is.
///
/// May be called for any part of the watched trees, and while others use the baseline.
///
/// # Errors
/// [`ScanError::Baseline`], [`ScanError::Thread`]. Objects that cannot be read are counted.
pub fn reconcile(
    baseline: &Baseline,
    scope: Scope<'_>,
    mode: Mode,
    options: Options<'_>,
    found: &mut dyn FnMut(Difference),
) -> Result<Summary, ScanError> {
    // The threads read through connections of their own, which see what is committed.
    if mode != Mode::Compare {
        baseline.flush()?;
    }
    let watch = baseline.watch();
    let known = is_known(baseline, scope.roots)?;
    let mut side = Side {
        baseline,
        began: watch.generation(),
        watch,
        scope,
        mode,
        found,
        batch: Vec::new(),
        reported: HashSet::new(),
        differences: 0,
        forgotten: 0,
    };
    // Nothing else asks for objects yet.
    let fresh = mode == Mode::First && !known && baseline.count()? == 0;
    if fresh {
        baseline.drop_index()?;
    }
    let result = run(scope, options, known.then_some(baseline), &mut |finding| side.take(finding));
    if fresh {
        side.write()?;
        baseline.make_index()?;
    }
    let (mut summary, visited) = result?;
    if known && !summary.cancelled {
        for root in distinct(scope.roots) {
            side.unvisited(root, &visited)?;
        }
    }
    side.write()?;
    if mode != Mode::Compare {
        baseline.flush()?;
        baseline.shrink()?;
    }
    summary.differences = side.differences;
    summary.forgotten = side.forgotten;
    Ok(summary)
}

/// Whether the baseline has anything at or below the roots.
fn is_known(baseline: &Baseline, roots: &[Root]) -> Result<bool, BaselineError> {
    for root in roots {
        if baseline.get(&root.path)?.is_some()
            || baseline.directory_after(&root.path, None)?.is_some()
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The calling thread's side.
struct Side<'a> {
    baseline: &'a Baseline,
    watch: Watch<'a>,
    /// Nothing that the threads read is older than this write.
    began: u64,
    scope: Scope<'a>,
    mode: Mode,
    found: &'a mut dyn FnMut(Difference),
    /// For the baseline, in [`Mode::First`].
    batch: Vec<Scanned>,
    /// Paths reported, where the baseline does not remember it: roots may overlap.
    reported: HashSet<PathBuf>,
    differences: u64,
    forgotten: u64,
}

impl Side<'_> {
    fn take(&mut self, finding: Finding) -> Result<(), ScanError> {
        match finding {
            Finding::Object(found) => {
                let Found { path, before, after, hash } = *found;
                if self.mode == Mode::First {
                    self.batch.push(Scanned { path, before, after });
                    if self.batch.len() >= BATCH {
                        self.write()?;
                    }
                } else {
                    self.object(path, before, after, hash)?;
                }
            }
            Finding::Renumbered { path, device } => {
                // No change that anybody is told of, so it is not proposed either.
                if self.mode != Mode::Compare
                    && let Some(before) = self.baseline.get(&path)?
                {
                    let after = ObjectState { device, ..before.clone() };
                    // Refused: whoever wrote there since knows the device.
                    self.watch.set(&path, Some(&before), Some(&after), self.began)?;
                }
            }
            Finding::Gone(path) => self.gone(path)?,
            Finding::OutOfScope(path) => {
                if self.mode != Mode::Compare && self.baseline.remove(&path)?.is_some() {
                    self.forgotten += 1;
                }
            }
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), ScanError> {
        let batch = std::mem::take(&mut self.batch);
        for object in self.watch.set_all(batch, self.began)? {
            self.object(object.path, object.before, object.after, None)?;
        }
        Ok(())
    }

    fn object(
        &mut self,
        path: PathBuf,
        before: Option<ObjectState>,
        mut after: ObjectState,
        mut hash: Option<HashState>,
    ) -> Result<(), ScanError> {
        if self.mode == Mode::Propose {
            // A deep scan reads also what is as it was.
            if before.as_ref() != Some(&after) {
                self.changed(path, before, after, hash);
            }
            return Ok(());
        }
        let mut current = before;
        let mut generation = self.began;
        for _ in 0..ATTEMPTS {
            let confirmed = match self.mode {
                Mode::Compare | Mode::Propose => {
                    self.watch.unchanged(&path, current.as_ref(), generation)?
                }
                Mode::First | Mode::Update => {
                    self.watch.set(&path, current.as_ref(), Some(&after), generation)?
                }
            };
            if confirmed {
                self.changed(path, current, after, hash);
                return Ok(());
            }
            // In this order: what is written from here on is noticed.
            generation = self.watch.generation();
            current = self.baseline.get(&path)?;
            match self.again(&path) {
                Ok(now) => (after, hash) = now,
                // Gone by now, or out of scope: the pipeline's to report.
                Err(_) => return Ok(()),
            }
        }
        // Written faster than we can look: the pipeline has its hands on it.
        tracing::debug!(path = %path.display(), "an object changes too fast to be compared");
        Ok(())
    }

    fn changed(
        &mut self,
        path: PathBuf,
        before: Option<ObjectState>,
        after: ObjectState,
        hash_state: Option<HashState>,
    ) {
        let changes = match &before {
            Some(before) => significant(before, &after),
            None => vec![Property::Existence],
        };
        if self.mode == Mode::Propose || (self.mode != Mode::First && !changes.is_empty()) {
            self.report(Difference { path, before, after: Some(after), changes, hash_state });
        }
    }

    fn again(&self, path: &Path) -> io::Result<(ObjectState, Option<HashState>)> {
        match (self.scope.rule)(path) {
            Some(rule) => read(path, rule),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn gone(&mut self, path: PathBuf) -> Result<(), ScanError> {
        for _ in 0..ATTEMPTS {
            let generation = self.watch.generation();
            let Some(before) = self.baseline.get(&path)? else { return Ok(()) };
            // It may have come back, or its name may have been read while it was renamed. If the
            // disk cannot be asked, nothing is known.
            if !absent(&path) {
                return Ok(());
            }
            let confirmed = match self.mode {
                Mode::Propose => true,
                Mode::Compare => self.watch.unchanged(&path, Some(&before), generation)?,
                Mode::First | Mode::Update => {
                    self.watch.set(&path, Some(&before), None, generation)?
                }
            };
            if confirmed {
                if self.mode != Mode::First {
                    self.report(Difference {
                        path,
                        before: Some(before),
                        after: None,
                        changes: vec![Property::Existence],
                        hash_state: None,
                    });
                }
                return Ok(());
            }
        }
        Ok(())
    }

    fn report(&mut self, difference: Difference) {
        if self.mode == Mode::Compare && !self.reported.insert(difference.path.clone()) {
            return;
        }
        self.differences += 1;
        (self.found)(difference);
    }

    /// What the baseline has in directories that the threads did not come to: they are gone, or no
    /// rule leads there any more.
    fn unvisited(&mut self, root: &Root, visited: &Visited) -> Result<(), ScanError> {
        let mut last: Option<Vec<u8>> = None;
        while let Some(directory) = self.baseline.directory_after(&root.path, last.as_deref())? {
            if root.depth == Some(1) && directory != root.path.as_os_str().as_encoded_bytes() {
                // What is below it, which may be much, is not wanted.
                break;
            }
            let path = crate::baseline::path_of(&directory);
            let levels =
                path.strip_prefix(&root.path).map_or(0, |below| below.components().count());
            if !visited.contains(&directory)
                && root.depth.is_none_or(|depth| levels < depth)
                && is_absent_directory(&path)
            {
                for (path, _) in self.baseline.children(&path)? {
                    match (self.scope.rule)(&path) {
                        Some(_) => self.gone(path)?,
                        None => self.take(Finding::OutOfScope(path))?,
                    }
                }
            }
            last = Some(directory);
        }
        Ok(())
    }
}

/// The state of a path now, content included.
fn read(path: &Path, rule: ScanRule) -> io::Result<(ObjectState, Option<HashState>)> {
    let mut state = object::state(path)?;
    if state.kind != Some(ObjectKind::File) {
        return Ok((state, None));
    }
    if !rule.hash {
        return Ok((state, Some(HashState::Skipped)));
    }
    let outcome = hash::content(path, state.id(), rule.max_size);
    if let Some(hashed) = outcome.after.filter(|hashed| hashed.inode == state.inode) {
        // The hash belongs to these, not to what stood there a moment before.
        (state.size, state.mtime, state.ctime) = (hashed.size, hashed.mtime, hashed.ctime);
    }
    state.sha256 = outcome.sha256;
    Ok((state, Some(outcome.state)))
}

/// What is at a path now, for one that was proposed and has changed since; `None` when it cannot
/// be read, or no rule asks for it.
pub fn read_again(path: PathBuf, rule: Option<ScanRule>) -> Option<Difference> {
    let (after, hash_state) = match read(&path, rule?) {
        Ok((after, hash_state)) => (Some(after), hash_state),
        Err(_) if absent(&path) => (None, None),
        Err(_) => return None,
    };
    Some(Difference { path, before: None, after, changes: Vec::new(), hash_state })
}

/// The changes that are worth telling.
pub(crate) fn significant(before: &ObjectState, after: &ObjectState) -> Vec<Property> {
    let mut changes = diff::changes(before, after);
    if before.kind == Some(ObjectKind::Dir) && after.kind == Some(ObjectKind::Dir) {
        changes.retain(|change| !matches!(change, Property::Size | Property::Mtime));
    }
    changes
}

/// Whether nothing is at a path, reached without a symbolic link.
pub(crate) fn absent(path: &Path) -> bool {
    match object::stat(path) {
        Ok(_) => path.parent().is_some_and(is_absent_directory),
        Err(error) => {
            matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        }
    }
}

/// Whether a path is none of a directory any more: a directory that a symbolic link leads to has
/// another canonical path.
fn is_absent_directory(path: &Path) -> bool {
    match std::fs::canonicalize(path) {
        Ok(canonical) => canonical != path || !canonical.is_dir(),
        Err(error) => {
            matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        }
    }
}
