//! Flags of inodes, as chattr(1) sets them.

use std::fs::File;
use std::io;

use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
use serde::{Deserialize, Serialize};

use super::{Raw, sys};

/// ioctl(2) with one flag more or less.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Flags {
    /// `FS_IOC_SETFLAGS`, with a flag more.
    Set { path: Raw, flag: Flag },
    /// `FS_IOC_SETFLAGS`, with a flag less.
    Clear { path: Raw, flag: Flag },
    /// `FS_IOC_FSSETXATTR`, with a flag more.
    SetExtended { path: Raw, flag: Flag },
}

/// A flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Flag {
    Immutable,
    AppendOnly,
    NoDump,
}

impl Flag {
    fn flag(self) -> IFlags {
        match self {
            Self::Immutable => IFlags::IMMUTABLE,
            Self::AppendOnly => IFlags::APPEND,
            Self::NoDump => IFlags::NODUMP,
        }
    }

    /// `FS_XFLAG_*` of `linux/fs.h`.
    fn extended(self) -> u32 {
        match self {
            Self::Immutable => 0x08,
            Self::AppendOnly => 0x10,
            Self::NoDump => 0x80,
        }
    }
}

impl Flags {
    pub(super) fn act(&self) -> io::Result<()> {
        match self {
            Self::Set { path, flag } => change(path, |flags| flags | flag.flag()),
            Self::Clear { path, flag } => change(path, |flags| flags - flag.flag()),
            Self::SetExtended { path, flag } => {
                sys::add_xflag(&File::open(path.as_path())?, flag.extended())
            }
        }
    }
}

fn change(path: &Raw, change: impl FnOnce(IFlags) -> IFlags) -> io::Result<()> {
    let file = File::open(path.as_path())?;
    let flags = ioctl_getflags(&file)?;
    Ok(ioctl_setflags(&file, change(flags))?)
}
