//! File systems that are mounted over what is watched, and unmounted.

use std::path::Path;

use super::Pipeline;
use super::change::Draft;
use super::fold::note;
use crate::event::Action;
use crate::ledger::Stage;
use crate::operation::Operation;

/// Something was mounted or unmounted in, on or above something watched. What is there now is
/// compared with the baseline.
pub(super) fn mounted(pipeline: &mut Pipeline, action: Action, operation: Operation, point: &Path) {
    let hides = pipeline
        .policy
        .watches()
        .into_iter()
        .map(|watch| watch.base)
        .find(|base| base.starts_with(point));
    if hides.is_none() && pipeline.policy.covers(point).is_none() {
        return pipeline.ledger.add(Stage::Uncovered, 1);
    }
    let mut operations = Vec::new();
    note(&mut operations, &operation);
    if let Some(mut draft) = Draft::new(action, operation, operations) {
        draft.judged_as = hides;
        pipeline.complete(draft, None);
    }
    pipeline.recheck_mounted(point.to_owned());
}
