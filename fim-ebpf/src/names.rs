//! Objects getting and losing names: creations by mknod(2) and the like, removals, links, renames.

use fim_common::record::{Hook, Op, flag};

use crate::{
    count,
    draft::{self, Draft, attrs, copy_name},
    maps::{PENDING, Pending, PendingKey, PendingRename, RENAMES, SCRATCH, Scratch},
    mem::{self, Memory, Typed},
    offsets as off, open, record,
    scope::{self, object},
};

/// include/uapi/linux/fs.h
const RENAME_EXCHANGE: u32 = 2;
const RENAME_WHITEOUT: u32 = 4;

/// After an object got its first name through a call that returned `ret`.
///
/// # Safety
/// `dentry` is typed by the hook's signature, here and in all functions below.
#[inline(always)]
pub(crate) unsafe fn created(hook: Hook, op: Op, dentry: *const u8, ret: i32, target: *const u8) {
    count::seen(hook);
    // SAFETY: of the caller.
    unsafe {
        let inode: *const u8 = Typed::read(dentry, off::dentry_inode());
        if scope::is_agent() || (ret == 0 && inode.is_null()) || (ret != 0 && !draft::is_told(ret))
        {
            return count::filtered(hook);
        }
        let Some(mut draft) = Draft::new(hook, op) else { return count::error(hook) };
        if !draft.path_in_scope::<Typed>(dentry, inode) {
            return count::filtered(hook);
        }
        if ret != 0 {
            if !draft.fail(ret) {
                return count::filtered(hook);
            }
        } else {
            draft.actor();
            (*draft.body).object = object::<Typed>(inode);
            (*draft.body).after = attrs::<Typed>(inode);
        }
        draft.extra(target);
        draft.send();
    }
}

/// Before an operation that changes or removes the object: takes down what it was, unless it is
/// known to be out of scope. Whether it is in scope the exit tells, which walks the path anyway.
#[inline(always)]
pub(crate) unsafe fn enter(hook: Hook, dentry: *const u8) {
    // SAFETY: of the caller.
    unsafe {
        let inode: *const u8 = Typed::read(dentry, off::dentry_inode());
        if inode.is_null() || scope::is_agent() || scope::is_cached_outside::<Typed>(dentry) {
            return;
        }
        let key = PendingKey { object: dentry as u64, hook: hook as u64 };
        let pending = Pending { object: object::<Typed>(inode), before: attrs::<Typed>(inode) };
        if PENDING.insert(key, pending, 0).is_err() {
            count::seen(hook);
            count::error(hook);
        }
    }
}

/// What [`enter`] took down.
#[inline(always)]
pub(crate) unsafe fn take(hook: Hook, dentry: *const u8) -> Option<Pending> {
    let key = PendingKey { object: dentry as u64, hook: hook as u64 };
    // SAFETY: the kernel holds the locks that keep a second operation off this dentry.
    let pending = unsafe { PENDING.get(key) }.copied();
    if pending.is_some() {
        let _ = PENDING.remove(key);
    }
    pending
}

/// d_delete(), which vfs_rmdir() calls when it has succeeded, before 5.12: there the compiler put
/// vfs_rmdir() into its caller, where nothing can be attached to it.
#[inline(always)]
pub(crate) unsafe fn directory_deleted(dentry: *const u8) {
    // SAFETY: of the caller.
    unsafe {
        let inode: *const u8 = Typed::read(dentry, off::dentry_inode());
        if !inode.is_null() && scope::is_directory::<Typed>(inode) {
            scope::bump_epoch();
        }
        let key = PendingKey { object: dentry as u64, hook: Hook::Rmdir as u64 };
        let Some(pending) = PENDING.get(key) else { return };
        // An attempt that failed left its entry: it is not of this object.
        if !inode.is_null() && pending.object.ino == Typed::read::<u64>(inode, off::inode_ino()) {
            removed(Hook::Rmdir, Op::Rmdir, dentry, 0);
        }
    }
}

/// After unlink or rmdir.
#[inline(always)]
pub(crate) unsafe fn removed(hook: Hook, op: Op, dentry: *const u8, ret: i32) {
    count::seen(hook);
    if matches!(hook, Hook::Rmdir) && ret == 0 {
        // Another directory may get this one's inode, with the same number: overlayfs has no
        // generations.
        scope::bump_epoch();
    }
    // SAFETY: of the caller. The caller of vfs_unlink() still holds the dentry, its parent and
    // name.
    unsafe {
        let Some(pending) = take(hook, dentry) else { return count::filtered(hook) };
        if ret != 0 && !draft::is_told(ret) {
            return count::filtered(hook);
        }
        let Some(mut draft) = Draft::new(hook, op) else { return count::error(hook) };
        (*draft.body).object = pending.object;
        (*draft.body).before = pending.before;
        if !draft.path_of_pending(dentry, &pending) {
            return count::filtered(hook);
        }
        if ret == 0 {
            draft.actor();
        } else if !draft.fail(ret) {
            return count::filtered(hook);
        }
        draft.send();
    }
}

