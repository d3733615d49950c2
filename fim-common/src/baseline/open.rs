//! Creating the database, and refusing one that is not whole.

use std::fs::OpenOptions;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::BaselineError;
use crate::platform;

/// The file in the state directory.
pub(super) const FILE: &str = "baseline.db";
/// `fimb`: file(1) and we tell by it that the database is ours.
const APPLICATION_ID: i32 = 0x6669_6d62;
/// The format this code writes. A later one gets a migration here.
pub(super) const FORMAT: i64 = 2;

/// Directory and name are separate so that the entries of a directory lie together: comparing a
/// directory with the disk is one range of the table, and what is gone shows by itself.
const SCHEMA: &str = "
    CREATE TABLE objects (
        dir BLOB NOT NULL,
        name BLOB NOT NULL,
        kind INTEGER,
        size INTEGER,
        mode INTEGER,
        uid INTEGER,
        gid INTEGER,
        mtime,
        ctime,
        inode INTEGER,
        device INTEGER,
        nlink INTEGER,
        acl TEXT,
        xattrs TEXT,
        capabilities TEXT,
        attributes TEXT,
        target_path BLOB,
        sha256 BLOB,
        last_change TEXT,
        PRIMARY KEY (dir, name)
    ) WITHOUT ROWID;
    CREATE TABLE meta (
        key BLOB NOT NULL PRIMARY KEY,
        value TEXT NOT NULL
    ) WITHOUT ROWID;
";

/// Which paths an object has. A first scan makes it when it has filled the table: sorted at once it
/// costs a third. A scan that was killed leaves it to the next opening.
pub(super) const INDEX: &str =
    "CREATE INDEX IF NOT EXISTS objects_by_identity ON objects (inode, device)";

/// The database below `directory`, and whether it was made just now.
pub(super) fn open(directory: &Path) -> Result<(Connection, PathBuf, bool), BaselineError> {
    let path = directory.join(FILE);
    let created = match std::fs::symlink_metadata(&path) {
        Ok(_) => false,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            create(&path)?;
            true
        }
        Err(error) => return Err(BaselineError::io(&path, error)),
    };
    header(&path)?;
    let connection = connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let sqlite = |error| BaselineError::from_sqlite(&path, error, 0);
    // Closing the last connection would write the log into the database: not into a damaged one.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(sqlite)?;
    check(&connection, &path)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).map_err(sqlite)?;

    migrate(&connection).map_err(sqlite)?;
    let mode: String =
        connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(sqlite)?;
    if mode != "wal" {
        let why = format!("journal mode {mode} instead of wal");
        return Err(BaselineError::ReadOnly { path, why });
    }
    // With a write-ahead log, NORMAL keeps the database whole through a power cut; what a commit
    // of the last moments may lose, the comparison at start finds.
    connection.execute_batch("PRAGMA synchronous = NORMAL").map_err(sqlite)?;
    Ok((connection, path, created))
}

/// Brings a whole database of an earlier format to this one, in one transaction.
fn migrate(connection: &Connection) -> rusqlite::Result<()> {
    let format: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if format < 2 {
        // 2: who changed an object last.
        connection.execute_batch(
            "BEGIN IMMEDIATE; ALTER TABLE objects ADD COLUMN last_change TEXT; \
             PRAGMA user_version = 2; COMMIT;",
        )?;
    }
    connection.execute_batch(INDEX)
}

/// A database in memory; `path` is what errors name.
pub(super) fn in_memory(path: &Path) -> Result<Connection, BaselineError> {
    let sqlite = |error| BaselineError::from_sqlite(path, error, 0);
    let connection = Connection::open_in_memory().map_err(sqlite)?;
    connection.execute_batch(SCHEMA).map_err(sqlite)?;
    Ok(connection)
}

/// A connection that only reads, for another thread or process.
pub(super) fn open_reader(path: &Path) -> Result<Connection, BaselineError> {
    header(path)?;
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    // A scan goes through the table once, with one of these for each thread.
    let small = connection.execute_batch("PRAGMA cache_size = -1024");
    small.map_err(|error| BaselineError::from_sqlite(path, error, 0))?;
    Ok(connection)
}

