//! A path and a state as a row, and back.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use rusqlite::types::{Type, Value, ValueRef};
use rusqlite::{Error, Row, Statement};

use crate::platform::{self, SEPARATOR};
use crate::state::{ObjectKind, ObjectState};
use crate::time::Timestamp;

/// The columns of a state, in the order of [`decode`] and [`bind`].
pub(super) const COLUMNS: &str = "kind, size, mode, uid, gid, mtime, ctime, inode, device, nlink, \
                                  acl, xattrs, capabilities, attributes, target_path, sha256";
/// Adds a row if there is none of that key; see [`bind`].
pub(super) const ADD: &str = "INSERT OR IGNORE INTO objects (dir, name, kind, size, mode, uid, \
     gid, mtime, ctime, inode, device, nlink, acl, xattrs, capabilities, attributes, target_path, \
     sha256, last_change) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, \
     ?15, ?16, ?17, ?18, ?19)";
/// Sets a row; see [`bind`].
pub(super) const SET: &str = "INSERT INTO objects (dir, name, kind, size, mode, uid, gid, mtime, \
     ctime, inode, device, nlink, acl, xattrs, capabilities, attributes, target_path, sha256, \
     last_change) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, \
     ?17, ?18, ?19) ON CONFLICT (dir, name) DO UPDATE SET kind = excluded.kind, \
     size = excluded.size, mode = excluded.mode, uid = excluded.uid, gid = excluded.gid, \
     mtime = excluded.mtime, ctime = excluded.ctime, inode = excluded.inode, \
     device = excluded.device, nlink = excluded.nlink, acl = excluded.acl, \
     xattrs = excluded.xattrs, capabilities = excluded.capabilities, \
     attributes = excluded.attributes, target_path = excluded.target_path, \
     sha256 = excluded.sha256, last_change = coalesce(excluded.last_change, last_change)";

/// The directory of a path and its name in it, as bytes. The root is named `/` in no directory.
pub(super) fn split(path: &Path) -> (&[u8], &[u8]) {
    let bytes = path.as_os_str().as_encoded_bytes();
    let trimmed = match bytes {
        [rest @ .., SEPARATOR] if !rest.is_empty() => rest,
        whole => whole,
    };
    match trimmed.iter().rposition(|&byte| byte == SEPARATOR) {
        Some(0) if trimmed.len() == 1 => (b"", &[SEPARATOR]),
        Some(0) => (&trimmed[..1], &trimmed[1..]),
        Some(slash) => (&trimmed[..slash], &trimmed[slash + 1..]),
        None => (b"", trimmed),
    }
}

/// The inverse of [`split`].
pub(super) fn join(directory: &[u8], name: &[u8]) -> PathBuf {
    platform::path(joined_bytes(directory, name))
}

fn joined_bytes(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(directory.len() + 1 + name.len());
    bytes.extend_from_slice(directory);
    if !directory.is_empty() && !directory.ends_with(&[SEPARATOR]) {
        bytes.push(SEPARATOR);
    }
    bytes.extend_from_slice(name);
    bytes
}

/// The path whose bytes are a directory's key.
pub(crate) fn path_of(directory: &[u8]) -> PathBuf {
    platform::path(directory.to_vec())
}

/// The directory as a key, and the half-open range of the keys of the directories below it.
pub(super) fn range(directory: &Path) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let (parent, name) = split(directory);
    let key = joined_bytes(parent, name);
    let below = |end: u8| {
        let mut bytes = key.clone();
        if !bytes.ends_with(&[SEPARATOR]) {
            bytes.push(SEPARATOR);
        }
        if let Some(last) = bytes.last_mut() {
            *last = end;
        }
        bytes
    };
    // `0` follows `/` in ASCII, `]` follows `\\`. Everything absolute lies below the root, but not the root itself.
    let mut from = below(SEPARATOR);
    if key == [SEPARATOR] {
        from.push(0);
    }
    (key.clone(), from, below(SEPARATOR + 1))
}

