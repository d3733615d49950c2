//! Changes that SQLite does not have yet.
//!
//! A file that is made and removed again costs two statements of some 5 µs each and is in no
//! baseline afterwards. So single changes are kept here by path, where a later one replaces an
//! earlier one, and reach the database together: when there are [`MOST`], and before anything but
//! a single path is asked for.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::{COMMIT_EVERY, delete, put};
use crate::state::ObjectState;

/// Kept at most, some 600 bytes each.
pub(super) const MOST: usize = COMMIT_EVERY as usize / 2;
/// As many more are gathered before a disk that refused them is asked again.
pub(super) const AGAIN: usize = 64;
/// Kept while the disk refuses them.
const KEEP: usize = 4 * MOST;

/// By path: the state, or that nothing is known any more.
#[derive(Default)]
pub(super) struct Ahead(HashMap<PathBuf, Option<ObjectState>>);

impl Ahead {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// What is known of a path here; `None`: the database knows.
    pub(super) fn get(&self, path: &Path) -> Option<Option<&ObjectState>> {
        Some(self.0.get(path)?.as_ref())
    }

    /// Sets a path, and returns what was set before.
    pub(super) fn set(
        &mut self,
        path: &Path,
        state: Option<ObjectState>,
    ) -> Option<Option<ObjectState>> {
        match self.0.get_mut(path) {
            Some(known) => Some(std::mem::replace(known, state)),
            None => {
                self.0.insert(path.to_owned(), state);
                None
            }
        }
    }

    /// Does it all to the database, in the order of its pages.
    pub(super) fn apply(&self, connection: &Connection) -> rusqlite::Result<()> {
        let mut changes: Vec<_> = self.0.iter().collect();
        changes.sort_unstable_by_key(|(path, _)| path.as_os_str().as_encoded_bytes());
        for (path, state) in changes {
            match state {
                Some(state) => put(connection, path, state)?,
                None => delete(connection, path)?,
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
