//! Who may do steps of one change.

use std::sync::Arc;

use crate::event::actor::Actor;

/// The parent of whatever has lost its own, and that of all services: no relative.
const INIT: u32 = 1;
/// The kernel's: neither.
const KTHREADD: u32 = 2;

/// The same execution of the same process.
pub(in crate::pipeline) fn same(one: &Arc<Actor>, other: &Arc<Actor>) -> bool {
    Arc::ptr_eq(one, other)
        || matches!((&one.process, &other.process), (Some(a), Some(b))
            if a.pid == b.pid && a.entity_id == b.entity_id)
}

/// The same execution, or another one of the same user and the same container that it started, that
/// started it, or that was started by the same: commands of one script.
pub(super) fn related(one: &Arc<Actor>, other: &Arc<Actor>) -> bool {
    if same(one, other) {
        return true;
    }
    let (Some(a), Some(b)) = (&one.process, &other.process) else { return false };
    // By their ids: a name may become known between the two.
    let container = |of: &Actor| of.container.as_ref().map(|container| container.id.clone());
    if one.user != other.user || container(one) != container(other) {
        return false;
    }
    let is_child = |parent: &Option<Box<crate::event::actor::Parent>>,
                    of: (u32, &Option<String>)| {
        parent.as_ref().is_some_and(|parent| {
            parent.entity_id.is_some() && (parent.pid, &parent.entity_id) == of
        })
    };
    if is_child(&a.parent, (b.pid, &b.entity_id)) || is_child(&b.parent, (a.pid, &a.entity_id)) {
        return true;
    }
    let Some(parent) = &a.parent else { return false };
    parent.pid != INIT
        && parent.pid != KTHREADD
        && is_child(&b.parent, (parent.pid, &parent.entity_id))
}
