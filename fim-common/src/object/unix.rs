//! The object on Linux: `O_PATH` descriptors, fstat(2), xattrs through `/proc/self/fd`.

use std::ffi::OsString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RawDir, Statx, StatxAttributes as Flag, StatxFlags,
    StatxTimestamp, openat, statat, statx,
};
use rustix::io::Errno;
use smol_str::{SmolStr, format_smolstr};

use super::pseudo::pseudo;
use super::{EntryKind, xattr};
use crate::state::{ObjectId, ObjectKind, ObjectState};
use crate::time::Timestamp;

/// How often attributes are read again when the object changed between two system calls. Each
/// attempt takes some 5 µs and ctime moves at most once a clock tick, so the second attempt is
/// enough unless the machine is stalled.
const ATTEMPTS: usize = 3;

/// Where a name is looked up.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a>(BorrowedFd<'a>);

impl Place<'_> {
    /// Where the process is; absolute paths are their own.
    pub const WORKING: Place<'static> = Place(CWD);
}

/// What the kernel writes names into.
pub(crate) struct Listing(Vec<MaybeUninit<u8>>);

impl Default for Listing {
    fn default() -> Self {
        Self(vec![MaybeUninit::uninit(); 64 * 1024])
    }
}

/// One object, whatever becomes of its name.
#[derive(Debug)]
pub struct Handle {
    fd: OwnedFd,
    /// Whether the descriptor can be read (and fgetxattr(2) works), or is `O_PATH`.
    readable: bool,
}

