//! Which package a path belongs to: kept in memory, 12 bytes a path.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::path::Path;

use super::{DatabaseError, Databases, Package};

/// All paths of all packages, as hashes: two paths of which one is taken for the other would have
/// to share 64 bits under a key that nobody knows; the database is asked before anything is said.
#[derive(Debug, Default)]
pub struct Index {
    key: RandomState,
    /// Sorted.
    paths: Vec<u64>,
    /// In the same order: the number of the package.
    owners: Vec<u32>,
    packages: Vec<Package>,
}

impl Index {
    /// Reads the databases.
    ///
    /// # Errors
    /// When one that is there cannot be read.
    pub fn read(databases: &Databases) -> Result<Self, DatabaseError> {
        let key = RandomState::default();
        let (mut packages, mut paths): (Vec<Package>, Vec<(u64, u32)>) = Default::default();
        databases.each_path(&mut |package, path| {
            if packages.last() != Some(package) {
                packages.push(package.clone());
            }
            let number = u32::try_from(packages.len()).unwrap_or(u32::MAX) - 1;
            paths.push((key.hash_one(path), number));
        })?;
        paths.sort_unstable();
        let owners = paths.iter().map(|(_, number)| *number).collect();
        let paths = paths.iter().map(|(hash, _)| *hash).collect();
        Ok(Self { key, paths, owners, packages })
    }

    /// The packages that have the canonical `path`; several share directories.
    pub fn owners(&self, path: &Path) -> impl Iterator<Item = &Package> {
        let hash = self.key.hash_one(path);
        let first = self.paths.partition_point(|other| *other < hash);
        let rest = self.paths.iter().zip(&self.owners).skip(first);
        let same = rest.take_while(move |(other, _)| **other == hash);
        same.filter_map(|(_, number)| self.packages.get(*number as usize))
    }

    /// Whether a package has it.
    pub fn has(&self, path: &Path) -> bool {
        self.owners(path).next().is_some()
    }

    /// Paths in it.
    pub fn len(&self) -> usize {
        self.paths.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }
}
