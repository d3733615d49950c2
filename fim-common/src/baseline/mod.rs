//! The known state of every object in scope: an SQLite database in the state directory.
//!
//! Invariant: a database that is damaged, foreign or of a later format is refused and left as it
//! is; nothing here ever replaces one.
//!
//! Writes are gathered in memory and in one transaction, committed after [`COMMIT_EVERY`] of them
//! or at [`Baseline::flush`]. The methods see uncommitted writes; readers of other connections do not.
//! A crash loses at most what was not committed, and the comparison at the next start finds it.
//!
//! Invariant: once [`Baseline::announce`] was called, no row is committed before its event is in the
//! journal, unless with a mark that says so (`untold`).

use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use ahead::{Ahead, Change};
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::state::{ObjectId, ObjectState};
use crate::time::Timestamp;

mod ahead;
mod error;
mod last;
mod open;
mod registry;
mod row;
mod state_dir;
mod tree;
mod untold;
mod watch;

pub use error::BaselineError;
pub use last::LastChange;
pub(crate) use last::Told;
pub(crate) use row::{Fingerprint, path_of};

pub use state_dir::{MINIMUM_FREE, StateDir, StateDirError};

/// Where the agent keeps what it knows, unless it is told otherwise.
pub const DEFAULT_STATE_DIR: &str = crate::platform::STATE_DIR;
/// What the program is called as, for messages that say what to do.
pub const PROGRAM: &str = crate::platform::PROGRAM;
/// As whom commands may look at the state.
pub const PRIVILEGED: &str = crate::platform::PRIVILEGED;
pub use tree::Tree;
use untold::Untold;
pub(crate) use watch::{Scanned, Watch};

/// Writes in one transaction at most: enough to spread the cost of a commit (some 50 µs without
/// an fsync), few enough that the uncommitted pages stay within the cache.
pub const COMMIT_EVERY: u64 = 4_096;

/// The baseline. All methods take `&self` and may be called from any thread; each holds a lock
/// for the few microseconds that it takes.
pub struct Baseline {
    path: PathBuf,
    created: bool,
    inner: Mutex<Inner>,
}

struct Inner {
    connection: Connection,
    /// Writes in the open transaction.
    pending: u64,
    notes: watch::Notes,
    ahead: Ahead,
    /// Of another agent: nothing may be kept that could not be written.
    read_only: bool,
    untold: Untold,
}

impl Inner {
    fn new(connection: Connection, read_only: bool) -> Mutex<Self> {
        let (notes, ahead) = (watch::Notes::default(), Ahead::default());
        let untold = Untold::default();
        Mutex::new(Self { connection, pending: 0, notes, ahead, read_only, untold })
    }

    /// The state of a path.
    fn get(&self, path: &Path) -> rusqlite::Result<Option<ObjectState>> {
        match self.ahead.get(path) {
            Some(state) => Ok(state.cloned()),
            None => get(&self.connection, path),
        }
    }
}

impl Baseline {
    /// Opens `baseline.db` in `directory`, or makes it. Reads the whole database to check it.
    ///
    /// # Errors
    /// Each variant of [`BaselineError`]; the file was then left as it is.
    pub fn open(directory: &Path) -> Result<Self, BaselineError> {
        let (connection, path, created) = open::open(directory)?;
        Ok(Self { path, created, inner: Inner::new(connection, false) })
    }

    /// An empty one that is on no disk.
    ///
    /// # Errors
    /// When SQLite does not work.
    pub fn in_memory() -> Result<Self, BaselineError> {
        let path = PathBuf::from(":memory:");
        Ok(Self { inner: Inner::new(open::in_memory(&path)?, false), path, created: true })
    }

