//! What an event may bring into the baseline.
//!
//! An event that tells of one thing looks at the whole object, and may see the work of an operation
//! that was lost, or that is still under way. What it does not tell must not get into the baseline,
//! or nobody would ever hear of it.

use std::borrow::Cow;

use super::change::{Content, Draft, overlay};
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

/// What is still known of what `draft` was about, if that was gone, or something else had its name,
/// before anybody looked: whatever replaces or removes it says what was there. `stored` is what the
/// baseline has. `None`: nothing.
pub(super) fn left_of_gone(
    draft: &Draft,
    stored: Option<&ObjectState>,
    after: &ObjectState,
) -> Option<ObjectState> {
    match draft.action {
        Action::Updated | Action::AttributesModified => {
            let stored = stored?;
            // What had the name before, and is done to still: the baseline has what took the name.
            let object = draft.object.map(|object| object.inode);
            let another = object.zip(stored.inode).is_some_and(|(object, stored)| object != stored);
            let is_content = draft.action == Action::Updated;
            // Or nobody knows that anything was written, and nothing is told.
            if another || (is_content && draft.content == Content::Doubtful) {
                return Some(stored.clone());
            }
            let unknown = ObjectState { mtime: None, ctime: None, ..stored.clone() };
            let unknown = match is_content {
                true => ObjectState { size: None, sha256: None, ..unknown },
                false => ObjectState {
                    mode: None,
                    uid: None,
                    gid: None,
                    acl: None,
                    xattrs: None,
                    capabilities: None,
                    attributes: None,
                    ..unknown
                },
            };
            Some(overlay(&draft.after, &unknown))
        }
        // A new name changes nothing else.
        Action::Moved => {
            let inode = after.inode.or(draft.object.map(|object| object.inode));
            Some(ObjectState { inode, ..after.clone() })
        }
        _ => None,
    }
}
