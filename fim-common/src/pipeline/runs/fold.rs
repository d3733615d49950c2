//! What a package manager does under a temporary name is part of what it does to the final one.

use std::path::Path;

use super::Runs;
use crate::event::{Action, Event, FoldedOperation, Property, Side, Type};
use crate::packages::programs::final_path;

impl Runs {
    /// What a package manager did to a temporary name is part of what it does to the final one.
    pub(super) fn fold(
        &mut self,
        run: &str,
        base: &Path,
        path: &Path,
        from: Option<&Path>,
        event: &mut Event,
    ) {
        let temporary = match (event.event.action, from) {
            (Action::Moved, Some(from)) => from,
            (Action::Deleted, _) if path != base => path,
            _ => return,
        };
        let queue_of = final_path(temporary).unwrap_or_else(|| temporary.to_owned());
        let Some(queue) = self.queues.get_mut(&queue_of) else { return };
        let mut folded = Vec::new();
        let mut created = false;
        queue.retain(|held| {
            let same = held.direct && held.path == temporary && held.run.as_deref() == Some(run);
            if same {
                created |= held.event.event.action == Action::Created;
                folded.extend(held.event.fim.operations.iter().cloned());
            }
            !same
        });
        let empty = queue.is_empty();
        if empty {
            self.queues.remove(&queue_of);
        }
        if folded.is_empty() {
            return;
        }
        self.count = self.queues.values().map(Vec::len).sum();
        let own = std::mem::replace(&mut event.fim.operations, folded);
        merge(&mut event.fim.operations, &own);
        if event.event.action == Action::Moved && created {
            as_one_change(event);
        }
    }
}

pub(super) fn merge(into: &mut Vec<FoldedOperation>, from: &[FoldedOperation]) {
    for one in from {
        match into.iter_mut().find(|known| known.operation == one.operation) {
            Some(known) => {
                known.count += one.count;
                known.first = known.first.min(one.first);
                known.last = known.last.max(one.last);
                known.bytes = match (known.bytes, one.bytes) {
                    (None, None) => None,
                    (a, b) => Some(a.unwrap_or(0) + b.unwrap_or(0)),
                };
            }
            None => into.push(one.clone()),
        }
    }
}

/// A file that was made under a temporary name and renamed is one change of what it is called now.
fn as_one_change(event: &mut Event) {
    let before = event.fim.replaced.take();
    event.event.action = if before.is_some() { Action::Updated } else { Action::Created };
    event.event.types = vec![match before {
        Some(_) => Type::Change,
        None => Type::Creation,
    }];
    event.fim.changes = match (&before, &event.fim.after) {
        (Some(before), Some(after)) => differences(before, after),
        _ => vec![Property::Existence],
    };
    event.fim.before = before;
}

fn differences(before: &Side, after: &Side) -> Vec<Property> {
    fn differ<T: PartialEq>(a: &Option<T>, b: &Option<T>) -> bool {
        matches!((a, b), (Some(a), Some(b)) if a != b)
    }
    let all = [
        (differ(&before.kind, &after.kind), Property::Type),
        (differ(&before.sha256, &after.sha256), Property::Content),
        (differ(&before.size, &after.size), Property::Size),
        (differ(&before.mode, &after.mode), Property::Mode),
        (differ(&before.uid, &after.uid), Property::Uid),
        (differ(&before.gid, &after.gid), Property::Gid),
        (differ(&before.mtime, &after.mtime), Property::Mtime),
        (differ(&before.inode, &after.inode), Property::Inode),
        (differ(&before.acl, &after.acl), Property::Acl),
        (differ(&before.xattrs, &after.xattrs), Property::Xattrs),
        (differ(&before.capabilities, &after.capabilities), Property::Capabilities),
        (differ(&before.attributes, &after.attributes), Property::Attributes),
        (differ(&before.target_path, &after.target_path), Property::TargetPath),
    ];
    all.into_iter().filter(|(differs, _)| *differs).map(|(_, property)| property).collect()
}
