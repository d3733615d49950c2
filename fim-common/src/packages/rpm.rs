//! rpm's database in SQLite (rpm 4.16 and newer): `Packages` holds each package's header, as
//! rpm's `lib/header.c` writes it. Berkeley DB and ndb are other formats, and are refused.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _};

use super::{Content, DatabaseError, Digest, Entry, Key, Package, PackagesResult, Wanted, unhex};
use crate::event::Manager;

/// Fedora, and openSUSE, since 2021; before them, and in RHEL 9.
const DIRECTORIES: [&str; 2] = ["usr/lib/sysimage/rpm", "var/lib/rpm"];
const SQLITE: &str = "rpmdb.sqlite";
const OTHERS: [(&str, &str); 2] = [("Packages", "Berkeley DB"), ("Packages.db", "ndb")];
/// How long rpm may hold its lock while it is read.
const BUSY: Duration = Duration::from_secs(2);

// Tags of `lib/rpmtag.h`.
const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const RELEASE: u32 = 1002;
const EPOCH: u32 = 1003;
const INSTALL_TIME: u32 = 1008;
const FILE_MODES: u32 = 1030;
const FILE_DIGESTS: u32 = 1035;
const FILE_LINKS: u32 = 1036;
const FILE_FLAGS: u32 = 1037;
const DIR_INDEXES: u32 = 1116;
const BASE_NAMES: u32 = 1117;
const DIR_NAMES: u32 = 1118;
const FILE_DIGEST_ALGORITHM: u32 = 5011;

/// `RPMFILE_CONFIG` and `RPMFILE_GHOST` of `lib/rpmfiles.h`.
const FLAG_CONFIG: u32 = 1;
const FLAG_GHOST: u32 = 1 << 6;

/// Where the database is, of whatever format, if it is there.
pub(super) fn find(root: &Path) -> Option<PathBuf> {
    let names = || [SQLITE].into_iter().chain(OTHERS.map(|(name, _)| name));
    let mut candidates =
        DIRECTORIES.iter().flat_map(|dir| names().map(move |name| root.join(dir).join(name)));
    candidates.find(|path| path.is_file())
}

pub(super) fn files(root: &Path) -> Vec<PathBuf> {
    let of = |dir: &&str| {
        let sqlite = root.join(dir).join(SQLITE);
        let wal = root.join(dir).join(format!("{SQLITE}-wal"));
        [sqlite, wal]
    };
    DIRECTORIES.iter().flat_map(of).collect()
}

