//! The operations, each through its own system call.

use std::fs::{self, File};
use std::io::{self, IoSlice, Seek as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FileType, Gid, Mode, RenameFlags, Timespec, Timestamps, Uid,
    XattrFlags,
};
use serde::{Deserialize, Serialize};

use super::content::Content;
use super::flags::Flags;
use super::flood::Flood;
use super::mounts::Mount;
use super::{Raw, sys};

/// One operation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Op {
    /// open(2) with `O_CREAT` and nothing written.
    Create { path: Raw },
    /// open(2) with `O_CREAT`, write(2), close(2).
    CreateWrite { path: Raw, bytes: Vec<u8> },
    /// mknod(2).
    Fifo { path: Raw },
    /// mknod(2) of `/dev/null`'s numbers.
    CharDevice { path: Raw },
    /// mkdir(2).
    Mkdir { path: Raw },
    /// mkdir(2) of all that is missing, and a file inside at once.
    MkdirAndCreate { directory: Raw, name: String, bytes: Vec<u8> },
    /// symlink(2).
    Symlink { target: Raw, path: Raw },
    /// open(2) with `O_TMPFILE`, write(2), linkat(2), close(2).
    LinkTemporary { path: Raw, bytes: Vec<u8> },
    /// open(2) without `O_CREAT`, write(2), close(2).
    Write { path: Raw, bytes: Vec<u8> },
    /// open(2) for writing and nothing else.
    OpenWrite { path: Raw },
    /// open(2) for reading and read(2).
    Read { path: Raw },
    /// pwrite(2).
    WriteAt { path: Raw, offset: u64, bytes: Vec<u8> },
    /// writev(2).
    WriteVectored { path: Raw, parts: Vec<Vec<u8>> },
    /// A store through a shared mapping.
    StoreMapped { path: Raw, bytes: Vec<u8> },
    /// truncate(2).
    Truncate { path: Raw, size: u64 },
    /// ftruncate(2).
    TruncateOpen { path: Raw, size: u64 },
    /// open(2) with `O_TRUNC`.
    OpenTruncate { path: Raw },
    /// fallocate(2) beyond the end.
    Allocate { path: Raw, size: u64 },
    /// copy_file_range(2).
    CopyRange { from: Raw, to: Raw },
    /// unlink(2).
    Unlink { path: Raw },
    /// rmdir(2).
    Rmdir { path: Raw },
    /// rename(2).
    Rename { from: Raw, to: Raw },
    /// renameat2(2) with `RENAME_EXCHANGE`.
    Exchange { from: Raw, to: Raw },
    /// renameat2(2) with `RENAME_WHITEOUT`, as a file system stacked on top does it.
    RenameWhiteout { from: Raw, to: Raw },
    /// link(2).
    Link { from: Raw, to: Raw },
    /// chmod(2).
    Chmod { path: Raw, mode: u32 },
    /// fchmod(2).
    ChmodOpen { path: Raw, mode: u32 },
    /// chown(2).
    Chown { path: Raw, uid: u32, gid: u32 },
    /// utimensat(2) of both times, to a second.
    SetTimes { path: Raw, seconds: i64 },
    /// setxattr(2).
    SetXattr { path: Raw, name: String, value: Vec<u8> },
    /// removexattr(2).
    RemoveXattr { path: Raw, name: String },
    /// `count` times pwrite(2) of four bytes, each a number, in a file of its own opening.
    Storm { path: Raw, count: u64 },
    /// `times` times open(2) with `O_TRUNC`, write(2) of `chunks` chunks, close(2). The content is
    /// [`pattern`].
    Rewrite { path: Raw, times: u8, chunks: usize },
    /// Creates `count` files ([`numbered`]) in a directory, then removes them.
    CreateAndRemove { directory: Raw, count: u32 },
    /// Content, by a way of its own.
    Content(Content),
    /// Flags of an inode.
    Flags(Flags),
    /// Mounts.
    Mount(Mount),
    /// Many of them.
    Flood(Flood),
    /// open(2) for writing `count` times, whatever comes of it.
    TryOpen { path: Raw, count: u32 },
    /// ptrace(2): has another process close one of its descriptors.
    CloseIn { pid: u32, descriptor: i32 },
}

/// The size of a chunk of [`Op::Rewrite`].
pub(crate) const CHUNK: usize = 1 << 20;

/// A chunk that round `round` writes.
pub(crate) fn pattern(round: u8) -> Vec<u8> {
    vec![round.wrapping_add(1); CHUNK]
}

/// The name of a file of [`Op::CreateAndRemove`].
pub(crate) fn numbered(number: u32) -> String {
    format!("n{number:06}")
}

