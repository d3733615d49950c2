//! Who: the acting task, and the description of its execution.

use aya_ebpf::helpers::generated::{
    bpf_get_current_cgroup_id, bpf_get_current_pid_tgid, bpf_get_current_task,
    bpf_get_current_task_btf, bpf_probe_read_kernel_str, bpf_probe_read_user,
};
use fim_common::record::{
    ANCESTORS_MAX, ARGS_MAX, Actor, Ancestor, COMM_LEN, Header, Hook, ID_UNSET, Kind, PATH_MAX,
    ProcessBody, RECORD_MAX, process_flag,
};

use crate::{
    count,
    maps::{DESCRIBED, Execution, LAST_DESCRIBED, PROCESS_SCRATCH, Scratch},
    mem::{Memory, Probed, Typed},
    offsets as off, record,
};

const PF_KTHREAD: u32 = 0x0020_0000;
/// Longest name of a control group, with its NUL.
const GROUP_NAME: usize = 256;
/// Control groups above each other that are told: a container of a pod has four, one of a cluster in
/// containers eight.
const GROUPS: usize = 12;
/// Components and mounts of the path of an executable or a working directory: this many times
/// this many.
const STRIDE: u32 = 16;
const STRIDES: u32 = 32;

#[inline(always)]
pub(crate) fn current() -> *const u8 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_get_current_task() as *const u8 }
}

/// Start time of the task's thread group and its execution counter.
#[inline(always)]
pub(crate) unsafe fn execution(task: *const u8) -> Execution {
    // SAFETY: Probed reads check the address.
    unsafe {
        let leader: *const u8 = Probed::read(task, off::task_leader());
        Execution {
            start: Probed::read(leader, off::task_start()),
            tgid: Probed::read(task, off::task_tgid()),
            exec_id: Probed::read(task, off::task_exec_id()),
        }
    }
}

/// The current task, as the verifier knows it where it can (5.11): fields of it and of what it
/// points at are plain loads then.
#[inline(always)]
fn own() -> *const u8 {
    // SAFETY: helpers without arguments; the first is dead code for a kernel without it.
    unsafe {
        if off::has_task_btf() {
            bpf_get_current_task_btf() as *const u8
        } else {
            bpf_get_current_task() as *const u8
        }
    }
}

/// Reads a field of [`own`], or of what it points at.
#[inline(always)]
unsafe fn read_own<T: Copy>(base: *const u8, offset: u32) -> T {
    // SAFETY: of the caller.
    unsafe {
        if off::has_task_btf() { Typed::read(base, offset) } else { Probed::read(base, offset) }
    }
}

/// The execution of the current task.
#[inline(always)]
pub(crate) fn own_execution() -> Execution {
    // SAFETY: the current task.
    unsafe {
        let task = own();
        let leader: *const u8 = read_own(task, off::task_leader());
        Execution {
            start: read_own(leader, off::task_start()),
            tgid: (bpf_get_current_pid_tgid() >> 32) as u32,
            exec_id: read_own(task, off::task_exec_id()),
        }
    }
}

/// Fills in the acting task.
///
/// # Safety
/// `actor` is writable.
#[inline(always)]
pub(crate) unsafe fn fill_actor(actor: *mut Actor) {
    // SAFETY: of the caller.
    unsafe { fill_actor_of(actor, own_execution()) };
}

/// The same, where its execution is known already.
///
/// # Safety
/// `actor` is writable.
#[inline(always)]
pub(crate) unsafe fn fill_actor_of(actor: *mut Actor, execution: Execution) {
    let task = own();
    // SAFETY: the current task; `actor` is of the caller.
    unsafe {
        let pid_tgid = bpf_get_current_pid_tgid();
        (*actor).start = execution.start;
        (*actor).exec_id = execution.exec_id;
        (*actor).tgid = (pid_tgid >> 32) as u32;
        (*actor).tid = pid_tgid as u32;
        let cred: *const u8 = read_own(task, off::task_cred());
        (*actor).uid = read_own(cred, off::cred_uid());
        (*actor).gid = read_own(cred, off::cred_gid());
        (*actor).euid = read_own(cred, off::cred_euid());
        (*actor).egid = read_own(cred, off::cred_egid());
        (*actor).fsuid = read_own(cred, off::cred_fsuid());
        (*actor).loginuid = if off::task_loginuid() == off::ABSENT {
            ID_UNSET
        } else {
            read_own(task, off::task_loginuid())
        };
        (*actor).sessionid = if off::task_sessionid() == off::ABSENT {
            ID_UNSET
        } else {
            read_own(task, off::task_sessionid())
        };
    }
}

