//! Files opened, written and released.

use aya_ebpf::helpers::generated::{
    bpf_get_current_pid_tgid, bpf_ktime_get_boot_ns, bpf_probe_read_kernel_str,
};
use fim_common::record::{Attrs, Hook, ID_UNSET, NAME_MAX, Object, Op, flag, maps::Armed};

use crate::{
    atomic, count,
    draft::{self, Draft, attrs},
    maps::{
        ARMED, FILES, OpenFile, SCRATCH, SETTINGS, Scratch, UNTRACKED, WRITTEN, Written, scalar,
    },
    mem::{Memory, Probed, Typed},
    offsets as off, process,
    scope::{self, object},
};

/// include/linux/fs.h
const FMODE_WRITE: u32 = 0x2;
const FMODE_NOCMTIME: u32 = 0x800;
const FMODE_CREATED: u32 = 0x10_0000;
/// include/uapi/asm-generic/fcntl.h
const O_ACCMODE: u32 = 0o3;
const O_CREAT: u32 = 0o100;
const O_TRUNC: u32 = 0o1000;
const O_TMPFILE: u32 = 0o20_000_000;
const S_IFMT: u32 = 0o170_000;
const S_IFREG: u32 = 0o100_000;

/// A modification by the same process is reported at most this often; in between, the close and
/// the settling in user space find it. Nanoseconds.
const MODIFY_INTERVAL: u64 = 250_000_000;
/// The kernel's coarse clock moves at most every 10 ms (CONFIG_HZ=100); twice that leaves no
/// doubt whether a write could have hidden behind an equal time stamp. Nanoseconds.
const TICK: i64 = 20_000_000;

/// [`OpenFile::doubtful`]: the time stamps of this file prove nothing.
const TIMES_UNSURE: u32 = 1;
/// It is mapped, shared.
const MAPPED: u32 = 2;

/// After path_openat(), which every open(2) passes, with the opened file or why there is none.
///
/// # Safety
/// The pointers are typed by the hook's signature, here and in all functions below.
#[inline(always)]
pub(crate) unsafe fn path_opened(nameidata: *const u8, flags: *const u8, file: *const u8) {
    // IS_ERR(), include/linux/err.h: the last 4095 addresses are errors.
    let result = file as u64;
    // SAFETY: of the caller.
    unsafe {
        if result < u64::MAX - 4094 {
            if result != 0 {
                opened(file);
            }
        } else {
            open_failed(nameidata, flags, scalar(result) as i32);
        }
    }
}

/// A file that could not be opened. The way that was walked is no longer held, but what it led to
/// is still in memory, and everything is read with checked addresses: a name that is reused in this
/// moment leads to no root.
#[inline(always)]
unsafe fn open_failed(nameidata: *const u8, flags: *const u8, ret: i32) {
    let hook = Hook::FileOpen;
    // SAFETY: of the caller.
    unsafe {
        let open: u32 = Typed::read(flags, off::open_flag());
        let creates = open & O_CREAT != 0 && open & O_TMPFILE != O_TMPFILE;
        if (open & (O_ACCMODE | O_TRUNC) == 0 && !creates) || !draft::is_told(ret) {
            return;
        }
        count::seen(hook);
        if scope::is_agent() {
            return count::filtered(hook);
        }
        let inode: *const u8 = Typed::read::<u64>(nameidata, off::nameidata_inode()) as *const u8;
        let dentry = if inode.is_null() { inode } else { scope::first_name::<Probed>(inode) };
        if dentry.is_null() {
            return count::filtered(hook);
        }
        if !scope::is_directory::<Probed>(inode) {
            let Some(mut draft) = Draft::new(hook, Op::OpenWrite) else {
                return count::error(hook);
            };
            if !draft.path_in_scope::<Probed>(dentry, inode) {
                return count::filtered(hook);
            }
            (*draft.body).object = object::<Probed>(inode);
            (*draft.body).after = attrs::<Probed>(inode);
            if draft.fail(ret) {
                return draft.send();
            }
            return count::filtered(hook);
        }
        // A directory: the one in which a name was to be made, or one that may not be searched. Or
        // the one in which a file without a name was to be made, which is its own last component.
        let nameless = open & O_TMPFILE == O_TMPFILE && is_last_component(nameidata);
        let op = if creates || nameless { Op::Create } else { Op::OpenWrite };
        let Some(mut draft) = Draft::new(hook, op) else { return count::error(hook) };
        if !(nameless || rest_of_name(&mut draft, nameidata))
            || draft.path_below(dentry).is_outside()
        {
            return count::filtered(hook);
        }
        if draft.fail(ret) {
            draft.send();
        } else {
            count::filtered(hook);
        }
    }
}

