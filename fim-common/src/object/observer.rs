//! Who looks at objects for the pipeline.

use std::io;
use std::path::Path;

use crate::state::ObjectState;

/// Looks at objects for the pipeline: on the disk of this host, or not at all.
pub trait Observer: Send + Sync {
    /// Whether there is anything to look at. If not, nothing is hashed, nothing is compared, and no
    /// baseline is kept.
    fn observes(&self) -> bool;

    /// All that is known of the object at a path.
    ///
    /// # Errors
    /// When it is not there, or cannot be looked at.
    fn state(&self, path: &Path) -> io::Result<ObjectState>;

    /// What stat(2) tells of it.
    ///
    /// # Errors
    /// As [`Observer::state`].
    fn stat(&self, path: &Path) -> io::Result<ObjectState>;

    /// Whether its file system does not tell of writes through a mapping.
    fn hides_mapped_writes(&self, path: &Path) -> bool;
}

/// The disk of this host.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl Observer for Disk {
    fn observes(&self) -> bool {
        true
    }

    fn state(&self, path: &Path) -> io::Result<ObjectState> {
        super::state(path)
    }

    fn stat(&self, path: &Path) -> io::Result<ObjectState> {
        super::stat(path)
    }

    fn hides_mapped_writes(&self, path: &Path) -> bool {
        super::hides_mapped_writes(path)
    }
}

/// The objects are of another host, or of another time: a recorded trace is replayed. What lies at
/// the same path here is something else.
#[derive(Clone, Copy, Debug, Default)]
pub struct NotObservable;

impl Observer for NotObservable {
    fn observes(&self) -> bool {
        false
    }

    fn state(&self, _: &Path) -> io::Result<ObjectState> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn stat(&self, _: &Path) -> io::Result<ObjectState> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn hides_mapped_writes(&self, _: &Path) -> bool {
        false
    }
}