/// Executes [`ADD`] or [`SET`] with a row; returns how many rows were changed. The values are bound
/// where they lie: a copy of each took a third of the time that an object costs here.
pub(super) fn bind(
    statement: &mut Statement<'_>,
    dir: &[u8],
    name: &[u8],
    state: &ObjectState,
    last: Option<&str>,
) -> rusqlite::Result<usize> {
    let signed = |value: Option<u64>| value.map(u64::cast_signed);
    let acl = state.acl.as_deref().map(joined);
    let attributes = state.attributes.as_deref().map(joined);
    let xattrs = state.xattrs.as_ref().map(|xattrs| match xattrs.is_empty() {
        true => Cow::Borrowed(""),
        // A map of strings to strings cannot fail to be written.
        false => Cow::Owned(serde_json::to_string(xattrs).unwrap_or_default()),
    });
    let hash = state.sha256.as_deref().and_then(hash_bytes);
    statement.raw_bind_parameter(1, dir)?;
    statement.raw_bind_parameter(2, name)?;
    statement.raw_bind_parameter(3, state.kind.map(kind_code))?;
    statement.raw_bind_parameter(4, signed(state.size))?;
    statement.raw_bind_parameter(5, state.mode)?;
    statement.raw_bind_parameter(6, state.uid)?;
    statement.raw_bind_parameter(7, state.gid)?;
    statement.raw_bind_parameter(8, optional(state.mtime.map(instant)))?;
    statement.raw_bind_parameter(9, optional(state.ctime.map(instant)))?;
    statement.raw_bind_parameter(10, signed(state.inode))?;
    statement.raw_bind_parameter(11, signed(state.device))?;
    statement.raw_bind_parameter(12, signed(state.nlink))?;
    statement.raw_bind_parameter(13, acl.as_deref())?;
    statement.raw_bind_parameter(14, xattrs.as_deref())?;
    statement.raw_bind_parameter(15, state.capabilities.as_deref())?;
    statement.raw_bind_parameter(16, attributes.as_deref())?;
    let target = state.target_path.as_ref().map(|path| path.as_os_str().as_encoded_bytes());
    statement.raw_bind_parameter(17, target)?;
    statement.raw_bind_parameter(18, hash.as_ref().map(|hash| &hash[..]))?;
    statement.raw_bind_parameter(19, last)?;
    statement.raw_execute()
}

fn joined(list: &[String]) -> Cow<'_, str> {
    match list {
        [] => Cow::Borrowed(""),
        list => Cow::Owned(list.join(",")),
    }
}

/// The state whose [`COLUMNS`] begin at `first`.
pub(super) fn decode(row: &Row<'_>, first: usize) -> rusqlite::Result<ObjectState> {
    let unsigned = |index: usize| -> rusqlite::Result<Option<u64>> {
        Ok(row.get::<_, Option<i64>>(first + index)?.map(i64::cast_unsigned))
    };
    let text = |index: usize| row.get::<_, Option<String>>(first + index);
    Ok(ObjectState {
        kind: match row.get::<_, Option<i64>>(first)? {
            None => None,
            Some(code) => Some(kind(code).ok_or_else(|| wrong(first, "unknown type"))?),
        },
        size: unsigned(1)?,
        mode: row.get(first + 2)?,
        uid: row.get(first + 3)?,
        gid: row.get(first + 4)?,
        mtime: time(row, first + 5)?,
        ctime: time(row, first + 6)?,
        inode: unsigned(7)?,
        device: unsigned(8)?,
        nlink: unsigned(9)?,
        acl: text(10)?.map(list),
        xattrs: match text(11)? {
            None => None,
            Some(json) if json.is_empty() => Some(std::collections::BTreeMap::new()),
            Some(json) => {
                Some(serde_json::from_str(&json).map_err(|error| wrong(first + 11, error))?)
            }
        },
        capabilities: text(12)?,
        attributes: text(13)?.map(list),
        target_path: row.get::<_, Option<Vec<u8>>>(first + 14)?.map(platform::path),
        sha256: row.get::<_, Option<Vec<u8>>>(first + 15)?.map(|bytes| crate::hash::hex(&bytes)),
    })
}

/// The entries of a list that was joined by commas.
fn list(text: String) -> Vec<String> {
    if text.is_empty() { Vec::new() } else { text.split(',').map(str::to_owned).collect() }
}

/// What tells an unchanged object without looking at the rest of its row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    /// Its name in the directory.
    pub(crate) name: Vec<u8>,
    kind: Option<i64>,
    size: Option<u64>,
    mtime: Option<Timestamp>,
    ctime: Option<Timestamp>,
    inode: Option<u64>,
    device: Option<u64>,
    hashed: bool,
}

impl Fingerprint {
    /// The columns of [`Fingerprint::decode`].
    pub(super) const COLUMNS: &str =
        "name, kind, size, mtime, ctime, inode, device, sha256 IS NOT NULL";

    pub(super) fn decode(row: &Row<'_>) -> rusqlite::Result<Self> {
        let unsigned = |index: usize| -> rusqlite::Result<Option<u64>> {
            Ok(row.get::<_, Option<i64>>(index)?.map(i64::cast_unsigned))
        };
        Ok(Self {
            name: row.get(0)?,
            kind: row.get(1)?,
            size: unsigned(2)?,
            mtime: time(row, 3)?,
            ctime: time(row, 4)?,
            inode: unsigned(5)?,
            device: unsigned(6)?,
            hashed: row.get(7)?,
        })
    }

