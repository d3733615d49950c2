//! What the agent gives up, so that whoever takes it over does not get more than what it needs.
//!
//! Capabilities go before anything is armed, when there is one thread: those of threads that are
//! there already could not be taken. What is left is what arming needs, and what it needs again when
//! the policy or a mount changes. System calls go when everything is armed, for all threads at once.

use std::collections::BTreeMap;
use std::io;

use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// What is kept, where it was there.
///
/// `BPF` and `PERFMON` load and attach programs. `SYS_ADMIN` is for fanotify, extended attributes
/// `trusted.*`, and in place of the first two before 5.8. `DAC_READ_SEARCH` reads files of all users,
/// and finds them by handle. `SYS_PTRACE` reads `/proc` of all users' processes.
pub const KEPT: CapabilitySet = CapabilitySet::BPF
    .union(CapabilitySet::PERFMON)
    .union(CapabilitySet::SYS_ADMIN)
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::SYS_PTRACE);

/// Gives up all capabilities but [`KEPT`], and that a program that is started gets any. Before there
/// is another thread.
///
/// # Errors
/// When the kernel refuses: nobody but a filter on system calls makes it.
pub fn drop_privileges() -> io::Result<()> {
    // Maps count as locked memory before 5.11, and raising the limit needs a capability that goes.
    let unlimited = Rlimit { current: None, maximum: None };
    if let Err(error) = setrlimit(Resource::Memlock, unlimited) {
        tracing::debug!(%error, "the limit of locked memory stays as it is");
    }
    rustix::thread::set_no_new_privs(true)?;
    let have = capabilities(None)?;
    for capability in CapabilitySet::all().difference(KEPT).iter() {
        // Needs CAP_SETPCAP, which a container may lack; without new privileges the set is of no
        // use to anybody anyway.
        let _ = rustix::thread::remove_capability_from_bounding_set(capability);
    }
    let kept = have.permitted.intersection(KEPT);
    let sets =
        CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets)?;
    Ok(())
}

/// System calls that end the process from [`forbid`] on: to start another program, to look into or
/// change other processes, to change what is mounted, the kernel, users, namespaces, the clock. The
/// agent has no use for any of them. It is a list of what is forbidden, not of what is allowed: a
/// library that takes to a new harmless call must not end the monitor of a host.
const FORBIDDEN: &[libc::c_long] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_setgroups,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_syslog,
    libc::SYS_personality,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    // Only there.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_fork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_vfork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
];

/// Why system calls are not forbidden.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be made, for a machine that the library knows nothing of.
    #[error("no filter of system calls can be made: {0}")]
    Make(#[from] seccompiler::BackendError),
    /// The kernel does not take it.
    #[error("the kernel takes no filter of system calls: {0}")]
    Apply(#[from] seccompiler::Error),
}

/// From here on a call of [`FORBIDDEN`], by any thread, ends the process with SIGSYS.
///
/// # Errors
/// When the kernel has no such filters.
pub fn forbid() -> Result<(), Error> {
    let rules = FORBIDDEN.iter().map(|call| (*call, Vec::new()));
    let filter = SeccompFilter::new(
        rules.collect::<BTreeMap<_, _>>(),
        SeccompAction::Allow,
        SeccompAction::KillProcess,
        std::env::consts::ARCH.try_into()?,
    )?;
    let program: BpfProgram = filter.try_into()?;
    seccompiler::apply_filter_all_threads(&program)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
    use std::process::Command;

    /// Set for the process in which something is given up.
    const CHILD: &str = "FIM_TEST_CONFINE";

    /// Runs the test of this name in a process of its own.
    fn child(name: &str) -> std::process::ExitStatus {
        let program = std::env::current_exe().unwrap();
        let name = format!("confine::tests::{name}");
        let mut command = Command::new(program);
        command.args(["--exact", &name, "--test-threads", "1"]).env(CHILD, "1");
        command.output().unwrap().status
    }

    #[test]
    fn a_forbidden_call_ends_the_process() {
        if std::env::var_os(CHILD).is_some() {
            // A thread that is there already is under it too.
            let (go, wait) = std::sync::mpsc::channel::<()>();
            let other = std::thread::spawn(move || {
                wait.recv().unwrap();
                Command::new("/bin/true").exec()
            });
            forbid().unwrap();
            std::thread::spawn(|| std::fs::read("/proc/self/status").unwrap()).join().unwrap();
            go.send(()).unwrap();
            let error = other.join().unwrap();
            panic!("it was refused only: {error}");
        }
        let status = child("a_forbidden_call_ends_the_process");
        assert_eq!(status.signal(), Some(libc::SIGSYS), "{status}");
    }

    #[test]
    fn what_is_not_needed_is_given_up() {
        if std::env::var_os(CHILD).is_some() {
            drop_privileges().unwrap();
            let left = capabilities(None).unwrap();
            assert!(KEPT.contains(left.permitted), "{left:?}");
            assert_eq!(left.effective, left.permitted);
            assert!(rustix::thread::no_new_privs().unwrap());
            // A program that is started gets no more, whoever starts it.
            let status = Command::new("sh")
                .args(["-c", "grep -q '^NoNewPrivs:.*1' /proc/self/status"])
                .status();
            assert!(status.unwrap().success());
            return;
        }
        assert!(child("what_is_not_needed_is_given_up").success());
    }
}