impl Op {
    /// Does it. `before_close` is called where a file is open for writing.
    pub(super) fn act(&self, before_close: &mut dyn FnMut()) -> io::Result<()> {
        match self {
            Self::Create { path } => drop(create(path)?),
            Self::CreateWrite { path, bytes } => {
                let mut file = create(path)?;
                file.write_all(bytes)?;
                before_close();
            }
            Self::Fifo { path } => {
                rustix::fs::mknodat(CWD, path.as_path(), FileType::Fifo, mode(0o640), 0)?;
            }
            Self::CharDevice { path } => {
                let null = rustix::fs::makedev(1, 3);
                let kind = FileType::CharacterDevice;
                rustix::fs::mknodat(CWD, path.as_path(), kind, mode(0o640), null)?;
            }
            Self::Mkdir { path } => fs::create_dir(path.as_path())?,
            Self::MkdirAndCreate { directory, name, bytes } => {
                fs::create_dir_all(directory.as_path())?;
                fs::write(directory.as_path().join(name), bytes)?;
            }
            Self::Symlink { target, path } => {
                std::os::unix::fs::symlink(target.as_path(), path.as_path())?;
            }
            Self::LinkTemporary { path, bytes } => {
                let path = path.as_path();
                let directory = path.parent().unwrap_or(Path::new("/"));
                let mut file = File::options()
                    .write(true)
                    .mode(0o640)
                    .custom_flags(libc::O_TMPFILE)
                    .open(directory)?;
                file.write_all(bytes)?;
                // The way open(2) recommends, which needs no privilege.
                let name = format!("/proc/self/fd/{}", file.as_raw_fd());
                rustix::fs::linkat(CWD, name, CWD, path, AtFlags::SYMLINK_FOLLOW)?;
                before_close();
            }
            Self::Write { path, bytes } => {
                let mut file = open(path)?;
                file.write_all(bytes)?;
                before_close();
            }
            Self::OpenWrite { path } => drop(open(path)?),
            Self::Read { path } => drop(fs::read(path.as_path())?),
            Self::WriteAt { path, offset, bytes } => open(path)?.write_all_at(bytes, *offset)?,
            Self::WriteVectored { path, parts } => {
                let slices: Vec<IoSlice<'_>> =
                    parts.iter().map(|part| IoSlice::new(part)).collect();
                let length: usize = parts.iter().map(Vec::len).sum();
                let written = open(path)?.write_vectored(&slices)?;
                assert_eq!(written, length, "writev wrote a part only");
            }
            Self::StoreMapped { path, bytes } => {
                let file = File::options().read(true).write(true).open(path.as_path())?;
                sys::store_through_mapping(file, bytes)?;
            }
            Self::Truncate { path, size } => sys::truncate(path.as_path(), *size)?,
            Self::TruncateOpen { path, size } => open(path)?.set_len(*size)?,
            Self::OpenTruncate { path } => {
                drop(File::options().write(true).truncate(true).open(path.as_path())?);
            }
            Self::Allocate { path, size } => {
                rustix::fs::fallocate(open(path)?, FallocateFlags::empty(), 0, *size)?;
            }
            Self::CopyRange { from, to } => {
                let (source, target) = (File::open(from.as_path())?, open(to)?);
                let length = usize::try_from(source.metadata()?.len()).unwrap_or(usize::MAX);
                let copied = rustix::fs::copy_file_range(source, None, target, None, length)?;
                assert_eq!(copied, length, "copy_file_range copied a part only");
            }
            Self::Unlink { path } => fs::remove_file(path.as_path())?,
            Self::Rmdir { path } => fs::remove_dir(path.as_path())?,
            Self::Rename { from, to } => fs::rename(from.as_path(), to.as_path())?,
            Self::Exchange { from, to } => {
                let flags = RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(CWD, from.as_path(), CWD, to.as_path(), flags)?;
            }
            Self::RenameWhiteout { from, to } => {
                let flags = RenameFlags::WHITEOUT;
                rustix::fs::renameat_with(CWD, from.as_path(), CWD, to.as_path(), flags)?;
            }
            Self::Link { from, to } => fs::hard_link(from.as_path(), to.as_path())?,
            Self::Chmod { path, mode: bits } => rustix::fs::chmod(path.as_path(), mode(*bits))?,
            Self::ChmodOpen { path, mode: bits } => {
                rustix::fs::fchmod(File::open(path.as_path())?, mode(*bits))?;
            }
            Self::Chown { path, uid, gid } => {
                let (uid, gid) = (Uid::from_raw(*uid), Gid::from_raw(*gid));
                rustix::fs::chown(path.as_path(), Some(uid), Some(gid))?;
            }
            Self::SetTimes { path, seconds } => {
                let time = Timespec { tv_sec: *seconds, tv_nsec: 0 };
                let times = Timestamps { last_access: time, last_modification: time };
                rustix::fs::utimensat(CWD, path.as_path(), &times, AtFlags::empty())?;
            }
            Self::SetXattr { path, name, value } => {
                rustix::fs::setxattr(path.as_path(), name, value, XattrFlags::empty())?;
            }
            Self::RemoveXattr { path, name } => rustix::fs::removexattr(path.as_path(), name)?,
            Self::Storm { path, count } => {
                let file = open(path)?;
                for number in 0..*count {
                    // Within 64 KiB: it is the number of calls that matters.
                    let low = number as u32;
                    file.write_all_at(&low.to_le_bytes(), number % 16_384 * 4)?;
                }
                before_close();
            }
            Self::Rewrite { path, times, chunks } => {
                for round in 0..*times {
                    let mut file =
                        File::options().write(true).truncate(true).open(path.as_path())?;
                    file.rewind()?;
                    let chunk = pattern(round);
                    for _ in 0..*chunks {
                        file.write_all(&chunk)?;
                    }
                }
            }
            Self::Flood(flood) => flood.act()?,
            Self::TryOpen { path, count } => {
                for _ in 0..*count {
                    drop(open(path));
                }
            }
            Self::CreateAndRemove { directory, count } => {
                let path = |number| directory.as_path().join(numbered(number));
                for number in 0..*count {
                    drop(File::create_new(path(number))?);
                }
                for number in 0..*count {
                    fs::remove_file(path(number))?;
                }
            }
            Self::Content(content) => content.act(before_close)?,
            Self::Flags(flags) => flags.act()?,
            Self::Mount(mount) => mount.act()?,
            Self::CloseIn { pid, descriptor } => sys::close_in(*pid, *descriptor)?,
        }
        Ok(())
    }
}

fn create(path: &Raw) -> io::Result<File> {
    File::options().write(true).create_new(true).mode(0o640).open(path.as_path())
}

pub(super) fn open(path: &Raw) -> io::Result<File> {
    File::options().write(true).open(path.as_path())
}

fn mode(bits: u32) -> Mode {
    Mode::from_raw_mode(bits)
}