impl Handle {
    /// Opens the object that `path` names, of any type, without following a link in the last
    /// component and without opening its content: neither a FIFO, a device nor a lease notices.
    ///
    /// # Errors
    /// open(2)'s, `NotFound` and `PermissionDenied` among them.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::open_at(Place::WORKING, path)
    }

    /// [`Handle::open`] relative to an open directory; works below paths longer than `PATH_MAX`.
    ///
    /// # Errors
    /// openat(2)'s.
    pub fn open_at(place: Place<'_>, name: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(place.0, name, flags, Mode::empty())?;
        Ok(Self { fd, readable: false })
    }

    /// Opens the content of the regular file that `path` names. Anything else is refused before
    /// it is opened for reading: reading a FIFO or a device has effects.
    ///
    /// # Errors
    /// `InvalidInput` when it is not a regular file; otherwise open(2)'s.
    pub fn open_content(path: &Path) -> io::Result<Self> {
        let object = Self::open(path)?;
        let stat = object.stat()?;
        if stat.kind != Some(ObjectKind::File) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        // Through /proc the very object is opened again, not what the name means by now.
        let again = format!("/proc/self/fd/{}", object.fd.as_raw_fd());
        match open_reading(CWD, Path::new(&again), OFlags::empty()) {
            Ok(fd) => Ok(Self { fd, readable: true }),
            // No /proc (some containers): by name, and only if it is still that object.
            Err(Errno::NOENT) => {
                let reopened = Self::open_regular_at(Place::WORKING, path)?;
                if reopened.stat()?.id() == stat.id() {
                    Ok(reopened)
                } else {
                    Err(io::ErrorKind::NotFound.into())
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Opens content relative to a directory, one system call cheaper than
    /// [`Handle::open_content`]: for a caller who saw just now that the name is a regular file.
    /// Were it swapped for a FIFO in between, the open neither blocks nor reads.
    ///
    /// # Errors
    /// openat(2)'s.
    pub fn open_regular_at(place: Place<'_>, name: &Path) -> io::Result<Self> {
        let fd = open_reading(place.0, name, OFlags::NOFOLLOW)?;
        Ok(Self { fd, readable: true })
    }

    /// Opens a directory for listing, relative to another one.
    ///
    /// # Errors
    /// openat(2)'s; `NotADirectory` also for a symbolic link to a directory.
    pub fn open_directory_at(place: Place<'_>, name: &Path) -> io::Result<Self> {
        let fd = open_reading(place.0, name, OFlags::NOFOLLOW | OFlags::DIRECTORY)?;
        Ok(Self { fd, readable: true })
    }

    /// Where names below this directory are looked up.
    pub fn place(&self) -> Place<'_> {
        Place(self.fd.as_fd())
    }

    /// Whether its file system makes its files while they are read.
    pub(crate) fn is_pseudo(&self) -> io::Result<bool> {
        Ok(pseudo(rustix::fs::fstatfs(&self.fd)?.f_type as u32))
    }

    /// Hands over each name of a directory, in no particular order.
    ///
    /// # Errors
    /// getdents64(2)'s.
    pub(crate) fn list(
        &self,
        listing: &mut Listing,
        each: &mut dyn FnMut(&[u8], EntryKind),
    ) -> io::Result<()> {
        let mut directory = RawDir::new(&self.fd, &mut listing.0);
        while let Some(entry) = directory.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::RegularFile => EntryKind::Regular,
                FileType::Directory => EntryKind::Directory,
                FileType::Unknown => EntryKind::Unknown,
                _ => EntryKind::Other,
            };
            each(name, kind);
        }
        Ok(())
    }

    /// What fstat(2) says, and nothing else.
    ///
    /// # Errors
    /// fstat(2)'s.
    pub fn stat(&self) -> io::Result<ObjectState> {
        Ok(from_stat(&rustix::fs::fstat(&self.fd)?))
    }

    /// [`Handle::stat`] and the file attributes, where statx(2) is there to tell of them.
    ///
    /// # Errors
    /// fstat(2)'s.
    pub(crate) fn stat_with_attributes(&self) -> io::Result<ObjectState> {
        match statx(&self.fd, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS) {
            Ok(stat) => Ok(from_statx(&stat)),
            Err(_) => self.stat(),
        }
    }

    /// Everything but the content hash. ACL, xattrs and capabilities stay `None` where they
    /// cannot be read (no `/proc`, no permission); on a file system without them they are empty.
    ///
    /// # Errors
    /// fstat(2)'s and readlink(2)'s.
    pub fn state(&self) -> io::Result<ObjectState> {
        let mut state = match statx(&self.fd, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS) {
            Ok(found) => from_statx(&found),
            // A kernel older than 4.11, or a sandbox that does not know it.
            Err(_) => self.stat()?,
        };
        self.complete(&mut state)?;
        Ok(state)
    }

    /// Adds to the result of [`Handle::stat`] what makes it the result of [`Handle::state`].
    ///
    /// # Errors
    /// fstat(2)'s and readlink(2)'s.
    pub fn complete(&self, state: &mut ObjectState) -> io::Result<()> {
        if state.kind == Some(ObjectKind::Symlink) {
            let target = rustix::fs::readlinkat(&self.fd, c"", Vec::new())?;
            state.target_path = Some(PathBuf::from(OsString::from_vec(target.into_bytes())));
        }
        if state.attributes.is_none() {
            state.attributes = attributes(&self.fd);
        }
        let mut attempt = 0;
        loop {
            attempt += 1;
            let attributes = if self.readable {
                xattr::read(&xattr::Source::Descriptor(self.fd.as_fd()))
            } else {
                xattr::read(&xattr::Source::proc(self.fd.as_fd()))
            };
            let nothing = attributes.is_empty();
            state.acl = attributes.acl;
            state.xattrs = attributes.xattrs;
            state.capabilities = attributes.capabilities;
            // Mode and ACL are two system calls apart: keep only a pair that belongs together.
            if nothing || attempt == ATTEMPTS {
                return Ok(());
            }
            let after = self.stat()?;
            let same = after.ctime == state.ctime;
            merge_stat(state, &after);
            if same {
                return Ok(());
            }
        }
    }

    /// Which object it is.
    ///
    /// # Errors
    /// fstat(2)'s.
    pub fn id(&self) -> io::Result<ObjectId> {
        let stat = rustix::fs::fstat(&self.fd)?;
        Ok(ObjectId { device: stat.st_dev as u64, inode: stat.st_ino as u64 })
    }

    /// Reads content at `offset`, for [`Handle::open_content`].
    ///
    /// # Errors
    /// pread(2)'s, except `Interrupted`.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        loop {
            match rustix::io::pread(&self.fd, &mut *buffer, offset) {
                Ok(length) => return Ok(length),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits until a write(2) that is going on has ended.
    ///
    /// A write sets mtime and ctime first and copies its data afterwards, both under the inode's
    /// lock. A reader that comes in between sees the new times with the old data, and after it the
    /// same times again: on a busy machine, where a writer is interrupted within its write(2),
    /// four of five "unchanged" files were torn. lseek(2) with `SEEK_DATA` takes the same lock on
    /// ext4, btrfs, f2fs, tmpfs and overlays of them, and costs 0.3 µs; XFS takes its own for each
    /// read. What it does not wait for: direct I/O that overwrites, and stores through mappings.
    pub fn settle(&self) {
        // ENXIO for an empty file, EINVAL where there is no such thing: nothing was asked.
        let _ = rustix::fs::seek(&self.fd, rustix::fs::SeekFrom::Data(0));
    }
}

impl AsFd for Handle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Everything but the content hash of what `path` names; the link itself if it is a link.
///
/// # Errors
/// `NotFound` when there is nothing of that name, otherwise as [`Handle::state`].
pub fn state(path: &Path) -> io::Result<ObjectState> {
    Handle::open(path)?.state()
}

/// What lstat(2) says of `path`: type, size, mode, owner, times, identity, number of names.
///
/// # Errors
/// lstat(2)'s, `NotFound` among them.
pub fn stat(path: &Path) -> io::Result<ObjectState> {
    Ok(from_stat(&rustix::fs::lstat(path)?))
}

/// [`stat`] below an open directory.
///
/// # Errors
/// fstatat(2)'s.
pub(crate) fn stat_at(place: Place<'_>, name: &Path) -> io::Result<ObjectState> {
    Ok(from_stat(&statat(place.0, name, AtFlags::SYMLINK_NOFOLLOW)?))
}

/// A device number as events carry it: `major:minor`, in stat(2)'s encoding.
pub fn device_text(device: u64) -> SmolStr {
    format_smolstr!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device))
}

