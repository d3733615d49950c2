//! What is known of one execution of a process, in plain values.

use std::ffi::OsString;
use std::path::PathBuf;

use fim_common::packages::programs::{self, Program};
use fim_common::record;

/// One execution of one process. Process ids are reused and a process executes many programs; the
/// three together are not repeated within a boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Process id in the initial pid namespace (the kernel's tgid).
    pub tgid: u32,
    /// `start_boottime` of the thread group's leader, nanoseconds since boot. From `/proc` it is
    /// a multiple of a clock tick.
    pub start: u64,
    /// `task_struct.self_exec_id`; 0 when it came from `/proc`, which does not tell it.
    pub exec_id: u32,
}

impl From<&record::Actor> for Key {
    fn from(actor: &record::Actor) -> Self {
        Self { tgid: actor.tgid, start: actor.start, exec_id: actor.exec_id }
    }
}

/// Under whose authority, as it was at the moment of the operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Credentials {
    /// Real user id.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// Effective user id.
    pub euid: u32,
    /// Effective group id.
    pub egid: u32,
    /// The user id that file system checks use.
    pub fsuid: u32,
    /// Login user id, or [`record::ID_UNSET`].
    pub loginuid: u32,
    /// Audit session, or [`record::ID_UNSET`].
    pub sessionid: u32,
}

impl From<&record::Actor> for Credentials {
    fn from(actor: &record::Actor) -> Self {
        Self {
            uid: actor.uid,
            gid: actor.gid,
            euid: actor.euid,
            egid: actor.egid,
            fsuid: actor.fsuid,
            loginuid: actor.loginuid,
            sessionid: actor.sessionid,
        }
    }
}

/// How far [`Description::args`] can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ArgsState {
    /// All of them, as they were at the execution.
    #[default]
    Complete,
    /// The first of them: there were more bytes than are kept.
    Truncated,
    /// None: their page was not in memory when the kernel was asked.
    NotResident,
    /// None: the process had already ended when it was looked at.
    Exited,
    /// None: a kernel thread has no arguments.
    KernelThread,
    /// None, for a reason that is not known.
    Unreadable,
}

impl ArgsState {
    /// The reason in `fim.unknown`; `None` when nothing is unknown.
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Self::Complete => None,
            Self::Truncated => Some("truncated"),
            Self::NotResident => Some("not_resident"),
            Self::Exited => Some("exited"),
            Self::KernelThread => Some("kernel_thread"),
            Self::Unreadable => Some("unreadable"),
        }
    }
}

/// A controlling terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tty {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

impl Tty {
    /// From the kernel's own `dev_t` (`major << 20 | minor`); 0 is no terminal.
    pub fn from_kernel(device: u32) -> Option<Self> {
        (device != 0).then_some(Self { major: device >> 20, minor: device & 0xf_ffff })
    }

    /// From `tty_nr` of `/proc/<pid>/stat`: `new_encode_dev`, proc_pid_stat(5).
    pub fn from_proc(tty_nr: u32) -> Option<Self> {
        (tty_nr != 0).then_some(Self {
            major: (tty_nr & 0xf_ff00) >> 8,
            minor: (tty_nr & 0xff) | ((tty_nr >> 12) & 0xf_ff00),
        })
    }
}

/// Inode numbers of namespaces, as in `/proc/<pid>/ns`; 0 where it is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Namespaces {
    /// Mount namespace.
    pub mnt: u32,
    /// Pid namespace.
    pub pid: u32,
    /// User namespace.
    pub user: u32,
}

/// One ancestor, as it was when its descendant was described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ancestor {
    /// Which execution.
    pub key: Key,
    /// The kernel's name of it; may be empty.
    pub comm: OsString,
}

/// One execution of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Which.
    pub key: Key,
    /// The kernel's name of it (`task_struct.comm`).
    pub comm: OsString,
    /// Path of the executable; `None` when it is not known or there is none.
    pub exe: Option<PathBuf>,
    /// The executable had no name any more (removed, or a memfd).
    pub exe_deleted: bool,
    /// Working directory.
    pub cwd: Option<PathBuf>,
    /// Arguments, the program's name first.
    pub args: Option<Vec<OsString>>,
    /// What `args` is worth.
    pub args_state: ArgsState,
    /// Credentials when it was described.
    pub credentials: Credentials,
    /// Inode number of the cgroup v2 directory; 0 when it is not known.
    pub cgroup_id: u64,
    /// Where its control group was when it was described, of cgroup v1 in the first hierarchy.
    pub cgroup_path: Option<String>,
    /// The content of `/proc/<pid>/cgroup`, where it was read.
    pub cgroup: Option<String>,
    /// Controlling terminal.
    pub tty: Option<Tty>,
    /// Namespaces.
    pub namespaces: Namespaces,
    /// Its root directory, where that is not the one of its mount namespace (chroot(2)).
    pub root: Option<PathBuf>,
    /// Process id in its own pid namespace; 0 when it is not known.
    pub ns_pid: u32,
    /// It is a kernel thread: no executable, no arguments.
    pub kernel_thread: bool,
    /// Parent, its parent, and so on.
    pub ancestors: Vec<Ancestor>,
    /// The program of the host that it runs, if it is one whose changes can be expected.
    pub program: Option<&'static Program>,
}

impl Description {
    /// A description in which only what is given is known.
    pub fn new(key: Key, comm: OsString, credentials: Credentials) -> Self {
        Self {
            key,
            comm,
            exe: None,
            exe_deleted: false,
            cwd: None,
            args: None,
            args_state: ArgsState::Unreadable,
            credentials,
            cgroup_id: 0,
            cgroup_path: None,
            cgroup: None,
            tty: None,
            namespaces: Namespaces::default(),
            root: None,
            ns_pid: 0,
            kernel_thread: false,
            ancestors: Vec::new(),
            program: None,
        }
    }

    /// The known program that it runs, if its executable's path is one of the host's: in a container
    /// or a chroot, everybody can have a `/usr/bin/dpkg`.
    pub(super) fn known_program(&self, elsewhere: bool) -> Option<&'static Program> {
        let exe = self.exe.as_deref().filter(|_| !elsewhere && !self.exe_deleted)?;
        if self.root.is_some() {
            return None;
        }
        // Arguments that are cut at the end still begin with the script.
        let args: Vec<&std::path::Path> =
            self.args.iter().flatten().map(std::path::Path::new).collect();
        programs::program(exe, &args)
    }

    /// Bytes of the arguments, each with its NUL.
    pub(super) fn args_bytes(&self) -> usize {
        self.args.iter().flatten().map(|arg| arg.len() + 1).sum()
    }
}
