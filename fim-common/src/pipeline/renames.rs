//! Renames: of what is watched, with all that is in it, and around it.

use std::path::{Path, PathBuf};

use super::Pipeline;
use super::change::Draft;
use super::fold::{note, removed, settle_before};
use crate::collector::Observation;
use crate::event::Action;
use crate::ledger::Stage;
use crate::operation::{Operation, OperationKind};
use crate::state::{ObjectId, ObjectKind, ObjectState};

/// The first half of an exchange of names, already done to the baseline.
pub(super) struct Exchanged {
    /// Both names, as the second half has them.
    names: (PathBuf, PathBuf),
    /// What was known of the object that left the watched trees, if the second half tells of it.
    known: Option<ObjectState>,
    /// And of what is in it.
    contents: Vec<(PathBuf, ObjectState)>,
}

/// An object got another name in place of an earlier one.
pub(super) fn renamed(pipeline: &mut Pipeline, mut path: PathBuf, mut operation: Operation) {
    let OperationKind::Rename { from, exchange, .. } = &operation.kind else { return };
    let (from, exchange) = (from.clone(), *exchange);
    if !exchange && from.as_ref() == Some(&path) && pipeline.observer.observes() {
        // The kernel knows a watched directory as such, and not by the name that it has now.
        match beside(&path, operation.object) {
            Some(now) => path = now,
            None => {
                operation.kind = OperationKind::Delete;
                removed(pipeline, &path, operation);
                return pipeline.observe(Observation::Recheck(path));
            }
        }
        operation.path = Some(path.clone());
    }
    // The second half of an exchange follows on the first, whose event may wait for its hash.
    let pair = (path.clone(), from.clone().unwrap_or_default());
    let first_half = if exchange { pipeline.sessions.exchanged.take() } else { None };
    let first_half = first_half.filter(|first| first.names == pair);
    if first_half.is_none() {
        if let Some(from) = &from {
            settle_before(pipeline, from);
        }
        settle_before(pipeline, &path);
    }
    let observes = pipeline.observer.observes();
    let directory = operation.after.kind == Some(ObjectKind::Dir) && observes;
    let whole = directory.then(|| operation.clone());
    let is_second = first_half.is_some();
    // In an exchange, the other one may be the directory.
    let moves_tree = observes && !is_second && (directory || exchange);
    if moves_tree && let Some(from) = &from {
        settle_leaving(pipeline, from, &path, exchange);
    }
    let mut contents = Vec::new();
    let covered = pipeline.policy.covers(&path).is_some();
    let from_covered = from.as_ref().is_some_and(|from| pipeline.policy.covers(from).is_some());

    let mut operations = Vec::new();
    note(&mut operations, &operation);
    let Some(mut draft) = Draft::new(Action::Moved, operation, operations) else { return };
    let result = (|| {
        if !observes {
            return Ok(());
        }
        if exchange && covered == from_covered {
            if let Some(from) = &from
                && first_half.is_none()
            {
                pipeline.baseline.exchange_trees(from, &path)?;
                pipeline.sessions.exchanged = Some(Exchanged {
                    names: (from.clone(), path.clone()),
                    known: None,
                    contents: Vec::new(),
                });
            }
            draft.known = pipeline.baseline.get(&path)?;
            return Ok(());
        }
        if exchange && let Some(from) = &from {
            // One leaves the watched trees, and the other comes into them: what was known goes
            // before anything of the one that came is put there.
            let (known, left) = match first_half {
                Some(first) => (first.known, first.contents),
                None => {
                    let watched = if covered { &path } else { from };
                    (pipeline.baseline.get(watched)?, pipeline.baseline.remove_tree(watched)?)
                }
            };
            let mut rest = (None, Vec::new());
            if covered {
                rest = (known, left);
            } else {
                (draft.known, contents) = (known, left);
            }
            if !is_second {
                pipeline.sessions.exchanged = Some(Exchanged {
                    names: (from.clone(), path.clone()),
                    known: rest.0,
                    contents: rest.1,
                });
            }
            return Ok(());
        }
        draft.replaced = pipeline.baseline.get(&path)?;
        let Some(from) = &from else { return Ok(()) };
        if from_covered {
            draft.known = pipeline.baseline.get(from)?;
        }
        if from_covered && covered {
            pipeline.baseline.remove_tree(&path)?;
            pipeline.baseline.rename_tree(from, &path)?;
        } else if from_covered || directory {
            contents = pipeline.baseline.remove_tree(from)?;
        }
        Ok::<(), crate::baseline::BaselineError>(())
    })();
    if let Err(error) = result {
        tracing::error!(%error, "the baseline could not follow a rename");
    }
    draft.from.clone_from(&from);
    draft.exchange = exchange;
    pipeline.hash_then_complete(draft);
    if moves_tree && let Some(from) = &from {
        follow(pipeline, from, &path, exchange);
    }
    let Some(whole) = whole else { return };
    pipeline.tree_moved(&path);
    let Some(from) = from else {
        if covered {
            pipeline.recheck_moved(whole);
        }
        return;
    };
    if exchange && covered && from_covered {
        // What is in it came along.
        return pipeline.observe(Observation::Recheck(path));
    }
    // What came along is told as moved, too, as far as it did not stay in what is watched.
    for (was, state) in contents {
        if was != from {
            moved_along(pipeline, &whole, &from, &path, was, state);
        }
    }
    if !(covered && from_covered) && pipeline.policy.reaches_below(&path) {
        pipeline.recheck_moved(whole);
    }
}

