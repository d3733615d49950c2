//! The wire format between the eBPF programs and user space.
//!
//! A record is a fixed part ([`Header`], [`Actor`], then one body by [`Kind`]) and a variable
//! tail. All fields are native-endian plain integers with no padding, so every byte the kernel
//! side writes is defined, and user space can decode without a cast. Ring bytes are untrusted
//! input: `decode` in the agent checks length, version, codes and offsets.
//!
//! Path tails are written leaf first, the way the dentry tree is walked, each component followed
//! by one NUL: `"a\0etc\0"` is `etc/a` below the watched root.

use core::mem::size_of;

pub mod decode;
#[cfg(feature = "std")]
pub mod encode;
pub mod maps;

/// Bumped whenever the layout changes; a record of another version is refused.
pub const VERSION: u16 = 1;

/// Longest path, in bytes, that a tail carries: the kernel's `PATH_MAX`.
pub const PATH_MAX: usize = 4096;
/// Longest name of one directory entry: the kernel's `NAME_MAX`.
pub const NAME_MAX: usize = 255;
/// Most bytes of a command line that a process record carries; the rest is read from
/// `/proc/<pid>/cmdline` while the process lives.
pub const ARGS_MAX: usize = 4096;
/// Ancestors described with a process, nearest first.
pub const ANCESTORS_MAX: usize = 8;
/// Length of the kernel's `task_struct.comm`, NUL included.
pub const COMM_LEN: usize = 16;

/// The most bytes one record can have: a process with full exe, cwd and arguments.
pub const RECORD_MAX: usize = 16 * 1024;

/// An id that is not set: the kernel's `(uid_t)-1`, as the login uid of a daemon.
pub const ID_UNSET: u32 = u32::MAX;

/// What a record's body is.
#[repr(u16)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// [`FileBody`].
    File = 1,
    /// [`ProcessBody`]: a process, described once per execution.
    Process = 2,
    /// [`ForkBody`].
    Fork = 3,
    /// No body: the actor's thread group has ended.
    Exit = 4,
}

impl Kind {
    /// The kind with this code, if there is one.
    pub const fn from_code(code: u16) -> Option<Self> {
        Some(match code {
            1 => Self::File,
            2 => Self::Process,
            3 => Self::Fork,
            4 => Self::Exit,
            _ => return None,
        })
    }
}

/// What was done to a file.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// A regular file came to be through open(2) with `O_CREAT`, or mknod(2).
    Create = 1,
    /// A directory came to be.
    Mkdir = 2,
    /// A device, FIFO or socket came to be.
    Mknod = 3,
    /// A symbolic link came to be; the tail's `extra` is its target.
    Symlink = 4,
    /// A file was opened for writing.
    OpenWrite = 5,
    /// The kernel updated the modification time for a write in the actor's context.
    Modify = 6,
    /// A file description open for writing was released.
    CloseWrite = 7,
    /// The size was set: truncate(2), ftruncate(2), `O_TRUNC`.
    Truncate = 8,
    /// Mode, owner or times were set.
    SetAttr = 9,
    /// An extended attribute was set; the tail's `extra` is its name.
    SetXattr = 10,
    /// An extended attribute was removed; the tail's `extra` is its name.
    RemoveXattr = 11,
    /// A name was removed.
    Unlink = 12,
    /// A directory was removed.
    Rmdir = 13,
    /// `path` was renamed to `path2`.
    Rename = 14,
    /// `path2` is a new name of the object at `path`.
    Link = 15,
    /// The flags of `chattr` were set.
    SetFlags = 16,
    /// Something is being mounted at `path`, in the actor's mount namespace.
    Mount = 17,
    /// What is mounted at `path` is being unmounted.
    Unmount = 18,
    /// A file open for writing was mapped, shared.
    Map = 19,
}

impl Op {
    /// Every operation, in code order.
    pub const ALL: [Self; 19] = [
        Self::Create,
        Self::Mkdir,
        Self::Mknod,
        Self::Symlink,
        Self::OpenWrite,
        Self::Modify,
        Self::CloseWrite,
        Self::Truncate,
        Self::SetAttr,
        Self::SetXattr,
        Self::RemoveXattr,
        Self::Unlink,
        Self::Rmdir,
        Self::Rename,
        Self::Link,
        Self::SetFlags,
        Self::Mount,
        Self::Unmount,
        Self::Map,
    ];

    /// The operation with this code, if there is one.
    pub const fn from_code(code: u32) -> Option<Self> {
        if code == 0 || code as usize > Self::ALL.len() {
            return None;
        }
        Some(Self::ALL[code as usize - 1])
    }
}

