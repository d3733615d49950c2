//! What this kernel's fanotify can do.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::FanotifyError;
use super::parse::Fid;
use super::sys::{self, Group, MarkOn};

/// What differs from kernel to kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Features {
    /// `FAN_REPORT_TARGET_FID`, 5.17: creations and removals name their object.
    target: bool,
    /// `FAN_REPORT_PIDFD`, 5.15: a process id that has been reused is told from the original.
    pidfd: bool,
    /// `FAN_RENAME`, 5.17: one event with both names.
    rename: bool,
}

const BASE: u32 = libc::FAN_CLASS_NOTIF
    | libc::FAN_CLOEXEC
    | libc::FAN_NONBLOCK
    | libc::FAN_REPORT_FID
    | libc::FAN_REPORT_DFID_NAME;

const UNLIMITED: u32 = libc::FAN_UNLIMITED_QUEUE | libc::FAN_UNLIMITED_MARKS;

/// How much the kernel's queue may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queue {
    /// As much as there is memory for.
    Unlimited,
    /// What `fs.fanotify.max_queued_events` says.
    Limited,
}

impl Features {
    /// Whether creations and removals name their object.
    pub(super) fn names_objects(self) -> bool {
        self.target
    }

    /// What is asked of a mark.
    pub(super) fn mask(self) -> u64 {
        let rename = match self.rename {
            true => libc::FAN_RENAME,
            false => libc::FAN_MOVED_FROM | libc::FAN_MOVED_TO,
        };
        libc::FAN_CREATE
            | libc::FAN_DELETE
            | libc::FAN_MODIFY
            | libc::FAN_CLOSE_WRITE
            | libc::FAN_ATTRIB
            | libc::FAN_ONDIR
            | rename
    }

    /// What is not there, for people.
    pub(super) fn missing(self) -> Vec<&'static str> {
        [
            (self.target, "the object of a creation or removal (needs Linux 5.17)"),
            (self.pidfd, "protection against reused process ids (needs Linux 5.15)"),
            (self.rename, "renames as one event (needs Linux 5.17)"),
        ]
        .into_iter()
        .filter_map(|(there, what)| (!there).then_some(what))
        .collect()
    }
}

/// A group with everything that this kernel offers.
pub(super) fn negotiate(queue: Queue) -> Result<(Group, Features), FanotifyError> {
    let steps = [(true, true), (false, true), (false, false)];
    let mut last = io::Error::from(io::ErrorKind::Unsupported);
    for (target, pidfd) in steps {
        match group(queue, target, pidfd) {
            Ok(group) => {
                let rename = target && knows_rename(&group);
                return Ok((group, Features { target, pidfd, rename }));
            }
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::PERM) => return Err(FanotifyError::NotPermitted(error)),
                Some(Errno::INVAL | Errno::NOSYS) => last = error,
                _ => return Err(FanotifyError::Io(error)),
            },
        }
    }
    Err(FanotifyError::Unsupported(last))
}

/// As on a kernel before 5.15.
#[cfg(test)]
pub(super) fn negotiate_old() -> io::Result<(Group, Features)> {
    let features = Features { target: false, pidfd: false, rename: false };
    Ok((group(Queue::Unlimited, features.target, features.pidfd)?, features))
}

fn group(queue: Queue, target: bool, pidfd: bool) -> io::Result<Group> {
    let wanted = |there: bool, flag: u32| if there { flag } else { 0 };
    let target = wanted(target, libc::FAN_REPORT_TARGET_FID);
    let limits = match queue {
        Queue::Unlimited => UNLIMITED,
        Queue::Limited => libc::FAN_UNLIMITED_MARKS,
    };
    Group::new(BASE | limits | target | wanted(pidfd, libc::FAN_REPORT_PIDFD))
}

/// A mask that the kernel does not know is refused with EINVAL, whatever the file system.
fn knows_rename(group: &Group) -> bool {
    let root = Path::new("/");
    let result = group.add(MarkOn::Directory, libc::FAN_RENAME, root);
    // Nothing is watched yet: what this mark may have queued is outside every scope.
    let _ = group.remove(MarkOn::Directory, libc::FAN_RENAME, root);
    !matches!(result.map_err(|error| Errno::from_io_error(&error)), Err(Some(Errno::INVAL)))
}

/// Each thing that this backend uses: whether it works here, and if not, why. The first two are
/// needed, and so is a mark on the file systems that are to be watched.
pub fn probe() -> Vec<(&'static str, Result<(), String>)> {
    let with = |flags: u32| Group::new(flags).map(drop).map_err(|error| error.to_string());
    let root = Path::new("/");
    let mark = |mask: u64| {
        Group::new(BASE | UNLIMITED)
            .or_else(|_| Group::new(BASE))
            .and_then(|group| group.add(MarkOn::Filesystem, mask, root))
            .map_err(|error| error.to_string())
    };
    vec![
        ("fanotify", with(libc::FAN_CLASS_NOTIF | libc::FAN_CLOEXEC)),
        ("names and file handles (FAN_REPORT_DFID_NAME, 5.9)", with(BASE)),
        ("a queue without limit (FAN_UNLIMITED_QUEUE)", with(BASE | UNLIMITED)),
        ("process descriptors (FAN_REPORT_PIDFD, 5.15)", with(BASE | libc::FAN_REPORT_PIDFD)),
        (
            "objects of creations (FAN_REPORT_TARGET_FID, 5.17)",
            with(BASE | libc::FAN_REPORT_TARGET_FID),
        ),
        ("a mark on the root file system", mark(libc::FAN_CREATE | libc::FAN_ONDIR)),
        ("renames as one event (FAN_RENAME, 5.17)", mark(libc::FAN_RENAME | libc::FAN_ONDIR)),
        ("paths of handles (open_by_handle_at)", by_handle(root).map_err(|e| e.to_string())),
    ]
}

fn by_handle(path: &Path) -> io::Result<()> {
    let bytes = sys::fid_of([0; 8], path, true)?;
    let fid = Fid::new(&bytes).ok_or(io::ErrorKind::InvalidData)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mount: OwnedFd = rustix::fs::open(path, flags, Mode::empty())?;
    sys::open_by_handle(mount.as_fd(), fid).map(drop)
}
