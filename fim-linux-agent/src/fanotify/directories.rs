//! From a directory's handle to where it is, as of the event that is being looked at.
//!
//! Events tell of new and moved directories in the order in which that happened, so the cache
//! follows them and knows the path of a directory that has long been removed by the time its
//! events are read. Only what it has not been told of is asked of the kernel.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where a directory is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Directory {
    /// Path from the root of its file system, with a leading slash.
    pub(super) inner: PathBuf,
    /// Canonical path on the host; `None` when no mount shows it.
    pub(super) host: Option<PathBuf>,
    /// It is in a watched tree, or on the way to one: its events matter.
    pub(super) relevant: bool,
    /// The place of an entry follows from this one: no mount begins in this very directory.
    pub(super) plain: bool,
}

/// A bounded cache in two generations: what was not used while `capacity / 2` others were is
/// forgotten.
#[derive(Debug)]
pub(super) struct Directories {
    young: HashMap<Box<[u8]>, Arc<Directory>>,
    old: HashMap<Box<[u8]>, Arc<Directory>>,
    /// Of file systems whose handles the kernel does not take back: these cannot be asked again.
    pinned: HashMap<Box<[u8]>, Arc<Directory>>,
    capacity: usize,
}

impl Directories {
    pub(super) fn new(capacity: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), pinned: HashMap::new(), capacity }
    }

    pub(super) fn get(&mut self, key: &[u8]) -> Option<Arc<Directory>> {
        if let Some(directory) = self.young.get(key).or_else(|| self.pinned.get(key)) {
            return Some(Arc::clone(directory));
        }
        let (key, directory) = self.old.remove_entry(key)?;
        self.put(key, Arc::clone(&directory));
        Some(directory)
    }

    pub(super) fn insert(&mut self, key: &[u8], directory: Arc<Directory>, pin: bool) {
        if pin {
            self.pinned.insert(key.into(), directory);
        } else {
            self.old.remove(key);
            self.put(key.into(), directory);
        }
    }

    fn put(&mut self, key: Box<[u8]>, directory: Arc<Directory>) {
        if self.young.len() >= self.capacity / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, directory);
    }

    /// A directory of the file system `fsid` was moved: everything in it moves along.
    pub(super) fn rename(
        &mut self,
        fsid: [u8; 8],
        from: &Path,
        to: &Path,
        place: impl Fn(PathBuf) -> Directory,
    ) {
        for map in [&mut self.young, &mut self.old, &mut self.pinned] {
            for (_, directory) in map.iter_mut().filter(|(key, _)| key.starts_with(&fsid)) {
                if let Ok(rest) = directory.inner.strip_prefix(from) {
                    *directory = Arc::new(place(join(to, rest)));
                }
            }
        }
    }

    /// Two directories of the file system `fsid` changed places, with everything in them.
    pub(super) fn exchange(
        &mut self,
        fsid: [u8; 8],
        one: &Path,
        other: &Path,
        place: impl Fn(PathBuf) -> Directory,
    ) {
        // No path of a file system begins like this.
        let aside = Path::new("\0");
        self.rename(fsid, one, aside, &place);
        self.rename(fsid, other, one, &place);
        self.rename(fsid, aside, other, &place);
    }

    /// Forgets what the file system `fsid` has at `inner` and below it.
    pub(super) fn remove(&mut self, fsid: [u8; 8], inner: &Path) {
        for map in [&mut self.young, &mut self.old, &mut self.pinned] {
            map.retain(|key, directory| {
                !key.starts_with(&fsid) || !directory.inner.starts_with(inner)
            });
        }
    }

    /// Forgets everything that can be asked again, and places the rest anew.
    pub(super) fn reset(&mut self, mut place: impl FnMut(&[u8], PathBuf) -> Option<Directory>) {
        self.young.clear();
        self.old.clear();
        self.pinned.retain(|key, directory| match place(key, directory.inner.clone()) {
            Some(placed) => {
                *directory = Arc::new(placed);
                true
            }
            None => false,
        });
    }
}

/// `base/rest`, without a slash at the end where there is no rest.
pub(super) fn join(base: &Path, rest: &Path) -> PathBuf {
    if rest.as_os_str().is_empty() { base.to_owned() } else { base.join(rest) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(inner: &str) -> Arc<Directory> {
        Arc::new(Directory { inner: inner.into(), host: None, relevant: true, plain: true })
    }

    fn place(inner: PathBuf) -> Directory {
        Directory { inner, host: None, relevant: false, plain: true }
    }

    #[test]
    fn what_is_used_stays() {
        let mut directories = Directories::new(8);
        directories.insert(b"pinned", directory("/p"), true);
        directories.insert(b"kept", directory("/k"), false);
        for number in 0..100u8 {
            directories.insert(&[number], directory("/n"), false);
            assert!(directories.get(b"kept").is_some());
        }
        assert!(directories.get(b"pinned").is_some());
        assert!(directories.get(&[0]).is_none());
        assert!(directories.young.len() + directories.old.len() <= 9);
        directories.reset(|_, inner| Some(place(inner)));
        assert!(directories.get(b"kept").is_none());
        assert!(!directories.get(b"pinned").unwrap().relevant);
    }

    #[test]
    fn a_moved_directory_takes_what_is_in_it_along() {
        let mut directories = Directories::new(8);
        let fsid = *b"12345678";
        for (key, inner) in [
            (b"12345678a", "/a"),
            (b"12345678b", "/a/b"),
            (b"12345678c", "/ab"),
            (b"other678d", "/a"),
        ] {
            directories.insert(key, directory(inner), false);
        }
        directories.rename(fsid, Path::new("/a"), Path::new("/x/y"), place);
        let mut inner = |key: &[u8]| directories.get(key).unwrap().inner.clone();
        assert_eq!(inner(b"12345678a"), Path::new("/x/y"));
        assert_eq!(inner(b"12345678b"), Path::new("/x/y/b"));
        assert_eq!(inner(b"12345678c"), Path::new("/ab"));
        assert_eq!(inner(b"other678d"), Path::new("/a"));
        directories.exchange(fsid, Path::new("/x"), Path::new("/ab"), place);
        let mut inner = |key: &[u8]| directories.get(key).unwrap().inner.clone();
        assert_eq!(inner(b"12345678b"), Path::new("/ab/y/b"));
        assert_eq!(inner(b"12345678c"), Path::new("/x"));
        directories.remove(fsid, Path::new("/ab/y"));
        assert_eq!(directories.get(b"12345678a"), None);
        assert_eq!(directories.get(b"12345678b"), None);
        assert!(directories.get(b"12345678c").is_some());
        assert!(directories.get(b"other678d").is_some());
    }
}
