//! What an event may bring into the baseline.
//!
//! An event that tells of one thing looks at the whole object, and may see the work of an operation
//! that was lost, or that is still under way. What it does not tell must not get into the baseline,
//! or nobody would ever hear of it.

use std::borrow::Cow;

use super::change::{Content, Draft};
use super::recheck::keep_content;
use crate::diff;
use crate::event::{Action, Property, Provider};
use crate::state::{HashState, ObjectKind, ObjectState};

/// What the baseline is to have of the object of `draft` from now on; `None`: what it has. `known`
/// is what it has, for an event about attributes.
pub(super) fn to_store<'a>(
    draft: &Draft,
    before: Option<&ObjectState>,
    known: Option<&ObjectState>,
    after: &'a ObjectState,
    hash_state: Option<HashState>,
) -> Option<Cow<'a, ObjectState>> {
    if draft.action == Action::Updated
        && draft.content == Content::Doubtful
        && hash_state == Some(HashState::Exact)
        && let Some(before) = before
    {
        // The content is the same, so nothing is told; then nothing but its times may be new.
        let changes = diff::changes(before, after);
        let silent = before.sha256.is_some() && !changes.contains(&Property::Content);
        if silent && changes.iter().any(|change| *change != Property::Mtime) {
            return None;
        }
    }
    let Some(known) = known.filter(|known| known.kind == Some(ObjectKind::File)) else {
        return Some(Cow::Borrowed(after));
    };
    // As it was before the operation, as far as the collector says: if that is not as the baseline
    // has it, the content was changed by something that is not told here.
    let size = draft.before.size.or(draft.after.size);
    let mtime = draft.before.mtime.or(draft.after.mtime);
    let resized = size.is_some() && size != known.size;
    let touched = mtime.is_some() && mtime != known.mtime;
    if resized || (touched && draft.provider == Provider::Bpf) {
        let mut stale = after.clone();
        keep_content(&mut stale, known);
        return Some(Cow::Owned(stale));
    }
    if touched {
        // fanotify does not say whether this very operation set the time. With the earlier ctime
        // the next comparison reads the content.
        return Some(Cow::Owned(ObjectState { ctime: known.ctime, ..after.clone() }));
    }
    Some(Cow::Borrowed(after))
}
