//! What a package manager does under a temporary name is part of what it does to the final one.

use std::path::Path;

use super::Runs;
use crate::event::{Action, Event};
use crate::packages::programs::final_path;
use crate::pipeline::steps::{become_change, merge};

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

/// A file that was made under a temporary name and renamed is one change of what it is called now.
fn as_one_change(event: &mut Event) {
    event.fim.before = event.fim.replaced.take();
    become_change(event);
}
