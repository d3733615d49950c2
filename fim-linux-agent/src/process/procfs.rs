//! One process, read from `/proc`. See proc_pid_stat(5), proc_pid_status(5).
//!
//! `/proc/<pid>` may come to be of another process between two reads: the start time in `stat`
//! says which one it is, and [`describe`] compares it before and after.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use fim_common::record;

use super::description::{ArgsState, Credentials, Description, Key, Namespaces, Tty};

/// Nanoseconds in a clock tick of `/proc/<pid>/stat`. `USER_HZ` is 100 on every architecture that
/// Rust's standard library and eBPF both support; the kernel rounds down (`nsec_to_clock_t`).
pub const TICK: u64 = 10_000_000;

/// Most bytes of a command line that are read. An argument can have 128 KiB (`MAX_ARG_STRLEN`).
const CMDLINE_MAX: u64 = 256 * 1024;

/// `PF_KTHREAD` in the flags of `stat`.
const KERNEL_THREAD: u64 = 0x0020_0000;

/// What `/proc/<pid>/stat` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The kernel's name of the process.
    pub comm: OsString,
    /// `R`, `S`, `Z` …
    pub state: u8,
    /// Parent.
    pub ppid: u32,
    /// `tty_nr` as it stands there.
    pub tty_nr: u32,
    /// It is a kernel thread.
    pub kernel_thread: bool,
    /// When the thread group's leader was started, in clock ticks since boot.
    pub start_ticks: u64,
    /// Addresses of code, stack and arguments. They differ after an execution (address space
    /// layout randomisation), so a change of them tells one without reading the rest.
    pub layout: [u64; 4],
}

impl Stat {
    /// `start_ticks` in nanoseconds.
    pub fn start(&self) -> u64 {
        self.start_ticks * TICK
    }
}

/// Reads and parses `<proc>/<pid>/stat`.
///
/// # Errors
/// When there is no such process, or the file is not as documented.
pub fn stat(proc: &Path, pid: u32) -> io::Result<Stat> {
    let content = fs::read(proc.join(pid.to_string()).join("stat"))?;
    parse_stat(&content).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// The name stands in parentheses and may itself contain any byte, parentheses and blanks
/// included: it ends at the last one.
fn parse_stat(content: &[u8]) -> Option<Stat> {
    let open = content.iter().position(|&byte| byte == b'(')?;
    let close = content.iter().rposition(|&byte| byte == b')')?;
    let comm = content.get(open + 1..close)?;
    let rest = std::str::from_utf8(content.get(close + 1..)?).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // Fields are counted from 1 in the manual page; the first one here is the third.
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Stat {
        comm: OsString::from_vec(comm.to_vec()),
        state: *fields.first()?.as_bytes().first()?,
        ppid: number(4)? as u32,
        // Printed as a signed number.
        tty_nr: fields.get(7 - 3)?.parse::<i64>().ok()? as u32,
        kernel_thread: number(9)? & KERNEL_THREAD != 0,
        start_ticks: number(22)?,
        layout: [26, 28, 48, 51].map(|field| number(field).unwrap_or(0)),
    })
}

/// What `/proc/<pid>/status`, `loginuid` and `sessionid` say of authority.
///
/// # Errors
/// When there is no such process, or a file is not as documented.
pub fn credentials(proc: &Path, pid: u32) -> io::Result<(Credentials, u32)> {
    let directory = proc.join(pid.to_string());
    let status = fs::read(directory.join("status"))?;
    let (ids, ns_pid) =
        parse_status(&status).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
    let credentials = Credentials {
        // A kernel without audit has no such files: nobody is logged in.
        loginuid: id(&directory.join("loginuid")).unwrap_or(record::ID_UNSET),
        sessionid: id(&directory.join("sessionid")).unwrap_or(record::ID_UNSET),
        ..ids
    };
    Ok((credentials, ns_pid))
}

fn parse_status(content: &[u8]) -> Option<(Credentials, u32)> {
    let line = |name: &[u8]| -> Option<Vec<u32>> {
        let line = content.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(name))?;
        std::str::from_utf8(line).ok()?.split_ascii_whitespace().map(|n| n.parse().ok()).collect()
    };
    let (uid, gid) = (line(b"Uid:")?, line(b"Gid:")?);
    let ns_pid = line(b"NSpid:").and_then(|ids| ids.last().copied()).unwrap_or(0);
    let credentials = Credentials {
        uid: *uid.first()?,
        gid: *gid.first()?,
        euid: *uid.get(1)?,
        egid: *gid.get(1)?,
        fsuid: *uid.get(3)?,
        loginuid: record::ID_UNSET,
        sessionid: record::ID_UNSET,
    };
    Some((credentials, ns_pid))
}

fn id(path: &Path) -> Option<u32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Everything but the ancestors of a process, and the `stat` it was read with.
///
/// # Errors
/// When there is no such process (any more).
pub fn describe(proc: &Path, pid: u32) -> io::Result<(Description, Stat)> {
    let before = stat(proc, pid)?;
    let directory = proc.join(pid.to_string());
    let (credentials, ns_pid) = credentials(proc, pid)?;
    let key = Key { tgid: pid, start: before.start(), exec_id: 0 };
    let mut description = Description::new(key, before.comm.as_os_str().into(), credentials);
    description.ns_pid = ns_pid;
    description.tty = Tty::from_proc(before.tty_nr);
    description.kernel_thread = before.kernel_thread;
    let (exe, exe_deleted) = executable(&directory);
    (description.exe, description.exe_deleted) = (exe.map(Into::into), exe_deleted);
    description.cwd = fs::read_link(directory.join("cwd")).ok().map(Into::into);
    let (args, args_state) = arguments(&directory, &before);
    (description.args, description.args_state) = (args.map(Into::into), args_state);
    description.cgroup = fs::read_to_string(directory.join("cgroup")).ok().map(Into::into);
    description.namespaces = Namespaces {
        mnt: namespace(&directory, "mnt"),
        pid: namespace(&directory, "pid"),
        user: namespace(&directory, "user"),
    };
    if stat(proc, pid)?.start_ticks != before.start_ticks {
        return Err(io::Error::from(io::ErrorKind::NotFound));
    }
    Ok((description, before))
}