/// Per-hook counters are kept under these indices; the names are the kernel functions (or
/// tracepoints) and stand in `fim doctor` and in the `hook` label of the metrics.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hook {
    /// `path_openat`: creations through open(2), opens for writing, and those that failed.
    FileOpen = 0,
    /// `__fput`: the end of a file description.
    FileRelease = 1,
    /// The time stamp update of a write.
    TimeUpdate = 2,
    /// `vfs_create`.
    Create = 3,
    /// `vfs_mkdir`.
    Mkdir = 4,
    /// `vfs_mknod`.
    Mknod = 5,
    /// `vfs_symlink`.
    Symlink = 6,
    /// `vfs_link`.
    Link = 7,
    /// `vfs_unlink`.
    Unlink = 8,
    /// `vfs_rmdir`.
    Rmdir = 9,
    /// `vfs_rename`.
    Rename = 10,
    /// `notify_change`: mode, owner, times and size.
    SetAttr = 11,
    /// `__vfs_setxattr_noperm`.
    SetXattr = 12,
    /// `__vfs_removexattr_locked`.
    RemoveXattr = 13,
    /// `vfs_set_acl`, 6.2 and newer.
    SetAcl = 14,
    /// `vfs_remove_acl`, 6.2 and newer.
    RemoveAcl = 15,
    /// Tracepoint `sched_process_exec`.
    Exec = 16,
    /// Tracepoint `sched_process_fork`.
    Fork = 17,
    /// Tracepoint `sched_process_exit`.
    Exit = 18,
    /// `security_mmap_file`: shared mappings.
    Mmap = 19,
    /// `vfs_setxattr`, where it fails.
    SetXattrRefused = 20,
    /// `vfs_truncate`, where it fails.
    TruncateRefused = 21,
    /// `vfs_fileattr_set`, or `vfs_ioctl` before 5.13.
    SetFlags = 22,
    /// `security_sb_mount`.
    Mount = 23,
    /// `security_move_mount`.
    MoveMount = 24,
    /// `security_sb_umount`.
    Umount = 25,
}

/// How many [`Hook`]s there are.
pub const HOOKS: usize = 26;

impl Hook {
    /// Every hook, in index order.
    pub const ALL: [Self; HOOKS] = [
        Self::FileOpen,
        Self::FileRelease,
        Self::TimeUpdate,
        Self::Create,
        Self::Mkdir,
        Self::Mknod,
        Self::Symlink,
        Self::Link,
        Self::Unlink,
        Self::Rmdir,
        Self::Rename,
        Self::SetAttr,
        Self::SetXattr,
        Self::RemoveXattr,
        Self::SetAcl,
        Self::RemoveAcl,
        Self::Exec,
        Self::Fork,
        Self::Exit,
        Self::Mmap,
        Self::SetXattrRefused,
        Self::TruncateRefused,
        Self::SetFlags,
        Self::Mount,
        Self::MoveMount,
        Self::Umount,
    ];

    /// The hook with this index, if there is one.
    pub const fn from_code(code: u32) -> Option<Self> {
        if code as usize >= HOOKS { None } else { Some(Self::ALL[code as usize]) }
    }

    /// The name in metrics and in `fim doctor`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FileOpen => "file_open",
            Self::FileRelease => "file_release",
            Self::TimeUpdate => "time_update",
            Self::Create => "create",
            Self::Mkdir => "mkdir",
            Self::Mknod => "mknod",
            Self::Symlink => "symlink",
            Self::Link => "link",
            Self::Unlink => "unlink",
            Self::Rmdir => "rmdir",
            Self::Rename => "rename",
            Self::SetAttr => "setattr",
            Self::SetXattr => "setxattr",
            Self::RemoveXattr => "removexattr",
            Self::SetAcl => "set_acl",
            Self::RemoveAcl => "remove_acl",
            Self::Exec => "exec",
            Self::Fork => "fork",
            Self::Exit => "exit",
            Self::Mmap => "mmap",
            Self::SetXattrRefused => "setxattr_refused",
            Self::TruncateRefused => "truncate_refused",
            Self::SetFlags => "set_flags",
            Self::Mount => "mount",
            Self::MoveMount => "move_mount",
            Self::Umount => "umount",
        }
    }
}

