//! What is known of an object at one moment: the unit of the baseline and of every comparison.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// The type of an object, in the words of ECS `file.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ObjectKind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A Unix domain socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

impl ObjectKind {
    /// From the type bits of `st_mode`; `None` for bits that POSIX does not define.
    pub fn from_mode(mode: u32) -> Option<Self> {
        Some(match mode & 0o170_000 {
            0o100_000 => Self::File,
            0o040_000 => Self::Dir,
            0o120_000 => Self::Symlink,
            0o010_000 => Self::Fifo,
            0o140_000 => Self::Socket,
            0o020_000 => Self::CharDevice,
            0o060_000 => Self::BlockDevice,
            _ => return None,
        })
    }
}

/// How far a content hash can be trusted to belong to its event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HashState {
    /// Of the very object of the event; it did not change while it was read.
    Exact,
    /// The object changed while it was read: the hash is of no single state and is left out.
    Raced,
    /// Larger than the rule's limit.
    TooLarge,
    /// The object, or its name, was gone before it could be read.
    Gone,
    /// It could not be opened or read.
    Denied,
    /// The rule asks for no hash, the object has no content, or it is still being written.
    Skipped,
}

/// Which object, in user space's terms: `st_dev`, `st_ino` and, where known, the generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ObjectId {
    /// `st_dev` as libc encodes it (on Windows the volume serial number).
    pub device: u64,
    /// `st_ino` (on Windows the low half of the file id).
    pub inode: u64,
}

/// The inode number in what the kernel calls a file that was opened with `O_TMPFILE` and has no name
/// (`d_mark_tmpfile`: `#` and the number). Anybody may call a file so.
#[must_use]
pub fn unnamed_inode(name: &[u8]) -> Option<u64> {
    let digits = name.strip_prefix(b"#")?;
    let canonical = digits.iter().all(u8::is_ascii_digit) && digits.first() != Some(&b'0');
    std::str::from_utf8(digits).ok().filter(|_| canonical)?.parse().ok()
}

/// The state of an object. `None` is "not known", never "none": an object without an ACL has
/// `acl: Some(vec![])`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectState {
    /// Type.
    pub kind: Option<ObjectKind>,
    /// Bytes.
    pub size: Option<u64>,
    /// Permission bits with set-id and sticky bits, without the type: `0o7777` at most.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Last change of content.
    pub mtime: Option<Timestamp>,
    /// Last change of content or attributes.
    pub ctime: Option<Timestamp>,
    /// `st_ino`.
    pub inode: Option<u64>,
    /// `st_dev`.
    pub device: Option<u64>,
    /// Number of names.
    pub nlink: Option<u64>,
    /// POSIX ACL in getfacl(1)'s short text, one entry an element (`user:1000:rw-`,
    /// `default:mask::r-x`); empty when there is none beyond the mode.
    pub acl: Option<Vec<String>>,
    /// Extended attributes except the ACLs and capabilities told separately; values in base64.
    pub xattrs: Option<BTreeMap<String, String>>,
    /// File capabilities (`security.capability`) in getcap(8)'s text; empty when there are none.
    pub capabilities: Option<String>,
    /// What `chattr` sets, as far as statx(2) tells: `immutable`, `append_only`, `no_dump`,
    /// `compressed`, `encrypted`, `verity`; empty when there are none.
    pub attributes: Option<Vec<String>>,
    /// Target of a symbolic link.
    pub target_path: Option<PathBuf>,
    /// SHA-256 of the content, 64 lower-case hexadecimal digits.
    pub sha256: Option<String>,
}

impl ObjectState {
    /// The object's identity, where it is known.
    pub fn id(&self) -> Option<ObjectId> {
        Some(ObjectId { device: self.device?, inode: self.inode? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_name_of_a_file_without_one() {
        assert_eq!(unnamed_inode(b"#4711"), Some(4711));
        for other in ["#", "4711", "#047", "#+47", "#47x", "#18446744073709551616", ""] {
            assert_eq!(unnamed_inode(other.as_bytes()), None, "{other}");
        }
    }
}
