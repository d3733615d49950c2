//! Files with more than one name, of which one is watched: they change through any of them.
//!
//! The kernel knows such a file by its identity (`LINKED`), and sends what is done to it through a
//! name elsewhere; here stands which watched name it has.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use fim_common::record::Object;

/// Files at most; the size of the kernel's map.
const FILES_MAX: usize = 65_536;
/// Watched names remembered of one file.
const NAMES_MAX: usize = 16;

/// The watched names.
#[derive(Debug, Default)]
pub(super) struct Links {
    names: HashMap<Object, Vec<PathBuf>>,
    full: bool,
}

/// A file as the kernel's map has it: user space knows no generations.
fn key(object: Object) -> Object {
    Object { generation: 0, ..object }
}

impl Links {
    /// Remembers a watched name; whether the kernel has to be told of the file.
    pub(super) fn add(&mut self, object: Object, path: &Path) -> Option<Object> {
        let object = key(object);
        if !self.names.contains_key(&object) && self.names.len() >= FILES_MAX {
            if !self.full {
                self.full = true;
                tracing::warn!(
                    limit = FILES_MAX,
                    "too many watched files have more than one name: what is done to the others \
                     through a name that is not watched is found by comparison only"
                );
            }
            return None;
        }
        let names = self.names.entry(object).or_default();
        let first = names.is_empty();
        if names.len() < NAMES_MAX && !names.iter().any(|name| name == path) {
            names.push(path.to_owned());
        }
        first.then_some(object)
    }

    /// The files that the kernel's map has to have.
    pub(super) fn objects(&self) -> impl Iterator<Item = Object> {
        self.names.keys().copied()
    }

    /// A watched name is gone.
    pub(super) fn remove(&mut self, object: Object, path: &Path) {
        let object = key(object);
        if let Some(names) = self.names.get_mut(&object) {
            names.retain(|name| name != path);
            if names.is_empty() {
                self.names.remove(&object);
            }
        }
    }

    /// A directory has another name.
    pub(super) fn rename(&mut self, from: &Path, to: &Path) {
        for name in self.names.values_mut().flatten() {
            if let Ok(below) = name.strip_prefix(from) {
                *name = to.join(below);
            }
        }
    }

    /// A watched name that the file still has; `Err`: it has none any more, and the kernel may
    /// forget it.
    pub(super) fn watched(&mut self, object: Object) -> Result<PathBuf, Object> {
        let object = key(object);
        let Some(names) = self.names.get_mut(&object) else { return Err(object) };
        let is_it = |path: &PathBuf| {
            path.symlink_metadata().is_ok_and(|metadata| metadata.ino() == object.ino)
        };
        names.retain(is_it);
        match names.first() {
            Some(name) => Ok(name.clone()),
            None => {
                self.names.remove(&object);
                Err(object)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_counts_while_it_is_that_of_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("a"), "").unwrap();
        std::fs::hard_link(path("a"), path("b")).unwrap();
        let ino = path("a").metadata().unwrap().ino();
        let object = Object { ino, dev: 1, generation: 7 };
        let mut links = Links::default();
        assert_eq!(links.add(object, &path("a")), Some(key(object)), "the first");
        assert_eq!(links.add(object, &path("b")), None);
        assert_eq!(links.watched(object), Ok(path("a")));
        std::fs::remove_file(path("a")).unwrap();
        std::fs::write(path("a"), "another").unwrap();
        assert_eq!(links.watched(object), Ok(path("b")));
        std::fs::remove_file(path("b")).unwrap();
        assert_eq!(links.watched(object), Err(key(object)));
        assert_eq!(links.add(object, &path("b")), Some(key(object)), "forgotten");
        std::fs::create_dir(path("d")).unwrap();
        std::fs::write(path("d/f"), "").unwrap();
        let ino = path("d/f").metadata().unwrap().ino();
        let other = Object { ino, dev: 2, generation: 0 };
        links.add(other, &path("d/f"));
        std::fs::rename(path("d"), path("e")).unwrap();
        links.rename(&path("d"), &path("e"));
        assert_eq!(links.watched(other), Ok(path("e/f")), "with its directory");
        links.remove(other, &path("e/f"));
        assert_eq!(links.watched(other), Err(other));
    }
}