/// Whether nothing of the name is left to be looked up but slashes.
#[inline(always)]
unsafe fn is_last_component(nameidata: *const u8) -> bool {
    // SAFETY: of the caller; the name is a kernel string that lives as long as the call.
    unsafe {
        let last: u64 = Typed::read(nameidata, off::nameidata_last_name());
        let len: u32 = Typed::read(nameidata, off::nameidata_last_len());
        let behind = last.wrapping_add(u64::from(len & NAME_MAX as u32)) as *const u8;
        let next: [u8; 2] = Probed::read(behind, 0);
        next[0] == 0 || next == *b"/\0"
    }
}

/// Appends what of the name was still to be looked up: the last component, or what lies behind the
/// one that was reached.
#[inline(always)]
unsafe fn rest_of_name(draft: &mut Draft, nameidata: *const u8) -> bool {
    // SAFETY: of the caller; the name is a kernel string that lives as long as the call.
    unsafe {
        let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return false };
        let last: u64 = Typed::read(nameidata, off::nameidata_last_name());
        let len: u32 = Typed::read(nameidata, off::nameidata_last_len());
        let filename: u64 = Typed::read(nameidata, off::nameidata_name());
        let whole: u64 = Probed::read(filename as *const u8, off::filename_name());
        let len = len & NAME_MAX as u32;
        let behind = last.wrapping_add(u64::from(len)) as *const u8;
        let next: u8 = Probed::read(behind, 0);
        // Below PATH_MAX from the beginning it is the name that was asked for, else that of a link.
        let own = last.wrapping_sub(whole) < 4096;
        if !own || next == 0 {
            draft.name(last as *const u8, len);
            return true;
        }
        // Not the last one: the directory that it names may not be searched. The rest is kept as it
        // was asked for.
        let cursor = Scratch::cursor(scratch);
        let target = Scratch::bytes(scratch).add(cursor);
        let len = bpf_probe_read_kernel_str(
            target.cast(),
            NAME_MAX as u32 + 1,
            behind.wrapping_add(1).cast(),
        );
        if len <= 1 || len > NAME_MAX as i64 + 1 {
            return false;
        }
        Scratch::set_cursor(scratch, cursor + len as usize);
        (*draft.body).path_len += len as u16;
        if len == NAME_MAX as i64 + 1 {
            draft.flag(flag::PATH_TRUNCATED);
        }
        true
    }
}

/// After a file was opened.
#[inline(always)]
pub(crate) unsafe fn opened(file: *const u8) {
    let hook = Hook::FileOpen;
    // SAFETY: of the caller.
    unsafe {
        let mode: u32 = Typed::read(file, off::file_mode());
        if mode & (FMODE_WRITE | FMODE_CREATED) == 0 {
            return arm(file);
        }
        let created = mode & FMODE_CREATED != 0;
        let writable = mode & FMODE_WRITE != 0;
        let dentry: *const u8 = Typed::read(file, off::file_dentry());
        let inode: *const u8 = Typed::read(file, off::file_inode());
        if scope::mode::<Typed>(inode) & S_IFMT != S_IFREG {
            return;
        }
        count::seen(hook);
        if scope::is_agent() {
            return count::filtered(hook);
        }
        // Before anything is put together: almost all that is opened on a machine is out of scope.
        if scope::is_cached_outside::<Typed>(dentry) {
            return count::filtered(hook);
        }
        let op = if created { Op::Create } else { Op::OpenWrite };
        let Some(mut draft) = Draft::new(hook, op) else { return count::error(hook) };
        if !draft.walked_in_scope::<Typed>(dentry, inode) {
            return count::filtered(hook);
        }
        let actor = draft.actor();
        let now = attrs::<Typed>(inode);
        let identity = object::<Typed>(inode);
        if writable {
            let time = bpf_ktime_get_boot_ns();
            draft.time = Some(time);
            let unsure = mode & FMODE_NOCMTIME != 0 || just_changed(&now, time);
            let open = OpenFile {
                mtime: now.mtime,
                mtime_nsec: now.mtime_nsec,
                doubtful: if unsure { TIMES_UNSURE } else { 0 },
                start: (*actor).start,
                tgid: (*actor).tgid,
                tid: (*actor).tid,
                size: now.size,
                exec_id: (*actor).exec_id,
                reserved: 0,
            };
            if FILES.insert(file as u64, open, 0).is_err() {
                untracked();
            }
            one_more_writer(inode, &identity);
            if created {
                draft.flag(flag::OPENED_WRITE);
            }
            if Typed::read::<u32>(file, off::file_flags()) & O_TRUNC != 0 {
                draft.flag(flag::TRUNCATE);
            }
        }
        if now.nlink == 0 {
            draft.flag(flag::NAMELESS);
        }
        (*draft.body).object = identity;
        (*draft.body).after = now;
        draft.send();
    }
}

