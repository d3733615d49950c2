//! An object's state, read from disk: the one place of the pipeline that knows the operating
//! system's files.
//!
//! Invariant: everything of one [`crate::state::ObjectState`] is read through one descriptor, so
//! it is of one object, whatever happens to its name meanwhile.
//!
//! Invariant: nothing here follows a symbolic link in the last component, changes an access time
//! where the kernel lets us not to, or opens anything but a regular file or directory for reading.

#[cfg(unix)]
mod acl;
#[cfg(unix)]
mod capability;
mod observer;
#[cfg(unix)]
mod pseudo;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;
#[cfg(unix)]
mod xattr;

pub use observer::{Disk, NotObservable, Observer};
#[cfg(unix)]
use unix as system;
#[cfg(windows)]
use windows as system;

pub use system::{Handle, Place, device_text, hides_mapped_writes, stat, state};
pub(crate) use system::{Listing, stat_at};

/// What a listing says of an entry.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryKind {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// Anything else.
    Other,
    /// The file system does not say.
    #[cfg_attr(windows, expect(dead_code, reason = "Windows always says"))]
    Unknown,
}

/// The SELinux label of an object, as `ls -Z` shows it: text among its extended attributes, with a
/// NUL at its end.
pub fn selinux_label(state: &crate::state::ObjectState) -> Option<String> {
    use base64::Engine as _;
    let value = state.xattrs.as_ref()?.get("security.selinux")?;
    let bytes = base64::engine::general_purpose::STANDARD.decode(value).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    Some(text.trim_end_matches('\0').to_owned())
}
