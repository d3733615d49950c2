//! What is known here and not told yet.
//!
//! A row is written when a change is known, its event a moment later: it may wait for other steps of
//! the same change, and lies in the journal's buffer. An agent that is killed in between would leave
//! a baseline that has the change, and nobody who was told of it. So what is committed before its
//! event is in the journal is committed together with a mark, by which the next start tells of a gap.

use rusqlite::Connection;

use super::{Baseline, BaselineError, Inner, meta, set_meta};
use crate::time::Timestamp;

const MARK: &[u8] = b"waiting";

/// Whether there is something to be marked.
#[derive(Default)]
pub(super) struct Untold {
    /// Somebody tells of each row, and says when.
    announced: bool,
    /// Rows were written since it was said last that all is told.
    rows: bool,
    /// The mark is set, committed or not.
    marked: bool,
}

impl Untold {
    /// A row is written.
    pub(super) fn note(&mut self) {
        self.rows = true;
    }

    /// Whether what is committed now has to have the mark, and has not.
    pub(super) fn wants_mark(&self) -> bool {
        self.announced && self.rows && !self.marked
    }

    /// A transaction was undone, and perhaps the mark or its removal with it.
    pub(super) fn look(&mut self, connection: &Connection) {
        self.marked = meta(connection, MARK).is_ok_and(|mark| mark.is_some());
    }
}

impl Baseline {
    /// From now on each row is of a change that is told, and [`Baseline::commit_told`] says which.
    pub fn announce(&self) {
        self.lock().untold.announced = true;
    }

    /// Commits what is gathered, as [`Baseline::flush`]. `all`: the events of all rows so far are in
    /// the journal.
    ///
    /// # Errors
    /// As [`Baseline::flush`].
    pub fn commit_told(&self, all: bool) -> Result<(), BaselineError> {
        let mut inner = self.lock();
        if all {
            inner.untold.rows = false;
        }
        self.settle(&mut inner)?;
        if all && inner.untold.marked {
            self.write_now(&mut inner, 1, |inner| {
                inner.connection.prepare_cached("DELETE FROM meta WHERE key = ?1")?.execute([MARK])
            })?;
            inner.untold.marked = false;
        }
        self.commit(&mut inner)
    }

    /// Since when rows were known that no event had told of when the last agent was killed; the mark
    /// is forgotten.
    ///
    /// # Errors
    /// As [`Baseline::put`].
    pub fn take_untold(&self) -> Result<Option<Timestamp>, BaselineError> {
        let since = self.read(|connection| meta(connection, MARK))?;
        let mut inner = self.lock();
        inner.untold.marked = since.is_some();
        drop(inner);
        self.commit_told(true)?;
        Ok(since.and_then(|since| since.parse().ok()))
    }

    /// Sets the mark, in the transaction that is open.
    pub(super) fn mark(&self, inner: &mut Inner) -> Result<(), BaselineError> {
        let since = Timestamp::now().to_string();
        self.write_now(inner, 1, |inner| set_meta(&inner.connection, MARK, &since))?;
        inner.untold.marked = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::baseline::COMMIT_EVERY;
    use crate::state::ObjectState;

    /// Rows and marks that an agent would find that is started now, after this one was killed.
    fn committed(baseline: &Baseline) -> (u64, bool) {
        let other = Connection::open(baseline.path()).unwrap();
        let count = |query: &str| other.query_row(query, [], |row| row.get::<_, i64>(0)).unwrap();
        let marks = count("SELECT count(*) FROM meta WHERE key = CAST('waiting' AS BLOB)");
        (count("SELECT count(*) FROM objects").cast_unsigned(), marks == 1)
    }

    fn put(baseline: &Baseline, number: u64) {
        let path = PathBuf::from(format!("/d/{number}"));
        baseline.put(&path, &ObjectState::default()).unwrap();
    }

    #[test]
    fn no_row_is_committed_without_a_mark_before_it_is_told() {
        let temp = tempfile::tempdir().unwrap();
        let baseline = Baseline::open(temp.path()).unwrap();
        baseline.announce();
        let mut seen = 0;
        for number in 0..2 * COMMIT_EVERY {
            put(&baseline, number);
            if number % 64 == 0 {
                // Of a tree, which is written at once.
                baseline.rename_tree(Path::new("/d/0"), Path::new("/e")).unwrap();
                baseline.rename_tree(Path::new("/e"), Path::new("/d/0")).unwrap();
                let (rows, marked) = committed(&baseline);
                assert_eq!(marked, rows > 0, "{rows} rows after {number}");
                seen = seen.max(rows);
            }
        }
        assert!(seen > 0, "nothing was committed by itself");
        baseline.commit_told(false).unwrap();
        assert_eq!(committed(&baseline), (2 * COMMIT_EVERY, true), "something waits");
        baseline.commit_told(true).unwrap();
        assert_eq!(committed(&baseline), (2 * COMMIT_EVERY, false));
        // What is no row needs no mark, and a row does at whatever commits it.
        baseline.set_alive(Timestamp::now()).unwrap();
        baseline.flush().unwrap();
        assert!(!committed(&baseline).1);
        put(&baseline, u64::MAX);
        baseline.flush().unwrap();
        assert!(committed(&baseline).1);
        drop(baseline);

        let baseline = Baseline::open(temp.path()).unwrap();
        assert!(baseline.take_untold().unwrap().is_some());
        assert_eq!(baseline.take_untold().unwrap(), None);
        assert!(!committed(&baseline).1);
        // Of a scan or a command nobody is told.
        put(&baseline, 1);
        baseline.flush().unwrap();
        assert!(!committed(&baseline).1);
    }
}