/// One step of [`mounted_path`]: 0 to go on, 1 at the end, 2 when the path is cut.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn fim_path_step() -> u64 {
    let Some(scratch) = PROCESS_SCRATCH.get_ptr_mut(0) else { return 1 };
    // SAFETY: Probed reads check addresses; the scratch bounds its cursor.
    unsafe {
        let walk = &raw mut (*scratch).walk;
        let here = (*walk).here as *const u8;
        let mount = (*walk).mount as *const u8;
        let written = Scratch::cursor(scratch) as u64 - (*walk).start;
        let root: *const u8 = Probed::read(mount, off::vfsmount_root());
        if here == root {
            let this = mount.wrapping_sub(off::mount_mnt() as usize);
            let up: *const u8 = Probed::read(this, off::mount_parent());
            if up == this || up.is_null() {
                return 1;
            }
            (*walk).here = Probed::read(this, off::mount_mountpoint());
            (*walk).mount = up.wrapping_add(off::mount_mnt() as usize) as u64;
            return 0;
        }
        let parent: *const u8 = Probed::read(here, off::dentry_parent());
        // An object outside any tree (a memfd) is its own parent, and its name is all it has.
        if parent == here && written != 0 {
            return 1;
        }
        if written > PATH_MAX as u64 {
            return 2;
        }
        let len: u32 = Probed::read(here, off::dentry_name_len());
        let name: *const u8 = Probed::read(here, off::dentry_name());
        Scratch::push_name(scratch, name, len);
        (*walk).here = parent as u64;
    }
    0
}

/// Some steps.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn fim_path_some() -> u64 {
    let mut left = STRIDE;
    while left > 0 {
        let end = fim_path_step();
        if end != 0 {
            return end;
        }
        left -= 1;
    }
    0
}

/// Appends the path of (`mount`, `dentry`) in its mount namespace to the process scratch, leaf
/// first. Returns the bytes written and whether it was cut.
#[inline(always)]
pub(crate) unsafe fn mounted_path(
    mount: *const u8,
    dentry: *const u8,
    scratch: *mut Scratch,
) -> (u32, bool) {
    // SAFETY: map values.
    unsafe {
        let at = Scratch::cursor(scratch);
        let walk = &raw mut (*scratch).walk;
        (&raw mut (*walk).here).write_volatile(dentry as u64);
        (&raw mut (*walk).mount).write_volatile(mount as u64);
        (*walk).start = at as u64;
        let mut end = 0;
        let mut left = STRIDES;
        while left > 0 {
            end = fim_path_some();
            if end != 0 {
                break;
            }
            left -= 1;
        }
        ((Scratch::cursor(scratch) - at) as u32, end != 1)
    }
}

/// Copies the task's name. As two words: rustc makes a call to memmove of a byte array.
#[inline(always)]
unsafe fn write_comm(target: *mut [u8; COMM_LEN], task: *const u8) {
    // SAFETY: `target` is an aligned field of a record.
    unsafe { target.cast::<[u64; 2]>().write(Probed::read(task, off::task_comm())) };
}

#[inline(always)]
unsafe fn fill_namespaces(task: *const u8, body: *mut ProcessBody) {
    // SAFETY: Probed reads check addresses.
    unsafe {
        let nsproxy: *const u8 = Probed::read(task, off::task_nsproxy());
        let mnt_ns: *const u8 = Probed::read(nsproxy, off::nsproxy_mnt_ns());
        (*body).mnt_ns = Probed::read(mnt_ns, off::mnt_ns_inum());
        let cred: *const u8 = Probed::read(task, off::task_cred());
        let user_ns: *const u8 = Probed::read(cred, off::cred_user_ns());
        (*body).user_ns = Probed::read(user_ns, off::user_ns_inum());
        // task_active_pid_ns(): the namespace of the deepest number of the task's struct pid.
        let pid: *const u8 = Probed::read(task, off::task_thread_pid());
        let level: u32 = Probed::read(pid, off::pid_level());
        let number = pid.wrapping_add(
            (off::pid_numbers() as usize)
                .wrapping_add((level & 0x3f) as usize * off::upid_size() as usize),
        );
        (*body).ns_pid = Probed::read(number, off::upid_nr());
        let pid_ns: *const u8 = Probed::read(number, off::upid_ns());
        (*body).pid_ns = Probed::read(pid_ns, off::pid_ns_inum());
    }
}

