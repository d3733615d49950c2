//! The object on Windows: a handle to the very file, link or directory, and what it tells.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::windows::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use fim_win32::{file, security};
use smol_str::{SmolStr, format_smolstr};

use super::EntryKind;
use crate::state::{ObjectId, ObjectKind, ObjectState};
use crate::time::Timestamp;

const FILE_READ_DATA: u32 = 0x1;
const FILE_READ_ATTRIBUTES: u32 = 0x80;
const READ_CONTROL: u32 = 0x0002_0000;
const SYNCHRONIZE: u32 = 0x0010_0000;
/// Readers, writers and removers go on while we look.
const SHARE_ALL: u32 = 0x7;
const FILE_FLAG_OPEN_REPARSE_POINT: u32 = 0x0020_0000;
const FILE_FLAG_BACKUP_SEMANTICS: u32 = 0x0200_0000;
/// A file whose content lies elsewhere (OneDrive, archive storage): reading it would fetch it.
/// `FILE_ATTRIBUTE_OFFLINE`, `_RECALL_ON_OPEN`, `_RECALL_ON_DATA_ACCESS`.
const ELSEWHERE: u32 = 0x1000 | 0x4_0000 | 0x40_0000;

/// Where a name is looked up.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a>(Option<&'a Path>);

impl Place<'_> {
    /// Where the process is; absolute paths are their own.
    pub const WORKING: Place<'static> = Place(None);

    fn join(self, name: &Path) -> PathBuf {
        self.0.map_or_else(|| name.to_owned(), |directory| directory.join(name))
    }
}

/// One object. Windows opens by path only: what is below a directory is found again by its name.
#[derive(Debug)]
pub struct Handle {
    file: File,
    path: PathBuf,
}

impl Handle {
    /// Opens the object that `path` names, of any type, the link itself if it is one (a junction
    /// is one too), and without its content.
    ///
    /// # Errors
    /// What the system says, `NotFound` and `PermissionDenied` among it.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::open_at(Place::WORKING, path)
    }

    /// [`Handle::open`] below an open directory.
    ///
    /// # Errors
    /// As [`Handle::open`].
    pub fn open_at(place: Place<'_>, name: &Path) -> io::Result<Self> {
        let path = place.join(name);
        // The security descriptor may be none of our business although the rest is.
        let file =
            options(FILE_READ_ATTRIBUTES | READ_CONTROL).open(&path).or_else(
                |error| match error.kind() {
                    io::ErrorKind::PermissionDenied => options(FILE_READ_ATTRIBUTES).open(&path),
                    _ => Err(error),
                },
            )?;
        Ok(Self { file, path })
    }

    /// Opens the content of the regular file that `path` names.
    ///
    /// # Errors
    /// `InvalidInput` when it is not a regular file, or lies elsewhere; otherwise what the system
    /// says.
    pub fn open_content(path: &Path) -> io::Result<Self> {
        Self::open_regular_at(Place::WORKING, path)
    }

    /// The same below an open directory.
    ///
    /// # Errors
    /// As [`Handle::open_content`].
    pub fn open_regular_at(place: Place<'_>, name: &Path) -> io::Result<Self> {
        let path = place.join(name);
        let access = FILE_READ_DATA | FILE_READ_ATTRIBUTES | READ_CONTROL | SYNCHRONIZE;
        let file = options(access).open(&path).or_else(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => options(access & !READ_CONTROL).open(&path),
            _ => Err(error),
        })?;
        let found = file::information(&file)?;
        if found.attributes & ELSEWHERE != 0 || !file.metadata()?.file_type().is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file here"));
        }
        Ok(Self { file, path })
    }

    /// Opens a directory for listing.
    ///
    /// # Errors
    /// As [`Handle::open`]; `NotADirectory` also for a link to a directory.
    pub fn open_directory_at(place: Place<'_>, name: &Path) -> io::Result<Self> {
        let handle = Self::open_at(place, name)?;
        match handle.file.metadata()?.file_type().is_dir() {
            true => Ok(handle),
            false => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    /// Where names below this directory are looked up.
    pub fn place(&self) -> Place<'_> {
        Place(Some(&self.path))
    }

    /// No file system of Windows makes its files while they are read.
    pub(crate) fn is_pseudo(&self) -> io::Result<bool> {
        Ok(false)
    }

    /// Hands over each name of a directory, in no particular order.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn list(
        &self,
        _: &mut Listing,
        each: &mut dyn FnMut(&[u8], EntryKind),
    ) -> io::Result<()> {
        for entry in std::fs::read_dir(&self.path)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            let kind = if kind.is_file() {
                EntryKind::Regular
            } else if kind.is_dir() {
                EntryKind::Directory
            } else {
                EntryKind::Other
            };
            each(entry.file_name().as_encoded_bytes(), kind);
        }
        Ok(())
    }

    /// What the handle tells without reading the security descriptor.
    ///
    /// # Errors
    /// What the system says.
    pub fn stat(&self) -> io::Result<ObjectState> {
        let found = file::information(&self.file)?;
        let kind = self.file.metadata()?.file_type();
        let kind = if kind.is_symlink() {
            ObjectKind::Symlink
        } else if kind.is_dir() {
            ObjectKind::Dir
        } else {
            ObjectKind::File
        };
        Ok(ObjectState {
            kind: Some(kind),
            size: Some(found.size),
            mtime: Some(instant(found.written)),
            ctime: Some(instant(found.changed.unwrap_or(found.written))),
            inode: Some(found.index),
            device: Some(found.volume),
            nlink: Some(u64::from(found.links)),
            attributes: Some(attribute_names(found.attributes)),
            ..ObjectState::default()
        })
    }

    /// [`Handle::stat`]: attributes come with it here.
    ///
    /// # Errors
    /// As [`Handle::stat`].
    pub(crate) fn stat_with_attributes(&self) -> io::Result<ObjectState> {
        self.stat()
    }

    /// Everything but the content hash. The security descriptor stays `None` where it cannot be
    /// read.
    ///
    /// # Errors
    /// What the system says.
    pub fn state(&self) -> io::Result<ObjectState> {
        let mut state = self.stat()?;
        self.complete(&mut state)?;
        Ok(state)
    }

    /// Adds to the result of [`Handle::stat`] what makes it the result of [`Handle::state`].
    ///
    /// # Errors
    /// What the system says.
    pub fn complete(&self, state: &mut ObjectState) -> io::Result<()> {
        if state.kind == Some(ObjectKind::Symlink) {
            state.target_path = std::fs::read_link(&self.path).ok();
        }
        state.acl =
            security::of_file(&self.file).ok().map(|sddl| crate::platform::sddl_parts(&sddl));
        Ok(())
    }

    /// Which object it is.
    ///
    /// # Errors
    /// What the system says.
    pub fn id(&self) -> io::Result<ObjectId> {
        let found = file::information(&self.file)?;
        Ok(ObjectId { device: found.volume, inode: found.index })
    }

    /// Reads content at `offset`, for [`Handle::open_content`].
    ///
    /// # Errors
    /// What the system says, except `Interrupted`; a range that another process has locked among
    /// it.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        loop {
            match self.file.seek_read(buffer, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    /// Nothing here waits for a write that is going on; the times and the size, read before and
    /// after, show it.
    pub fn settle(&self) {}
}

