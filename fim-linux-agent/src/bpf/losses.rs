//! What the bpf collector lost, from its counters: by the kernel, between its threads, and what
//! nobody counted but the numbers of the records show.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use fim_common::collector::Gap;
use fim_common::ledger::{Ledger, Stage};
use fim_common::record::{Counters, HOOKS, Hook};
use fim_common::time::Timestamp;

use super::reader::Progress;

/// What calls in which a program did not run are told as.
pub(super) const MISSED: &str = "missed";

/// How often operations too deep to be placed make everything be compared with the baseline.
const UNPLACED: Duration = Duration::from_secs(60);

/// What has been reported so far.
pub(super) struct Tally {
    /// Nothing before this is missing that was not reported.
    checked: Timestamp,
    /// Reported, by hook or queue.
    reported: BTreeMap<&'static str, u64>,
    /// Records that are missing in the numbers and in no counter, at the last look.
    unexplained: u64,
    unplaced_reported: Option<Instant>,
}

/// How many records there are by their numbers, and how many came.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Numbers {
    numbered: u64,
    received: u64,
}

impl Numbers {
    /// To be taken before the counters are read: what is lost in between would be counted as lost by
    /// nobody.
    pub(super) fn of(progress: &Progress) -> Self {
        // In this order, for what comes in between.
        let numbered = progress.numbered.load(Ordering::Relaxed);
        Self { numbered, received: progress.received.load(Ordering::Relaxed) }
    }
}

impl Tally {
    pub(super) fn new() -> Self {
        Self {
            checked: Timestamp::now(),
            reported: BTreeMap::new(),
            unexplained: 0,
            unplaced_reported: None,
        }
    }