/// The link's text ends in ` (deleted)` when the name is gone (proc_pid_exe(5)); a file can also
/// really be called that.
fn executable(directory: &Path) -> (Option<PathBuf>, bool) {
    const DELETED: &[u8] = b" (deleted)";
    let Ok(target) = fs::read_link(directory.join("exe")) else {
        return (None, false);
    };
    match target.as_os_str().as_bytes().strip_suffix(DELETED) {
        Some(name) if fs::symlink_metadata(&target).is_err() => {
            (Some(PathBuf::from(OsString::from_vec(name.to_vec()))), true)
        }
        _ => (Some(target), false),
    }
}

fn arguments(directory: &Path, stat: &Stat) -> (Option<Vec<OsString>>, ArgsState) {
    if stat.kernel_thread {
        return (None, ArgsState::KernelThread);
    }
    let mut content = Vec::new();
    let read = fs::File::open(directory.join("cmdline"))
        .and_then(|file| file.take(CMDLINE_MAX + 1).read_to_end(&mut content));
    match read {
        Err(_) => (None, ArgsState::Unreadable),
        // The memory of a zombie is gone, and with it the arguments.
        Ok(0) if stat.state == b'Z' => (None, ArgsState::Exited),
        Ok(_) if content.len() as u64 > CMDLINE_MAX => {
            content.truncate(CMDLINE_MAX as usize);
            (Some(split_arguments(&content)), ArgsState::Truncated)
        }
        Ok(_) => (Some(split_arguments(&content)), ArgsState::Complete),
    }
}

/// Arguments, each ended by NUL. A process may write over its own (setproctitle(3)) and leave no
/// NUL at the end, or a run of them, which are not arguments.
pub fn split_arguments(content: &[u8]) -> Vec<OsString> {
    let end = content.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    // A single NUL behind the last byte ends it; an empty last argument shows as one more.
    let padded = content.len() - end > 2;
    let content = if padded { &content[..end] } else { content };
    let content = content.strip_suffix(&[0]).unwrap_or(content);
    if content.is_empty() && end == 0 {
        return Vec::new();
    }
    content.split(|&byte| byte == 0).map(|arg| OsString::from_vec(arg.to_vec())).collect()
}

/// The whole command line of a live process that was started at `start` (nanoseconds since boot).
pub(super) fn arguments_of(
    proc: &Path,
    pid: u32,
    start: u64,
) -> Option<(Vec<OsString>, ArgsState)> {
    let stat = stat(proc, pid).ok()?;
    if stat.start_ticks != start / TICK {
        return None;
    }
    match arguments(&proc.join(pid.to_string()), &stat) {
        (Some(args), state) => Some((args, state)),
        (None, _) => None,
    }
}

pub(super) fn namespace(directory: &Path, name: &str) -> u32 {
    fs::metadata(directory.join("ns").join(name)).map_or(0, |metadata| metadata.ino() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process() {
        let pid = std::process::id();
        let (description, stat) = describe(Path::new("/proc"), pid).unwrap();
        assert_eq!(description.exe.as_deref(), std::env::current_exe().ok().as_deref());
        assert_eq!(description.cwd.as_deref(), std::env::current_dir().ok().as_deref());
        assert_eq!(*description.args.unwrap(), std::env::args_os().collect::<Vec<_>>());
        assert_eq!(description.args_state, ArgsState::Complete);
        assert_eq!(description.credentials.uid, rustix::process::getuid().as_raw());
        assert_eq!(stat.ppid, rustix::process::getppid().unwrap().as_raw_nonzero().get() as u32);
        assert!(!stat.kernel_thread);
    }

    #[test]
    fn names_with_parentheses_and_blanks() {
        let line = b"7 (a) b (\xff) S 1 7 7 34816 7 4194304 0 0 0 0 0 0 0 0 20 0 1 0 4711 0 0 0 \
                     10 11 12 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 48 49 50 51 0";
        let stat = parse_stat(line).unwrap();
        assert_eq!(stat.comm.as_bytes(), b"a) b (\xff");
        assert_eq!((stat.ppid, stat.start_ticks), (1, 4711));
        assert_eq!(stat.layout, [10, 12, 48, 51]);
        assert_eq!(Tty::from_proc(stat.tty_nr), Some(Tty { major: 136, minor: 0 }));
    }

    #[test]
    fn stat_that_is_none() {
        for content in [&b""[..], b"1", b"1 (", b"1 )(", b"1 ()", b"1 () S", b"1 (x) S a b c"] {
            assert_eq!(parse_stat(content), None, "{content:?}");
        }
    }

    #[test]
    fn argument_lists() {
        let split = |content: &[u8]| -> Vec<String> {
            split_arguments(content).iter().map(|a| a.to_string_lossy().into_owned()).collect()
        };
        assert_eq!(split(b""), [] as [&str; 0]);
        assert_eq!(split(b"a\0b\0"), ["a", "b"]);
        assert_eq!(split(b"a\0\0"), ["a", ""]);
        assert_eq!(split(b"\0b\0"), ["", "b"]);
        assert_eq!(split(b"sshd: ann\0\0\0\0\0"), ["sshd: ann"]);
        assert_eq!(split(b"no end"), ["no end"]);
        assert_eq!(split(b"\0"), [] as [&str; 0]);
    }
}
