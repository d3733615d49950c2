//! A bounded memory of objects.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

/// Objects that are remembered: 8 bytes and some each.
const RECENT: usize = 65_536;

/// A set of objects in two generations: what was not named while `RECENT / 2` others were is
/// forgotten.
#[derive(Debug)]
pub(super) struct Recent {
    young: HashSet<u64>,
    old: HashSet<u64>,
    hasher: RandomState,
}

impl Recent {
    pub(super) fn new() -> Self {
        Self { young: HashSet::new(), old: HashSet::new(), hasher: RandomState::new() }
    }

    /// Whether it is new.
    pub(super) fn insert(&mut self, key: &[u8]) -> bool {
        let hash = self.hasher.hash_one(key);
        if self.young.len() >= RECENT / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        let old = self.old.contains(&hash);
        self.young.insert(hash) && !old
    }

    pub(super) fn contains(&self, key: &[u8]) -> bool {
        let hash = self.hasher.hash_one(key);
        self.young.contains(&hash) || self.old.contains(&hash)
    }

    /// Whether it was there.
    pub(super) fn remove(&mut self, key: &[u8]) -> bool {
        let hash = self.hasher.hash_one(key);
        let old = self.old.remove(&hash);
        self.young.remove(&hash) || old
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounded() {
        let mut recent = Recent::new();
        assert!(recent.insert(b"kept"));
        for number in 0..10 * RECENT {
            recent.insert(&number.to_ne_bytes());
            if number % 1000 == 0 {
                assert!(!recent.insert(b"kept"));
            }
        }
        assert!(recent.young.len() + recent.old.len() <= RECENT);
        assert!(recent.contains(b"kept"));
        assert!(recent.remove(b"kept"));
        assert!(!recent.contains(b"kept"));
        assert!(!recent.remove(b"kept"));
        assert!(recent.insert(&0usize.to_ne_bytes()), "long forgotten");
    }
}
