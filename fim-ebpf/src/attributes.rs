//! Attributes: mode, owner, times, size, extended attributes, ACLs, flags.

use aya_ebpf::helpers::generated::bpf_get_current_pid_tgid;
use fim_common::record::{Hook, Op, flag};

use crate::{
    count,
    draft::{self, Draft, NO_ATTRS, attrs},
    maps::{PENDING, Pending, PendingKey},
    mem::{Memory, Typed},
    names::take,
    offsets as off,
    scope::{self, object},
};

/// include/linux/fs.h
const ATTR_MODE: u32 = 1 << 0;
const ATTR_UID: u32 = 1 << 1;
const ATTR_GID: u32 = 1 << 2;
const ATTR_SIZE: u32 = 1 << 3;
const ATTR_MTIME: u32 = 1 << 5;
/// By an open description: ftruncate(2).
const ATTR_FILE: u32 = 1 << 13;
/// include/uapi/linux/fs.h: FS_IOC_SETFLAGS, its 32-bit form, FS_IOC_FSSETXATTR.
const SET_FLAGS: [u32; 3] = [0x4008_6602, 0x4004_6602, 0x401c_5820];

/// After notify_change().
///
/// # Safety
/// `dentry` is typed by the hook's signature, here and in all functions below.
#[inline(always)]
pub(crate) unsafe fn attributes_set(dentry: *const u8, iattr: *const u8, ret: i32) {
    let hook = Hook::SetAttr;
    count::seen(hook);
    // SAFETY: of the caller.
    unsafe {
        let Some(pending) = take(hook, dentry) else { return count::filtered(hook) };
        let valid: u32 = Typed::read(iattr, off::iattr_valid());
        let inode: *const u8 = Typed::read(dentry, off::dentry_inode());
        let told = if ret == 0 {
            true
        } else {
            // The failure of truncate(2) is told where it ends (`truncated`).
            draft::is_told(ret) && valid & (ATTR_SIZE | ATTR_FILE) != ATTR_SIZE
        };
        if !told
            || inode.is_null()
            || valid & (ATTR_MODE | ATTR_UID | ATTR_GID | ATTR_SIZE | ATTR_MTIME) == 0
        {
            return count::filtered(hook);
        }
        let op = if valid & ATTR_SIZE != 0 { Op::Truncate } else { Op::SetAttr };
        let Some(mut draft) = Draft::new(hook, op) else { return count::error(hook) };
        let mut flags = 0;
        if valid & ATTR_MODE != 0 {
            flags |= flag::SET_MODE;
        }
        if valid & (ATTR_UID | ATTR_GID) != 0 {
            flags |= flag::SET_OWNER;
        }
        if valid & ATTR_MTIME != 0 {
            flags |= flag::SET_TIMES;
        }
        if pending.before.nlink == 0 {
            flags |= flag::NAMELESS;
        }
        if !draft.path_of_pending(dentry, &pending) {
            return count::filtered(hook);
        }
        draft.flag(flags);
        (*draft.body).object = pending.object;
        (*draft.body).before = pending.before;
        if ret != 0 {
            if !draft.fail(ret) {
                return count::filtered(hook);
            }
        } else {
            draft.actor();
            (*draft.body).after = attrs::<Typed>(inode);
        }
        draft.send();
    }
}

/// After an operation on an object's attributes that has no entry program. `text` names what was
/// set; null for the flags.
#[inline(always)]
pub(crate) unsafe fn changed(hook: Hook, op: Op, dentry: *const u8, text: *const u8, ret: i32) {
    count::seen(hook);
    // SAFETY: of the caller.
    unsafe {
        let inode: *const u8 = Typed::read(dentry, off::dentry_inode());
        // The failure of setxattr(2) is told where it ends ([`refused`]).
        let told = ret == 0 || (draft::is_told(ret) && !matches!(hook, Hook::SetXattr));
        if inode.is_null() || scope::is_agent() || !told {
            return count::filtered(hook);
        }
        let Some(mut draft) = Draft::new(hook, op) else { return count::error(hook) };
        if !draft.path_in_scope::<Typed>(dentry, inode) {
            return count::filtered(hook);
        }
        (*draft.body).object = object::<Typed>(inode);
        if ret != 0 {
            if !draft.fail(ret) {
                return count::filtered(hook);
            }
        } else {
            draft.actor();
            (*draft.body).after = attrs::<Typed>(inode);
        }
        draft.extra(text);
        draft.send();
    }
}

/// After vfs_setxattr() or vfs_truncate(), which may have failed before the functions that see
/// what was done.
#[inline(always)]
pub(crate) unsafe fn refused(hook: Hook, op: Op, dentry: *const u8, text: *const u8, ret: i32) {
    if ret == 0 {
        return;
    }
    // SAFETY: of the caller.
    unsafe { changed(hook, op, dentry, text, ret) };
}

/// Before an ioctl(2). Before 5.13 flags are set by each file system itself, with nothing in common
/// but that the mount is held for writing meanwhile; see [`write_dropped`].
#[inline(always)]
pub(crate) unsafe fn ioctl_begins(file: *const u8, command: u32) {
    let mut index = 0;
    let mut sets = false;
    while index < SET_FLAGS.len() {
        sets |= SET_FLAGS[index] == command;
        index += 1;
    }
    if !sets || scope::is_agent() {
        return;
    }
    // SAFETY: of the caller, and a helper without arguments.
    unsafe {
        let inode: *const u8 = Typed::read(file, off::file_inode());
        if !scope::is_inside(Typed::read(file, off::file_dentry())) {
            return;
        }
        let pending = Pending { object: object::<Typed>(inode), before: NO_ATTRS };
        let key = PendingKey { object: bpf_get_current_pid_tgid(), hook: Hook::SetFlags as u64 };
        if PENDING.insert(key, pending, 0).is_err() {
            count::seen(Hook::SetFlags);
            count::error(Hook::SetFlags);
        }
    }
}

/// mnt_drop_write_file(): what [`ioctl_begins`] took down has been done, or was refused late: a
/// comparison tells.
#[inline(always)]
pub(crate) unsafe fn write_dropped(file: *const u8) {
    // SAFETY: of the caller, and a helper without arguments.
    unsafe {
        let key = PendingKey { object: bpf_get_current_pid_tgid(), hook: Hook::SetFlags as u64 };
        let Some(pending) = PENDING.get(key).copied() else { return };
        let _ = PENDING.remove(key);
        let inode: *const u8 = Typed::read(file, off::file_inode());
        if Typed::read::<u64>(inode, off::inode_ino()) == pending.object.ino {
            let dentry = Typed::read(file, off::file_dentry());
            changed(Hook::SetFlags, Op::SetAttr, dentry, core::ptr::null(), 0);
        }
    }
}
