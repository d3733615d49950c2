//! What is known of one execution of a process, in plain values.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::sync::Arc;

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
    pub comm: Arc<OsStr>,
}

/// One execution of a process. Texts are shared with other executions: a fork has all of its parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Which.
    pub key: Key,
    /// The kernel's name of it (`task_struct.comm`).
    pub comm: Arc<OsStr>,
    /// Path of the executable; `None` when it is not known or there is none.
    pub exe: Option<Arc<Path>>,
    /// The executable had no name any more (removed, or a memfd).
    pub exe_deleted: bool,
    /// Working directory.
    pub cwd: Option<Arc<Path>>,
    /// Arguments, the program's name first.
    pub args: Option<Arc<[OsString]>>,
    /// What `args` is worth.
    pub args_state: ArgsState,
    /// Credentials when it was described.
    pub credentials: Credentials,
    /// Inode number of the cgroup v2 directory; 0 when it is not known.
    pub cgroup_id: u64,
    /// Where its control group was when it was described, of cgroup v1 in the first hierarchy.
    pub cgroup_path: Option<Arc<str>>,
    /// The content of `/proc/<pid>/cgroup`, where it was read.
    pub cgroup: Option<Arc<str>>,
    /// Controlling terminal.
    pub tty: Option<Tty>,
    /// Namespaces.
    pub namespaces: Namespaces,
    /// Its root directory, where that is not the one of its mount namespace (chroot(2)).
    pub root: Option<Arc<Path>>,
    /// Process id in its own pid namespace; 0 when it is not known.
    pub ns_pid: u32,
    /// It is a kernel thread: no executable, no arguments.
    pub kernel_thread: bool,
    /// Parent, its parent, and so on.
    pub ancestors: Arc<[Ancestor]>,
    /// The program of the host that it runs, if it is one whose changes can be expected.
    pub program: Option<&'static Program>,
}

impl Description {
    /// A description in which only what is given is known.
    pub fn new(key: Key, comm: Arc<OsStr>, credentials: Credentials) -> Self {
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
            ancestors: Arc::default(),
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
        let args: Vec<&Path> = self.all_args().map(Path::new).collect();
        programs::program(exe, &args)
    }

    /// The ancestors of a child of this execution, which is called `key` in them.
    pub(super) fn line(&self, key: Key) -> Arc<[Ancestor]> {
        let own = Ancestor { key, comm: Arc::clone(&self.comm) };
        let above = self.ancestors.iter().take(record::ANCESTORS_MAX - 1).cloned();
        std::iter::once(own).chain(above).collect()
    }

    fn all_args(&self) -> impl Iterator<Item = &OsString> {
        self.args.iter().flat_map(|args| args.iter())
    }

    /// Bytes of the arguments, each with its NUL.
    pub(super) fn args_bytes(&self) -> usize {
        self.all_args().map(|arg| arg.len() + 1).sum()
    }

    /// Takes from what the same process was before what is the same: mostly everything but the
    /// program and its arguments.
    pub(super) fn share(&mut self, before: &Self) {
        fn same<T: ?Sized + PartialEq>(own: &mut Option<Arc<T>>, other: &Option<Arc<T>>) {
            if own == other {
                own.clone_from(other);
            }
        }
        same(&mut self.exe, &before.exe);
        same(&mut self.cwd, &before.cwd);
        same(&mut self.cgroup_path, &before.cgroup_path);
        same(&mut self.cgroup, &before.cgroup);
        same(&mut self.root, &before.root);
        if self.ancestors == before.ancestors {
            self.ancestors = Arc::clone(&before.ancestors);
        }
    }

    /// Bytes of what it alone refers to, roughly: what the allocator adds is not known.
    pub(super) fn weight(&self) -> usize {
        /// The counts of an [`Arc`].
        const COUNTS: usize = 2 * size_of::<usize>();
        fn own<T: ?Sized>(shared: &Arc<T>) -> usize {
            if Arc::strong_count(shared) > 1 { 0 } else { COUNTS + size_of_val(&**shared) }
        }
        let paths = [&self.exe, &self.cwd, &self.root].into_iter().flatten().map(own);
        let groups = [&self.cgroup_path, &self.cgroup].into_iter().flatten().map(own);
        let args = self.args.as_ref().filter(|args| Arc::strong_count(args) == 1);
        let ancestors = own(&self.ancestors);
        own(&self.comm)
            + paths.chain(groups).sum::<usize>()
            + args.map_or(0, |args| own(args) + self.args_bytes())
            + ancestors
            + if ancestors > 0 { self.ancestors.iter().map(|a| own(&a.comm)).sum() } else { 0 }
    }
}
