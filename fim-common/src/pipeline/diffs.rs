//! What text a change changed: what to compare with, and when.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::Pipeline;
use super::change::Draft;
use crate::baseline::{Baseline, BaselineError};
use crate::content::{Contents, Keep};
use crate::event::ContentDiff;
use crate::hash::{self, Compare};
use crate::policy::Policy;
use crate::scan::Difference;
use crate::state::ObjectId;

impl Pipeline {
    /// What the content of a draft is to be compared with.
    pub(super) fn compare(&self, draft: &Draft, keep: Keep) -> Option<Compare> {
        let contents = Arc::clone(self.contents.as_ref()?);
        let earlier = draft.replaced.as_ref().or(draft.known.as_ref());
        let before = match earlier {
            // It may take the place of what was renamed or removed a moment ago.
            _ if draft.replaced.is_none()
                && let Some(away) = self.away(&draft.path) =>
            {
                Some(away)
            }
            Some(state) => state.sha256.clone(),
            None => self.baseline.get(&draft.path).ok().flatten().and_then(|state| state.sha256),
        };
        Some(Compare { contents, keep, before })
    }

    /// The hash of what was at `path` until a moment ago.
    fn away(&self, path: &Path) -> Option<String> {
        self.steps.away(path).or_else(|| {
            // The event of the rename waits for a hash.
            let away = self.waiting.values().find(|draft| draft.from.as_deref() == Some(path))?;
            away.known.as_ref()?.sha256.clone()
        })
    }

    /// What text differs in what a scan found. Reads the file here, at most `content.max_file` of
    /// it: scans find few changes of such files, and hand them over one by one.
    pub(super) fn diff_found(&self, found: &Difference) -> Option<ContentDiff> {
        let contents = self.contents.as_ref()?;
        let rule = self.policy.covers(&found.path).filter(|rule| rule.content_diff)?;
        let before = found.before.as_ref()?.sha256.as_deref()?;
        let after = found.after.as_ref()?;
        let sha256 = after.sha256.as_deref().filter(|after| *after != before)?;
        let bytes = read(contents, &found.path, after.id(), sha256)?;
        Some(contents.changed(&found.path, Some(before), sha256, &bytes, rule.keep(&found.path)))
    }
}

/// The content whose hash is `sha256`, if the object still has it and it is not too large.
fn read(
    contents: &Contents,
    path: &Path,
    object: Option<ObjectId>,
    sha256: &str,
) -> Option<Vec<u8>> {
    let (outcome, bytes) = hash::content_kept(path, object, contents.max_file());
    bytes.filter(|_| outcome.sha256.as_deref() == Some(sha256))
}

/// Keeps the contents of all files of rules with `content_diff` that are not kept yet. Gives up
/// when `cancel` becomes true.
///
/// # Errors
/// When the baseline cannot be read.
pub fn keep_contents(
    contents: &Contents,
    baseline: &Baseline,
    policy: &Policy,
    cancel: &AtomicBool,
) -> Result<(), BaselineError> {
    let wanting = policy.rules().iter().filter(|rule| rule.content_diff);
    let mut bases: Vec<&Path> =
        wanting.flat_map(|rule| &rule.paths).map(|pattern| pattern.base()).collect();
    bases.sort_unstable();
    bases.dedup();
    let mut failed = false;
    for base in bases {
        for object in baseline.tree(base) {
            let (path, state) = object?;
            if cancel.load(std::sync::atomic::Ordering::Relaxed) {
                return Ok(());
            }
            let rule = policy.covers(&path).filter(|rule| rule.content_diff);
            let (Some(rule), Some(sha256)) = (rule, &state.sha256) else { continue };
            let keep = rule.keep(&path);
            if contents.has(&path, sha256, keep) {
                continue;
            }
            let Some(bytes) = read(contents, &path, state.id(), sha256) else { continue };
            if let Err(error) = contents.keep(&path, sha256, &bytes, keep)
                && !std::mem::replace(&mut failed, true)
            {
                tracing::warn!(%error, path = %path.display(), "contents cannot be kept");
            }
        }
    }
    Ok(())
}