/// What became of the calls of one hook on one CPU. `seen = filtered + submitted + lost + error`
/// for hooks that write one record a call.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Calls of the hook that could matter (a read-only open does not).
    pub seen: u64,
    /// Outside the watched trees, or an attempt that failed.
    pub filtered: u64,
    /// Records handed to the ring.
    pub submitted: u64,
    /// Records the full ring refused.
    pub lost: u64,
    /// In scope, but the record could not be made (a map was full, a path too deep).
    pub error: u64,
}

/// First in every record.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the whole record, tail included.
    pub len: u32,
    /// [`VERSION`].
    pub version: u16,
    /// A [`Kind`].
    pub kind: u16,
    /// `bpf_ktime_get_boot_ns` at the hook, nanoseconds since boot, suspend included.
    pub time: u64,
    /// Counts the records made on this CPU, from 0, lost ones included.
    pub sequence: u64,
    /// The CPU.
    pub cpu: u32,
    /// A [`Hook`].
    pub hook: u32,
}
const _: () = assert!(size_of::<Header>() == 32);

/// Who: the task in whose context the hook ran, as it was at that moment.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Actor {
    /// `start_boottime` of the thread group's leader, nanoseconds since boot.
    pub start: u64,
    /// Process id in the initial pid namespace (the kernel's tgid).
    pub tgid: u32,
    /// Thread id in the initial pid namespace (the kernel's pid).
    pub tid: u32,
    /// `task_struct.self_exec_id`: counts the executions of this task.
    pub exec_id: u32,
    /// Real user id, in the initial user namespace, as are all ids here.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// Effective user id.
    pub euid: u32,
    /// Effective group id.
    pub egid: u32,
    /// The user id that file system checks use.
    pub fsuid: u32,
    /// Login user id, or [`ID_UNSET`].
    pub loginuid: u32,
    /// Audit session, or [`ID_UNSET`].
    pub sessionid: u32,
}
const _: () = assert!(size_of::<Actor>() == 48);

/// Which object: the kernel's own identity of an inode.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Object {
    /// `inode.i_ino`; 0 when there is no object.
    pub ino: u64,
    /// `super_block.s_dev`, the kernel's encoding: major << 20 | minor.
    pub dev: u32,
    /// `inode.i_generation`.
    pub generation: u32,
}
const _: () = assert!(size_of::<Object>() == 16);

/// What the inode said of the object.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attrs {
    /// Bytes.
    pub size: u64,
    /// Modification time, seconds since the epoch.
    pub mtime: i64,
    /// And nanoseconds.
    pub mtime_nsec: u32,
    /// Type and permission bits, as `st_mode`.
    pub mode: u32,
    /// Owner, in the initial user namespace.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Names of the object.
    pub nlink: u32,
    /// 1 when the fields above were read, 0 when they are meaningless.
    pub known: u32,
}
const _: () = assert!(size_of::<Attrs>() == 40);

/// Flags of [`FileBody`].
pub mod flag {
    /// A path did not fit or was too deep: the tail lacks the components nearest the root.
    pub const PATH_TRUNCATED: u32 = 1 << 0;
    /// `path` lies in scope.
    pub const PATH_IN_SCOPE: u32 = 1 << 1;
    /// `path2` lies in scope.
    pub const PATH2_IN_SCOPE: u32 = 1 << 2;
    /// Rename: the two names changed places.
    pub const EXCHANGE: u32 = 1 << 3;
    /// Rename: `other` stood at `path2` before and is gone (or exchanged).
    pub const REPLACED: u32 = 1 << 4;
    /// The object has no name (`O_TMPFILE`, or unlinked while open): the path is not one.
    pub const NAMELESS: u32 = 1 << 5;
    /// CloseWrite: the content was changed since the last report, by the kernel's own times.
    pub const MODIFIED: u32 = 1 << 6;
    /// CloseWrite: the content may have changed without a trace in the times (same tick, mapping,
    /// `O_NOCMTIME`): compare it.
    pub const MAYBE_MODIFIED: u32 = 1 << 7;
    /// OpenWrite: with `O_TRUNC`.
    pub const TRUNCATE: u32 = 1 << 8;
    /// SetAttr: the mode was among what was set.
    pub const SET_MODE: u32 = 1 << 9;
    /// SetAttr: the owner or group was.
    pub const SET_OWNER: u32 = 1 << 10;
    /// SetAttr: a time was.
    pub const SET_TIMES: u32 = 1 << 11;
    /// Create: the object is open for writing; its CloseWrite follows.
    pub const OPENED_WRITE: u32 = 1 << 12;
    /// The object is a file that was opened by its handle, of which no name is in memory: user space
    /// knows by its identity whether it is in scope. There is no path.
    pub const DISCONNECTED: u32 = 1 << 15;
    /// Rename: a whiteout device is left at the old name.
    pub const WHITEOUT: u32 = 1 << 14;
    /// `path` is out of scope, and the object is in `LINKED`: a watched file by another name.
    pub const LINKED: u32 = 1 << 13;
}

