//! The operations on files: what each hook takes down, and the record it sends.

use aya_ebpf::helpers::generated::{
    bpf_get_current_pid_tgid, bpf_ktime_get_boot_ns, bpf_probe_read_kernel,
    bpf_probe_read_kernel_str,
};
use fim_common::record::{
    Actor, Attrs, FileBody, Header, Hook, ID_UNSET, Kind, NAME_MAX, Object, Op, PATH_MAX,
    RECORD_MAX, flag, maps::Armed,
};

use crate::{
    atomic, count,
    maps::{
        ARMED, FILES, OpenFile, PENDING, Pending, PendingKey, PendingRename, RENAMES, SCRATCH,
        SETTINGS, Scratch, WRITTEN, Written,
    },
    mem::{Memory, Probed, Typed},
    offsets as off, process, record,
    scope::{self, Walk, walk},
};

/// include/linux/fs.h
const FMODE_WRITE: u32 = 0x2;
const FMODE_NOCMTIME: u32 = 0x800;
const FMODE_CREATED: u32 = 0x10_0000;
const O_TRUNC: u32 = 0o1000;
const ATTR_MODE: u32 = 1 << 0;
const ATTR_UID: u32 = 1 << 1;
const ATTR_GID: u32 = 1 << 2;
const ATTR_SIZE: u32 = 1 << 3;
const ATTR_MTIME: u32 = 1 << 5;
const RENAME_EXCHANGE: u32 = 2;
const S_IFMT: u32 = 0o170_000;
const S_IFREG: u32 = 0o100_000;

/// A modification by the same process is reported at most this often; in between, the close and
/// the settling in user space find it. Nanoseconds.
const MODIFY_INTERVAL: u64 = 250_000_000;
/// The kernel's coarse clock moves at most every 10 ms (CONFIG_HZ=100); twice that leaves no
/// doubt whether a write could have hidden behind an equal time stamp. Nanoseconds.
const TICK: i64 = 20_000_000;

const BODY: usize = size_of::<Header>() + size_of::<Actor>();
const TAIL: usize = BODY + size_of::<FileBody>();

#[inline(always)]
unsafe fn object<M: Memory>(inode: *const u8) -> Object {
    // SAFETY: of the caller.
    unsafe {
        Object {
            ino: M::read(inode, off::inode_ino()),
            dev: scope::device::<M>(inode),
            generation: M::read(inode, off::inode_generation()),
        }
    }
}

#[inline(always)]
unsafe fn attrs<M: Memory>(inode: *const u8) -> Attrs {
    // SAFETY: of the caller.
    unsafe {
        Attrs {
            size: M::read(inode, off::inode_size()),
            mtime: M::read(inode, off::inode_mtime_sec()),
            mtime_nsec: M::read(inode, off::inode_mtime_nsec()),
            mode: scope::mode::<M>(inode),
            uid: M::read(inode, off::inode_uid()),
            gid: M::read(inode, off::inode_gid()),
            nlink: M::read(inode, off::inode_nlink()),
            known: 1,
        }
    }
}

const NO_ATTRS: Attrs =
    Attrs { size: 0, mtime: 0, mtime_nsec: 0, mode: 0, uid: 0, gid: 0, nlink: 0, known: 0 };
const NO_OBJECT: Object = Object { ino: 0, dev: 0, generation: 0 };

/// A file record being made: first the paths, which tell whether it is in scope, then the rest.
struct Draft {
    scratch: *mut Scratch,
    bytes: *mut u8,
    body: *mut FileBody,
    generation: u64,
    hook: Hook,
}

impl Draft {
    /// Takes the scratch.
    #[inline(always)]
    unsafe fn new(hook: Hook, op: Op) -> Option<Self> {
        let scratch = SCRATCH.get_ptr_mut(0)?;
        // SAFETY: the scratch holds the fixed part.
        unsafe {
            let generation = record::begin(scratch);
            let bytes = Scratch::bytes(scratch);
            let body: *mut FileBody = bytes.add(BODY).cast();
            (*body).op = op as u32;
            (*body).ret = 0;
            (*body).flags = 0;
            (*body).root = 0;
            (*body).root2 = 0;
            (*body).writers = 0;
            (*body).object = NO_OBJECT;
            (*body).other = NO_OBJECT;
            (*body).before = NO_ATTRS;
            (*body).after = NO_ATTRS;
            (*body).path_len = 0;
            (*body).path2_len = 0;
            (*body).extra_len = 0;
            (*body).reserved = 0;
            Scratch::set_cursor(scratch, TAIL);
            Some(Self { scratch, bytes, body, generation, hook })
        }
    }

