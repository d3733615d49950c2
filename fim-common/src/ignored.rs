//! What is nobody's business: the agent's own files.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::object;
use crate::platform::{self, SEPARATOR};
use crate::state::ObjectId;

/// Trees that are not told of and not compared.
#[derive(Clone, Debug, Default)]
pub struct Ignored {
    trees: Vec<PathBuf>,
    /// Directories that may be seen at another place, too (of a mount that was moved, or is there
    /// twice). By name and identity: a name alone is anybody's to use.
    directories: Vec<(OsString, ObjectId)>,
}

impl Ignored {
    /// Trees at these paths; `directories` among them, which exist, are ignored wherever they are
    /// seen.
    pub fn new(trees: Vec<PathBuf>, directories: &[PathBuf]) -> Self {
        let identified = directories.iter().filter_map(|directory| {
            let id = object::stat(directory).ok()?.id()?;
            Some((directory.file_name()?.to_owned(), id))
        });
        // Without slashes at the end.
        let trees = trees.iter().map(|tree| tree.components().collect()).collect();
        Self { trees, directories: identified.collect() }
    }

    /// Whether the path is at or below one of them.
    pub fn contains(&self, path: &Path) -> bool {
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
}
