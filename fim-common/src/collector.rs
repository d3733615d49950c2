//! The seam between the operating systems and the pipeline.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::event::Provider;
use crate::operation::Operation;
use crate::policy::Policy;
use crate::state::ObjectId;
use crate::time::Timestamp;

/// What a collector hands to the pipeline, in the order in which it happened.
#[derive(Clone, Debug)]
pub enum Observation {
    /// Something was done to an object in scope.
    Operation(Box<Operation>),
    /// What is watched has changed below `path` in a way that only a look at the disk can tell
    /// (a root appeared, a directory tree moved in, a file system was mounted): compare it with
    /// the baseline.
    Recheck(PathBuf),
    /// The answer to [`Fences`]: everything that had been done when the fence was asked for has
    /// been handed over before this, and what of it was lost has been reported.
    Fence(u64),
}

/// Asks a collector for [`Observation::Fence`] with this number. Returns at once; while the
/// collector runs the answer comes, as late as the operations in front of it.
pub type Fences = Arc<dyn Fn(u64) + Send + Sync>;

/// A loss, as exactly as it is known; reported through [`Losses`](crate::loss::Losses). The
/// pipeline tells of it, and compares `scope` with the baseline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Nothing before this is missing.
    pub from: Timestamp,
    /// Nothing after this is missing.
    pub to: Timestamp,
    /// Records lost, where they could be counted.
    pub count: Option<u64>,
    /// Hooks or queues in which the loss happened.
    pub hooks: Vec<String>,
    /// The directories affected; empty: every watched root.
    pub scope: Vec<PathBuf>,
}

/// The sending end into the pipeline. It is bounded; a collector that finds it full must not
/// block the thread that empties the kernel's ring: it counts the loss and reports a [`Gap`] beside
/// the queue.
pub type ObservationSender = mpsc::Sender<Observation>;

/// A source of operations. Dropping it disarms it.
pub trait Collector: Send {
    /// What its events carry as `event.provider`.
    fn provider(&self) -> Provider;

    /// The host paths that are watched now, each directory once, symbolic links resolved: what a
    /// scan has to cover.
    fn roots(&self) -> Vec<PathBuf>;

    /// Names files that have more than one name, of which this one is watched: they are to be
    /// watched by all their names. A collector that cannot do so leaves it.
    fn watch_linked(&mut self, files: Vec<(PathBuf, ObjectId)>) {
        drop(files);
    }

    /// Watches what this resolved policy asks for from now on, and nothing else. What was watched
    /// and stays so is watched without a pause. Returns when each operation is seen.
    ///
    /// # Errors
    /// When it cannot be done; then a part of it may be.
    fn rescope(&mut self, policy: &Policy) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let _ = policy;
        Err("this collector has to be restarted to watch something else".into())
    }

    /// One line for people: what is armed, and what is not.
    fn summary(&self) -> String;

    /// How to ask for a fence.
    fn fences(&self) -> Fences;

    /// Stops taking in, hands over what was taken in already, and closes the sender. Bounded:
    /// returns after at most a second or two.
    ///
    /// # Errors
    /// When the source could not be detached cleanly; what it held was handed over all the same.
    fn stop(&mut self) -> Result<(), Box<dyn std::error::Error + Send + Sync>>;
}