    /// Fills in the acting task, and makes sure that it is described.
    #[inline(always)]
    unsafe fn actor(&mut self) -> *mut Actor {
        // SAFETY: the current task; the scratch holds the actor.
        unsafe {
            process::describe(process::execution(process::current()));
            let actor: *mut Actor = self.bytes.add(size_of::<Header>()).cast();
            process::fill_actor(actor);
            actor
        }
    }

    #[inline(always)]
    unsafe fn flag(&mut self, flags: u32) {
        // SAFETY: a map value.
        unsafe { (*self.body).flags |= flags };
    }

    /// Appends the path of `dentry`. `FULL`: also when it is out of scope.
    #[inline(always)]
    unsafe fn path<M: Memory, const FULL: bool>(&mut self, dentry: *const u8) -> Walk {
        // SAFETY: of the caller.
        unsafe {
            let walk = walk::<M, true, FULL>(dentry, self.scratch);
            self.account(walk, true);
            walk
        }
    }

    #[inline(always)]
    unsafe fn path2<M: Memory, const FULL: bool>(&mut self, dentry: *const u8) -> Walk {
        // SAFETY: of the caller.
        unsafe {
            let walk = walk::<M, true, FULL>(dentry, self.scratch);
            self.account(walk, false);
            walk
        }
    }

    #[inline(always)]
    unsafe fn account(&mut self, walk: Walk, first: bool) {
        // SAFETY: a map value.
        unsafe {
            if first {
                (*self.body).path_len += walk.len as u16;
                (*self.body).root = walk.root;
                if walk.root != 0 {
                    self.flag(flag::PATH_IN_SCOPE);
                }
            } else {
                (*self.body).path2_len = walk.len as u16;
                (*self.body).root2 = walk.root;
                if walk.root != 0 {
                    self.flag(flag::PATH2_IN_SCOPE);
                }
            }
            if walk.truncated {
                self.flag(flag::PATH_TRUNCATED);
            }
        }
    }

    /// Appends the kernel string at `text`, without its NUL.
    #[inline(always)]
    unsafe fn extra(&mut self, text: *const u8) {
        // SAFETY: `PATH_MAX` bytes fit behind a cursor below the bound.
        unsafe {
            let cursor = Scratch::cursor(self.scratch);
            if text.is_null() || cursor > RECORD_MAX - PATH_MAX - 512 {
                return;
            }
            let target = self.bytes.add(cursor).cast();
            let len = bpf_probe_read_kernel_str(target, PATH_MAX as u32, text.cast());
            if len > 0 && len <= PATH_MAX as i64 {
                (*self.body).extra_len = (len - 1) as u16;
                Scratch::set_cursor(self.scratch, cursor + (len - 1) as usize);
            }
        }
    }

    #[inline(always)]
    unsafe fn send(self) {
        // SAFETY: everything up to the cursor is filled.
        unsafe {
            let len = Scratch::cursor(self.scratch);
            record::send(self.scratch, self.generation, self.hook, Kind::File, len);
        }
    }
}

/// After an object got its first name through a call that returned `ret`.
#[inline(always)]
pub(crate) unsafe fn created(
    hook: Hook,
    op: Op,
    dentry: *const u8,
    failed: bool,
    target: *const u8,
) {
    count::seen(hook);
    // SAFETY: `dentry` is typed by the hook's signature, here and in all functions below.
    unsafe {
        let inode: *const u8 = Typed::read(dentry, off::dentry_inode());
        if failed || inode.is_null() || scope::is_agent() {
            return count::filtered(hook);
        }
        let Some(mut draft) = Draft::new(hook, op) else { return count::error(hook) };
        if draft.path::<Typed, false>(dentry).is_outside() {
            return count::filtered(hook);
        }
        draft.actor();
        (*draft.body).object = object::<Typed>(inode);
        (*draft.body).after = attrs::<Typed>(inode);
        draft.extra(target);
        draft.send();
    }
}

