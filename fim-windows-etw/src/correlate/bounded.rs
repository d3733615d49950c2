//! Maps that never grow beyond a limit.

use std::collections::HashMap;
use std::hash::Hash;

/// How many bytes of memory a value holds beside itself.
pub(crate) trait Weight {
    fn weight(&self) -> usize;
}

impl Weight for u64 {
    fn weight(&self) -> usize {
        0
    }
}

/// A map of two generations: when the younger one has half of what is allowed, the older one is
/// forgotten, and the younger takes its place. What is used becomes young again, so what is
/// forgotten was not used for at least half the limit's insertions. Each operation takes constant
/// time, but for the forgetting.
#[derive(Debug)]
pub(crate) struct Bounded<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    /// Bytes that the values of the younger generation hold.
    weight: usize,
    entries_max: usize,
    weight_max: usize,
    evicted: u64,
}

impl<K: Eq + Hash + Clone, V: Weight> Bounded<K, V> {
    /// At most `entries`, and values of at most `bytes` (and one more value).
    pub(crate) fn new(entries: usize, bytes: usize) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            weight: 0,
            entries_max: (entries / 2).max(1),
            weight_max: bytes / 2,
            evicted: 0,
        }
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        self.remove(&key);
        if self.young.len() >= self.entries_max || self.weight >= self.weight_max {
            let forgotten = std::mem::replace(&mut self.old, std::mem::take(&mut self.young));
            self.evicted += forgotten.len() as u64;
            self.weight = 0;
        }
        self.weight += value.weight();
        self.young.insert(key, value);
    }

    pub(crate) fn get(&mut self, key: &K) -> Option<&mut V> {
        if !self.young.contains_key(key) {
            let value = self.old.remove(key)?;
            self.insert(key.clone(), value);
        }
        self.young.get_mut(key)
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        if let Some(value) = self.young.remove(key) {
            self.weight = self.weight.saturating_sub(value.weight());
            return Some(value);
        }
        self.old.remove(key)
    }

    /// All that is left.
    pub(crate) fn drain(&mut self) -> Vec<(K, V)> {
        self.weight = 0;
        self.old.drain().chain(self.young.drain()).collect()
    }

    /// Entries that were forgotten because there were too many.
    pub(crate) fn evicted(&self) -> u64 {
        self.evicted
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Text(&'static str);

    impl Weight for Text {
        fn weight(&self) -> usize {
            self.0.len()
        }
    }

    #[test]
    fn it_never_holds_more_and_counts_what_it_forgets() {
        let mut map = Bounded::new(100, 1 << 20);
        for key in 0..1000u64 {
            map.insert(key, key);
            assert!(map.len() <= 100);
            assert_eq!(map.get(&0).copied(), Some(0), "what is used stays");
        }
        assert_eq!(map.evicted() + map.len() as u64, 1000);
        assert!(map.get(&1).is_none());
        let mut heavy = Bounded::new(100, 10);
        for key in 0..100u64 {
            heavy.insert(key, Text("abcdefgh"));
            assert!(heavy.len() <= 2);
        }
        assert_eq!(heavy.remove(&99), Some(Text("abcdefgh")));
    }
}
