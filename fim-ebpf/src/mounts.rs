//! Mounts: who mounts, moves or unmounts, and where. What has come of it user space reads from
//! `/proc/self/mountinfo`, which is the truth; these records only say who did it.

use aya_ebpf::helpers::generated::bpf_get_current_pid_tgid;
use fim_common::record::{
    Actor, FileBody, Header, Hook, Kind, Op,
    maps::{AttemptsKey, NO_ROOT},
};

use crate::{
    count,
    draft::{NO_ATTRS, NO_OBJECT, admit},
    maps::{PROCESS_SCRATCH, Scratch},
    mem::{Memory, Typed},
    offsets as off, process, record,
};

const BODY: usize = size_of::<Header>() + size_of::<Actor>();
const TAIL: usize = BODY + size_of::<FileBody>();

/// Before something is mounted on `path`, or a mount is moved there.
///
/// # Safety
/// The pointers are typed by the hook's signature.
#[inline(always)]
pub(crate) unsafe fn mounting(hook: Hook, path: *const u8) {
    // SAFETY: of the caller.
    unsafe {
        let mount: *const u8 = Typed::read(path, off::path_mnt());
        let dentry: *const u8 = Typed::read(path, off::path_dentry());
        tell(hook, Op::Mount, mount, dentry);
    }
}

/// Before `mount` is unmounted.
#[inline(always)]
pub(crate) unsafe fn unmounting(mount: *const u8) {
    // SAFETY: of the caller.
    unsafe {
        let root: *const u8 = Typed::read(mount, off::vfsmount_root());
        tell(Hook::Umount, Op::Unmount, mount, root);
    }
}

#[inline(always)]
unsafe fn tell(hook: Hook, op: Op, mount: *const u8, dentry: *const u8) {
    count::seen(hook);
    // Anybody may try to mount, and fail.
    // SAFETY: a helper without arguments.
    let tgid = (unsafe { bpf_get_current_pid_tgid() } >> 32) as u32;
    if admit(&AttemptsKey { start: 0, tgid, root: NO_ROOT }).is_none() {
        return count::filtered(hook);
    }
    process::describe(process::own_execution());
    let Some(scratch) = PROCESS_SCRATCH.get_ptr_mut(0) else { return count::error(hook) };
    // SAFETY: the scratch holds the fixed part, and the walk stays within its bounds.
    unsafe {
        let generation = record::begin(scratch);
        let bytes = Scratch::bytes(scratch);
        process::fill_actor(bytes.add(size_of::<Header>()).cast());
        let body: *mut FileBody = bytes.add(BODY).cast();
        body.write(FileBody {
            op: op as u32,
            ret: 0,
            flags: 0,
            root: 0,
            root2: 0,
            writers: 0,
            object: NO_OBJECT,
            other: NO_OBJECT,
            before: NO_ATTRS,
            after: NO_ATTRS,
            path_len: 0,
            path2_len: 0,
            extra_len: 0,
            reserved: 0,
        });
        Scratch::set_cursor(scratch, TAIL);
        let (len, _) = process::mounted_path(mount, dentry, scratch);
        (*body).path_len = len as u16;
        let end = Scratch::cursor(scratch);
        record::send(scratch, generation, hook, Kind::File, end);
    }
}