    /// Whether its content hash is known.
    pub(crate) fn is_hashed(&self) -> bool {
        self.hashed
    }

    /// Whether the object whose `stat` this is has not been touched since. Whatever changes an
    /// object moves its ctime, and only a clock that is set back can hide that.
    pub(crate) fn matches(&self, stat: &ObjectState) -> bool {
        self.ctime.is_some()
            && self.ctime == stat.ctime
            && self.mtime == stat.mtime
            && self.size == stat.size
            && self.inode == stat.inode
            && self.kind == stat.kind.map(kind_code)
    }

    /// Whether the device number is what it was. It may change with every boot and says nothing
    /// about the object, but a row with an old one is not found by its object.
    pub(crate) fn same_device(&self, stat: &ObjectState) -> bool {
        self.device == stat.device
    }
}

fn optional<T: Into<Value>>(value: Option<T>) -> Value {
    value.map_or(Value::Null, Into::into)
}

/// Nanoseconds fit 64 bits from 1677 to 2262; file systems reach beyond.
fn instant(time: Timestamp) -> Value {
    match i64::try_from(time.as_nanos()) {
        Ok(nanoseconds) => Value::Integer(nanoseconds),
        Err(_) => Value::Text(time.as_nanos().to_string()),
    }
}

fn time(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<Timestamp>> {
    Ok(match row.get_ref(index)? {
        ValueRef::Null => None,
        ValueRef::Integer(nanoseconds) => Some(Timestamp::from_nanos(i128::from(nanoseconds))),
        ValueRef::Text(text) => {
            let nanoseconds = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
            Some(Timestamp::from_nanos(nanoseconds.ok_or_else(|| wrong(index, "no instant"))?))
        }
        _ => return Err(wrong(index, "no instant")),
    })
}

/// Hexadecimal digits as bytes. A hash has 64 of them; what is no hash is not stored.
fn hash_bytes(hex: &str) -> Option<[u8; 32]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    };
    let mut bytes = [0; 32];
    let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
    if pairs.len() != bytes.len() || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

fn wrong(index: usize, why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::FromSqlConversionFailure(index, Type::Text, why.into())
}

/// The codes are stored: never change one.
fn kind_code(kind: ObjectKind) -> i64 {
    match kind {
        ObjectKind::File => 1,
        ObjectKind::Dir => 2,
        ObjectKind::Symlink => 3,
        ObjectKind::Fifo => 4,
        ObjectKind::Socket => 5,
        ObjectKind::CharDevice => 6,
        ObjectKind::BlockDevice => 7,
    }
}

fn kind(code: i64) -> Option<ObjectKind> {
    Some(match code {
        1 => ObjectKind::File,
        2 => ObjectKind::Dir,
        3 => ObjectKind::Symlink,
        4 => ObjectKind::Fifo,
        5 => ObjectKind::Socket,
        6 => ObjectKind::CharDevice,
        7 => ObjectKind::BlockDevice,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_split_and_join() {
        for (path, directory, name) in [
            ("/", "", "/"),
            ("/etc", "/", "etc"),
            ("/etc/", "/", "etc"),
            ("/etc/ssh/sshd_config", "/etc/ssh", "sshd_config"),
        ] {
            let split = split(Path::new(path));
            assert_eq!(split, (directory.as_bytes(), name.as_bytes()), "{path}");
            let whole = if path.len() > 1 { path.trim_end_matches('/') } else { path };
            assert_eq!(join(split.0, split.1), Path::new(whole), "{path}");
        }
    }

    #[test]
    fn ranges_hold_what_is_below_and_nothing_beside() {
        let within = |root: &str, directory: &str| {
            let (key, from, to) = range(Path::new(root));
            let directory = directory.as_bytes();
            directory == key || (directory >= &from[..] && directory < &to[..])
        };
        for directory in ["/etc", "/etc/ssh", "/etc/\u{1}", "/etc/ssh/x"] {
            assert!(within("/etc", directory), "{directory}");
            assert!(within("/", directory), "{directory}");
        }
        for directory in ["/", "/etc-old", "/etc.d", "/etcetera", "/etc0", "", "/usr"] {
            assert!(!within("/etc", directory), "{directory}");
        }
        assert!(within("/", "/"));
        assert!(!within("/", ""), "the root is not in a directory");
    }
}
