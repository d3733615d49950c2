//! Mounts, in the namespace that the operator shares with these tests.

use std::io;

use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, UnmountFlags,
};
use serde::{Deserialize, Serialize};

use super::Raw;

/// What is where.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Mount {
    /// mount(2) of a new tmpfs.
    Tmpfs { at: Raw },
    /// fsopen(2), fsconfig(2), fsmount(2), move_mount(2) of a new tmpfs.
    TmpfsByNewCalls { at: Raw },
    /// mount(2) with `MS_BIND`.
    Bind { from: Raw, at: Raw },
    /// mount(2) with `MS_MOVE`.
    Move { from: Raw, to: Raw },
    /// umount2(2).
    Unmount { at: Raw },
}

impl Mount {
    pub(super) fn act(&self) -> io::Result<()> {
        match self {
            Self::Tmpfs { at } => {
                rustix::mount::mount("tmpfs", at.as_path(), "tmpfs", MountFlags::empty(), None)?;
            }
            Self::TmpfsByNewCalls { at } => {
                let context = rustix::mount::fsopen("tmpfs", FsOpenFlags::empty())?;
                rustix::mount::fsconfig_create(&context)?;
                let (flags, attributes) = (FsMountFlags::empty(), MountAttrFlags::empty());
                let mount = rustix::mount::fsmount(&context, flags, attributes)?;
                let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
                rustix::mount::move_mount(&mount, "", CWD, at.as_path(), flags)?;
            }
            Self::Bind { from, at } => rustix::mount::mount_bind(from.as_path(), at.as_path())?,
            Self::Move { from, to } => rustix::mount::mount_move(from.as_path(), to.as_path())?,
            Self::Unmount { at } => {
                rustix::mount::unmount(at.as_path(), UnmountFlags::empty())?;
            }
        }
        Ok(())
    }
}
