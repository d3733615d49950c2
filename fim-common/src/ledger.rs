//! The ledger: how many operations each stage took in and what became of them, and the sums that
//! have to agree. What disagrees was lost without being counted, which is a fault of fim itself.
//!
//! Pure: numbers in, violations out. The stages write into a shared [`Ledger`] as they work; a
//! [`Checker`] looks at it about once a second.
//!
//! Invariant: an operation is added to a stage once. A stage that drops one has a stage for what it
//! dropped.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! stages {
    ($($(#[doc = $doc:literal])* $stage:ident $name:literal)*) => {
        /// A place where operations (or, towards the end, events) are counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Stage {
            $($(#[doc = $doc])* $stage,)*
        }

        impl Stage {
            /// Every stage, in the order of the data flow.
            pub const ALL: &[Self] = &[$(Self::$stage),*];

            /// The `stage` label of `fim_ledger_operations_total`.
            pub fn name(self) -> &'static str {
                match self { $(Self::$stage => $name,)* }
            }

            /// The stage with this name.
            pub fn named(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|stage| stage.name() == name)
            }
        }
    };
}

stages! {
    /// Calls of all hooks.
    Seen "seen"
    /// Of those: out of scope, failed, or the agent's own.
    Filtered "filtered"
    /// Handed to the agent.
    Submitted "submitted"
    /// In scope, and there was no room.
    Lost "lost"
    /// In scope, and no record could be made.
    Error "error"
    /// Records taken out of the ring.
    Received "received"
    /// Records that did not fit between the ring and the resolver.
    Overflowed "overflowed"
    /// Records that could not be decoded.
    Malformed "malformed"
    /// Records decoded.
    Resolved "resolved"
    /// Of those: about processes, or announcing a mount.
    Processes "processes"
    /// Operations more than records: one record tells of two.
    Expanded "expanded"
    /// Operations of the canary, and on names that nobody watches.
    Diverted "diverted"
    /// Operations handed to the pipeline.
    Delivered "delivered"
    /// Operations that the pipeline took in.
    Taken "taken"
    /// Modifications that the pipeline found by looking at a file that is open for writing.
    Found "found"
    /// In the agent's own state directory.
    Ignored "ignored"
    /// No rule asks for the path.
    Uncovered "uncovered"
    /// On an object without a path.
    Nameless "nameless"
    /// Of which nothing is to be told: opened for writing and not written.
    Quiet "quiet"
    /// In an event that was not sent because nothing differs, or its rule does not want it.
    Unchanged "unchanged"
    /// In an event.
    Told "told"
    /// In an event that its rule has counted instead of told.
    Suppressed "suppressed"
    /// Waiting for more, or for a hash, now.
    Pending "pending"
    /// Events, the agent's own included.
    Events "events"
    /// Events that the journal took.
    Journaled "journaled"
    /// Events that the journal refused.
    Refused "refused"
    /// Events handed to standard output.
    Printed "printed"
    /// Events that standard output did not take, or that it was not to have.
    Unprinted "unprinted"
}

/// When both sides of an [`Identity`] have to agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exact {
    /// At each moment, but for the moment between two counters.
    Always,
    /// When nothing is under way between the two sides.
    Drained,
}

/// Two sums that have to be equal.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// The `identity` label of `fim_ledger_imbalance`.
    pub name: &'static str,
    /// What came in.
    pub from: &'static [Stage],
    /// What became of it.
    pub to: &'static [Stage],
    /// When.
    pub exact: Exact,
}

impl Identity {
    /// All of them, in the order of the data flow.
    pub const ALL: &[Self] = {
        use Stage::*;
        &[
            Self {
                name: "kernel",
                from: &[Seen],
                to: &[Filtered, Submitted, Lost, Error],
                exact: Exact::Always,
            },
            Self { name: "ring", from: &[Submitted], to: &[Received], exact: Exact::Drained },
            Self {
                name: "decode",
                from: &[Received],
                to: &[Overflowed, Malformed, Resolved],
                exact: Exact::Drained,
            },
            Self {
                name: "resolve",
                from: &[Resolved, Expanded],
                to: &[Processes, Diverted, Delivered],
                exact: Exact::Drained,
            },
            Self { name: "handover", from: &[Delivered], to: &[Taken], exact: Exact::Drained },
            Self {
                name: "pipeline",
                from: &[Taken, Found],
                to: &[Ignored, Uncovered, Nameless, Quiet, Unchanged, Told, Suppressed, Pending],
                exact: Exact::Drained,
            },
            Self {
                name: "journal",
                from: &[Events],
                to: &[Journaled, Refused],
                exact: Exact::Always,
            },
            Self {
                name: "output",
                from: &[Events],
                to: &[Printed, Unprinted],
                exact: Exact::Always,
            },
        ]
    };
}

