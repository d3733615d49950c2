//! The system calls of this backend that have no safe wrapper elsewhere.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::mem::offset_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::parse::Fid;

/// `MAX_HANDLE_SZ` of open_by_handle_at(2).
const HANDLE_MAX: usize = 128;

/// Bytes of `struct file_handle` before the handle itself.
const HANDLE_HEADER: usize = offset_of!(libc::file_handle, f_handle);
const _: () = assert!(HANDLE_HEADER == 8);

/// `struct file_handle` with room for the largest one.
#[repr(C, align(4))]
struct Handle {
    bytes: u32,
    kind: i32,
    data: [u8; HANDLE_MAX],
}

/// What a mark is put on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MarkOn {
    /// The whole file system an object is in, whichever mount it is reached by.
    Filesystem,
    /// One directory, its entries included.
    Directory,
}

/// A notification group.
#[derive(Debug)]
pub(super) struct Group(OwnedFd);

impl Group {
    /// fanotify_init(2).
    pub(super) fn new(flags: u32) -> io::Result<Self> {
        let event_flags = (libc::O_RDONLY | libc::O_CLOEXEC | libc::O_LARGEFILE) as u32;
        // SAFETY: no pointers are passed.
        let fd = unsafe { libc::fanotify_init(flags, event_flags) };
        // SAFETY: the call has just returned this descriptor, and nothing else owns it.
        (fd >= 0).then(|| Self(unsafe { OwnedFd::from_raw_fd(fd) })).ok_or_else(last)
    }

    /// Adds a mark.
    pub(super) fn add(&self, on: MarkOn, mask: u64, path: &Path) -> io::Result<()> {
        self.mark(libc::FAN_MARK_ADD, on, mask, path)
    }

    /// Takes it away again.
    pub(super) fn remove(&self, on: MarkOn, mask: u64, path: &Path) -> io::Result<()> {
        self.mark(libc::FAN_MARK_REMOVE, on, mask, path)
    }

    fn mark(&self, action: u32, on: MarkOn, mask: u64, path: &Path) -> io::Result<()> {
        let path = c_string(path)?;
        let on = match on {
            MarkOn::Filesystem => libc::FAN_MARK_FILESYSTEM,
            MarkOn::Directory => libc::FAN_MARK_INODE | libc::FAN_MARK_ONLYDIR,
        };
        let flags = action | on | libc::FAN_MARK_DONT_FOLLOW;
        self.call_mark(flags, mask, &path)
    }

    /// Takes all marks away; what is queued stays.
    pub(super) fn flush(&self) -> io::Result<()> {
        self.call_mark(libc::FAN_MARK_FLUSH | libc::FAN_MARK_FILESYSTEM, 0, c"/")?;
        self.call_mark(libc::FAN_MARK_FLUSH, 0, c"/")
    }

    fn call_mark(&self, flags: u32, mask: u64, path: &CStr) -> io::Result<()> {
        // SAFETY: `path` is a NUL-terminated string that outlives the call.
        let result = unsafe {
            libc::fanotify_mark(self.0.as_raw_fd(), flags, mask, libc::AT_FDCWD, path.as_ptr())
        };
        (result == 0).then_some(()).ok_or_else(last)
    }

    /// Takes events out of the queue: whole ones, `buffer` permitting. 0 when there are none.
    pub(super) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match rustix::io::read(&self.0, buffer) {
            Err(rustix::io::Errno::AGAIN) => Ok(0),
            result => Ok(result?),
        }
    }
}

impl AsFd for Group {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Closes a descriptor that came in an event.
pub(super) fn close(pidfd: RawFd) {
    // SAFETY: the kernel made this descriptor for the reader of the event, which gives it up here
    // and has not handed it to anything else.
    drop(unsafe { OwnedFd::from_raw_fd(pidfd) });
}

/// The object with this handle, for looking at it (`O_PATH`), in the file system of `mount`.
pub(super) fn open_by_handle(mount: BorrowedFd<'_>, fid: Fid<'_>) -> io::Result<OwnedFd> {
    let handle = fid.handle();
    if handle.len() > HANDLE_MAX {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let mut data = [0; HANDLE_MAX];
    data[..handle.len()].copy_from_slice(handle);
    let mut handle = Handle { bytes: handle.len() as u32, kind: fid.kind(), data };
    // SAFETY: `Handle` has the layout of `struct file_handle` and the room that `bytes` tells of.
    let fd = unsafe {
        libc::open_by_handle_at(
            mount.as_raw_fd(),
            (&raw mut handle).cast(),
            libc::O_PATH | libc::O_CLOEXEC | libc::O_NOFOLLOW,
        )
    };
    // SAFETY: the call has just returned this descriptor, and nothing else owns it.
    (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) }).ok_or_else(last)
}

/// The bytes of a [`Fid`] of what stands at `path`, a link not followed. With `decodable` only a
/// handle that [`open_by_handle`] can take; without, one that only identifies will do
/// (`AT_HANDLE_FID`, 6.5 and newer).
pub(super) fn fid_of(fsid: [u8; 8], path: &Path, decodable: bool) -> io::Result<Vec<u8>> {
    let path = c_string(path)?;
    let mut handle = Handle { bytes: HANDLE_MAX as u32, kind: 0, data: [0; HANDLE_MAX] };
    let mut mount = 0;
    let flags = if decodable { 0 } else { libc::AT_HANDLE_FID };
    // SAFETY: `path` is a NUL-terminated string, `Handle` has the layout of `struct file_handle`
    // and the room that `bytes` tells of, and `mount` takes the mount id; all outlive the call.
    let result = unsafe {
        libc::name_to_handle_at(
            libc::AT_FDCWD,
            path.as_ptr(),
            (&raw mut handle).cast(),
            &raw mut mount,
            flags,
        )
    };
    if result != 0 {
        return Err(last());
    }
    let data = handle.data.get(..handle.bytes as usize).unwrap_or_default();
    let mut fid = Vec::with_capacity(16 + data.len());
    fid.extend(fsid);
    fid.extend(handle.bytes.to_ne_bytes());
    fid.extend(handle.kind.to_ne_bytes());
    fid.extend(data);
    Ok(fid)
}

/// The file system that `path` is in, as events name it.
pub(super) fn fsid_of(path: &Path) -> io::Result<[u8; 8]> {
    // Both words of statfs(2)'s `f_fsid`, the first one in the lower half.
    let both = rustix::fs::statvfs(path)?.f_fsid;
    let mut fsid = [0; 8];
    fsid[..4].copy_from_slice(&(both as u32).to_ne_bytes());
    fsid[4..].copy_from_slice(&((both >> 32) as u32).to_ne_bytes());
    Ok(fsid)
}

/// The path of an open object, as the kernel prints it.
pub(super) fn path_of(fd: BorrowedFd<'_>) -> io::Result<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

fn c_string(path: &Path) -> io::Result<CString> {
    CString::new(OsStr::as_bytes(path.as_os_str()))
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

fn last() -> io::Error {
    io::Error::last_os_error()
}
