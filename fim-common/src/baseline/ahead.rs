//! Changes that SQLite does not have yet.
//!
//! A file that is made and removed again costs two statements of some 5 µs each and is in no
//! baseline afterwards. So single changes are kept here by path, where a later one replaces an
//! earlier one, and reach the database together: when there are [`MOST`], and before anything but
//! a single path is asked for.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::Path;

use rusqlite::Connection;

use super::last::{self, Told};
use super::{COMMIT_EVERY, delete, put};
use crate::state::ObjectState;

/// Kept at most, some 600 bytes each.
pub(super) const MOST: usize = COMMIT_EVERY as usize / 2;
/// As many more are gathered before a disk that refused them is asked again.
pub(super) const AGAIN: usize = 64;
/// Kept while the disk refuses them.
const KEEP: usize = 4 * MOST;

/// What is to become of a row.
#[expect(clippy::large_enum_variant, reason = "nearly all of them are `Set`")]
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// Nothing is known of the path any more.
    Gone,
    /// The object is as follows.
    Set {
        state: ObjectState,
        /// Who changed it last; `None`: as it was.
        last: Option<Box<Told>>,
        /// It is another object than the row's.
        anew: bool,
    },
}

impl Change {
    /// The object is like this now.
    pub(super) fn to(state: ObjectState, last: Option<Box<Told>>) -> Self {
        Self::Set { state, last, anew: false }
    }

    fn state(&self) -> Option<&ObjectState> {
        match self {
            Self::Gone => None,
            Self::Set { state, .. } => Some(state),
        }
    }

    /// This, after `earlier`.
    fn after(self, earlier: &Self) -> Self {
        match (self, earlier) {
            (Self::Set { state, last, .. }, Self::Gone) => Self::Set { state, last, anew: true },
            (Self::Set { state, last, .. }, Self::Set { last: known, anew, .. }) => {
                Self::Set { state, last: last.or_else(|| known.clone()), anew: *anew }
            }
            (Self::Gone, _) => Self::Gone,
        }
    }
}

/// By the bytes of the path.
#[derive(Default)]
pub(super) struct Ahead(HashMap<OsString, Change>);

impl Ahead {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// What is known of a path here; `None`: the database knows.
    pub(super) fn get(&self, path: &Path) -> Option<Option<&ObjectState>> {
        Some(self.0.get(path.as_os_str())?.state())
    }

    /// Changes a path, and returns what was known before.
    pub(super) fn set(&mut self, path: &Path, change: Change) -> Option<Option<ObjectState>> {
        match self.0.get_mut(path.as_os_str()) {
            Some(known) => {
                let change = change.after(known);
                match std::mem::replace(known, change) {
                    Change::Gone => Some(None),
                    Change::Set { state, .. } => Some(Some(state)),
                }
            }
            None => {
                self.0.insert(path.as_os_str().to_owned(), change);
                None
            }
        }
    }

    /// Does it all to the database, in the order of its pages.
    pub(super) fn apply(&self, connection: &Connection) -> rusqlite::Result<()> {
        let mut changes: Vec<_> = self.0.iter().collect();
        changes.sort_unstable_by_key(|(path, _)| path.as_encoded_bytes());
        for (path, change) in changes {
            let path = Path::new(path);
            match change {
                Change::Gone => delete(connection, path)?,
                Change::Set { state, last, anew } => {
                    if *anew {
                        delete(connection, path)?;
                    }
                    let last = last.as_deref().cloned().and_then(|told| last::json(&told.into()));
                    put(connection, path, state, last.as_deref())?;
                }
            }
        }
        Ok(())
    }

    /// The database has it all.
    pub(super) fn clear(&mut self) {
        self.0.clear();
        self.0.shrink_to(MOST / 8);
    }

    /// The database has refused it, and is asked again as long as it is not too much. Returns what
    /// had to be given up.
    pub(super) fn refused(&mut self) -> u64 {
        if self.0.len() < KEEP {
            return 0;
        }
        std::mem::take(&mut self.0).len() as u64
    }
}