    /// What was lost since the last look. `numbers`: read before the counters. `missed`: calls in which
    /// a program did not run. `unplaced`: operations so deep in a tree that it is not known whether they
    /// are in scope.
    pub(super) fn look(
        &mut self,
        counters: &[Counters; HOOKS],
        progress: &Progress,
        numbers: Numbers,
        missed: u64,
        unplaced: u64,
    ) -> Option<Gap> {
        let now = Timestamp::now();
        let mut lost: Vec<(&'static str, u64)> = Hook::ALL
            .iter()
            .zip(counters)
            .map(|(hook, counters)| (hook.name(), counters.lost + counters.error))
            .collect();
        lost.push(("queue", progress.overflowed.load(Ordering::Relaxed)));
        lost.push(("decode", progress.malformed.load(Ordering::Relaxed)));
        lost.push(("sequence", self.unexplained(counters, numbers)));
        lost.push((MISSED, missed));
        // Each makes everything be looked at: not again and again.
        if self.unplaced_reported.is_none_or(|at| at.elapsed() >= UNPLACED) {
            lost.push(("depth", unplaced));
        }
        let mut gap =
            Gap { from: self.checked, to: now, count: Some(0), hooks: vec![], scope: vec![] };
        for (name, count) in lost {
            let before = self.reported.entry(name).or_default();
            if count > *before {
                gap.count = gap.count.map(|sum| sum + count - *before);
                gap.hooks.push(name.to_owned());
                *before = count;
                if name == "depth" {
                    self.unplaced_reported = Some(Instant::now());
                }
            }
        }
        self.checked = now;
        (!gap.hooks.is_empty()).then_some(gap)
    }

    /// Records that were numbered and neither came nor were counted as lost. A program may be between
    /// number and counter: what is missing is missing at two looks.
    fn unexplained(&mut self, counters: &[Counters; HOOKS], numbers: Numbers) -> u64 {
        let Numbers { numbered, received } = numbers;
        let lost: u64 = counters.iter().map(|counters| counters.lost).sum();
        let now = numbered.saturating_sub(received).saturating_sub(lost);
        std::mem::replace(&mut self.unexplained, now).min(now)
    }
}

/// Writes the columns of this end. What comes late in the data flow is written first, so that
/// operations that move on meanwhile look as if they were under way.
pub(super) fn enter(
    ledger: &Ledger,
    progress: &Progress,
    counters: impl FnOnce() -> [Counters; HOOKS],
) {
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    for (stage, value) in [
        (Stage::Delivered, count(&progress.delivered)),
        (Stage::Diverted, count(&progress.diverted)),
        (Stage::Expanded, count(&progress.expanded)),
        (Stage::Processes, count(&progress.processes)),
        (Stage::Resolved, count(&progress.resolved)),
        (Stage::Malformed, count(&progress.malformed)),
        (Stage::Overflowed, count(&progress.overflowed)),
        (Stage::Received, count(&progress.received)),
    ] {
        ledger.set(stage, value);
    }
    let counters = counters();
    let sum = |of: fn(&Counters) -> u64| counters.iter().map(of).sum();
    for (stage, value) in [
        (Stage::Error, sum(|counters| counters.error)),
        (Stage::Lost, sum(|counters| counters.lost)),
        (Stage::Submitted, sum(|counters| counters.submitted)),
        (Stage::Filtered, sum(|counters| counters.filtered)),
        (Stage::Seen, sum(|counters| counters.seen)),
    ] {
        ledger.set(stage, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none() -> [Counters; HOOKS] {
        [Counters::default(); HOOKS]
    }

    #[test]
    fn each_loss_is_told_once_with_its_hook() {
        let (mut tally, progress, mut counters) = (Tally::new(), Progress::default(), none());
        assert_eq!(tally.look(&counters, &progress, Numbers::of(&progress), 0, 0), None);
        counters[Hook::Unlink as usize].lost = 3;
        counters[Hook::Rename as usize].error = 2;
        progress.overflowed.store(5, Ordering::Relaxed);
        let gap = tally.look(&counters, &progress, Numbers::of(&progress), 0, 0).unwrap();
        assert_eq!(gap.count, Some(10));
        let mut expected = vec![Hook::Unlink.name(), Hook::Rename.name(), "queue"];
        expected.sort_unstable();
        let mut hooks: Vec<&str> = gap.hooks.iter().map(String::as_str).collect();
        hooks.sort_unstable();
        assert_eq!(hooks, expected);
        assert_eq!(tally.look(&counters, &progress, Numbers::of(&progress), 0, 0), None);
        counters[Hook::Unlink as usize].lost = 4;
        let next = tally.look(&counters, &progress, Numbers::of(&progress), 0, 0).unwrap();
        assert_eq!((next.count, next.hooks), (Some(1), vec![Hook::Unlink.name().to_owned()]));
        assert!(next.from > gap.to, "between the two looks, and the one before");
    }

    #[test]
    fn a_hole_in_the_numbers_that_no_counter_explains_is_a_loss() {
        let (mut tally, progress, mut counters) = (Tally::new(), Progress::default(), none());
        progress.numbered.store(10, Ordering::Relaxed);
        progress.received.store(7, Ordering::Relaxed);
        counters[0].lost = 1;
        assert_eq!(
            tally.look(&counters, &progress, Numbers::of(&progress), 0, 0).unwrap().count,
            Some(1),
            "the counted one"
        );
        // It has been there at two looks now.
        let gap = tally.look(&counters, &progress, Numbers::of(&progress), 0, 0).unwrap();
        assert_eq!((gap.count, gap.hooks), (Some(2), vec!["sequence".to_owned()]));
        assert_eq!(tally.look(&counters, &progress, Numbers::of(&progress), 0, 0), None);
    }

    #[test]
    fn what_is_too_deep_is_told_once_a_minute() {
        let (mut tally, progress, counters) = (Tally::new(), Progress::default(), none());
        assert_eq!(
            tally.look(&counters, &progress, Numbers::of(&progress), 0, 4).unwrap().hooks,
            ["depth"]
        );
        assert_eq!(tally.look(&counters, &progress, Numbers::of(&progress), 0, 9), None);
    }
}