/// A file operation.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileBody {
    /// An [`Op`].
    pub op: u32,
    /// What the kernel function returned: 0, or a negative errno.
    pub ret: i32,
    /// [`flag`]s.
    pub flags: u32,
    /// The root that `path` is relative to, in scope or not; 0: the root of the file system
    /// `object.dev`.
    pub root: u32,
    /// The same for `path2`.
    pub root2: u32,
    /// CloseWrite: descriptions still open for writing on this object, this one not counted. Of a
    /// failed attempt: how many of the same process were not told before it. Else 0.
    pub writers: u32,
    /// The object operated on.
    pub object: Object,
    /// Rename: what stood at `path2` before.
    pub other: Object,
    /// The object's attributes before; in a rename, those of `other`.
    pub before: Attrs,
    /// The object's attributes after.
    pub after: Attrs,
    /// Bytes of `path` in the tail, which starts right behind this struct.
    pub path_len: u16,
    /// Bytes of `path2`, behind `path`.
    pub path2_len: u16,
    /// Bytes of `extra` (attribute name or link target), behind `path2`.
    pub extra_len: u16,
    /// 0.
    pub reserved: u16,
}
const _: () = assert!(size_of::<FileBody>() == 24 + 32 + 80 + 8);

/// Flags of [`ProcessBody`].
pub mod process_flag {
    /// The arguments could not be read: their page was not resident.
    pub const ARGS_NOT_RESIDENT: u32 = 1 << 0;
    /// There are more argument bytes than the tail carries.
    pub const ARGS_TRUNCATED: u32 = 1 << 1;
    /// The executable has no name any more (deleted, or a memfd).
    pub const EXE_DELETED: u32 = 1 << 2;
    /// A kernel thread: it has no executable.
    pub const KERNEL_THREAD: u32 = 1 << 3;
    /// The path of the executable did not fit.
    pub const EXE_TRUNCATED: u32 = 1 << 4;
    /// The path of the working directory did not fit.
    pub const CWD_TRUNCATED: u32 = 1 << 5;
}

/// One ancestor.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ancestor {
    /// `start_boottime` of its thread group's leader.
    pub start: u64,
    /// Its process id.
    pub tgid: u32,
    /// Its `self_exec_id`.
    pub exec_id: u32,
    /// Its name, NUL-padded.
    pub comm: [u8; COMM_LEN],
}
const _: () = assert!(size_of::<Ancestor>() == 32);

/// A process, as it was when it was first seen after an execution.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessBody {
    /// `bpf_get_current_cgroup_id`: the inode number of the cgroup v2 directory.
    pub cgroup: u64,
    /// Name, NUL-padded.
    pub comm: [u8; COMM_LEN],
    /// [`process_flag`]s.
    pub flags: u32,
    /// Ancestors that are filled.
    pub ancestors_len: u32,
    /// Controlling terminal, the kernel's device encoding; 0 without one.
    pub tty: u32,
    /// Process id in its own pid namespace.
    pub ns_pid: u32,
    /// Inode numbers of the namespaces, as in `/proc/<pid>/ns`.
    pub mnt_ns: u32,
    /// Pid namespace.
    pub pid_ns: u32,
    /// User namespace.
    pub user_ns: u32,
    /// Bytes of the whole command line in the process.
    pub args_total: u32,
    /// Nearest first.
    pub ancestors: [Ancestor; ANCESTORS_MAX],
    /// Bytes of the executable's path in the tail (leaf first, as all paths).
    pub exe_len: u16,
    /// Bytes of the working directory's path.
    pub cwd_len: u16,
    /// Bytes of the arguments, each ended by NUL.
    pub args_len: u16,
    /// Bytes of the path of its control group, in the tail before the arguments.
    pub group_len: u16,
}
const _: () = assert!(size_of::<ProcessBody>() == 8 + 16 + 32 + 256 + 8);

/// A new process; the record's actor is the parent.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ForkBody {
    /// `start_boottime` of the child.
    pub start: u64,
    /// Process id of the child.
    pub tgid: u32,
    /// Its `self_exec_id`.
    pub exec_id: u32,
}
const _: () = assert!(size_of::<ForkBody>() == 16);
