//! Keeps the inodes of watched directories in memory, so that their addresses stay their identity,
//! without making their file systems busy.
//!
//! A Landlock ruleset holds the inodes that its rules name until it is closed, or until their file
//! system is unmounted (5.13). This one is never enforced: nobody is restricted by it. Where the
//! kernel has no Landlock, an inotify watch holds the inode too. But while a file system has any
//! such watch, each open, read, write and close on it looks for watchers: some 90 instructions,
//! 5 % of a small pwrite(2).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

/// include/uapi/linux/landlock.h
const ACCESS_FS_READ_DIR: u64 = 1 << 3;
const RULE_PATH_BENEATH: libc::c_int = 1;

#[repr(C)]
struct RulesetAttributes {
    handled_access_fs: u64,
}

#[repr(C, packed)]
struct PathBeneath {
    allowed_access: u64,
    parent_fd: i32,
}

/// The inodes that are held.
pub(super) struct Pins {
    /// Rules cannot be taken out of a ruleset, so each round makes a new one.
    held: Option<OwnedFd>,
    /// That of the round under way.
    next: Option<OwnedFd>,
    inotify: OwnedFd,
}

impl Pins {
    /// None yet.
    ///
    /// # Errors
    /// When inotify is exhausted (fs.inotify.max_user_instances).
    pub(super) fn new() -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Self { held: None, next: None, inotify })
    }

    /// Begins a round: what is pinned from now on is what is held at its end.
    pub(super) fn begin(&mut self) {
        // A round that ended early had pinned something all the same.
        if self.next.is_none() {
            self.next = ruleset()
                .inspect_err(|error| tracing::debug!(%error, "no Landlock: inotify watches"))
                .ok();
        }
    }

    /// Holds the inode of an open directory. The number is that of an inotify watch, for
    /// [`Self::release`].
    ///
    /// # Errors
    /// When the kernel refuses both ways (fs.inotify.max_user_watches).
    pub(super) fn pin(&self, directory: BorrowedFd<'_>) -> io::Result<Option<i32>> {
        if let Some(ruleset) = self.next.as_ref().or(self.held.as_ref()) {
            match add(ruleset, directory) {
                Ok(()) => return Ok(None),
                Err(error) => tracing::debug!(%error, "Landlock does not take a directory"),
            }
        }
        let link = format!("/proc/self/fd/{}", directory.as_raw_fd());
        let flags = WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF | WatchFlags::ONLYDIR;
        Ok(Some(inotify::add_watch(&self.inotify, link, flags)?))
    }

    /// Removes an inotify watch.
    pub(super) fn release(&self, watch: i32) {
        // The only error is that it is gone: the file system was unmounted.
        let _ = inotify::remove_watch(&self.inotify, watch);
    }

    /// Ends a round: what was pinned before it, and not in it, is let go.
    pub(super) fn settle(&mut self) {
        if let Some(next) = self.next.take() {
            self.held = Some(next);
        }
    }
}

fn ruleset() -> io::Result<OwnedFd> {
    let attributes = RulesetAttributes { handled_access_fs: ACCESS_FS_READ_DIR };
    // SAFETY: the kernel reads the attributes, of which it is told the size.
    let result = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            &raw const attributes,
            size_of::<RulesetAttributes>(),
            0_u32,
        )
    };
    match i32::try_from(result) {
        // SAFETY: a new descriptor (close-on-exec), which nobody else has.
        Ok(descriptor) if descriptor >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(descriptor) }),
        _ => Err(io::Error::last_os_error()),
    }
}

fn add(ruleset: &OwnedFd, directory: BorrowedFd<'_>) -> io::Result<()> {
    let rule = PathBeneath { allowed_access: ACCESS_FS_READ_DIR, parent_fd: directory.as_raw_fd() };
    // SAFETY: the kernel reads the rule, whose kind says how large it is.
    let result = unsafe {
        libc::syscall(
            libc::SYS_landlock_add_rule,
            ruleset.as_raw_fd(),
            RULE_PATH_BENEATH,
            &raw const rule,
            0_u32,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_round_holds_what_was_pinned_in_it() {
        let mut pins = Pins::new().unwrap();
        let directory = File::open("/").unwrap();
        pins.begin();
        let landlock = pins.next.is_some();
        // Where there is Landlock no watch is made, which everybody would pay for.
        assert_eq!(pins.pin(directory.as_fd()).unwrap().is_none(), landlock);
        pins.settle();
        assert_eq!(pins.held.is_some(), landlock);
        assert!(pins.next.is_none());
        if !landlock {
            println!("skipped: this kernel has no Landlock");
        }
    }

    #[test]
    fn without_landlock_there_is_inotify() {
        let pins = Pins::new().unwrap();
        let directory = File::open("/").unwrap();
        let watch = pins.pin(directory.as_fd()).unwrap().unwrap();
        pins.release(watch);
        let file = File::open("/proc/self/exe").unwrap();
        assert!(pins.pin(file.as_fd()).is_err(), "a directory is asked for");
    }
}