/// The name that the object of `path` has in the same directory now; `None` if it has none there.
fn beside(path: &Path, object: Option<ObjectId>) -> Option<PathBuf> {
    let inode = object?.inode;
    let is_it =
        |path: &PathBuf| crate::object::stat(path).is_ok_and(|state| state.inode == Some(inode));
    let entries = std::fs::read_dir(path.parent()?).ok()?;
    entries.flatten().map(|entry| entry.path()).find(is_it)
}

/// Where what was at `path` is, if that is below one of the directories that were renamed. With
/// `exchange`, two are.
fn now_at(path: &Path, from: &Path, to: &Path, exchange: bool) -> Option<PathBuf> {
    let moved = |from: &Path, to: &Path| {
        let below = path.strip_prefix(from).ok().filter(|below| !below.as_os_str().is_empty())?;
        Some(to.join(below))
    };
    moved(from, to).or_else(|| exchange.then(|| moved(to, from)).flatten())
}

/// What is under way in a directory that was renamed goes on with its new path.
fn follow(pipeline: &mut Pipeline, from: &Path, to: &Path, exchange: bool) {
    pipeline.follow(|path| now_at(path, from, to, exchange));
}

/// What is under way in a directory that was renamed, and goes where nothing is watched, is told
/// before that.
fn settle_leaving(pipeline: &mut Pipeline, from: &Path, to: &Path, exchange: bool) {
    pipeline.settle_where(|policy, path| {
        now_at(path, from, to, exchange).is_some_and(|now| policy.covers(&now).is_none())
    });
}

/// Tells of something that was in a directory which was renamed, and is where another rule covers
/// it, or none does.
fn moved_along(
    pipeline: &mut Pipeline,
    whole: &Operation,
    from: &Path,
    to: &Path,
    was: PathBuf,
    state: ObjectState,
) {
    let Ok(below) = was.strip_prefix(from) else { return };
    let path = to.join(below);
    let covered = pipeline.policy.covers(&path).is_some();
    if covered && let Err(error) = pipeline.baseline.put(&path, &state) {
        tracing::error!(%error, "the baseline could not follow a rename");
    }
    let mut operations = Vec::new();
    note(&mut operations, whole);
    let operation = Operation {
        path: Some(path),
        object: state.id(),
        before: ObjectState::default(),
        after: ObjectState { sha256: None, ..state.clone() },
        ..whole.clone()
    };
    if let Some(mut draft) = Draft::new(Action::Moved, operation, operations) {
        pipeline.ledger.add(Stage::Found, 1);
        draft.from = Some(was);
        draft.known = Some(state);
        if covered {
            pipeline.hash_then_complete(draft);
        } else {
            pipeline.complete(draft, None);
        }
    }
}

/// Something that is not watched itself was renamed. A directory may hold what is, or be expected
/// above it.
pub(super) fn renamed_around(pipeline: &mut Pipeline, operation: Operation, path: &Path) {
    let OperationKind::Rename { from: Some(from), exchange, .. } = &operation.kind else {
        return recheck_bases(pipeline, path, None);
    };
    let (from, exchange) = (from.clone(), *exchange);
    let pair = (path.to_owned(), from.clone());
    if exchange && pipeline.sessions.exchanged.take().is_some_and(|first| first.names == pair) {
        return;
    }
    recheck_bases(pipeline, path, Some(&from));
    let reaches = |path: &Path| pipeline.policy.reaches_below(path);
    // In an exchange, the other one may be the directory.
    let directory = exchange || operation.after.kind == Some(ObjectKind::Dir);
    if !directory || !pipeline.observer.observes() || !(reaches(path) || reaches(&from)) {
        return;
    }
    settle_leaving(pipeline, &from, path, exchange);
    let mut ways = vec![(from.clone(), path.to_owned())];
    if exchange {
        ways.push((path.to_owned(), from.clone()));
        let names = (from.clone(), path.to_owned());
        let (known, contents) = (None, Vec::new());
        pipeline.sessions.exchanged = Some(Exchanged { names, known, contents });
    }
    let mut contents = Vec::new();
    for (from, _) in &ways {
        // What was known where one of them comes to is the other's.
        match pipeline.baseline.remove_tree(from) {
            Ok(known) => contents.push(known),
            Err(error) => {
                tracing::error!(%error, "the baseline could not follow a rename");
                contents.push(Vec::new());
            }
        }
    }
    follow(pipeline, &from, path, exchange);
    for ((from, to), contents) in ways.iter().zip(contents) {
        let kind = OperationKind::Rename {
            from: Some(from.clone()),
            from_in_scope: true,
            to_in_scope: true,
            replaced: None,
            exchange,
        };
        let whole = Operation { path: Some(to.clone()), kind, ..operation.clone() };
        for (was, state) in contents {
            moved_along(pipeline, &whole, from, to, was, state);
        }
        if pipeline.policy.reaches_below(to) {
            pipeline.recheck_moved(whole);
        }
    }
    pipeline.tree_moved(path);
}

/// A rename away from over watched places, or to where they are expected: what they hold is compared
/// with the baseline.
fn recheck_bases(pipeline: &mut Pipeline, path: &Path, from: Option<&Path>) {
    let concerned: Vec<PathBuf> = pipeline
        .policy
        .places()
        .into_iter()
        .map(|(base, _)| base)
        .filter(|base| base.starts_with(path) || from.is_some_and(|from| base.starts_with(from)))
        .collect();
    for base in concerned {
        pipeline.observe(Observation::Recheck(base));
    }
}