/// Whether the object is out of scope. An object too deep to tell is not.
#[inline(always)]
unsafe fn outside<M: Memory>(dentry: *const u8) -> bool {
    // SAFETY: without COPY nothing is written.
    unsafe { walk::<M, false, false>(dentry, core::ptr::null_mut()) }.is_outside()
}

/// Before an operation that changes or removes the object: takes down what it was.
#[inline(always)]
pub(crate) unsafe fn enter(hook: Hook, dentry: *const u8) {
    // SAFETY: as above.
    unsafe {
        let inode: *const u8 = Typed::read(dentry, off::dentry_inode());
        if inode.is_null() || scope::is_agent() {
            return;
        }
        if outside::<Typed>(dentry) {
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

#[inline(always)]
unsafe fn take(hook: Hook, dentry: *const u8) -> Option<Pending> {
    let key = PendingKey { object: dentry as u64, hook: hook as u64 };
    // SAFETY: the kernel holds the locks that keep a second operation off this dentry.
    let pending = unsafe { PENDING.get(key) }.copied();
    if pending.is_some() {
        let _ = PENDING.remove(key);
    }
    pending
}

/// After unlink or rmdir.
#[inline(always)]
pub(crate) unsafe fn removed(hook: Hook, op: Op, dentry: *const u8, ret: i32) {
    count::seen(hook);
    // SAFETY: as above. The caller of vfs_unlink() still holds the dentry, its parent and name.
    unsafe {
        let Some(pending) = take(hook, dentry) else { return count::filtered(hook) };
        if ret != 0 {
            return count::filtered(hook);
        }
        let Some(mut draft) = Draft::new(hook, op) else { return count::error(hook) };
        draft.actor();
        (*draft.body).object = pending.object;
        (*draft.body).before = pending.before;
        draft.path::<Typed, true>(dentry);
        draft.send();
    }
}

/// After notify_change().
#[inline(always)]
pub(crate) unsafe fn attributes_set(dentry: *const u8, iattr: *const u8, ret: i32) {
    let hook = Hook::SetAttr;
    count::seen(hook);
    // SAFETY: as above.
    unsafe {
        let Some(pending) = take(hook, dentry) else { return count::filtered(hook) };
        let valid: u32 = Typed::read(iattr, off::iattr_valid());
        let inode: *const u8 = Typed::read(dentry, off::dentry_inode());
        if ret != 0
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
        draft.actor();
        draft.flag(flags);
        (*draft.body).object = pending.object;
        (*draft.body).before = pending.before;
        (*draft.body).after = attrs::<Typed>(inode);
        if let Some(written) = WRITTEN.get(inode as u64)
            && written.ino == pending.object.ino
        {
            (*draft.body).writers = written.writers;
        }
        draft.path::<Typed, true>(dentry);
        draft.send();
    }
}

/// After an extended attribute or ACL was set or removed.
#[inline(always)]
pub(crate) unsafe fn xattr_changed(
    hook: Hook,
    op: Op,
    dentry: *const u8,
    name: *const u8,
    ret: i32,
) {
    count::seen(hook);
    // SAFETY: as above.
    unsafe {
        let inode: *const u8 = Typed::read(dentry, off::dentry_inode());
        if ret != 0 || inode.is_null() || scope::is_agent() {
            return count::filtered(hook);
        }
        let Some(mut draft) = Draft::new(hook, op) else { return count::error(hook) };
        if draft.path::<Typed, false>(dentry).is_outside() {
            return count::filtered(hook);
        }
        draft.actor();
        (*draft.body).object = object::<Typed>(inode);
        (*draft.body).after = attrs::<Typed>(inode);
        draft.extra(name);
        draft.send();
    }
}

/// After vfs_link().
#[inline(always)]
pub(crate) unsafe fn linked(old: *const u8, new: *const u8, ret: i32) {
    let hook = Hook::Link;
    count::seen(hook);
    // SAFETY: as above.
    unsafe {
        let inode: *const u8 = Typed::read(old, off::dentry_inode());
        if ret != 0 || inode.is_null() || scope::is_agent() {
            return count::filtered(hook);
        }
        let Some(mut draft) = Draft::new(hook, Op::Link) else { return count::error(hook) };
        let from = draft.path::<Typed, true>(old);
        let to = draft.path2::<Typed, true>(new);
        if from.is_outside() && to.is_outside() {
            return count::filtered(hook);
        }
        draft.actor();
        let after = attrs::<Typed>(inode);
        if after.nlink == 1 {
            // The only name is the new one: an O_TMPFILE file gets its first.
            draft.flag(flag::NAMELESS);
        }
        (*draft.body).object = object::<Typed>(inode);
        (*draft.body).after = after;
        if let Some(written) = WRITTEN.get(inode as u64) {
            (*draft.body).writers = written.writers;
        }
        draft.send();
    }
}

/// Before vfs_rename(): afterwards the old name is gone.
#[inline(always)]
pub(crate) unsafe fn rename_enter(renamedata: *const u8) {
    let hook = Hook::Rename;
    // SAFETY: as above.
    unsafe {
        let old: *const u8 = Typed::read(renamedata, off::rename_old_dentry());
        let new: *const u8 = Typed::read(renamedata, off::rename_new_dentry());
        let inode: *const u8 = Typed::read(old, off::dentry_inode());
        let other: *const u8 = Typed::read(new, off::dentry_inode());
        // rename(2) of two names of one object does nothing and succeeds.
        if inode.is_null() || inode == other || scope::is_agent() {
            return;
        }
        if outside::<Typed>(old) && outside::<Typed>(new) {
            return;
        }
        let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return };
        record::begin(scratch);
        let pending: *mut PendingRename = (&raw mut (*scratch).bytes).cast();
        (*pending).old_parent = Typed::read::<u64>(old, off::dentry_parent());
        (*pending).object = object::<Typed>(inode);
        if other.is_null() {
            (*pending).other = NO_OBJECT;
            (*pending).other_attrs = NO_ATTRS;
        } else {
            (*pending).other = object::<Typed>(other);
            (*pending).other_attrs = attrs::<Typed>(other);
        }
        (*pending).flags = Typed::read(renamedata, off::rename_flags());
        let len = Typed::read::<u32>(old, off::dentry_name_len()) & NAME_MAX as u32;
        (*pending).name_len = len;
        let name: *const u8 = Typed::read(old, off::dentry_name());
        bpf_probe_read_kernel((&raw mut (*pending).name).cast(), len, name.cast());
        if RENAMES.insert(old as u64, pending.as_ref_unchecked(), 0).is_err() {
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
    // SAFETY: as above.
    unsafe {
        let old: *const u8 = Typed::read(renamedata, off::rename_old_dentry());
        let inode: *const u8 = Typed::read(old, off::dentry_inode());
        if ret == 0 && !inode.is_null() && scope::is_directory::<Typed>(inode) {
            scope::bump_epoch();
        }
        let Some(pending) = RENAMES.get_ptr(old as u64) else { return count::filtered(hook) };
        if ret != 0 {
            let _ = RENAMES.remove(old as u64);
            return count::filtered(hook);
        }
        let Some(mut draft) = Draft::new(hook, Op::Rename) else {
            let _ = RENAMES.remove(old as u64);
            return count::error(hook);
        };
        draft.actor();
        (*draft.body).object = (*pending).object;
        (*draft.body).other = (*pending).other;
        (*draft.body).before = (*pending).other_attrs;
        if !inode.is_null() {
            (*draft.body).after = attrs::<Typed>(inode);
        }
        if (*pending).flags & RENAME_EXCHANGE != 0 {
            draft.flag(flag::EXCHANGE);
        }
        if (*pending).other.ino != 0 {
            draft.flag(flag::REPLACED);
        }
        let name = (&raw const (*pending).name).cast();
        Scratch::push_name(draft.scratch, name, (*pending).name_len);
        (*draft.body).path_len = ((*pending).name_len + 1) as u16;
        let parent = (*pending).old_parent as *const u8;
        let _ = RENAMES.remove(old as u64);
        renamed_paths(&mut draft, parent, old);
        draft.send();
    }
}

#[inline(always)]
unsafe fn renamed_paths(draft: &mut Draft, old_parent: *const u8, now: *const u8) {
    // SAFETY: as above; the old parent is held by the rename, but passed through a map.
    unsafe {
        // The old name's depth counts one more than its parent's: a limit is kept by user space.
        draft.path::<Probed, true>(old_parent);
        draft.path2::<Typed, true>(now);
    }
}

/// After security_file_open(): the file exists and will be, or was refused to be, opened.
#[inline(always)]
pub(crate) unsafe fn opened(file: *const u8, ret: i32) {
    let hook = Hook::FileOpen;
    // SAFETY: as above.
    unsafe {
        let mode: u32 = Typed::read(file, off::file_mode());
        if mode & (FMODE_WRITE | FMODE_CREATED) == 0 {
            return arm(file);
        }
        let created = mode & FMODE_CREATED != 0;
        // A file just created exists even if opening it is refused.
        let writable = mode & FMODE_WRITE != 0 && ret == 0;
        let dentry: *const u8 = Typed::read(file, off::file_dentry());
        let inode: *const u8 = Typed::read(file, off::file_inode());
        if (!created && !writable) || scope::mode::<Typed>(inode) & S_IFMT != S_IFREG {
            return;
        }
        count::seen(hook);
        if scope::is_agent() {
            return count::filtered(hook);
        }
        let op = if created { Op::Create } else { Op::OpenWrite };
        let Some(mut draft) = Draft::new(hook, op) else { return count::error(hook) };
        if draft.path::<Typed, false>(dentry).is_outside() {
            return count::filtered(hook);
        }
        let actor = draft.actor();
        let now = attrs::<Typed>(inode);
        let identity = object::<Typed>(inode);
        if writable {
            let doubtful = mode & FMODE_NOCMTIME != 0 || just_changed(&now);
            let open = OpenFile {
                inode: inode as u64,
                mtime: now.mtime,
                mtime_nsec: now.mtime_nsec,
                doubtful: u32::from(doubtful),
                start: (*actor).start,
                tgid: (*actor).tgid,
                exec_id: (*actor).exec_id,
            };
            let _ = FILES.insert(file as u64, open, 0);
            (*draft.body).writers = one_more_writer(inode, identity.ino);
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

/// Whether the file was changed so recently that a further write may leave the same time stamp.
#[inline(always)]
fn just_changed(attrs: &Attrs) -> bool {
    let Some(settings) = scope::settings() else { return true };
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_boot_ns() } as i64 + settings.realtime_offset;
    let changed = attrs.mtime.wrapping_mul(1_000_000_000) + i64::from(attrs.mtime_nsec);
    now - changed < TICK
}

#[inline(always)]
unsafe fn one_more_writer(inode: *const u8, ino: u64) -> u32 {
    if let Some(written) = WRITTEN.get_ptr_mut(inode as u64) {
        // SAFETY: a map value; two CPUs may open the file at once, hence atomic.
        unsafe {
            if (*written).ino == ino {
                atomic::add_u32(&raw mut (*written).writers, 1);
                return (*written).writers;
            }
        }
    }
    let _ = WRITTEN.insert(inode as u64, Written { ino, reported: 0, writers: 1, tgid: 0 }, 0);
    1
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
        let Some(open) = FILES.get(file as u64).copied() else {
            return;
        };
        let _ = FILES.remove(file as u64);
        count::seen(hook);
        // First what the verifier has to look at most: once, before the ways part.
        let Some(mut draft) = Draft::new(hook, Op::CloseWrite) else { return count::error(hook) };
        let dentry: *const u8 = Typed::read(file, off::file_dentry());
        draft.path::<Typed, true>(dentry);
        let actor = draft.actor();
        let identity = object::<Typed>(inode);
        let now = attrs::<Typed>(inode);
        let mut writers = 0;
        if let Some(written) = WRITTEN.get_ptr_mut(inode as u64)
            && (*written).ino == identity.ino
        {
            atomic::add_u32(&raw mut (*written).writers, u32::MAX);
            writers = (*written).writers;
            if writers == 0 || writers > u32::MAX / 2 {
                writers = 0;
                let _ = WRITTEN.remove(inode as u64);
            }
        }
        if (*actor).tgid != open.tgid {
            // Whose credentials these are is not known here; the process table has the opener's.
            (*actor).uid = ID_UNSET;
            (*actor).tid = open.tgid;
        }
        (*actor).start = open.start;
        (*actor).tgid = open.tgid;
        (*actor).exec_id = open.exec_id;
        (*draft.body).writers = writers;
        if now.mtime != open.mtime || now.mtime_nsec != open.mtime_nsec {
            draft.flag(flag::MODIFIED);
        } else if open.doubtful != 0 {
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
        let ino: u64 = Typed::read(inode, off::inode_ino());
        let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
        let now = bpf_ktime_get_boot_ns();
        let mut writers = 0;
        match WRITTEN.get_ptr_mut(inode as u64) {
            Some(written) if (*written).ino == ino => {
                if (*written).tgid == tgid
                    && now.wrapping_sub((*written).reported) < MODIFY_INTERVAL
                {
                    return count::filtered(hook);
                }
                (*written).tgid = tgid;
                (*written).reported = now;
                writers = (*written).writers;
            }
            _ => {}
        }
        if scope::is_agent() {
            return count::filtered(hook);
        }
        // The first name of the inode: a description opened before the agent started is found
        // this way too.
        let alias: u64 = Typed::read(inode, off::inode_aliases());
        if alias == 0 {
            return count::filtered(hook);
        }
        let dentry = alias.wrapping_sub(u64::from(off::dentry_alias())) as *const u8;
        let Some(mut draft) = Draft::new(hook, Op::Modify) else { return count::error(hook) };
        if draft.path::<Probed, false>(dentry).is_outside() {
            return count::filtered(hook);
        }
        draft.actor();
        if writers == 0 {
            let written = Written { ino, reported: now, writers: 0, tgid };
            let _ = WRITTEN.insert(inode as u64, written, 1);
        }
        (*draft.body).writers = writers;
        (*draft.body).object = object::<Typed>(inode);
        (*draft.body).after = attrs::<Typed>(inode);
        if (*draft.body).after.nlink == 0 {
            draft.flag(flag::NAMELESS);
        }
        draft.send();
    }
}

/// After security_mmap_file(): a shared writable mapping changes content without a trace in the
/// times on some file systems (tmpfs).
#[inline(always)]
pub(crate) unsafe fn mapped(file: *const u8) {
    if let Some(open) = FILES.get_ptr_mut(file as u64) {
        count::seen(Hook::Mmap);
        // SAFETY: a map value.
        unsafe { (*open).doubtful = 1 };
        count::filtered(Hook::Mmap);
    }
}

/// Tells the agent the kernel's identity of the directory that it opens while armed.
#[inline(always)]
unsafe fn arm(file: *const u8) {
    // SAFETY: as above.
    unsafe {
        let tid = bpf_get_current_pid_tgid() as u32;
        let Some(settings) = SETTINGS.get_ptr_mut(0) else { return };
        if (*settings).arm_tid == 0 || (*settings).arm_tid != tid {
            return;
        }
        let Some(armed) = ARMED.get_ptr_mut(0) else { return };
        let dentry: *const u8 = Typed::read(file, off::file_dentry());
        let inode: *const u8 = Typed::read(dentry, off::dentry_inode());
        // An overlay opens the layer below after itself: the first open is the one asked for.
        (*settings).arm_tid = 0;
        let armed: *mut Armed = armed;
        (*armed).ino = Typed::read(inode, off::inode_ino());
        (*armed).dev = scope::device::<Typed>(inode);
        (*armed).generation = Typed::read(inode, off::inode_generation());
        (*armed).inode = inode as u64;
    }
}