/// All stages at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts([u64; Stage::ALL.len()]);

impl Default for Counts {
    fn default() -> Self {
        Self([0; Stage::ALL.len()])
    }
}

impl Counts {
    /// What a stage has counted.
    pub fn get(&self, stage: Stage) -> u64 {
        self.0[stage as usize]
    }

    /// Sets a stage.
    pub fn set(&mut self, stage: Stage, count: u64) {
        self.0[stage as usize] = count;
    }

    fn sum(&self, stages: &[Stage]) -> u64 {
        stages.iter().map(|stage| self.get(*stage)).sum()
    }

    /// What came in less what became of it. 0: they agree.
    pub fn imbalance(&self, identity: &Identity) -> i64 {
        self.sum(identity.from).wrapping_sub(self.sum(identity.to)).cast_signed()
    }
}

/// The shared book: every stage writes its own column.
#[derive(Debug)]
pub struct Ledger([AtomicU64; Stage::ALL.len()]);

impl Default for Ledger {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Ledger {
    /// `count` more.
    pub fn add(&self, stage: Stage, count: u64) {
        self.0[stage as usize].fetch_add(count, Ordering::Relaxed);
    }

    /// So many altogether: for a stage that is counted elsewhere.
    pub fn set(&self, stage: Stage, count: u64) {
        self.0[stage as usize].store(count, Ordering::Relaxed);
    }

    /// What one stage has counted.
    pub fn count(&self, stage: Stage) -> u64 {
        self.0[stage as usize].load(Ordering::Relaxed)
    }

    /// All stages. What comes late is read first: operations that move on meanwhile look as if they
    /// were under way, never as if they came from nowhere.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for (index, counter) in self.0.iter().enumerate().rev() {
            counts.0[index] = counter.load(Ordering::Relaxed);
        }
        counts
    }
}

impl Ledger {
    /// All stages, when those in front of the pipeline are brought up to date by `enter`: after
    /// the others were read, so that what moves meanwhile looks as if it were under way.
    pub fn counts_with(&self, enter: impl FnOnce(&Self)) -> Counts {
        let late = self.counts();
        enter(self);
        let mut counts = self.counts();
        for stage in Stage::ALL.iter().filter(|stage| **stage as usize >= Stage::Taken as usize) {
            counts.set(*stage, late.get(*stage));
        }
        counts
    }
}

/// An identity that does not hold although nothing is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// [`Identity::name`].
    pub identity: &'static str,
    /// What came in less what became of it.
    pub imbalance: i64,
}

/// Looks at the ledger again and again, and tells what is wrong once.
#[derive(Debug, Default)]
pub struct Checker {
    last: Counts,
    standing: Vec<Standing>,
}

/// Looks after which an imbalance is taken for one. At one a second: the longest a stage may sit
/// on an operation without moving any other (an event waits 10 s for a hash at the most).
const PATIENCE: u32 = 15;

#[derive(Clone, Debug, Default)]
struct Standing {
    imbalance: i64,
    looks: u32,
    reported: i64,
}