/// Whether the file was changed so shortly before `time` that a further write may leave the same
/// time stamp. Nanoseconds since boot.
#[inline(always)]
fn just_changed(attrs: &Attrs, time: u64) -> bool {
    let Some(settings) = scope::settings() else { return true };
    let now = time as i64 + settings.realtime_offset;
    let changed = attrs.mtime.wrapping_mul(1_000_000_000) + i64::from(attrs.mtime_nsec);
    now - changed < TICK
}

/// Something in scope may be open for writing that [`FILES`] does not know: see [`UNTRACKED`].
#[inline(always)]
pub(crate) fn untracked() {
    if let Some(count) = UNTRACKED.get_ptr_mut(0) {
        // SAFETY: a map value.
        unsafe { atomic::add_u64(count, 1) };
    }
}

/// Whether a description that [`FILES`] does not know may be of a file in scope.
#[inline(always)]
unsafe fn may_be_untracked(file: *const u8) -> bool {
    if UNTRACKED.get(0).is_none_or(|count| *count == 0) {
        return false;
    }
    // SAFETY: of the caller.
    unsafe {
        let dentry: *const u8 = Typed::read(file, off::file_dentry());
        let inode: *const u8 = Typed::read(file, off::file_inode());
        scope::mode::<Typed>(inode) & S_IFMT == S_IFREG
            && !scope::is_agent()
            && !scope::is_cached_outside::<Typed>(dentry)
    }
}

#[inline(always)]
unsafe fn one_more_writer(inode: *const u8, identity: &Object) {
    let Some(written) = WRITTEN.get_ptr_mut(inode as u64) else {
        let _ = WRITTEN.insert(inode as u64, Written::new(identity, 1), 0);
        return;
    };
    // SAFETY: a map value; two CPUs may open the file at once, hence atomic.
    unsafe {
        if (*written).is_of(identity) {
            atomic::add_u32(&raw mut (*written).writers, 1);
        } else {
            // Another object has the address now.
            written.write(Written::new(identity, 1));
        }
    }
}

/// When a file description ends: __fput().
#[inline(always)]
pub(crate) unsafe fn released(file: *const u8) {
    let hook = Hook::FileRelease;
    // SAFETY: as above.
    unsafe {
        if Typed::read::<u32>(file, off::file_mode()) & FMODE_WRITE == 0 {
            return;
        }
        let inode: *const u8 = Typed::read(file, off::file_inode());
        let open = FILES.get(file as u64).copied();
        if open.is_some() {
            let _ = FILES.remove(file as u64);
        } else if !may_be_untracked(file) {
            return;
        }
        count::seen(hook);
        // First what the verifier has to look at most: once, before the ways part.
        let Some(mut draft) = Draft::new(hook, Op::CloseWrite) else { return count::error(hook) };
        let dentry: *const u8 = Typed::read(file, off::file_dentry());
        if draft.path::<Typed>(dentry).is_outside() {
            if open.is_none() && !scope::is_linked::<Typed>(inode) {
                return count::filtered(hook);
            }
            draft.flag(flag::LINKED);
        }
        // It is told as done by the one who opened it, who was described then.
        let actor = draft.credentials();
        let identity = object::<Typed>(inode);
        let now = attrs::<Typed>(inode);
        let mut writers = 0;
        if let Some(written) = WRITTEN.get_ptr_mut(inode as u64)
            && (*written).is_of(&identity)
        {
            atomic::add_u32(&raw mut (*written).writers, u32::MAX);
            writers = (*written).writers;
            if writers > u32::MAX / 2 {
                // One was opened before the entry was made.
                (&raw mut (*written).writers).write_volatile(0);
                writers = 0;
            }
        }
        (*draft.body).writers = writers;
        if let Some(open) = open {
            if (*actor).tgid != open.tgid {
                // Whose credentials these are is not known here; the process table has the opener's.
                (*actor).uid = ID_UNSET;
            }
            // The thread that releases a file need not be the one that opened it.
            (*actor).tid = open.tid;
            (*actor).start = open.start;
            (*actor).tgid = open.tgid;
            (*actor).exec_id = open.exec_id;
            if now.mtime != open.mtime || now.mtime_nsec != open.mtime_nsec || now.size != open.size
            {
                draft.flag(flag::MODIFIED);
            } else if open.doubtful != 0 {
                draft.flag(flag::MAYBE_MODIFIED);
            }
        } else {
            // Who opened it, and how it was then, nobody knows.
            process::describe(process::own_execution());
            draft.flag(flag::MAYBE_MODIFIED);
        }
        if now.nlink == 0 {
            draft.flag(flag::NAMELESS);
        }
        (*draft.body).object = identity;
        (*draft.body).after = now;
        draft.send();
    }
}

