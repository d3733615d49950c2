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
        let first = self.first(hash);
        let rest = self.paths.iter().zip(&self.owners).skip(first);
        let same = rest.take_while(move |(other, _)| **other == hash);
        same.filter_map(|(_, number)| self.packages.get(*number as usize))
    }

    /// Where the first hash is that is not below `hash`.
    fn first(&self, hash: u64) -> usize {
        // Hashes are spread evenly, so its place is known but for a few hundred (twice the square
        // root of 65,536): a search among those meets a tenth of the cache lines of one among all.
        const AROUND: usize = 512;
        let here = ((u128::from(hash) * self.paths.len() as u128) >> 64) as usize;
        let (from, to) = (here.saturating_sub(AROUND), (here + AROUND).min(self.paths.len()));
        let begins = from == 0 || self.paths.get(from - 1).is_some_and(|before| *before < hash);
        let ends = self.paths.get(to).is_none_or(|behind| *behind >= hash);
        match self.paths.get(from..to) {
            Some(around) if begins && ends => from + around.partition_point(|other| *other < hash),
            _ => self.paths.partition_point(|other| *other < hash),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_is_found_however_the_hashes_lie() {
        let even = |count: u64| (0..count).map(|n| n * (u64::MAX / count.max(1))).collect();
        let mixed = |count: u64| {
            let mut all: Vec<u64> =
                (0..count).map(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15)).collect();
            all.sort_unstable();
            all
        };
        let low = (0..10_000).collect();
        let high = (u64::MAX - 10_000..=u64::MAX).collect();
        let same = vec![7; 3000];
        let lists: [Vec<u64>; 8] =
            [even(0), even(1), even(20_000), mixed(3), mixed(100_000), low, high, same];
        for paths in lists {
            let index = Index { paths, ..Index::default() };
            let near = index
                .paths
                .iter()
                .step_by(7)
                .flat_map(|hash| [hash.saturating_sub(1), *hash, hash.saturating_add(1)]);
            for hash in near.chain([0, 1, u64::MAX / 2, u64::MAX]) {
                let first = index.paths.partition_point(|other| *other < hash);
                assert_eq!(index.first(hash), first, "{hash} of {}", index.paths.len());
            }
        }
    }
}
