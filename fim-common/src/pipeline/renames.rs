//! Renames: of what is watched, with all that is in it, and around it.

use std::path::{Path, PathBuf};

use super::Pipeline;
use super::change::Draft;
use super::fold::{note, settle_before};
use crate::collector::Observation;
use crate::event::Action;
use crate::ledger::Stage;
use crate::operation::{Operation, OperationKind};
use crate::state::{ObjectKind, ObjectState};

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
pub(super) fn renamed(pipeline: &mut Pipeline, path: PathBuf, operation: Operation) {
    let OperationKind::Rename { from, exchange, .. } = &operation.kind else { return };
    let (from, exchange) = (from.clone(), *exchange);
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
            let is_second = first_half.is_some();
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
        if let Some(from) = &from
            && from_covered
        {
            draft.known = pipeline.baseline.get(from)?;
            if covered {
                pipeline.baseline.remove_tree(&path)?;
                pipeline.baseline.rename_tree(from, &path)?;
            } else {
                contents = pipeline.baseline.remove_tree(from)?;
            }
        }
        Ok::<(), crate::baseline::BaselineError>(())
    })();
    if let Err(error) = result {
        tracing::error!(%error, "the baseline could not follow a rename");
    }
    draft.from.clone_from(&from);
    draft.exchange = exchange;
    pipeline.hash_then_complete(draft);
    let Some(whole) = whole else { return };
    pipeline.tree_moved(&path);
    if exchange && covered && from_covered {
        // What is in it came along.
        pipeline.observe(Observation::Recheck(path));
    } else if covered && !from_covered {
        // What came along is told as moved, too, once it has been found.
        pipeline.recheck_moved(whole);
    } else if let Some(from) = from
        && !covered
    {
        for (was, state) in contents {
            if was != from {
                moved_away(pipeline, &whole, &from, &path, was, state);
            }
        }
    }
}

/// Something that was in a directory which was moved out of scope.
fn moved_away(
    pipeline: &mut Pipeline,
    whole: &Operation,
    from: &Path,
    to: &Path,
    was: PathBuf,
    state: ObjectState,
) {
    let Ok(below) = was.strip_prefix(from) else { return };
    let mut operations = Vec::new();
    note(&mut operations, whole);
    let operation = Operation {
        path: Some(to.join(below)),
        object: state.id(),
        before: ObjectState::default(),
        after: ObjectState { sha256: None, ..state.clone() },
        ..whole.clone()
    };
    if let Some(mut draft) = Draft::new(Action::Moved, operation, operations) {
        pipeline.ledger.add(Stage::Found, 1);
        draft.from = Some(was);
        draft.known = Some(state);
        pipeline.complete(draft, None);
    }
}

/// A directory that is not watched itself was renamed: away from over watched ones, or to where
/// they are expected. What they hold is compared with the baseline.
pub(super) fn renamed_around(pipeline: &mut Pipeline, operation: &Operation, path: &Path) {
    let from = match &operation.kind {
        OperationKind::Rename { from, .. } => from.as_deref(),
        _ => None,
    };
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
