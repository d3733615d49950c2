//! Whole trees of the baseline: listed, removed, renamed.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, params};

use super::{Baseline, BaselineError, delete, get, last, put_at, row, scan_key};
use crate::state::ObjectState;

/// Rows fetched under one lock.
const PAGE: usize = 512;

/// Where a tree lies in the table: its root's row, and the directories whose rows belong to it.
const BELOW: &str = "(dir = ?1 OR (dir >= ?2 AND dir < ?3))";

impl Baseline {
    /// What is known of `root` and everything below it: `root` first, then directory by directory
    /// in byte order of their paths, the entries of each in byte order of their names. The
    /// baseline may be written meanwhile.
    pub fn tree(&self, root: &Path) -> Tree<'_> {
        let (key, from, to) = row::range(root);
        Tree {
            baseline: self,
            root: Some(root.to_owned()),
            ranges: VecDeque::from([(key.clone(), following(&key)), (from, to)]),
            position: None,
            page: VecDeque::new(),
        }
    }

    /// Roots below which everything lies but what is on shares.
    pub fn everything(&self) -> Vec<PathBuf> {
        crate::platform::roots()
    }

    /// What is known directly in a directory, by name.
    ///
    /// # Errors
    /// [`BaselineError::Damaged`] and the like.
    pub fn children(&self, directory: &Path) -> Result<Vec<(PathBuf, ObjectState)>, BaselineError> {
        let (key, ..) = row::range(directory);
        self.read(|connection| {
            connection
                .prepare_cached(&format!(
                    "SELECT dir, name, {} FROM objects WHERE dir = ?1 ORDER BY name",
                    row::COLUMNS
                ))?
                .query_map([key], object)?
                .collect()
        })
    }

    /// Forgets a path and everything below it, and returns what was known, in the order of
    /// [`Baseline::tree`].
    ///
    /// # Errors
    /// As [`Baseline::put`].
    pub fn remove_tree(&self, root: &Path) -> Result<Vec<(PathBuf, ObjectState)>, BaselineError> {
        self.write(1, &[root], |connection| {
            let objects = all(connection, root)?;
            if !objects.is_empty() {
                delete_tree(connection, root)?;
            }
            Ok(objects)
        })
    }

    /// Forgets a path and everything below it for good, also that it was ever scanned.
    ///
    /// # Errors
    /// As [`Baseline::put`].
    pub fn forget_below(&self, root: &Path) -> Result<(), BaselineError> {
        self.remove_tree(root)?;
        for scanned in self.scanned()?.into_iter().filter(|scanned| scanned.starts_with(root)) {
            let key = scan_key(&scanned);
            self.write(1, &[], |connection| {
                connection.prepare_cached("DELETE FROM meta WHERE key = ?1")?.execute([&key])
            })?;
        }
        Ok(())
    }

    /// The roots that were scanned completely, by path.
    ///
    /// # Errors
    /// [`BaselineError::Damaged`] and the like.
    pub fn scanned(&self) -> Result<Vec<PathBuf>, BaselineError> {
        // Every path: one of Windows does not begin with a separator. `;` follows `:` in ASCII.
        let (from, to) = (scan_key(Path::new("")), b"scanned;".to_vec());
        let keys: Vec<Vec<u8>> = self.read(|connection| {
            connection
                .prepare_cached("SELECT key FROM meta WHERE key >= ?1 AND key < ?2 ORDER BY key")?
                .query_map(params![from, to], |row| row.get(0))?
                .collect()
        })?;
        Ok(keys.iter().map(|key| row::path_of(&key[from.len()..])).collect())
    }

    /// Moves a path and everything below it, and forgets what was at and below `to` before.
    /// Returns how many objects have moved.
    ///
    /// # Errors
    /// As [`Baseline::put`].
    pub fn rename_tree(&self, from: &Path, to: &Path) -> Result<u64, BaselineError> {
        if from == to {
            return Ok(0);
        }
        self.write(1, &[from, to], |connection| {
            delete_tree(connection, to)?;
            rename(connection, from, to)
        })
    }

    /// Swaps two paths and everything below them, as `RENAME_EXCHANGE` does.
    ///
    /// # Errors
    /// As [`Baseline::put`].
    pub fn exchange_trees(&self, one: &Path, other: &Path) -> Result<(), BaselineError> {
        if one == other {
            return Ok(());
        }
        // No path contains a NUL: this one cannot be in use.
        let aside = Path::new("/\0exchange");
        self.write(1, &[one, other], |connection| {
            rename(connection, one, aside)?;
            rename(connection, other, one)?;
            rename(connection, aside, other)?;
            Ok(())
        })
    }

    /// The directories at or below `root` in which something is known, one after the other.
    pub(crate) fn directory_after(
        &self,
        root: &Path,
        after: Option<&[u8]>,
    ) -> Result<Option<Vec<u8>>, BaselineError> {
        use rusqlite::OptionalExtension as _;
        let (key, from, to) = row::range(root);
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT dir FROM objects WHERE dir > ?1 AND dir >= ?2 AND dir < ?3 \
                 ORDER BY dir LIMIT 1",
            )?;
            let mut first = |from: &[u8], to: &[u8]| {
                statement
                    .query_row(params![after.unwrap_or_default(), from, to], |row| row.get(0))
                    .optional()
            };
            match first(&key, &following(&key))? {
                Some(directory) => Ok(Some(directory)),
                None => first(&from, &to),
            }
        })
    }
}

