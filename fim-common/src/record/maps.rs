//! The values of the maps that user space and the eBPF programs share.

use core::mem::size_of;

/// Path components compared in the kernel are cut to this length: a cheap filter that lets a few
/// too many through, never one too few; the policy in user space is exact.
pub const FILTER_LEN: usize = 16;
/// Depth without a limit.
pub const DEPTH_UNLIMITED: u32 = u32::MAX;

/// Key of a name filter: what lies below the component `name` of the directory `root` is in scope
/// as deep as the value (a `u32`) says, [`DEPTH_UNLIMITED`] included.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FilterKey {
    /// The first bytes of the component directly below the directory, NUL-padded.
    pub name: [u64; FILTER_LEN / 8],
    /// Id of the root.
    pub root: u32,
    /// 0.
    pub reserved: u32,
}
const _: () = assert!(size_of::<FilterKey>() == 24);

/// What the kernel knows of a directory that decides about scope. Keyed by the address of its
/// inode, which the agent keeps in memory; the identity guards against reuse of the address all the
/// same.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RootEntry {
    /// `inode.i_ino`.
    pub ino: u64,
    /// `super_block.s_dev`.
    pub dev: u32,
    /// `inode.i_generation`.
    pub generation: u32,
    /// Id of the root, from 1; user space maps it to a path.
    pub root: u32,
    /// How many components below the directory are in scope whatever their name: 0 none,
    /// [`DEPTH_UNLIMITED`] all.
    pub depth: u32,
    /// 1: everything below is out of scope, whatever lies above.
    pub exclude: u32,
    /// 1: there are name filters for this root.
    pub filtered: u32,
}
const _: () = assert!(size_of::<RootEntry>() == 32);

/// Settings that change while the programs run. One entry.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Bumped when the set of roots changes: cached verdicts of another epoch are void. The
    /// programs bump it too, when a directory is renamed.
    pub epoch: u64,
    /// CLOCK_REALTIME minus CLOCK_BOOTTIME, nanoseconds.
    pub realtime_offset: i64,
    /// Bytes in the ring from which on the reader is woken; below, it finds them by polling.
    pub wake_bytes: u64,
    /// Process id of the agent, whose own work is not reported; 0: none.
    pub agent_tgid: u32,
    /// Thread of the agent whose next open is written to `ARMED`; 0: none.
    pub arm_tid: u32,
    /// Failed attempts that are told of one process within a second; 0: none are.
    pub attempts: u32,
    /// Thread of the agent whose work is reported all the same; 0: none.
    pub canary_tid: u32,
}
const _: () = assert!(size_of::<Settings>() == 40);

/// Whose failed attempts these are, and where: what is told of one watched tree does not depend on
/// what the process does in another.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct AttemptsKey {
    /// [`super::Actor::start`]: process ids are used again.
    pub start: u64,
    /// [`super::Actor::tgid`].
    pub tgid: u32,
    /// [`super::FileBody::root`]; [`NO_ROOT`] for mounts.
    pub root: u32,
}
const _: () = assert!(size_of::<AttemptsKey>() == 16);

/// [`AttemptsKey::root`] of what is done to mounts.
pub const NO_ROOT: u32 = u32::MAX;

/// Failed attempts of one process in one watched tree.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempts {
    /// When the current second began, nanoseconds since boot.
    pub since: u64,
    /// Attempts told since.
    pub told: u32,
    /// Attempts not told since the last that was; the next one that is told carries the number.
    pub folded: u32,
}
const _: () = assert!(size_of::<Attempts>() == 16);

/// The kernel's identity of the directory that the agent opened while armed. One entry.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Armed {
    /// Address of the inode; 0 until the open was seen.
    pub inode: u64,
    /// `inode.i_ino`.
    pub ino: u64,
    /// `super_block.s_dev`.
    pub dev: u32,
    /// `inode.i_generation`.
    pub generation: u32,
}
const _: () = assert!(size_of::<Armed>() == 24);