#[inline(always)]
unsafe fn terminal(task: *const u8) -> u32 {
    // SAFETY: Probed reads check addresses.
    unsafe {
        let signal: *const u8 = Probed::read(task, off::task_signal());
        let tty: *const u8 = Probed::read(signal, off::signal_tty());
        if tty.is_null() {
            return 0;
        }
        let driver: *const u8 = Probed::read(tty, off::tty_driver());
        let major: u32 = Probed::read(driver, off::tty_driver_major());
        let minor: u32 = Probed::read(driver, off::tty_driver_minor_start());
        let index: u32 = Probed::read(tty, off::tty_index());
        (major << 20) | ((minor + index) & 0xf_ffff)
    }
}

#[inline(always)]
unsafe fn fill_ancestors(task: *const u8, body: *mut ProcessBody) {
    // SAFETY: Probed reads check addresses; `index` stays within the array.
    unsafe {
        let mut here = task;
        let mut index = 0;
        while index < ANCESTORS_MAX {
            let parent: *const u8 = Probed::read(here, off::task_parent());
            let execution = execution(parent);
            if parent.is_null() || parent == here || execution.tgid == 0 {
                break;
            }
            let ancestor: *mut Ancestor = &raw mut (*body).ancestors[index];
            (*ancestor).start = execution.start;
            (*ancestor).tgid = execution.tgid;
            (*ancestor).exec_id = execution.exec_id;
            write_comm(&raw mut (*ancestor).comm, parent);
            here = parent;
            index += 1;
        }
        (*body).ancestors_len = index as u32;
    }
}

/// Appends the path of the task's control group, leaf first, and returns its bytes. By the time that
/// somebody reads the record a container may be gone with its group, and then nothing else tells.
#[inline(always)]
unsafe fn fill_group(task: *const u8, scratch: *mut Scratch) -> u32 {
    // SAFETY: Probed reads check addresses; 512 bytes lie behind each cursor.
    unsafe {
        let at = Scratch::cursor(scratch);
        let groups: *const u8 = Probed::read(task, off::task_cgroups());
        let default: *const u8 = Probed::read(groups, off::css_set_default());
        let mut node: *const u8 = Probed::read(default, off::cgroup_node());
        let above: *const u8 = Probed::read(node, off::kernfs_parent());
        // With cgroup v1 a container shows in the hierarchies of the controllers only.
        if above.is_null() {
            let state: *const u8 = Probed::read(groups, off::css_set_first());
            let first: *const u8 = Probed::read(state, off::css_cgroup());
            node = Probed::read(first, off::cgroup_node());
        }
        let mut left = GROUPS;
        while left > 0 {
            let parent: *const u8 = Probed::read(node, off::kernfs_parent());
            // The root of the hierarchy, which has no name.
            if parent.is_null() {
                break;
            }
            let name: *const u8 = Probed::read(node, off::kernfs_name());
            let cursor = Scratch::cursor(scratch);
            let target = Scratch::bytes(scratch).add(cursor);
            let len = bpf_probe_read_kernel_str(target.cast(), GROUP_NAME as u32, name.cast());
            if len <= 1 || len > GROUP_NAME as i64 {
                break;
            }
            Scratch::set_cursor(scratch, cursor + len as usize);
            node = parent;
            left -= 1;
        }
        (Scratch::cursor(scratch) - at) as u32
    }
}

/// Appends the arguments; returns flags.
#[inline(always)]
unsafe fn fill_args(mm: *const u8, body: *mut ProcessBody, scratch: *mut Scratch) -> u32 {
    // SAFETY: the helper checks user addresses; `ARGS_MAX` bytes fit behind a cursor below the
    // bound.
    unsafe {
        let from: u64 = Probed::read(mm, off::mm_arg_start());
        let to: u64 = Probed::read(mm, off::mm_arg_end());
        let total = to.wrapping_sub(from);
        (*body).args_total = total as u32;
        let cursor = Scratch::cursor(scratch);
        if total == 0 || cursor > RECORD_MAX - ARGS_MAX - 512 {
            return if total == 0 { 0 } else { process_flag::ARGS_TRUNCATED };
        }
        let target: *mut core::ffi::c_void = Scratch::bytes(scratch).add(cursor).cast();
        let source = from as *const core::ffi::c_void;
        let (wanted, mut flags) = if total > ARGS_MAX as u64 {
            (ARGS_MAX as u64, process_flag::ARGS_TRUNCATED)
        } else {
            (total, 0)
        };
        // A range the verifier keeps across whatever LLVM makes of the selection above.
        let wanted = core::hint::black_box(wanted) & 0x1fff;
        let wanted = if wanted > ARGS_MAX as u64 { ARGS_MAX as u64 } else { wanted };
        let mut len = wanted;
        if bpf_probe_read_user(target, wanted as u32, source) != 0 {
            // Part of it may be swapped out or was never touched: the first bytes matter most.
            flags |= process_flag::ARGS_NOT_RESIDENT;
            len = 256;
            if wanted <= 256 || bpf_probe_read_user(target, 256, source) != 0 {
                return flags;
            }
        }
        (*body).args_len = len as u16;
        Scratch::set_cursor(scratch, cursor + len as usize);
        flags
    }
}