/// When the kernel is about to set the modification time of `inode` for a write.
#[inline(always)]
pub(crate) unsafe fn time_updated(inode: *const u8) {
    let hook = Hook::TimeUpdate;
    // SAFETY: as above.
    unsafe {
        if scope::mode::<Typed>(inode) & S_IFMT != S_IFREG {
            return;
        }
        count::seen(hook);
        let identity = object::<Typed>(inode);
        let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
        let now = bpf_ktime_get_boot_ns();
        let mut known = false;
        match WRITTEN.get_ptr_mut(inode as u64) {
            Some(written) if (*written).is_of(&identity) => {
                if (*written).tgid == tgid
                    && now.wrapping_sub((*written).reported) < MODIFY_INTERVAL
                {
                    return count::filtered(hook);
                }
                (*written).tgid = tgid;
                (*written).reported = now;
                known = true;
            }
            _ => {}
        }
        if scope::is_agent() {
            return count::filtered(hook);
        }
        // By the inode's first name: a description opened before the agent started is found this
        // way too.
        let dentry = scope::first_name::<Typed>(inode);
        if dentry.is_null() {
            return count::filtered(hook);
        }
        // What has an entry was in scope when it got it.
        if !known && scope::is_cached_outside::<Probed>(dentry) {
            return count::filtered(hook);
        }
        let Some(mut draft) = Draft::new(hook, Op::Modify) else { return count::error(hook) };
        if !draft.walked_in_scope::<Probed>(dentry, inode) {
            return count::filtered(hook);
        }
        draft.actor();
        if !known {
            let written = Written { reported: now, tgid, ..Written::new(&identity, 0) };
            let _ = WRITTEN.insert(inode as u64, written, 0);
        }
        (*draft.body).object = identity;
        (*draft.body).after = attrs::<Typed>(inode);
        if (*draft.body).after.nlink == 0 {
            draft.flag(flag::NAMELESS);
        }
        draft.send();
    }
}

/// After security_mmap_file(): a shared mapping changes content without a trace in the times on
/// some file systems (tmpfs), at any time until it is unmapped, which is when the file is released.
/// One that is read-only may be made writable by mprotect(2).
#[inline(always)]
pub(crate) unsafe fn mapped(file: *const u8) {
    let hook = Hook::Mmap;
    let open = FILES.get_ptr_mut(file as u64);
    // SAFETY: a map value, and as above.
    unsafe {
        match open {
            Some(open) => {
                count::seen(hook);
                if (*open).doubtful & MAPPED != 0 {
                    return count::filtered(hook);
                }
                (*open).doubtful |= MAPPED;
            }
            None => {
                if Typed::read::<u32>(file, off::file_mode()) & FMODE_WRITE == 0
                    || !may_be_untracked(file)
                {
                    return;
                }
                count::seen(hook);
            }
        }
        let Some(mut draft) = Draft::new(hook, Op::Map) else { return count::error(hook) };
        let dentry: *const u8 = Typed::read(file, off::file_dentry());
        let inode: *const u8 = Typed::read(file, off::file_inode());
        if draft.path::<Typed>(dentry).is_outside() {
            if open.is_none() && !scope::is_linked::<Typed>(inode) {
                return count::filtered(hook);
            }
            draft.flag(flag::LINKED);
        }
        draft.actor();
        (*draft.body).object = object::<Typed>(inode);
        (*draft.body).after = attrs::<Typed>(inode);
        if (*draft.body).after.nlink == 0 {
            draft.flag(flag::NAMELESS);
        }
        draft.send();
    }
}

/// Tells the agent the kernel's identity of the directory that it opens while armed.
#[inline(always)]
unsafe fn arm(file: *const u8) {
    // SAFETY: as above.
    unsafe {
        let Some(settings) = SETTINGS.get_ptr_mut(0) else { return };
        if (*settings).arm_tid == 0 || (*settings).arm_tid != bpf_get_current_pid_tgid() as u32 {
            return;
        }
        let Some(armed) = ARMED.get_ptr_mut(0) else { return };
        let dentry: *const u8 = Typed::read(file, off::file_dentry());
        let inode: *const u8 = Typed::read(dentry, off::dentry_inode());
        (*settings).arm_tid = 0;
        let armed: *mut Armed = armed;
        (*armed).ino = Typed::read(inode, off::inode_ino());
        (*armed).dev = scope::device::<Typed>(inode);
        (*armed).generation = Typed::read(inode, off::inode_generation());
        (*armed).inode = inode as u64;
    }
}
