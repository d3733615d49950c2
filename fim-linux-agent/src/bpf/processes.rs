//! Process records to the process table. Both backends use it: the fanotify backend has the
//! tracepoint programs for its table, and nothing else.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::sync::Arc;

use fim_common::record::decode::{Body, Process, Record, components};
use fim_common::record::process_flag as flag;

use crate::process::{Ancestor, ArgsState, Credentials, Description, Key, Namespaces, Table, Tty};

/// Takes a record in if it is about a process; whether it was.
pub fn apply(table: &mut Table, record: &Record<'_>) -> bool {
    let key = Key::from(&record.actor);
    let credentials = Credentials::from(&record.actor);
    match &record.body {
        Body::Process(process) => table.describe(description(key, credentials, process)),
        Body::Fork(fork) => {
            let child = Key { tgid: fork.tgid, start: fork.start, exec_id: fork.exec_id };
            table.fork(key, child, credentials);
        }
        Body::Exit => table.exit(key, record.header.time, credentials),
        Body::File(_) => return false,
    }
    true
}

fn description(key: Key, credentials: Credentials, process: &Process<'_>) -> Description {
    let fixed = &process.fixed;
    let mut description = Description::new(key, comm(&fixed.comm), credentials);
    description.kernel_thread = fixed.flags & flag::KERNEL_THREAD != 0;
    description.exe_deleted = fixed.flags & flag::EXE_DELETED != 0;
    if fixed.flags & flag::EXE_TRUNCATED == 0 {
        description.exe = path(process.exe, description.exe_deleted).map(Into::into);
    }
    if fixed.flags & flag::CWD_TRUNCATED == 0 && !description.kernel_thread {
        description.cwd =
            Some(path(process.cwd, false).unwrap_or_else(|| PathBuf::from("/")).into());
    }
    let (args, args_state) = arguments(process, description.kernel_thread);
    (description.args, description.args_state) = (args.map(Into::into), args_state);
    description.cgroup_id = fixed.cgroup;
    description.cgroup_path = path(process.group, false).map(|path| path.to_string_lossy().into());
    description.tty = Tty::from_kernel(fixed.tty);
    description.namespaces =
        Namespaces { mnt: fixed.mnt_ns, pid: fixed.pid_ns, user: fixed.user_ns };
    description.ns_pid = fixed.ns_pid;
    description.ancestors = fixed
        .ancestors
        .iter()
        .take(fixed.ancestors_len as usize)
        .map(|ancestor| Ancestor {
            key: Key { tgid: ancestor.tgid, start: ancestor.start, exec_id: ancestor.exec_id },
            comm: comm(&ancestor.comm),
        })
        .collect();
    description
}

fn comm(bytes: &[u8]) -> Arc<OsStr> {
    OsStr::from_bytes(bytes.split(|&byte| byte == 0).next().unwrap_or_default()).into()
}

fn path(tail: &[u8], deleted: bool) -> Option<PathBuf> {
    if tail.is_empty() {
        return None;
    }
    let mut parts = components(tail).peekable();
    // A memfd's only name is `memfd:…`, outside any tree.
    let mut path = match parts.peek() {
        Some(first) if deleted && first.starts_with(b"memfd:") => PathBuf::new(),
        _ => PathBuf::from("/"),
    };
    path.extend(parts.map(OsStr::from_bytes));
    Some(path)
}

fn arguments(process: &Process<'_>, kernel_thread: bool) -> (Option<Vec<OsString>>, ArgsState) {
    let flags = process.fixed.flags;
    let state = if kernel_thread {
        ArgsState::KernelThread
    } else if flags & flag::ARGS_NOT_RESIDENT != 0 && process.args.is_empty() {
        ArgsState::NotResident
    } else if flags & (flag::ARGS_TRUNCATED | flag::ARGS_NOT_RESIDENT) != 0 {
        ArgsState::Truncated
    } else {
        ArgsState::Complete
    };
    if kernel_thread || (process.args.is_empty() && state != ArgsState::Complete) {
        return (None, state);
    }
    let args = process.args.strip_suffix(b"\0").unwrap_or(process.args);
    let args = if process.args.is_empty() {
        Vec::new()
    } else {
        args.split(|&byte| byte == 0).map(|arg| OsString::from_vec(arg.to_vec())).collect()
    };
    (Some(args), state)
}