const BODY: usize = size_of::<Header>() + size_of::<Actor>();
const TAIL: usize = BODY + size_of::<ProcessBody>();

/// Describes the current execution to user space, if that was not done before.
#[inline(always)]
pub(crate) fn describe(execution: Execution) {
    // Mostly it is the one that this CPU described last: one word, so that no half of another's is
    // taken for it.
    let word = execution
        .start
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(u64::from(execution.tgid) << 32 | u64::from(execution.exec_id));
    let last = LAST_DESCRIBED.get_ptr_mut(0);
    // SAFETY: a map value.
    if last.is_some_and(|last| unsafe { last.read_volatile() } == word) {
        return;
    }
    // SAFETY: only the presence of the value counts.
    if unsafe { DESCRIBED.get(execution) }.is_some() {
        if let Some(last) = last {
            // SAFETY: a map value.
            unsafe { last.write_volatile(word) };
        }
        return;
    }
    describe_now(execution.start, execution.tgid, execution.exec_id);
}

/// Describes the current execution to user space, at its start or at its first operation in
/// scope. Returns 1 when the record was sent; if not, the next operation tries again.
#[inline(never)]
pub(crate) fn describe_now(start: u64, tgid: u32, exec_id: u32) -> u32 {
    let hook = Hook::Exec;
    count::seen(hook);
    let Some(scratch) = PROCESS_SCRATCH.get_ptr_mut(0) else { return 0 };
    let task = current();
    // SAFETY: the scratch is large enough for the fixed part and for each tail, whose bounds are
    // checked as they grow.
    unsafe {
        let generation = record::begin(scratch);
        let bytes = (&raw mut (*scratch).bytes).cast::<u8>();
        fill_actor(bytes.add(size_of::<Header>()).cast());
        let body: *mut ProcessBody = bytes.add(BODY).cast();
        (*body).cgroup = bpf_get_current_cgroup_id();
        write_comm(&raw mut (*body).comm, task);
        (*body).tty = terminal(task);
        fill_namespaces(task, body);
        fill_ancestors(task, body);

        let mut flags = 0;
        if Probed::read::<u32>(task, off::task_flags()) & PF_KTHREAD != 0 {
            flags |= process_flag::KERNEL_THREAD;
        }
        Scratch::set_cursor(scratch, TAIL);
        let mm: *const u8 = Probed::read(task, off::task_mm());

        let mut exe_len = 0;
        let exe: *const u8 = Probed::read(mm, off::mm_exe_file());
        if !mm.is_null() && !exe.is_null() {
            let inode: *const u8 = Probed::read(exe, off::file_inode());
            if Probed::read::<u32>(inode, off::inode_nlink()) == 0 {
                flags |= process_flag::EXE_DELETED;
            }
            let mnt: *const u8 = Probed::read(exe, off::file_mnt());
            let dentry: *const u8 = Probed::read(exe, off::file_dentry());
            let (len, cut) = mounted_path(mnt, dentry, scratch);
            if cut {
                flags |= process_flag::EXE_TRUNCATED;
            }
            exe_len = len;
        }
        (*body).exe_len = exe_len as u16;

        let fs: *const u8 = Probed::read(task, off::task_fs());
        let mut cwd_len = 0;
        if !fs.is_null() {
            let mnt: *const u8 = Probed::read(fs, off::fs_pwd_mnt());
            let dentry: *const u8 = Probed::read(fs, off::fs_pwd_dentry());
            let (len, cut) = mounted_path(mnt, dentry, scratch);
            if cut {
                flags |= process_flag::CWD_TRUNCATED;
            }
            cwd_len = len;
        }
        (*body).cwd_len = cwd_len as u16;

        (*body).group_len = fill_group(task, scratch) as u16;

        (*body).args_total = 0;
        (*body).args_len = 0;
        if !mm.is_null() {
            flags |= fill_args(mm, body, scratch);
        }
        (*body).flags = flags;

        let len = Scratch::cursor(scratch);
        if record::send(scratch, generation, hook, Kind::Process, len) {
            let execution = Execution { start, tgid, exec_id };
            let _ = DESCRIBED.insert(execution, 1, 0);
            return 1;
        }
    }
    0
}