impl Baseline {
    /// The directory after this one in which something is known, and how much; for the first one
    /// `None`.
    pub(crate) fn population_after(
        &self,
        after: Option<&[u8]>,
    ) -> Result<Option<(Vec<u8>, u64)>, BaselineError> {
        use rusqlite::OptionalExtension as _;
        self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT dir, count(*) FROM objects WHERE dir = (SELECT dir FROM objects \
                     WHERE ?1 IS NULL OR dir > ?1 ORDER BY dir LIMIT 1) GROUP BY dir",
                )?
                .query_row([after], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.cast_unsigned())))
                .optional()
        })
    }
}

/// The objects of a tree, fetched in pages. Ends after the first error.
pub struct Tree<'a> {
    baseline: &'a Baseline,
    root: Option<PathBuf>,
    /// Half-open ranges of directories that are still to be read.
    ranges: VecDeque<(Vec<u8>, Vec<u8>)>,
    /// The last row that was read, within the first range.
    position: Option<(Vec<u8>, Vec<u8>)>,
    page: VecDeque<(PathBuf, ObjectState)>,
}

impl Iterator for Tree<'_> {
    type Item = Result<(PathBuf, ObjectState), BaselineError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(root) = self.root.take() {
            match self.baseline.get(&root) {
                Ok(Some(state)) => return Some(Ok((root, state))),
                Ok(None) => {}
                Err(error) => return Some(Err(self.end(error))),
            }
        }
        loop {
            if let Some(object) = self.page.pop_front() {
                return Some(Ok(object));
            }
            let (from, to) = self.ranges.front()?;
            let (dir, name) = match &self.position {
                Some((dir, name)) => (dir.as_slice(), name.as_slice()),
                None => (from.as_slice(), &b""[..]),
            };
            match self.baseline.page(dir, name, to) {
                Ok(page) => self.page = page.into(),
                Err(error) => return Some(Err(self.end(error))),
            }
            match self.page.back() {
                Some((path, _)) if self.page.len() == PAGE => {
                    let (dir, name) = row::split(path);
                    self.position = Some((dir.to_vec(), name.to_vec()));
                }
                _ => {
                    self.ranges.pop_front();
                    self.position = None;
                }
            }
        }
    }
}

impl Tree<'_> {
    fn end(&mut self, error: BaselineError) -> BaselineError {
        self.ranges.clear();
        error
    }
}

impl Baseline {
    /// One page of rows after `(dir, name)` whose directory is before `to`.
    fn page(
        &self,
        dir: &[u8],
        name: &[u8],
        to: &[u8],
    ) -> Result<Vec<(PathBuf, ObjectState)>, BaselineError> {
        self.read(|connection| {
            connection
                .prepare_cached(&format!(
                    "SELECT dir, name, {} FROM objects \
                     WHERE (dir, name) > (?1, ?2) AND dir < ?3 ORDER BY dir, name LIMIT {PAGE}",
                    row::COLUMNS
                ))?
                .query_map(params![dir, name, to], object)?
                .collect()
        })
    }
}

/// The smallest key after `key`.
fn following(key: &[u8]) -> Vec<u8> {
    let mut next = key.to_vec();
    next.push(0);
    next
}

fn object(found: &rusqlite::Row<'_>) -> rusqlite::Result<(PathBuf, ObjectState)> {
    let path = row::join(found.get_ref(0)?.as_blob()?, found.get_ref(1)?.as_blob()?);
    Ok((path, row::decode(found, 2)?))
}

fn all(connection: &Connection, root: &Path) -> rusqlite::Result<Vec<(PathBuf, ObjectState)>> {
    let mut objects = Vec::new();
    if let Some(state) = get(connection, root)? {
        objects.push((root.to_owned(), state));
    }
    let (key, from, to) = row::range(root);
    let mut statement = connection.prepare_cached(&format!(
        "SELECT dir, name, {} FROM objects WHERE {BELOW} ORDER BY dir, name",
        row::COLUMNS
    ))?;
    for object in statement.query_map(params![key, from, to], object)? {
        objects.push(object?);
    }
    Ok(objects)
}

fn delete_tree(connection: &Connection, root: &Path) -> rusqlite::Result<()> {
    delete(connection, root)?;
    let (key, from, to) = row::range(root);
    connection
        .prepare_cached(&format!("DELETE FROM objects WHERE {BELOW}"))?
        .execute(params![key, from, to])?;
    Ok(())
}

fn rename(connection: &Connection, from: &Path, to: &Path) -> rusqlite::Result<u64> {
    let objects = all(connection, from)?;
    let mut lasts = Vec::with_capacity(objects.len());
    for (path, _) in &objects {
        lasts.push(last::text(connection, path)?);
    }
    delete_tree(connection, from)?;
    let (old, ..) = row::range(from);
    let (new, ..) = row::range(to);
    for ((path, state), last) in objects.iter().zip(lasts) {
        if path == from {
            let (dir, name) = row::split(to);
            put_at(connection, dir, name, state, last.as_deref())?;
        } else {
            let (dir, name) = row::split(path);
            let mut moved = new.clone();
            moved.extend_from_slice(dir.get(old.len()..).unwrap_or_default());
            put_at(connection, &moved, name, state, last.as_deref())?;
        }
    }
    Ok(objects.len() as u64)
}