fn connect(path: &Path, mode: OpenFlags) -> Result<Connection, BaselineError> {
    let sqlite = |error| BaselineError::from_sqlite(path, error, 0);
    let flags = mode | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(path, flags).map_err(sqlite)?;
    connection.busy_timeout(Duration::from_secs(5)).map_err(sqlite)?;
    connection.set_prepared_statement_cache_capacity(32);
    // KiB: what the agent's memory grows by, whatever the size of the baseline.
    connection.execute_batch("PRAGMA cache_size = -8192").map_err(sqlite)?;
    Ok(connection)
}

/// Made under another name and renamed, so that a crash leaves no half database behind.
fn create(path: &Path) -> Result<(), BaselineError> {
    let log = with_suffix(path, "-wal");
    if log.exists() {
        return Err(BaselineError::Damaged {
            path: path.to_owned(),
            why: format!("it is missing, but its log {} is there", log.display()),
        });
    }
    let fresh = with_suffix(path, ".new");
    let io = |error| BaselineError::io(&fresh, error);
    match std::fs::remove_file(&fresh) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(io(error)),
    }
    platform::own(OpenOptions::new().write(true).create_new(true), 0o600)
        .open(&fresh)
        .map_err(io)?;
    let sqlite = |error| BaselineError::from_sqlite(path, error, 0);
    let connection = connect(&fresh, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection
        .execute_batch(&format!(
            "PRAGMA journal_mode = MEMORY; BEGIN; {SCHEMA} PRAGMA application_id = {APPLICATION_ID}; \
             PRAGMA user_version = {FORMAT}; COMMIT;"
        ))
        .map_err(sqlite)?;
    connection.close().map_err(|(_, error)| sqlite(error))?;
    std::fs::rename(&fresh, path).map_err(|error| BaselineError::io(path, error))?;
    if let Some(directory) = path.parent() {
        platform::sync_directory(directory).map_err(|error| BaselineError::io(directory, error))?;
    }
    Ok(())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// What the first 100 bytes say (<https://www.sqlite.org/fileformat2.html>), read before SQLite
/// touches anything: it takes an empty file for a new database.
fn header(path: &Path) -> Result<(), BaselineError> {
    let foreign = |why: &str| BaselineError::Foreign { path: path.to_owned(), why: why.to_owned() };
    let metadata =
        std::fs::symlink_metadata(path).map_err(|error| BaselineError::io(path, error))?;
    if !metadata.is_file() {
        return Err(foreign("not a regular file"));
    }
    let mut header = Vec::with_capacity(100);
    std::fs::File::open(path)
        .and_then(|file| file.take(100).read_to_end(&mut header))
        .map_err(|error| BaselineError::io(path, error))?;
    if header.len() < 100 {
        let why = format!("it has {} bytes, less than a header", metadata.len());
        return Err(BaselineError::Damaged { path: path.to_owned(), why });
    }
    if !header.starts_with(b"SQLite format 3\0") {
        let why = "its header is not that of an SQLite database".to_owned();
        return Err(BaselineError::Damaged { path: path.to_owned(), why });
    }
    let number = |at: usize| {
        header
            .get(at..at + 4)
            .and_then(|bytes| bytes.first_chunk())
            .map_or(0, |bytes| i32::from_be_bytes(*bytes))
    };
    if number(68) != APPLICATION_ID {
        return Err(foreign("an SQLite database with another application id"));
    }
    newer(path, i64::from(number(60)))
}

fn newer(path: &Path, found: i64) -> Result<(), BaselineError> {
    if found > FORMAT {
        return Err(BaselineError::Newer { path: path.to_owned(), found, known: FORMAT });
    }
    if found < 1 {
        let why = format!("its format is {found}");
        return Err(BaselineError::Damaged { path: path.to_owned(), why });
    }
    Ok(())
}

fn check(connection: &Connection, path: &Path) -> Result<(), BaselineError> {
    let sqlite = |error| BaselineError::from_sqlite(path, error, 0);
    let found: i64 =
        connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(sqlite)?;
    newer(path, found)?;
    let verdict: String =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(sqlite)?;
    if verdict != "ok" {
        return Err(BaselineError::Damaged { path: path.to_owned(), why: verdict });
    }
    for table in ["objects", "meta"] {
        let there: bool = connection
            .query_row(
                "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?1",
                [table],
                |row| row.get(0),
            )
            .map_err(sqlite)?;
        if !there {
            let why = format!("its table {table} is missing");
            return Err(BaselineError::Damaged { path: path.to_owned(), why });
        }
    }
    Ok(())
}