fn open(root: &Path) -> Result<Option<(PathBuf, Connection)>, DatabaseError> {
    let Some(path) = find(root) else { return Ok(None) };
    if let Some((_, format)) = OTHERS.iter().find(|(name, _)| path.ends_with(name)) {
        let reason = format!(
            "rpm's {format} format is not supported, only SQLite (rpmdb --rebuilddb converts it \
             where the macro %_db_backend is sqlite)"
        );
        return Err(DatabaseError::new(&path, reason));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let database = Connection::open_with_flags(&path, flags)
        .and_then(|database| database.busy_timeout(BUSY).map(|()| database))
        .map_err(|error| DatabaseError::new(&path, error))?;
    Ok(Some((path, database)))
}

/// Calls `found` for each package's header.
fn each(root: &Path, found: &mut dyn FnMut(i64, &Header<'_>)) -> Result<(), DatabaseError> {
    let Some((path, database)) = open(root)? else { return Ok(()) };
    let failed = |error: rusqlite::Error| DatabaseError::new(&path, error);
    let mut statement =
        database.prepare("SELECT hnum, blob FROM Packages ORDER BY hnum").map_err(failed)?;
    let mut rows = statement.query([]).map_err(failed)?;
    while let Some(row) = rows.next().map_err(failed)? {
        let number: i64 = row.get(0).map_err(failed)?;
        let blob = row.get_ref(1).map_err(failed)?;
        let blob = blob.as_blob().map_err(|error| DatabaseError::new(&path, error))?;
        let Some(header) = Header::parse(blob) else {
            return Err(DatabaseError::new(
                &path,
                format!("the header of package {number} is damaged"),
            ));
        };
        found(number, &header);
    }
    Ok(())
}

pub(super) fn packages(root: &Path) -> PackagesResult {
    let mut packages = Vec::new();
    each(root, &mut |number, header| packages.push(header.package(number)))?;
    // Keys of signatures are kept as packages.
    packages.retain(|package| package.name != "gpg-pubkey");
    Ok(packages)
}

pub(super) fn each_path(
    root: &Path,
    found: &mut dyn FnMut(&Package, &Path),
) -> Result<(), DatabaseError> {
    each(root, &mut |number, header| {
        let package = header.package(number);
        header.paths().iter().for_each(|path| found(&package, path));
    })
}

pub(super) fn entries(
    root: &Path,
    number: i64,
    wanted: Wanted<'_>,
) -> Result<HashMap<PathBuf, Entry>, DatabaseError> {
    let Some((path, database)) = open(root)? else { return Ok(HashMap::new()) };
    let blob: Option<Vec<u8>> = database
        .query_row("SELECT blob FROM Packages WHERE hnum = ?1", [number], |row| row.get(0))
        .optional()
        .map_err(|error| DatabaseError::new(&path, error))?;
    let Some(blob) = blob else { return Ok(HashMap::new()) };
    let Some(header) = Header::parse(&blob) else {
        let reason = format!("the header of package {number} is damaged");
        return Err(DatabaseError::new(&path, reason));
    };
    Ok(header.entries(wanted))
}

pub(super) fn installed_since(root: &Path, seconds: i64) -> Vec<String> {
    let mut names = Vec::new();
    // Nothing is said of a database that cannot be read, which others report.
    let _ = each(root, &mut |number, header| {
        let installed = header.numbers(INSTALL_TIME).first().copied().unwrap_or(0);
        if i64::from(installed) >= seconds {
            names.push(header.package(number).name);
        }
    });
    names
}

/// A header: an index of (tag, type, offset, count), and the data they point into; all numbers
/// big endian. What is not as it should be is as if it were not there.
struct Header<'b> {
    index: &'b [u8],
    data: &'b [u8],
}

impl<'b> Header<'b> {
    fn parse(blob: &'b [u8]) -> Option<Self> {
        let entries = usize::try_from(number(blob, 0)?).ok()?;
        let length = usize::try_from(number(blob, 4)?).ok()?;
        let (index, data) = blob.get(8..)?.split_at_checked(entries.checked_mul(16)?)?;
        Some(Self { index, data: data.get(..length)? })
    }

    /// Type, count and data of a tag.
    fn tag(&self, tag: u32) -> Option<(u32, usize, &'b [u8])> {
        let entry = self.index.chunks_exact(16).find(|entry| number(entry, 0) == Some(tag))?;
        let offset = usize::try_from(number(entry, 8)?).ok()?;
        let count = usize::try_from(number(entry, 12)?).ok()?;
        Some((number(entry, 4)?, count, self.data.get(offset..)?))
    }

    /// Strings: types 6 (one), 8 (several), 9 (translated).
    fn strings(&self, tag: u32) -> Vec<&'b [u8]> {
        match self.tag(tag) {
            Some((6 | 8 | 9, count, data)) => {
                data.split(|byte| *byte == 0).take(count.min(data.len())).collect()
            }
            _ => Vec::new(),
        }
    }

    fn string(&self, tag: u32) -> String {
        self.strings(tag)
            .first()
            .map(|text| String::from_utf8_lossy(text).into_owned())
            .unwrap_or_default()
    }

    /// Numbers: types 3 (16 bits) and 4 (32 bits).
    fn numbers(&self, tag: u32) -> Vec<u32> {
        match self.tag(tag) {
            Some((3, count, data)) => data
                .chunks_exact(2)
                .take(count)
                .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
                .collect(),
            Some((4, count, data)) => {
                data.chunks_exact(4).take(count).filter_map(|four| number(four, 0)).collect()
            }
            _ => Vec::new(),
        }
    }

    fn package(&self, key: i64) -> Package {
        let epoch = self.numbers(EPOCH).first().map(|e| format!("{e}:")).unwrap_or_default();
        Package {
            name: self.string(NAME),
            version: format!("{epoch}{}-{}", self.string(VERSION), self.string(RELEASE)),
            manager: Manager::Rpm,
            key: Key::Rpm(key),
        }
    }

    fn paths(&self) -> Vec<PathBuf> {
        let directories = self.strings(DIR_NAMES);
        let indexes = self.numbers(DIR_INDEXES);
        let names = self.strings(BASE_NAMES);
        let path = |(name, index): (&&[u8], &u32)| {
            let directory = directories.get(usize::try_from(*index).ok()?)?;
            Some(text_path(directory).join(text_path(name)))
        };
        // All of them, or a digest would be taken for another file's.
        let paths: Option<Vec<PathBuf>> = names.iter().zip(&indexes).map(path).collect();
        paths.unwrap_or_default()
    }

    fn entries(&self, wanted: Wanted<'_>) -> HashMap<PathBuf, Entry> {
        let (digests, links) = (self.strings(FILE_DIGESTS), self.strings(FILE_LINKS));
        let (modes, flags) = (self.numbers(FILE_MODES), self.numbers(FILE_FLAGS));
        // 1: MD5, which stands for none; 2: SHA-1; 8: SHA-256 (RFC 4880, 9.4).
        let algorithm = self.numbers(FILE_DIGEST_ALGORITHM).first().copied().unwrap_or(1);
        let digest = |text: &[u8]| {
            let text = std::str::from_utf8(text).ok()?;
            match algorithm {
                1 => unhex(text).map(Digest::Md5),
                2 => unhex(text).map(Digest::Sha1),
                8 => unhex(text).map(Digest::Sha256),
                _ => None,
            }
        };
        let mut entries = HashMap::new();
        for (number, path) in self.paths().iter().enumerate() {
            let Some(path) = wanted(path) else { continue };
            let mode = modes.get(number).copied();
            let flags = flags.get(number).copied().unwrap_or(0);
            let content = match mode.map(|mode| mode & 0o170_000) {
                _ if flags & FLAG_GHOST != 0 => Content::Unrecorded,
                Some(0o040_000) => Content::Directory,
                Some(0o120_000) => links
                    .get(number)
                    .map_or(Content::Unrecorded, |target| Content::Link(text_path(target))),
                _ => digests
                    .get(number)
                    .and_then(|text| digest(text))
                    .map_or(Content::Unrecorded, Content::File),
            };
            let configuration = flags & (FLAG_CONFIG | FLAG_GHOST) != 0;
            let mode = mode.filter(|_| flags & FLAG_GHOST == 0).map(|mode| mode & 0o7777);
            entries.insert(path, Entry { content, configuration, mode });
        }
        entries
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(four.try_into().ok()?))
}

fn text_path(bytes: &[u8]) -> PathBuf {
    crate::platform::path(bytes.to_vec())
}
