//! Looking at the disk: every object in scope, or what differs from the baseline.
//!
//! Threads share a stack of directories. Each lists a directory with getdents64(2) into 64 KiB,
//! and opens, stats and hashes its entries relative to its descriptor: no path is resolved twice,
//! and none is too long. What they find goes to the calling thread, which owns the baseline's side.
//!
//! Invariant: symbolic links are objects and are never followed; pseudo file systems (proc, sysfs,
//! cgroup …) are not entered, other mounts are.
//!
//! Invariant: an object that cannot be read is counted in [`Summary::errors`] and is never taken
//! for one that is gone.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::baseline::BaselineError;
use crate::event::Property;
use crate::state::{HashState, ObjectState};

mod limit;
mod mounts;
mod queue;
mod reconcile;
mod walk;
mod worker;

pub use limit::Limits;
pub(crate) use limit::Throttle;
pub(crate) use reconcile::{absent, significant};
pub use reconcile::{read_again, reconcile};
pub use walk::walk;

/// Where a scan begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// Canonical path of a directory, or of any other object.
    pub path: PathBuf,
    /// Levels below it to look at: 0 is the root itself only, 1 its entries too; `None`: all.
    pub depth: Option<usize>,
}

/// What to do with an object in scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanRule {
    /// Hash its content, if it is a regular file.
    pub hash: bool,
    /// Bytes beyond which it is not hashed.
    pub max_size: u64,
}

/// Whether an object is in scope, and what to do with it.
pub type RuleOf<'a> = dyn Fn(&Path) -> Option<ScanRule> + Sync + 'a;
/// Whether anything in scope can lie below a directory, itself in scope or not.
pub type Descend<'a> = dyn Fn(&Path) -> bool + Sync + 'a;

/// What is scanned.
#[derive(Clone, Copy)]
pub struct Scope<'a> {
    /// Where to begin; one that lies in another is looked at once.
    pub roots: &'a [Root],
    /// Asked for each object. It is called by all threads and should take well under 1 µs.
    pub rule: &'a RuleOf<'a>,
    /// Asked for each directory before it is opened.
    pub descend: &'a Descend<'a>,
}

/// How it is scanned.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// What it may take of the machine.
    pub limits: Limits,
    /// Compare contents also where size, times and identity say that nothing was touched.
    pub deep: bool,
    /// Ends the scan soon after it becomes true.
    pub cancel: &'a AtomicBool,
    /// Called by the calling thread some ten times a second, and at the end.
    pub progress: &'a dyn Fn(Progress),
}

/// How far a scan is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Objects in scope looked at.
    pub objects: u64,
    /// Bytes of content read.
    pub bytes: u64,
}

/// What a comparison is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Fills the baseline; nothing is a difference. Objects that the baseline knows unchanged are
    /// not read again, so a first scan that was interrupted goes on where it was.
    First,
    /// Yields what differs, and leaves the baseline as it is.
    Compare,
    /// Yields what differs, and brings the baseline up to date.
    Update,
    /// Yields everything that is not as the baseline has it, also where only a time differs that
    /// nobody is told of, and leaves the baseline as it is: whoever asked has to confirm each.
    Propose,
}

/// One object that is not as the baseline has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Its path.
    pub path: PathBuf,
    /// As the baseline has it; `None`: it is new.
    pub before: Option<ObjectState>,
    /// As it is on disk; `None`: it is gone.
    pub after: Option<ObjectState>,
    /// What differs; [`Property::Existence`] alone when it is new or gone.
    pub changes: Vec<Property>,
    /// What came of hashing it; `None`: it was not asked for.
    pub hash_state: Option<HashState>,
}

/// What a scan did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Summary {
    /// Objects in scope looked at.
    pub objects: u64,
    /// Bytes of content read.
    pub bytes: u64,
    /// Differences yielded.
    pub differences: u64,
    /// Objects of the baseline that were removed from it because no rule asks for them any more.
    pub forgotten: u64,
    /// Objects and directories that could not be read.
    pub errors: u64,
    /// It was cancelled: what was not looked at is not known.
    pub cancelled: bool,
}

/// Why a scan could not be done.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The baseline failed.
    #[error(transparent)]
    Baseline(#[from] BaselineError),
    /// The system refused a thread.
    #[error("no thread for the scan: {0}")]
    Thread(std::io::Error),
}

/// Counted by all threads.
#[derive(Default)]
struct Counters {
    objects: AtomicU64,
    bytes: AtomicU64,
    errors: AtomicU64,
}

impl Counters {
    fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }

    fn progress(&self) -> Progress {
        Progress {
            objects: self.objects.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }

    /// An object or directory that could not be read. Individual ones are at debug level: a file
    /// system that is broken has many.
    fn error(&self, path: &Path, error: &std::io::Error) {
        Self::add(&self.errors, 1);
        tracing::debug!(path = %path.display(), %error, "an object could not be scanned");
    }
}

/// The roots without those that lie in another, each path once.
fn distinct(roots: &[Root]) -> Vec<&Root> {
    let covers = |outer: &Root, inner: &Root| {
        inner.path.strip_prefix(&outer.path).is_ok_and(|below| {
            let levels = below.components().count();
            match (outer.depth, inner.depth) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(outer), Some(inner)) => outer >= levels + inner,
            }
        })
    };
    roots
        .iter()
        .enumerate()
        .filter(|(at, root)| {
            !roots.iter().enumerate().any(|(other, outer)| {
                // Of two equal ones the first stays.
                other != *at && covers(outer, root) && (!covers(root, outer) || other < *at)
            })
        })
        .map(|(_, root)| root)
        .collect()
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