/// Listing needs no buffer of ours here.
#[derive(Default)]
pub(crate) struct Listing {}

/// Everything but the content hash of what `path` names; the link itself if it is a link.
///
/// # Errors
/// `NotFound` when there is nothing of that name, otherwise as [`Handle::state`].
pub fn state(path: &Path) -> io::Result<ObjectState> {
    Handle::open(path)?.state()
}

/// What [`Handle::stat`] says of `path`.
///
/// # Errors
/// As [`Handle::open`].
pub fn stat(path: &Path) -> io::Result<ObjectState> {
    stat_at(Place::WORKING, path)
}

/// [`stat`] below an open directory.
///
/// # Errors
/// As [`Handle::open`].
pub(crate) fn stat_at(place: Place<'_>, name: &Path) -> io::Result<ObjectState> {
    Handle::open_at(place, name)?.stat()
}

/// NTFS moves the time of a file that was written through a mapping when the mapping goes.
pub fn hides_mapped_writes(_: &Path) -> bool {
    false
}

/// A volume's serial number as `vol` shows it.
pub fn device_text(device: u64) -> SmolStr {
    format_smolstr!("{:04X}-{:04X}", device >> 16 & 0xffff, device & 0xffff)
}

fn options(access: u32) -> OpenOptions {
    let mut options = OpenOptions::new();
    options
        .access_mode(access)
        .share_mode(SHARE_ALL)
        .custom_flags(FILE_FLAG_BACKUP_SEMANTICS | FILE_FLAG_OPEN_REPARSE_POINT);
    options
}

/// Ticks of 100 ns since 1601.
fn instant(ticks: u64) -> Timestamp {
    const UNIX_EPOCH: i128 = 116_444_736_000_000_000;
    Timestamp::from_nanos((i128::from(ticks) - UNIX_EPOCH) * 100)
}

/// What `attrib` and the properties of a file show. Not told: `archive`, which each write sets and
/// each backup clears, and what says how the file system stores it (sparse, reparse point).
fn attribute_names(found: u32) -> Vec<String> {
    let names = [
        (0x800, "compressed"),
        (0x4000, "encrypted"),
        (0x2, "hidden"),
        (0x2000, "not_content_indexed"),
        (0x1000, "offline"),
        (0x1, "readonly"),
        (0x4, "system"),
        (0x100, "temporary"),
    ];
    let set = names.into_iter().filter(|(flag, _)| found & flag != 0);
    set.map(|(_, name)| name.to_owned()).collect()
}