    /// Opens the baseline in `directory` for reading, beside an agent that writes it. Writing
    /// methods then fail with [`BaselineError::ReadOnly`].
    ///
    /// # Errors
    /// As [`Baseline::open`]; [`BaselineError::Io`] with `NotFound` when there is none.
    pub fn open_read_only(directory: &Path) -> Result<Self, BaselineError> {
        let path = directory.join(open::FILE);
        let connection = open::open_reader(&path)?;
        Ok(Self { path, created: false, inner: Inner::new(connection, true) })
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether [`Baseline::open`] made it: there was none before.
    pub fn created(&self) -> bool {
        self.created
    }

    /// The state known for a path.
    ///
    /// # Errors
    /// [`BaselineError::Damaged`] and the like.
    pub fn get(&self, path: &Path) -> Result<Option<ObjectState>, BaselineError> {
        self.lock().get(path).map_err(|error| BaselineError::from_sqlite(&self.path, error, 0))
    }

    /// Sets the state of a path.
    ///
    /// # Errors
    /// [`BaselineError::Full`], [`BaselineError::ReadOnly`] and the like.
    pub fn put(&self, path: &Path, state: &ObjectState) -> Result<(), BaselineError> {
        self.set(path, Change::to(state.clone(), None)).map(drop)
    }

    /// [`Baseline::put`], with who changed it.
    pub(crate) fn put_by(
        &self,
        path: &Path,
        state: &ObjectState,
        last: Told,
    ) -> Result<(), BaselineError> {
        self.set(path, Change::to(state.clone(), Some(Box::new(last)))).map(drop)
    }

    /// Forgets one path, and returns what was known of it. What is below it stays.
    ///
    /// # Errors
    /// As [`Baseline::put`].
    pub fn remove(&self, path: &Path) -> Result<Option<ObjectState>, BaselineError> {
        self.set(path, Change::Gone)
    }

    /// Sets the state of a path; returns what was known of it before it is removed.
    fn set(&self, path: &Path, change: Change) -> Result<Option<ObjectState>, BaselineError> {
        let mut inner = self.lock();
        let inner = &mut *inner;
        inner.notes.note(path);
        inner.untold.note();
        let before = match inner.ahead.get(path) {
            None if matches!(change, Change::Gone) => match get(&inner.connection, path) {
                // Nothing to forget.
                Ok(None) if !inner.read_only => return Ok(None),
                Ok(before) => before,
                Err(error) => return Err(BaselineError::from_sqlite(&self.path, error, 0)),
            },
            _ => None,
        };
        let before = inner.ahead.set(path, change).unwrap_or(before);
        let kept = inner.ahead.len();
        // Now and then while the disk refuses them.
        if inner.read_only || (kept >= ahead::MOST && kept.is_multiple_of(ahead::AGAIN)) {
            let settled = self.settle(inner);
            if inner.read_only {
                inner.ahead.clear();
            }
            settled?;
        }
        Ok(before)
    }

    /// The paths at which an object is known: more than one when it has hard links. A `device` of
    /// 0 matches every device.
    ///
    /// # Errors
    /// [`BaselineError::Damaged`] and the like.
    pub fn paths_of(&self, object: ObjectId) -> Result<Vec<PathBuf>, BaselineError> {
        self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT dir, name FROM objects WHERE inode = ?1 AND (device = ?2 OR ?2 = 0) \
                     ORDER BY dir, name",
                )?
                .query_map(
                    params![object.inode.cast_signed(), object.device.cast_signed()],
                    |found| {
                        Ok(row::join(found.get_ref(0)?.as_blob()?, found.get_ref(1)?.as_blob()?))
                    },
                )?
                .collect()
        })
    }

    /// The regular files that had more than one name when they were last looked at.
    ///
    /// # Errors
    /// [`BaselineError::Damaged`] and the like.
    pub fn linked(&self) -> Result<Vec<(PathBuf, ObjectId)>, BaselineError> {
        let linked = self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT dir, name, inode, device FROM objects \
                     WHERE kind = 1 AND nlink > 1 AND inode IS NOT NULL AND device IS NOT NULL",
                )?
                .query_map([], |found| {
                    let path =
                        row::join(found.get_ref(0)?.as_blob()?, found.get_ref(1)?.as_blob()?);
                    let number = |index| found.get(index).map(i64::cast_unsigned);
                    Ok((path, ObjectId { inode: number(2)?, device: number(3)? }))
                })?
                .collect()
        })?;
        // Every page was read, and most are not asked for again.
        self.shrink()?;
        Ok(linked)
    }

    /// How many objects are known: `fim_baseline_objects`. Counts them, some 10 ms for a million.
    ///
    /// # Errors
    /// [`BaselineError::Damaged`] and the like.
    pub fn count(&self) -> Result<u64, BaselineError> {
        self.read(|connection| {
            connection
                .prepare_cached("SELECT count(*) FROM objects")?
                .query_row([], |row| row.get::<_, i64>(0))
        })
        .map(i64::cast_unsigned)
    }

    /// Commits what is gathered. Call it when there is nothing to do, and before readers of other
    /// connections are to see it.
    ///
    /// # Errors
    /// As [`Baseline::put`]. With [`BaselineError::Full`] and `lost: 0` it is still gathered, and
    /// may be committed later.
    pub fn flush(&self) -> Result<(), BaselineError> {
        let mut inner = self.lock();
        self.settle(&mut inner)?;
        self.commit(&mut inner)
    }

    /// A value that was set with [`Baseline::set_meta`].
    ///
    /// # Errors
    /// [`BaselineError::Damaged`] and the like.
    pub fn meta(&self, key: &str) -> Result<Option<String>, BaselineError> {
        self.read(|connection| meta(connection, key.as_bytes()))
    }

    /// Sets a value beside the objects, in the same transaction as they are.
    ///
    /// # Errors
    /// As [`Baseline::put`].
    pub fn set_meta(&self, key: &str, value: &str) -> Result<(), BaselineError> {
        self.write(1, &[], |connection| set_meta(connection, key.as_bytes(), value))
    }

    /// Removes such a value.
    ///
    /// # Errors
    /// As [`Baseline::put`].
    pub fn remove_meta(&self, key: &str) -> Result<(), BaselineError> {
        self.write(1, &[], |connection| {
            connection
                .prepare_cached("DELETE FROM meta WHERE key = ?1")?
                .execute([key.as_bytes()])?;
            Ok(())
        })
    }

    /// When the first scan of a root was complete; `None`: never, so what lies below it is no
    /// change but simply not known yet.
    ///
    /// # Errors
    /// [`BaselineError::Damaged`] and the like.
    pub fn scan_complete(&self, root: &Path) -> Result<Option<Timestamp>, BaselineError> {
        let value = self.read(|connection| meta(connection, &scan_key(root)))?;
        Ok(value.and_then(|value| value.parse().ok()))
    }

    /// Notes that a root was scanned completely, and commits.
    ///
    /// # Errors
    /// As [`Baseline::put`].
    pub fn set_scan_complete(&self, root: &Path, at: Timestamp) -> Result<(), BaselineError> {
        self.write(1, &[], |connection| set_meta(connection, &scan_key(root), &at.to_string()))?;
        self.flush()
    }

    /// Notes the end of a clean run, and commits.
    ///
    /// # Errors
    /// As [`Baseline::put`].
    pub fn set_stopped(&self, at: Timestamp) -> Result<(), BaselineError> {
        self.set_meta("stopped", &at.to_string())?;
        self.flush()
    }

    /// Notes that an agent runs, for the one that is started after it was killed.
    ///
    /// # Errors
    /// As [`Baseline::put`].
    pub fn set_alive(&self, at: Timestamp) -> Result<(), BaselineError> {
        self.set_meta("alive", &at.to_string())
    }

    /// When the last run was known to live, if it has not ended in order. Asked before
    /// [`Baseline::take_down_since`], which forgets it.
    ///
    /// # Errors
    /// As [`Baseline::get`].
    pub fn killed_after(&self) -> Result<Option<Timestamp>, BaselineError> {
        match self.meta("stopped")? {
            Some(_) => Ok(None),
            None => Ok(self.meta("alive")?.and_then(|value| value.parse().ok())),
        }
    }

    /// Since when nobody has watched: when the last run ended cleanly, or, after a crash, when it
    /// last said that it lives. Asked once at each start: it forgets the clean end.
    ///
    /// # Errors
    /// As [`Baseline::put`].
    pub fn take_down_since(&self) -> Result<Option<Timestamp>, BaselineError> {
        let stopped = self.meta("stopped")?;
        let since = match stopped {
            Some(stopped) => Some(stopped),
            None => self.meta("alive")?,
        };
        self.remove_meta("stopped")?;
        self.flush()?;
        Ok(since.and_then(|value| value.parse().ok()))
    }

    /// Gives back the memory of the pages that a scan has read or written.
    pub(crate) fn shrink(&self) -> Result<(), BaselineError> {
        self.read(|connection| connection.execute_batch("PRAGMA shrink_memory"))
    }

    /// Does without the index of objects while a first scan fills the baseline.
    pub(crate) fn drop_index(&self) -> Result<(), BaselineError> {
        self.write(1, &[], |connection| {
            connection.execute_batch("DROP INDEX IF EXISTS objects_by_identity")
        })?;
        self.flush()
    }

    /// Makes it again.
    pub(crate) fn make_index(&self) -> Result<(), BaselineError> {
        self.write(1, &[], |connection| connection.execute_batch(open::INDEX))?;
        self.flush()
    }

    /// Since when changes are known here that no event has told of yet; `None`: all are told.
    ///
    /// # Errors
    /// As [`Baseline::put`].
    pub fn set_holding(&self, since: Option<Timestamp>) -> Result<(), BaselineError> {
        match since {
            Some(since) => self.set_meta("holding", &since.to_string()),
            None => self.remove_meta("holding"),
        }
    }

    /// What [`Baseline::set_holding`] said last, which is forgotten: after a crash, the beginning of
    /// what nobody was told of.
    ///
    /// # Errors
    /// As [`Baseline::put`].
    pub fn take_holding(&self) -> Result<Option<Timestamp>, BaselineError> {
        let since = self.meta("holding")?;
        self.remove_meta("holding")?;
        self.flush()?;
        Ok(since.and_then(|value| value.parse().ok()))
    }

    /// A connection of its own for a thread that reads along. It sees what is committed.
    pub(crate) fn reader(&self) -> Result<Reader, BaselineError> {
        Ok(Reader { path: self.path.clone(), connection: open::open_reader(&self.path)? })
    }

    /// A panic of another thread leaves the connection usable: SQLite's calls are atomic.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read<T>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, BaselineError> {
        let mut inner = self.lock();
        self.settle(&mut inner)?;
        query(&inner.connection).map_err(|error| BaselineError::from_sqlite(&self.path, error, 0))
    }

    /// Changes what is known at or below `paths`.
    fn write<T>(
        &self,
        count: u64,
        paths: &[&Path],
        change: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, BaselineError> {
        let mut inner = self.lock();
        for path in paths {
            inner.notes.note(path);
            inner.untold.note();
        }
        self.write_locked(&mut inner, count, change)
    }

    fn write_locked<T>(
        &self,
        inner: &mut Inner,
        count: u64,
        change: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, BaselineError> {
        self.settle(inner)?;
        let value = self.write_now(inner, count, |inner| change(&inner.connection))?;
        if inner.pending >= COMMIT_EVERY {
            self.commit(inner)?;
        }
        Ok(value)
    }

    /// Writes what is kept in memory.
    fn settle(&self, inner: &mut Inner) -> Result<(), BaselineError> {
        let count = inner.ahead.len() as u64;
        if count == 0 {
            return Ok(());
        }
        self.write_now(inner, count, |inner| inner.ahead.apply(&inner.connection))?;
        inner.ahead.clear();
        if inner.pending >= COMMIT_EVERY {
            self.commit(inner)?;
        }
        Ok(())
    }

    fn write_now<T>(
        &self,
        inner: &mut Inner,
        count: u64,
        change: impl FnOnce(&Inner) -> rusqlite::Result<T>,
    ) -> Result<T, BaselineError> {
        if inner.connection.is_autocommit() {
            let begun = inner.connection.execute_batch("BEGIN IMMEDIATE");
            begun.map_err(|error| BaselineError::from_sqlite(&self.path, error, 0))?;
            inner.pending = 0;
        }
        let value = change(inner).map_err(|error| self.failed(inner, error))?;
        inner.pending += count;
        Ok(value)
    }

    fn commit(&self, inner: &mut Inner) -> Result<(), BaselineError> {
        if inner.untold.wants_mark() {
            self.mark(inner)?;
        }
        if !inner.connection.is_autocommit() {
            let done = inner.connection.execute_batch("COMMIT");
            done.map_err(|error| self.failed(inner, error))?;
        }
        inner.pending = 0;
        Ok(())
    }

    /// SQLite gives up the whole transaction on some errors, a full disk among them, and only the
    /// statement on others.
    fn failed(&self, inner: &mut Inner, error: rusqlite::Error) -> BaselineError {
        let rolled_back = inner.connection.is_autocommit();
        if rolled_back {
            inner.untold.look(&inner.connection);
        }
        let lost = if rolled_back { std::mem::take(&mut inner.pending) } else { 0 };
        let lost = lost + inner.ahead.refused();
        BaselineError::from_sqlite(&self.path, error, lost)
    }
}

impl Drop for Baseline {
    fn drop(&mut self) {
        let mut inner = self.lock();
        if let Err(error) = self.settle(&mut inner).and_then(|()| self.commit(&mut inner)) {
            tracing::error!(%error, "the last changes of the baseline are lost");
        }
    }
}

/// Reads along with the agent, for a thread of the scan.
pub(crate) struct Reader {
    path: PathBuf,
    connection: Connection,
}

impl Reader {
    /// What is known directly in a directory, with names from `from` (included) to `to` (not
    /// included; `None`: the end), in byte order.
    pub(crate) fn entries(
        &self,
        directory: &[u8],
        from: &[u8],
        to: Option<&[u8]>,
    ) -> Result<Vec<Fingerprint>, BaselineError> {
        let query = || {
            let mut statement = self.connection.prepare_cached(&format!(
                "SELECT {} FROM objects WHERE dir = ?1 AND name >= ?2 \
                 AND (?3 IS NULL OR name < ?3) ORDER BY name",
                Fingerprint::COLUMNS
            ))?;
            statement
                .query_map(params![directory, from, to], Fingerprint::decode)?
                .collect::<Result<_, _>>()
        };
        query().map_err(|error| BaselineError::from_sqlite(&self.path, error, 0))
    }

    /// What is known of one path, in short.
    pub(crate) fn fingerprint(&self, path: &Path) -> Result<Option<Fingerprint>, BaselineError> {
        let (dir, name) = row::split(path);
        let mut following = name.to_vec();
        following.push(0);
        Ok(self.entries(dir, name, Some(&following))?.pop())
    }

    /// The state known for a path.
    pub(crate) fn get(&self, path: &Path) -> Result<Option<ObjectState>, BaselineError> {
        get(&self.connection, path)
            .map_err(|error| BaselineError::from_sqlite(&self.path, error, 0))
    }
}

static GET: LazyLock<String> =
    LazyLock::new(|| format!("SELECT {} FROM objects WHERE dir = ?1 AND name = ?2", row::COLUMNS));

fn get(connection: &Connection, path: &Path) -> rusqlite::Result<Option<ObjectState>> {
    let (dir, name) = row::split(path);
    connection
        .prepare_cached(&GET)?
        .query_row(params![dir, name], |found| row::decode(found, 0))
        .optional()
}

fn put(
    connection: &Connection,
    path: &Path,
    state: &ObjectState,
    last: Option<&str>,
) -> rusqlite::Result<()> {
    let (dir, name) = row::split(path);
    put_at(connection, dir, name, state, last)
}

/// Without `last`, who changed it last stays as it is known.
fn put_at(
    connection: &Connection,
    dir: &[u8],
    name: &[u8],
    state: &ObjectState,
    last: Option<&str>,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(row::SET)?;
    row::bind(&mut statement, dir, name, state, last)?;
    Ok(())
}

fn delete(connection: &Connection, path: &Path) -> rusqlite::Result<()> {
    let (dir, name) = row::split(path);
    connection
        .prepare_cached("DELETE FROM objects WHERE dir = ?1 AND name = ?2")?
        .execute(params![dir, name])?;
    Ok(())
}

fn meta(connection: &Connection, key: &[u8]) -> rusqlite::Result<Option<String>> {
    connection
        .prepare_cached("SELECT value FROM meta WHERE key = ?1")?
        .query_row([key], |row| row.get(0))
        .optional()
}

fn set_meta(connection: &Connection, key: &[u8], value: &str) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO meta (key, value) VALUES (?1, ?2)")?
        .execute(params![key, value])?;
    Ok(())
}

fn scan_key(root: &Path) -> Vec<u8> {
    let mut key = b"scanned:".to_vec();
    key.extend_from_slice(root.as_os_str().as_encoded_bytes());
    key
}

#[cfg(test)]
pub(crate) mod test_volume;
#[cfg(test)]
#[path = "tests.rs"]
mod tests;
