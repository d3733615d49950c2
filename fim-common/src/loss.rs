//! The way of a loss to the pipeline: beside the queue of operations, which may be full just then.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::collector::Gap;
use crate::event::Action;

/// Losses that are to be told. Cheap to clone: all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Losses(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    pending: Mutex<Option<Gap>>,
    /// What else the agent has to say of itself.
    notices: Mutex<Vec<(Action, String)>>,
    wake: Notify,
}

impl Losses {
    /// Operations were lost. Never blocks, and needs no room: what is not told yet is told
    /// together.
    pub fn report(&self, gap: Gap) {
        let mut pending = self.lock();
        match &mut *pending {
            Some(earlier) => earlier.merge(gap),
            None => *pending = Some(gap),
        }
        drop(pending);
        self.0.wake.notify_one();
    }

    /// Something is wrong with the agent that is no loss by itself.
    pub fn notice(&self, action: Action, message: String) {
        let mut notices = self.0.notices.lock().unwrap_or_else(PoisonError::into_inner);
        notices.push((action, message));
        drop(notices);
        self.0.wake.notify_one();
    }

    /// Notices since this was asked last.
    pub fn take_notices(&self) -> Vec<(Action, String)> {
        std::mem::take(&mut self.0.notices.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What was reported since this was asked last.
    pub fn take(&self) -> Option<Gap> {
        self.lock().take()
    }

    /// Waits until there may be something to [`Losses::take`].
    pub async fn reported(&self) {
        self.0.wake.notified().await;
    }

    /// Every change replaces or merges a whole value: a panic elsewhere leaves it sound.
    fn lock(&self) -> MutexGuard<'_, Option<Gap>> {
        self.0.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gap {
    /// Both losses as one.
    pub fn merge(&mut self, other: Self) {
        self.from = self.from.min(other.from);
        self.to = self.to.max(other.to);
        // Unknown and something is unknown.
        self.count = self.count.zip(other.count).map(|(one, more)| one + more);
        for hook in other.hooks {
            if !self.hooks.contains(&hook) {
                self.hooks.push(hook);
            }
        }
        self.scope = joined(std::mem::take(&mut self.scope), other.scope);
    }
}

/// The directories of both, each once and none below another; an empty list is everything.
pub(crate) fn joined(
    mut paths: Vec<std::path::PathBuf>,
    more: Vec<std::path::PathBuf>,
) -> Vec<std::path::PathBuf> {
    if paths.is_empty() || more.is_empty() {
        return Vec::new();
    }
    paths.extend(more);
    // A path sorts before everything below it.
    paths.sort_unstable();
    paths.dedup_by(|path, kept| path.starts_with(&*kept));
    paths
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;

    fn gap(from: i64, to: i64, count: Option<u64>, hook: &str, scope: &[&str]) -> Gap {
        Gap {
            from: Timestamp::from_unix(from, 0),
            to: Timestamp::from_unix(to, 0),
            count,
            hooks: vec![hook.to_owned()],
            scope: scope.iter().map(Into::into).collect(),
        }
    }

    #[test]
    fn losses_that_are_not_told_yet_are_one() {
        let losses = Losses::default();
        assert_eq!(losses.take(), None);
        losses.report(gap(5, 6, Some(2), "unlink", &["/a/b", "/c"]));
        losses.clone().report(gap(4, 7, Some(3), "rename", &["/a"]));
        losses.report(gap(5, 5, Some(1), "unlink", &["/c"]));
        let mut expected = gap(4, 7, Some(6), "unlink", &["/a", "/c"]);
        expected.hooks.push("rename".to_owned());
        assert_eq!(losses.take(), Some(expected));
        assert_eq!(losses.take(), None);
    }

    #[test]
    fn unknown_and_something_is_unknown() {
        let losses = Losses::default();
        losses.report(gap(1, 1, Some(2), "a", &["/a"]));
        losses.report(gap(2, 2, None, "b", &[]));
        let merged = losses.take().unwrap();
        assert_eq!((merged.count, merged.scope.len()), (None, 0));
    }
}
