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

/// The SELinux label of an object, as `ls -Z` shows it: text among its extended attributes, with a
/// NUL at its end.
pub fn selinux_label(state: &crate::state::ObjectState) -> Option<String> {
    use base64::Engine as _;
    let value = state.xattrs.as_ref()?.get("security.selinux")?;
    let bytes = base64::engine::general_purpose::STANDARD.decode(value).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    Some(text.trim_end_matches('\0').to_owned())
}
