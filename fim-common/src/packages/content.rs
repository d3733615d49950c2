//! What is on disk, against what a database says.

use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::{Content, Digest, Entry};
use crate::hash::hex;
use crate::object::{self, Handle};
use crate::state::{ObjectKind, ObjectState};

/// Bytes read at once.
const BUFFER: usize = 128 * 1024;

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its state, without attributes; `None`: nothing is there.
    pub state: Option<ObjectState>,
    /// Whether it is what the database says; `None`: the database does not say, or it could not
    /// be read.
    pub matches: Option<bool>,
    /// SHA-256 of the very content that was compared.
    pub sha256: Option<String>,
}

/// Compares what is at `path` with `entry`. Reads all of a regular file, if its digest is recorded
/// and it has at most `limit` bytes.
pub fn look(path: &Path, entry: Option<&Entry>, limit: u64) -> Found {
    let Ok(state) = object::stat(path) else {
        return Found { state: None, matches: None, sha256: None };
    };
    let kind = state.kind;
    let mut sha256 = None;
    let matches = entry.and_then(|entry| match (&entry.content, kind) {
        (Content::Unrecorded, _) => None,
        (Content::Directory, kind) => Some(kind == Some(ObjectKind::Dir)),
        (Content::Link(target), Some(ObjectKind::Symlink)) => {
            Some(path.read_link().ok()? == *target)
        }
        // apk records the digest of a link's target.
        (
            Content::File(digest @ (Digest::Sha1(_) | Digest::Sha256Of160(_))),
            Some(ObjectKind::Symlink),
        ) => {
            let target = path.read_link().ok()?;
            let target = target.as_os_str().as_encoded_bytes();
            Some(match digest {
                Digest::Sha1(sum) => *sum == <[u8; 20]>::from(sha1::Sha1::digest(target)),
                digest => is_start(&Sha256::digest(target).into(), *digest),
            })
        }
        (Content::File(digest), Some(ObjectKind::File)) => {
            if state.size.is_none_or(|size| size > limit) {
                return None;
            }
            let (same, hash) = compare(path, *digest)?;
            sha256 = Some(hash);
            Some(same)
        }
        (Content::File(_) | Content::Link(_), _) => Some(false),
    });
    Found { state: Some(state), matches, sha256 }
}

/// One reading for both digests, so that they are of the same bytes.
fn compare(path: &Path, expected: Digest) -> Option<(bool, String)> {
    let handle = Handle::open_content(path).ok()?;
    let mut sha256 = Sha256::new();
    let (mut md5, mut sha1) = (md5::Md5::default(), sha1::Sha1::new());
    let mut buffer = vec![0_u8; BUFFER];
    let mut position = 0;
    loop {
        let length = handle.read_at(&mut buffer, position).ok()?;
        let Some(read) = buffer.get(..length).filter(|read| !read.is_empty()) else { break };
        position += length as u64;
        sha256.update(read);
        match expected {
            Digest::Md5(_) => md5::Digest::update(&mut md5, read),
            Digest::Sha1(_) => sha1.update(read),
            Digest::Sha256(_) | Digest::Sha256Of160(_) => {}
        }
    }
    let hash: [u8; 32] = sha256.finalize().into();
    let same = match expected {
        Digest::Md5(sum) => sum == <[u8; 16]>::from(md5::Digest::finalize(md5)),
        Digest::Sha1(sum) => sum == <[u8; 20]>::from(sha1.finalize()),
        Digest::Sha256(_) | Digest::Sha256Of160(_) => is_start(&hash, expected),
    };
    Some((same, hex(&hash)))
}

/// Whether a SHA-256 is the recorded one, or begins with what is recorded of it.
fn is_start(hash: &[u8; 32], expected: Digest) -> bool {
    match expected {
        Digest::Sha256(sum) => sum == *hash,
        Digest::Sha256Of160(sum) => hash.starts_with(&sum),
        Digest::Md5(_) | Digest::Sha1(_) => false,
    }
}
