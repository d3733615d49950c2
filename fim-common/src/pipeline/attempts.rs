//! Attempts that failed: told, and nothing else.

use super::Pipeline;
use super::change::Draft;
use super::fold::note;
use crate::event::{Action, FoldedOperation};
use crate::operation::{Operation, OperationKind};

/// A failed attempt: it is told at once and by itself, and changes nothing that is known.
pub(super) fn attempted(pipeline: &mut Pipeline, operation: Operation) {
    let Some(failure) = operation.failure else { return };
    let action = match &operation.kind {
        OperationKind::Create => Action::Created,
        OperationKind::OpenWrite { .. }
        | OperationKind::Modify
        | OperationKind::CloseWrite { .. }
        | OperationKind::Truncate
        | OperationKind::Map => Action::Updated,
        OperationKind::SetAttributes
        | OperationKind::SetFlags
        | OperationKind::SetSecurity
        | OperationKind::SetEa
        | OperationKind::SetXattr { .. }
        | OperationKind::RemoveXattr { .. } => Action::AttributesModified,
        OperationKind::Rename { .. } => Action::Moved,
        OperationKind::Link { .. } => Action::Linked,
        OperationKind::Delete => Action::Deleted,
        OperationKind::Mount => Action::Mounted,
        OperationKind::Unmount => Action::Unmounted,
        // These are no attempts.
        OperationKind::EndGroup | OperationKind::Registry(_) => return,
    };
    let mut operations = Vec::new();
    if !failure.summary {
        note(&mut operations, &operation);
    }
    if failure.folded > 0 {
        let one = FoldedOperation::new("attempts_not_told", failure.folded, operation.time);
        operations.push(one);
    }
    let from = match &operation.kind {
        OperationKind::Rename { from, .. } => from.clone(),
        _ => None,
    };
    if let Some(mut draft) = Draft::new(action, operation, operations) {
        if let Some(from) = from {
            // It still is where it was.
            draft.link_path = Some(std::mem::replace(&mut draft.path, from));
        }
        pipeline.attempt(draft);
    }
}