impl Checker {
    /// What has been wrong for so long that it is not under way any more, and was not told before.
    pub fn look(&mut self, counts: &Counts) -> Vec<Violation> {
        self.standing.resize(Identity::ALL.len(), Standing::default());
        let mut violations = Vec::new();
        for (identity, standing) in Identity::ALL.iter().zip(&mut self.standing) {
            let imbalance = counts.imbalance(identity);
            let persists = match identity.exact {
                // Counters are read one after the other, so that a busy one is off by a few, to
                // either side: what is missing is what has been missing all the time.
                Exact::Always => imbalance.signum() == standing.imbalance.signum(),
                // Nothing came out: what is in between does not move.
                Exact::Drained => {
                    imbalance == standing.imbalance
                        && counts.sum(identity.to) == self.last.sum(identity.to)
                }
            };
            if imbalance == 0 || !persists {
                *standing = Standing { imbalance, looks: 0, reported: 0 };
                continue;
            }
            standing.looks += 1;
            if identity.exact == Exact::Always && imbalance.abs() < standing.imbalance.abs() {
                standing.imbalance = imbalance;
            }
            if standing.looks >= PATIENCE && standing.imbalance != standing.reported {
                standing.reported = standing.imbalance;
                violations
                    .push(Violation { identity: identity.name, imbalance: standing.imbalance });
            }
        }
        self.last = counts.clone();
        violations
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten operations that went all the way: one of each fate.
    fn sound() -> Counts {
        let mut counts = Counts::default();
        for (stage, count) in [
            (Stage::Seen, 100),
            (Stage::Filtered, 78),
            (Stage::Submitted, 20),
            (Stage::Lost, 1),
            (Stage::Error, 1),
            (Stage::Received, 20),
            (Stage::Overflowed, 2),
            (Stage::Malformed, 1),
            (Stage::Resolved, 17),
            (Stage::Processes, 4),
            (Stage::Expanded, 3),
            (Stage::Diverted, 1),
            (Stage::Delivered, 15),
            (Stage::Taken, 15),
            (Stage::Found, 1),
            (Stage::Ignored, 1),
            (Stage::Uncovered, 2),
            (Stage::Nameless, 1),
            (Stage::Quiet, 1),
            (Stage::Unchanged, 1),
            (Stage::Told, 8),
            (Stage::Pending, 2),
            (Stage::Events, 9),
            (Stage::Journaled, 8),
            (Stage::Refused, 1),
            (Stage::Printed, 7),
            (Stage::Unprinted, 2),
        ] {
            counts.set(stage, count);
        }
        counts
    }

    fn looks(checker: &mut Checker, counts: &Counts, times: u32) -> Vec<Violation> {
        (0..times).flat_map(|_| checker.look(counts)).collect()
    }

    #[test]
    fn each_stage_is_in_an_identity_and_has_a_name_of_its_own() {
        for stage in Stage::ALL {
            assert_eq!(Stage::named(stage.name()), Some(*stage));
            let used =
                |identity: &&Identity| identity.from.contains(stage) || identity.to.contains(stage);
            assert!(Identity::ALL.iter().any(|identity| used(&identity)), "{stage:?}");
        }
    }

    #[test]
    fn what_is_sound_is_never_a_violation() {
        let mut checker = Checker::default();
        assert_eq!(looks(&mut checker, &sound(), 100), []);
    }

    #[test]
    fn each_stage_that_is_off_by_one_is_found_once() {
        for stage in Stage::ALL {
            let mut counts = sound();
            counts.set(*stage, counts.get(*stage) + 1);
            let mut checker = Checker::default();
            let found = looks(&mut checker, &counts, 100);
            let mut expected: Vec<&str> = Identity::ALL
                .iter()
                .filter(|identity| identity.from.contains(stage) || identity.to.contains(stage))
                .map(|identity| identity.name)
                .collect();
            expected.sort_unstable();
            let mut names: Vec<&str> = found.iter().map(|violation| violation.identity).collect();
            names.sort_unstable();
            assert_eq!(names, expected, "{stage:?}");
            assert!(found.iter().all(|violation| violation.imbalance.abs() == 1), "{found:?}");
        }
    }

    #[test]
    fn what_is_under_way_is_no_violation() {
        let mut checker = Checker::default();
        let mut counts = sound();
        // A queue that is full for minutes, and moves.
        for taken in 0..1000 {
            counts.set(Stage::Taken, taken);
            counts.set(Stage::Delivered, taken + 5000);
            counts.set(Stage::Resolved, taken + 5002);
            counts.set(Stage::Received, taken + 5005);
            counts.set(Stage::Submitted, taken + 5005);
            counts.set(Stage::Seen, taken + 5005 + 80);
            counts.set(Stage::Told, taken - taken.min(7) + 1);
            counts.set(Stage::Pending, taken.min(7));
            counts.set(Stage::Quiet, 0);
            counts.set(Stage::Found, 6);
            assert_eq!(checker.look(&counts), []);
        }
    }

    #[test]
    fn a_busy_hook_is_off_to_both_sides_and_a_broken_one_to_one() {
        let mut checker = Checker::default();
        let mut counts = sound();
        for round in 0..100 {
            counts.set(Stage::Seen, 99 + round % 3);
            assert_eq!(checker.look(&counts), []);
        }
        let mut found = Vec::new();
        for round in 0..100 {
            counts.set(Stage::Seen, 105 + round % 3);
            found.extend(checker.look(&counts));
        }
        assert_eq!(found, [Violation { identity: "kernel", imbalance: 5 }]);
    }

    #[test]
    fn the_shared_book_reads_back_what_was_written() {
        let ledger = Ledger::default();
        ledger.add(Stage::Taken, 2);
        ledger.add(Stage::Taken, 3);
        ledger.set(Stage::Seen, 7);
        let counts = ledger.counts();
        assert_eq!((counts.get(Stage::Taken), counts.get(Stage::Seen)), (5, 7));
        assert_eq!(counts.imbalance(&Identity::ALL[0]), 7);
    }
}