/// File systems in memory (include/uapi/linux/magic.h): tmpfs, ramfs, hugetlbfs.
const IN_MEMORY: [i64; 3] = [0x0102_1994, 0x8584_58f6, 0x9584_58f6];

/// Whether a store through a shared mapping leaves no trace in the times of this file, so that
/// only its content tells: file systems in memory (mm/shmem.c has no `page_mkwrite`).
pub fn hides_mapped_writes(path: &Path) -> bool {
    #[allow(clippy::unnecessary_cast, reason = "the field is narrower on other architectures")]
    rustix::fs::statfs(path).is_ok_and(|stat| IN_MEMORY.contains(&(stat.f_type as i64)))
}

/// What `chattr` sets, as far as statx(2) tells of it for any object; `None` where a kernel older
/// than 4.11 does not.
fn attributes(fd: &OwnedFd) -> Option<Vec<String>> {
    let found = statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::empty()).ok()?;
    Some(attribute_names(found.stx_attributes))
}

fn attribute_names(found: Flag) -> Vec<String> {
    let names = [
        (Flag::APPEND, "append_only"),
        (Flag::COMPRESSED, "compressed"),
        (Flag::ENCRYPTED, "encrypted"),
        (Flag::IMMUTABLE, "immutable"),
        (Flag::NODUMP, "no_dump"),
        (Flag::VERITY, "verity"),
    ];
    let set = names.into_iter().filter(|(flag, _)| found.contains(*flag));
    set.map(|(_, name)| name.to_owned()).collect()
}

fn open_reading<D: AsFd>(directory: D, name: &Path, extra: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC | extra;
    match openat(&directory, name, flags | OFlags::NOATIME, Mode::empty()) {
        // O_NOATIME is for the owner and CAP_FOWNER only.
        Err(Errno::PERM) => openat(&directory, name, flags, Mode::empty()),
        result => result,
    }
}

/// The state that `struct stat` tells.
#[allow(clippy::unnecessary_cast, reason = "the fields are narrower on other architectures")]
pub(crate) fn from_stat(stat: &rustix::fs::Stat) -> ObjectState {
    ObjectState {
        kind: ObjectKind::from_mode(stat.st_mode),
        size: Some(stat.st_size as u64),
        mode: Some(stat.st_mode & 0o7777),
        uid: Some(stat.st_uid),
        gid: Some(stat.st_gid),
        mtime: Some(Timestamp::from_unix(stat.st_mtime as i64, stat.st_mtime_nsec as u32)),
        ctime: Some(Timestamp::from_unix(stat.st_ctime as i64, stat.st_ctime_nsec as u32)),
        inode: Some(stat.st_ino as u64),
        device: Some(stat.st_dev as u64),
        nlink: Some(stat.st_nlink as u64),
        ..ObjectState::default()
    }
}

/// The state that `struct statx` tells, the attributes included.
fn from_statx(stat: &Statx) -> ObjectState {
    let time = |time: StatxTimestamp| Some(Timestamp::from_unix(time.tv_sec, time.tv_nsec));
    let mode = u32::from(stat.stx_mode);
    ObjectState {
        kind: ObjectKind::from_mode(mode),
        size: Some(stat.stx_size),
        mode: Some(mode & 0o7777),
        uid: Some(stat.stx_uid),
        gid: Some(stat.stx_gid),
        mtime: time(stat.stx_mtime),
        ctime: time(stat.stx_ctime),
        inode: Some(stat.stx_ino),
        device: Some(rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor)),
        nlink: Some(u64::from(stat.stx_nlink)),
        attributes: Some(attribute_names(stat.stx_attributes)),
        ..ObjectState::default()
    }
}

/// Replaces in `state` what fstat(2) tells.
fn merge_stat(state: &mut ObjectState, stat: &ObjectState) {
    state.size = stat.size;
    state.mode = stat.mode;
    state.uid = stat.uid;
    state.gid = stat.gid;
    state.mtime = stat.mtime;
    state.ctime = stat.ctime;
    state.nlink = stat.nlink;
}

#[cfg(test)]
#[path = "unix_tests.rs"]
mod tests;