/// After vfs_link().
#[inline(always)]
pub(crate) unsafe fn linked(old: *const u8, new: *const u8, ret: i32) {
    let hook = Hook::Link;
    count::seen(hook);
    // SAFETY: of the caller.
    unsafe {
        let inode: *const u8 = Typed::read(old, off::dentry_inode());
        if inode.is_null() || scope::is_agent() || (ret != 0 && !draft::is_told(ret)) {
            return count::filtered(hook);
        }
        if scope::is_cached_outside::<Typed>(old) && scope::is_cached_outside::<Typed>(new) {
            return count::filtered(hook);
        }
        let Some(mut draft) = Draft::new(hook, Op::Link) else { return count::error(hook) };
        let from = draft.path::<Typed>(old);
        let to = draft.path2(new);
        if from.is_outside() && to.is_outside() {
            if !scope::is_linked::<Typed>(inode) {
                return count::filtered(hook);
            }
            draft.flag(flag::LINKED);
        }
        if ret != 0 {
            if !draft.fail(ret) {
                return count::filtered(hook);
            }
        } else {
            draft.actor();
            let after = attrs::<Typed>(inode);
            if from.inside || to.inside {
                scope::follow(inode);
            }
            if to.inside && !from.inside {
                open::untracked();
            }
            if after.nlink == 1 {
                // The only name is the new one: an O_TMPFILE file gets its first.
                draft.flag(flag::NAMELESS);
            }
            (*draft.body).after = after;
        }
        (*draft.body).object = object::<Typed>(inode);
        draft.send();
    }
}

/// Before vfs_rename(): afterwards the old name is gone.
#[inline(always)]
pub(crate) unsafe fn rename_enter(renamedata: *const u8) {
    let hook = Hook::Rename;
    // SAFETY: of the caller.
    unsafe {
        let old: *const u8 = Typed::read(renamedata, off::rename_old_dentry());
        let new: *const u8 = Typed::read(renamedata, off::rename_new_dentry());
        let inode: *const u8 = Typed::read(old, off::dentry_inode());
        let other: *const u8 = Typed::read(new, off::dentry_inode());
        // rename(2) of two names of one object does nothing and succeeds.
        if inode.is_null() || inode == other || scope::is_agent() {
            return;
        }
        if !scope::is_inside(old) && !scope::is_inside(new) {
            return;
        }
        let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return };
        let generation = record::begin(scratch);
        let pending: *mut PendingRename = (&raw mut (*scratch).bytes).cast();
        (*pending).old_parent = Typed::read::<u64>(old, off::dentry_parent());
        (*pending).object = object::<Typed>(inode);
        if other.is_null() {
            mem::zero(&raw mut (*pending).other);
            mem::zero(&raw mut (*pending).other_attrs);
        } else {
            (*pending).other = object::<Typed>(other);
            (*pending).other_attrs = attrs::<Typed>(other);
        }
        (*pending).flags = Typed::read(renamedata, off::rename_flags());
        (*pending).name_len = copy_name(&raw mut (*pending).name, old);
        let torn = (&raw const (*scratch).generation).read_volatile() != generation;
        if torn || RENAMES.insert(old as u64, pending.as_ref_unchecked(), 0).is_err() {
            count::seen(hook);
            count::error(hook);
        }
    }
}

/// After vfs_rename(): the dentry bears its new name.
#[inline(always)]
pub(crate) unsafe fn rename_exit(renamedata: *const u8, ret: i32) {
    let hook = Hook::Rename;
    count::seen(hook);
    // SAFETY: of the caller.
    unsafe {
        let old: *const u8 = Typed::read(renamedata, off::rename_old_dentry());
        let inode: *const u8 = Typed::read(old, off::dentry_inode());
        // In an exchange either may be a directory.
        let flags: u32 = Typed::read(renamedata, off::rename_flags());
        if ret == 0
            && !inode.is_null()
            && (flags & RENAME_EXCHANGE != 0 || scope::is_directory::<Typed>(inode))
        {
            scope::bump_epoch();
        }
        let Some(pending) = RENAMES.get_ptr(old as u64) else { return count::filtered(hook) };
        if ret != 0 && !draft::is_told(ret) {
            let _ = RENAMES.remove(old as u64);
            return count::filtered(hook);
        }
        let Some(mut draft) = Draft::new(hook, Op::Rename) else {
            let _ = RENAMES.remove(old as u64);
            return count::error(hook);
        };
        mem::copy(&raw mut (*draft.body).object, &raw const (*pending).object);
        mem::copy(&raw mut (*draft.body).other, &raw const (*pending).other);
        mem::copy(&raw mut (*draft.body).before, &raw const (*pending).other_attrs);
        if (*pending).flags & RENAME_EXCHANGE != 0 {
            draft.flag(flag::EXCHANGE);
        }
        if (*pending).flags & RENAME_WHITEOUT != 0 {
            draft.flag(flag::WHITEOUT);
        }
        if (*pending).other.ino != 0 {
            draft.flag(flag::REPLACED);
        }
        let name = (&raw const (*pending).name).cast();
        draft.name(name, (*pending).name_len);
        let parent = (*pending).old_parent as *const u8;
        let _ = RENAMES.remove(old as u64);
        // The old parent is held by the rename.
        let from = draft.path_below(parent);
        let now = if ret == 0 { old } else { Typed::read(renamedata, off::rename_new_dentry()) };
        let to = draft.path2(now);
        if ret != 0 {
            if !draft.fail(ret) {
                return count::filtered(hook);
            }
        } else {
            draft.actor();
            if !inode.is_null() {
                (*draft.body).after = attrs::<Typed>(inode);
                if from.inside || to.inside {
                    scope::follow(inode);
                }
                // It may be open for writing, or something in it.
                if to.inside && !from.inside || flags & RENAME_EXCHANGE != 0 {
                    open::untracked();
                }
            }
        }
        draft.send();
    }
}

/// The scratch also holds a rename while it is taken down.
const _: () = assert!(size_of::<PendingRename>() <= size_of::<Scratch>());
