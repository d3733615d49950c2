//! What is nobody's business: the agent's own files.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::object;
use crate::platform::{self, SEPARATOR};
use crate::state::ObjectId;

/// Trees that are not told of and not compared.
#[derive(Clone, Debug, Default)]
pub struct Ignored {
    own: Own,
    /// What came after it was cloned, for all clones.
    later: Arc<Later>,
}

#[derive(Debug, Default)]
struct Later {
    /// There is something: the lock is not worth taking for each object of a scan.
    any: AtomicBool,
    own: RwLock<Own>,
}

#[derive(Clone, Debug, Default)]
struct Own {
    trees: Vec<PathBuf>,
    /// Directories that may be seen at another place, too (of a mount that was moved, or is there
    /// twice). By name and identity: a name alone is anybody's to use.
    directories: Vec<(OsString, ObjectId)>,
}

impl Ignored {
    /// Trees at these paths; `directories` among them, which exist, are ignored wherever they are
    /// seen.
    pub fn new(trees: Vec<PathBuf>, directories: &[PathBuf]) -> Self {
        Self { own: Own::new(trees, directories), later: Arc::default() }
    }

    /// Ignores these directories, which exist, from now on, here and in all clones.
    pub fn add(&self, directories: &[PathBuf]) {
        let own = Own::new(directories.to_vec(), directories);
        let mut later = self.later.own.write().unwrap_or_else(PoisonError::into_inner);
        later.trees.extend(own.trees);
        later.directories.extend(own.directories);
        self.later.any.store(true, Ordering::Release);
    }

    /// Whether the path is at or below one of them.
    pub fn contains(&self, path: &Path) -> bool {
        self.own.contains(path)
            || (self.later.any.load(Ordering::Acquire)
                && self.later.own.read().unwrap_or_else(PoisonError::into_inner).contains(path))
    }
}

impl Own {
    fn new(trees: Vec<PathBuf>, directories: &[PathBuf]) -> Self {
        let identified = directories.iter().filter_map(|directory| {
            let id = object::stat(directory).ok()?.id()?;
            Some((directory.file_name()?.to_owned(), id))
        });
        // Without slashes at the end.
        let trees = trees.iter().map(|tree| tree.components().collect()).collect();
        Self { trees, directories: identified.collect() }
    }

    fn contains(&self, path: &Path) -> bool {
        // As bytes: it is asked for each object of a scan, and components cost a seventh of that.
        let bytes = path.as_os_str().as_encoded_bytes();
        let within = |tree: &PathBuf| {
            let rest = bytes.strip_prefix(tree.as_os_str().as_encoded_bytes());
            rest.is_some_and(|rest| rest.is_empty() || rest[0] == SEPARATOR)
                || tree.parent().is_none()
        };
        self.trees.iter().any(within) || self.is_below_own(bytes)
    }

    fn is_below_own(&self, path: &[u8]) -> bool {
        self.directories.iter().any(|(own, id)| {
            let mut end = 0;
            path.split(|byte| *byte == SEPARATOR).any(|name| {
                end += name.len() + 1;
                name == own.as_encoded_bytes() && is(path.get(..end - 1).unwrap_or_default(), *id)
            })
        })
    }
}

/// Whether it is this object that a path names.
fn is(path: &[u8], id: ObjectId) -> bool {
    let state = object::stat(Path::new(&platform::os_str(path)));
    state.ok().and_then(|state| state.id()) == Some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_alone_hides_nothing() {
        let base = tempfile::tempdir().unwrap();
        let own = base.path().join("own/.canary");
        let foreign = base.path().join("foreign/.canary");
        for directory in [&own, &foreign] {
            std::fs::create_dir_all(directory).unwrap();
        }
        let tree = base.path().join("state");
        let ignored = Ignored::new(vec![tree.clone()], std::slice::from_ref(&own));
        assert!(ignored.contains(&tree) && ignored.contains(&tree.join("a/b")));
        assert!(ignored.contains(&own.join("a")) && ignored.contains(&own));
        assert!(!ignored.contains(&foreign.join("a")) && !ignored.contains(base.path()));
        // The same directory at another place.
        let moved = base.path().join("moved");
        std::fs::rename(base.path().join("own"), &moved).unwrap();
        assert!(ignored.contains(&moved.join(".canary/a")));
    }

    #[test]
    fn what_is_added_is_ignored_by_those_who_have_it_already() {
        let base = tempfile::tempdir().unwrap();
        let own = base.path().join(".canary");
        std::fs::create_dir(&own).unwrap();
        let ignored = Ignored::default();
        let clone = ignored.clone();
        assert!(!clone.contains(&own));
        ignored.add(std::slice::from_ref(&own));
        assert!(clone.contains(&own.join("a")) && !clone.contains(base.path()));
    }
}
