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
    names: HashMap<Object, Names>,
    full: bool,
}

/// Those of one file.
#[derive(Debug, Default)]
struct Names {
    paths: Vec<PathBuf>,
    /// There are or were more of them than are remembered.
    more: bool,
}

/// A file that has no watched name any more, as far as is known. The kernel may forget it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unwatched {
    pub(super) object: Object,
    /// It may have one that is not known, as nobody told that those that are known would go: a
    /// comparison finds what was done.
    pub(super) unsure: bool,
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
        let first = names.paths.is_empty();
        if !names.paths.iter().any(|name| name == path) {
            match names.paths.len() < NAMES_MAX {
                true => names.paths.push(path.to_owned()),
                false => names.more = true,
            }
        }
        first.then_some(object)
    }

    /// The files that the kernel's map has to have.
    pub(super) fn objects(&self) -> impl Iterator<Item = Object> {
        self.names.keys().copied()
    }

    /// A watched name is gone; whether it was the last.
    pub(super) fn remove(&mut self, object: Object, path: &Path) -> Option<Object> {
        let object = key(object);
        let names = self.names.get_mut(&object)?;
        names.paths.retain(|name| name != path);
        if !names.paths.is_empty() || names.more {
            return None;
        }
        self.names.remove(&object);
        Some(object)
    }

    /// A directory has another name.
    pub(super) fn rename(&mut self, from: &Path, to: &Path) {
        for name in self.names.values_mut().flat_map(|names| &mut names.paths) {
            if let Ok(below) = name.strip_prefix(from) {
                *name = to.join(below);
            }
        }
    }

    /// A watched name that the file still has.
    pub(super) fn watched(&mut self, object: Object) -> Result<PathBuf, Unwatched> {
        let object = key(object);
        let Some(names) = self.names.get_mut(&object) else {
            // The kernel had this before it was told that the last one is gone.
            return Err(Unwatched { object, unsure: false });
        };
        let is_it = |path: &PathBuf| {
            path.symlink_metadata().is_ok_and(|metadata| metadata.ino() == object.ino)
        };
        names.paths.retain(is_it);
        if let Some(name) = names.paths.first() {
            return Ok(name.clone());
        }
        self.names.remove(&object);
        Err(Unwatched { object, unsure: true })
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
        let gone = |object: Object, unsure| Err(Unwatched { object: key(object), unsure });
        assert_eq!(links.watched(object), gone(object, true), "nobody told");
        assert_eq!(links.add(object, &path("b")), Some(key(object)), "forgotten");
        std::fs::create_dir(path("d")).unwrap();
        std::fs::write(path("d/f"), "").unwrap();
        let ino = path("d/f").metadata().unwrap().ino();
        let other = Object { ino, dev: 2, generation: 0 };
        links.add(other, &path("d/f"));
        std::fs::rename(path("d"), path("e")).unwrap();
        links.rename(&path("d"), &path("e"));
        assert_eq!(links.watched(other), Ok(path("e/f")), "with its directory");
        assert_eq!(links.remove(other, &path("e/f")), Some(other), "the last");
        assert_eq!(links.watched(other), gone(other, false));
    }

    #[test]
    fn of_more_names_than_are_remembered_one_may_be_left() {
        let object = Object { ino: 1, dev: 1, generation: 0 };
        let path = |number: usize| PathBuf::from(format!("/nowhere/{number}"));
        let mut links = Links::default();
        for number in 0..=NAMES_MAX {
            assert_eq!(links.add(object, &path(number)).is_some(), number == 0);
        }
        for number in 0..NAMES_MAX {
            assert_eq!(links.remove(object, &path(number)), None);
        }
        assert_eq!(links.watched(object), Err(Unwatched { object, unsure: true }));
    }
}
