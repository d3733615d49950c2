//! What is nobody's business: the agent's own files.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::object;
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
        // Asked of each operation: whole components are compared only where the bytes fit.
        let bytes = path.as_os_str().as_encoded_bytes();
        let at = |tree: &Path| bytes.starts_with(tree.as_os_str().as_encoded_bytes());
        let named = |(name, _): &(OsString, ObjectId)| {
            let name = name.as_encoded_bytes();
            bytes.windows(name.len().max(1)).any(|part| part == name)
        };
        self.trees.iter().any(|tree| at(tree) && path.starts_with(tree))
            || (self.directories.iter().any(named)
                && path.ancestors().any(|above| self.is_own(above)))
    }

    fn is_own(&self, path: &Path) -> bool {
        let Some(name) = path.file_name() else { return false };
        let known = self.directories.iter().filter(|(own, _)| own == name);
        let mut known = known.map(|(_, id)| *id).peekable();
        if known.peek().is_none() {
            return false;
        }
        let id = object::stat(path).ok().and_then(|state| state.id());
        id.is_some_and(|id| known.any(|own| own == id))
    }
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
