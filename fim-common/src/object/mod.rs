//! An object's state, read from disk: the one place of the pipeline that knows the operating
//! system's files.
//!
//! Invariant: everything of one [`crate::state::ObjectState`] is read through one descriptor, so
//! it is of one object, whatever happens to its name meanwhile.
//!
//! Invariant: nothing here follows a symbolic link in the last component, changes an access time
//! where the kernel lets us not to, or opens anything but a regular file or directory for reading.

mod acl;
mod capability;
mod observer;
#[cfg(unix)]
mod unix;
#[cfg(unix)]
mod xattr;

#[cfg(unix)]
pub use observer::Disk;
pub use observer::{NotObservable, Observer};
#[cfg(unix)]
pub(crate) use unix::from_stat;
#[cfg(unix)]
pub use unix::{Handle, hides_mapped_writes, stat, state};

/// A device number as events carry it: `major:minor`, in stat(2)'s encoding.
pub fn device_text(device: u64) -> String {
    format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device))
}
