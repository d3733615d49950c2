//! Who fills a queue: so that a flood in one place does not take the room of everybody else.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Sources that hash alike share one share: with so many that is rare, and no harm.
const BUCKETS: usize = 1024;

/// How much of a queue each source has in it. One thread lets in, any thread lets out.
#[derive(Debug)]
pub(crate) struct Shares {
    capacity: usize,
    held: AtomicUsize,
    of: Box<[AtomicUsize]>,
}

impl Shares {
    pub(crate) fn new(capacity: usize) -> Self {
        let of = (0..BUCKETS).map(|_| AtomicUsize::new(0)).collect();
        Self { capacity, held: AtomicUsize::new(0), of }
    }

    /// Whether there is room for one more of `source`. In the second half of the queue there is
    /// none for a source that has a quarter of it already.
    pub(crate) fn enter(&self, source: &impl Hash) -> bool {
        let held = self.held.load(Ordering::Relaxed);
        let share = self.share(source);
        let greedy =
            held >= self.capacity / 2 && share.load(Ordering::Relaxed) >= self.capacity / 4;
        if held >= self.capacity || greedy {
            return false;
        }
        self.held.fetch_add(1, Ordering::Relaxed);
        share.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// One of `source` is out of the queue.
    pub(crate) fn leave(&self, source: &impl Hash) {
        self.held.fetch_sub(1, Ordering::Relaxed);
        self.share(source).fetch_sub(1, Ordering::Relaxed);
    }

    /// How much is in the queue.
    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    fn share(&self, source: &impl Hash) -> &AtomicUsize {
        let mut hasher = DefaultHasher::new();
        source.hash(&mut hasher);
        &self.of[hasher.finish() as usize % BUCKETS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_leaves_room_for_others() {
        let shares = Shares::new(1000);
        let let_in =
            |source: &str, count: usize| (0..count).filter(|_| shares.enter(&source)).count();
        assert_eq!(let_in("flood", 5000), 500, "half of it, when nobody else is there");
        assert_eq!(let_in("one", 200), 200);
        assert_eq!(let_in("flood", 10), 0);
        assert_eq!(let_in("other", 400), 250, "a flood too");
        assert_eq!(let_in("third", 400), 50, "full");
        (0..300).for_each(|_| shares.leave(&"flood"));
        assert_eq!(let_in("third", 400), 200, "up to a quarter");
        (0..200).for_each(|_| shares.leave(&"flood"));
        assert_eq!(let_in("flood", 400), 250, "again");
    }
}
