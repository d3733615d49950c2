//! Changes of content by other ways than write(2) and its next of kin.

use std::fs::{self, File};
use std::io::{self, IoSlice, Write as _};
use std::os::unix::fs::PermissionsExt as _;

use rustix::fs::FallocateFlags;
use rustix::io::ReadWriteFlags;
use rustix::pipe::{SpliceFlags, pipe, splice};
use serde::{Deserialize, Serialize};

use super::op::open;
use super::{Raw, sys};

/// One operation. What has a source takes all of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Content {
    /// open(2) with `O_APPEND`, write(2), close(2).
    Append { path: Raw, bytes: Vec<u8> },
    /// pwritev2(2) with `RWF_DSYNC`.
    WriteVectoredAt { path: Raw, offset: u64, bytes: Vec<u8> },
    /// A store through a shared mapping that could only be read when it was made.
    StoreUpgraded { path: Raw, bytes: Vec<u8> },
    /// Two stores through a shared mapping, of which the second comes after [`Hold::BeforeClose`].
    /// Before, a file is opened for writing so many times, and stays so.
    ///
    /// [`Hold::BeforeClose`]: super::Hold::BeforeClose
    StoreTwice { path: Raw, first: Vec<u8>, second: Vec<u8>, beside: Option<(Raw, u32)> },
    /// write(2) into a pipe, splice(2) out of it.
    Splice { path: Raw, bytes: Vec<u8> },
    /// open_by_handle_at(2) while the file has no name in memory, write(2), fchmod(2), close(2).
    ByHandle { path: Raw, bytes: Vec<u8>, mode: u32 },
    /// sendfile(2).
    SendFile { from: Raw, to: Raw },
    /// ioctl(2) `FICLONE`.
    Clone { from: Raw, to: Raw },
    /// ioctl(2) `FICLONERANGE`.
    CloneRange { from: Raw, to: Raw },
    /// ioctl(2) `FIDEDUPERANGE`.
    Dedupe { from: Raw, to: Raw },
    /// fallocate(2).
    Allocate { path: Raw, mode: Allocation, offset: u64, length: u64 },
    /// io_uring: write.
    RingWrite { path: Raw, bytes: Vec<u8>, worker: bool },
    /// io_uring: openat with `O_CREAT`, close.
    RingCreate { path: Raw },
    /// io_uring: unlinkat.
    RingUnlink { path: Raw },
    /// io_uring: renameat.
    RingRename { from: Raw, to: Raw },
}

/// What fallocate(2) does to a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Allocation {
    Punch,
    Zero,
    Collapse,
    Insert,
}

impl Allocation {
    fn flags(self) -> FallocateFlags {
        match self {
            Self::Punch => FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
            Self::Zero => FallocateFlags::ZERO_RANGE,
            Self::Collapse => FallocateFlags::COLLAPSE_RANGE,
            Self::Insert => FallocateFlags::INSERT_RANGE,
        }
    }
}

impl Content {
    /// Does it. `before_close` is called where a file is open for writing.
    pub(super) fn act(&self, before_close: &mut dyn FnMut()) -> io::Result<()> {
        match self {
            Self::Append { path, bytes } => {
                let mut file = File::options().append(true).open(path.as_path())?;
                file.write_all(bytes)?;
                before_close();
            }
            Self::WriteVectoredAt { path, offset, bytes } => {
                let slices = [IoSlice::new(bytes)];
                let written =
                    rustix::io::pwritev2(open(path)?, &slices, *offset, ReadWriteFlags::DSYNC)?;
                assert_eq!(written, bytes.len(), "pwritev2 wrote a part only");
            }
            Self::StoreUpgraded { path, bytes } => {
                let file = File::options().read(true).write(true).open(path.as_path())?;
                sys::store_through_upgraded_mapping(file, bytes)?;
            }
            Self::StoreTwice { path, first, second, beside } => {
                let mut others = Vec::new();
                if let Some((other, count)) = beside {
                    sys::allow_descriptors(u64::from(*count) + 100)?;
                    for _ in 0..*count {
                        others.push(open(other)?);
                    }
                }
                let file = File::options().read(true).write(true).open(path.as_path())?;
                sys::store_twice(file, [first, second], before_close)?;
            }
            Self::Splice { path, bytes } => {
                let (reader, writer) = pipe()?;
                // Less than a pipe holds.
                File::from(writer).write_all(bytes)?;
                let file = open(path)?;
                let flags = SpliceFlags::empty();
                let moved = splice(reader, None, &file, None, bytes.len(), flags)?;
                assert_eq!(moved, bytes.len(), "splice moved a part only");
                before_close();
            }
            Self::ByHandle { path, bytes, mode } => {
                let mut file = sys::open_without_name(path.as_path())?;
                file.write_all(bytes)?;
                file.set_permissions(fs::Permissions::from_mode(*mode))?;
                before_close();
            }
            Self::SendFile { from, to } => {
                let (source, target) = (File::open(from.as_path())?, open(to)?);
                let length = length(from)? as usize;
                let sent = rustix::fs::sendfile(&target, source, None, length)?;
                assert_eq!(sent, length, "sendfile sent a part only");
                before_close();
            }
            Self::Clone { from, to } => {
                rustix::fs::ioctl_ficlone(open(to)?, File::open(from.as_path())?)?;
            }
            Self::CloneRange { from, to } => {
                sys::clone_range(&File::open(from.as_path())?, &open(to)?, length(from)?)?;
            }
            Self::Dedupe { from, to } => {
                let length = length(from)?;
                let shared = sys::dedupe_range(&File::open(from.as_path())?, &open(to)?, length)?;
                assert_eq!(shared, length, "the contents differ");
            }
            Self::Allocate { path, mode, offset, length } => {
                rustix::fs::fallocate(open(path)?, mode.flags(), *offset, *length)?;
            }
            Self::RingWrite { path, bytes, worker } => {
                sys::ring_write(&open(path)?, bytes, *worker)?;
            }
            Self::RingCreate { path } => sys::ring_create(path.as_path())?,
            Self::RingUnlink { path } => sys::ring_unlink(path.as_path())?,
            Self::RingRename { from, to } => sys::ring_rename(from.as_path(), to.as_path())?,
        }
        Ok(())
    }
}

fn length(path: &Raw) -> io::Result<u64> {
    Ok(fs::metadata(path.as_path())?.len())
}
