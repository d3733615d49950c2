//! A file record being made: first the paths, which tell whether it is in scope, then the rest.

use aya_ebpf::helpers::generated::{
    bpf_ktime_get_boot_ns, bpf_probe_read_kernel, bpf_probe_read_kernel_str,
};
use fim_common::record::{
    Actor, Attrs, FileBody, Header, Hook, Kind, NAME_MAX, Object, Op, PATH_MAX, RECORD_MAX, flag,
    maps::{Attempts, AttemptsKey},
};

use crate::{
    atomic, inside,
    maps::{ATTEMPTS, Pending, SCRATCH, Scratch},
    mem::{self, Memory, Probed, Typed},
    offsets as off, process, record,
    scope::{self, Walk, walk, walk_anew},
};

/// A failure of another kind is that of a program which looks whether something is there, or asks
/// for what a file system does not have; include/uapi/asm-generic/errno*.h. EPERM, EIO, EACCES,
/// EBUSY, EXDEV, EINVAL, ETXTBSY, EFBIG, ENOSPC, EROFS, EMLINK, ENOTEMPTY, EDQUOT.
const TOLD: [i32; 13] = [1, 5, 13, 16, 18, 22, 26, 27, 28, 30, 31, 39, 122];
/// Nanoseconds in which the attempts of a process are counted.
const SECOND: u64 = 1_000_000_000;

const BODY: usize = size_of::<Header>() + size_of::<Actor>();
const TAIL: usize = BODY + size_of::<FileBody>();

pub(crate) const NO_ATTRS: Attrs =
    Attrs { size: 0, mtime: 0, mtime_nsec: 0, mode: 0, uid: 0, gid: 0, nlink: 0, known: 0 };
pub(crate) const NO_OBJECT: Object = Object { ino: 0, dev: 0, generation: 0 };

#[inline(always)]
pub(crate) unsafe fn attrs<M: Memory>(inode: *const u8) -> Attrs {
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

/// A record being made.
pub(crate) struct Draft {
    pub(crate) scratch: *mut Scratch,
    bytes: *mut u8,
    pub(crate) body: *mut FileBody,
    generation: u64,
    hook: Hook,
    /// When it was, if the program asked: nanoseconds since boot.
    pub(crate) time: Option<u64>,
}

impl Draft {
    /// Takes the scratch.
    #[inline(always)]
    pub(crate) unsafe fn new(hook: Hook, op: Op) -> Option<Self> {
        let scratch = SCRATCH.get_ptr_mut(0)?;
        // SAFETY: the scratch holds the fixed part.
        unsafe {
            let generation = record::begin(scratch);
            let bytes = Scratch::bytes(scratch);
            let body: *mut FileBody = bytes.add(BODY).cast();
            mem::zero(body);
            (*body).op = op as u32;
            Scratch::set_cursor(scratch, TAIL);
            Some(Self { scratch, bytes, body, generation, hook, time: None })
        }
    }

    /// Fills in the acting task, and makes sure that it is described.
    #[inline(always)]
    pub(crate) unsafe fn actor(&mut self) -> *mut Actor {
        // SAFETY: the current task; the scratch holds the actor.
        unsafe {
            let execution = process::own_execution();
            process::describe(execution);
            let actor: *mut Actor = self.bytes.add(size_of::<Header>()).cast();
            process::fill_actor_of(actor, execution);
            actor
        }
    }

    /// Fills in the acting task, which is not the one that the record will be about.
    #[inline(always)]
    pub(crate) unsafe fn credentials(&mut self) -> *mut Actor {
        // SAFETY: the current task; the scratch holds the actor.
        unsafe {
            let actor: *mut Actor = self.bytes.add(size_of::<Header>()).cast();
            process::fill_actor(actor);
            actor
        }
    }

    #[inline(always)]
    pub(crate) unsafe fn flag(&mut self, flags: u32) {
        // SAFETY: a map value.
        unsafe { (*self.body).flags |= flags };
    }

    /// Appends the path of `dentry`, an object at `inode`, if it is in scope: by this name, or
    /// since it is a watched file that has another.
    #[inline(always)]
    pub(crate) unsafe fn path_in_scope<M: Memory>(
        &mut self,
        dentry: *const u8,
        inode: *const u8,
    ) -> bool {
        // SAFETY: of the caller.
        unsafe {
            !scope::is_cached_outside::<M>(dentry) && self.walked_in_scope::<M>(dentry, inode)
        }
    }

    /// The same, where there is no cached verdict.
    #[inline(always)]
    pub(crate) unsafe fn walked_in_scope<M: Memory>(
        &mut self,
        dentry: *const u8,
        inode: *const u8,
    ) -> bool {
        // SAFETY: of the caller.
        unsafe {
            let walk = self.path::<M>(dentry);
            if walk.is_outside() {
                if !scope::is_linked::<M>(inode) {
                    return false;
                }
                self.flag(flag::LINKED);
            }
            true
        }
    }

    /// The same for what an entry program took down, which may have lost its inode.
    #[inline(always)]
    pub(crate) unsafe fn path_of_pending(&mut self, dentry: *const u8, pending: &Pending) -> bool {
        // SAFETY: of the caller.
        unsafe {
            let Attrs { nlink, mode, .. } = pending.before;
            let file = !scope::is_directory_mode(mode);
            // A name that was removed leads to nothing, and is where it was.
            let walk = match inside::path::<Typed>(dentry, self.scratch, file) {
                Some(walk) => walk,
                None => walk_anew::<true, false>(dentry, self.scratch, self.generation),
            };
            self.account(walk);
            if walk.is_outside() {
                if !scope::is_linked_object(pending.object, nlink, mode) {
                    return false;
                }
                self.flag(flag::LINKED);
            }
            true
        }
    }

    /// Appends the path of `dentry`, in scope or not.
    #[inline(always)]
    pub(crate) unsafe fn path<M: Memory>(&mut self, dentry: *const u8) -> Walk {
        // SAFETY: of the caller.
        unsafe {
            let walk = walk::<M, true, false>(dentry, self.scratch, self.generation);
            self.account(walk);
            walk
        }
    }

    /// Appends the path of the directory `dentry` behind the name that was appended already.
    #[inline(always)]
    pub(crate) unsafe fn path_below(&mut self, dentry: *const u8) -> Walk {
        // SAFETY: of the caller.
        unsafe {
            let walk = walk::<Probed, true, true>(dentry, self.scratch, self.generation);
            self.account(walk);
            walk
        }
    }

    #[inline(always)]
    unsafe fn account(&mut self, walk: Walk) {
        // SAFETY: a map value.
        unsafe {
            (*self.body).path_len += walk.len as u16;
            (*self.body).root = walk.root;
            if walk.inside {
                self.flag(flag::PATH_IN_SCOPE);
            }
            if walk.disconnected {
                self.flag(flag::DISCONNECTED);
            }
            if walk.truncated {
                self.flag(flag::PATH_TRUNCATED);
            }
        }
    }

    /// Appends the second path.
    #[inline(always)]
    pub(crate) unsafe fn path2(&mut self, dentry: *const u8) -> Walk {
        // SAFETY: of the caller.
        unsafe {
            let walk = walk::<Typed, true, false>(dentry, self.scratch, self.generation);
            (*self.body).path2_len = walk.len as u16;
            (*self.body).root2 = walk.root;
            if walk.inside {
                self.flag(flag::PATH2_IN_SCOPE);
            }
            if walk.truncated {
                self.flag(flag::PATH_TRUNCATED);
            }
            walk
        }
    }

    /// Appends a name of the first path that has no dentry.
    #[inline(always)]
    pub(crate) unsafe fn name(&mut self, name: *const u8, len: u32) {
        // SAFETY: of the caller.
        unsafe {
            let len = len & NAME_MAX as u32;
            Scratch::push_name(self.scratch, name, len);
            (*self.body).path_len += (len + 1) as u16;
        }
    }

    /// Appends the kernel string at `text`, without its NUL.
    #[inline(always)]
    pub(crate) unsafe fn extra(&mut self, text: *const u8) {
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

    /// Makes it a failed attempt. `false`: it is counted, and not told.
    #[inline(always)]
    pub(crate) unsafe fn fail(&mut self, ret: i32) -> bool {
        // SAFETY: map values.
        unsafe {
            (*self.body).ret = ret;
            let actor = self.actor();
            let (start, tgid) = ((*actor).start, (*actor).tgid);
            let root = (*self.body).root;
            let Some(folded) = admit(&AttemptsKey { start, tgid, root }) else { return false };
            (*self.body).writers = folded;
            true
        }
    }

    #[inline(always)]
    pub(crate) unsafe fn send(self) {
        // SAFETY: everything up to the cursor is filled.
        unsafe {
            let len = Scratch::cursor(self.scratch);
            let time = self.time.unwrap_or_else(|| bpf_ktime_get_boot_ns());
            record::send_of(self.scratch, self.generation, self.hook, Kind::File, time, len);
        }
    }
}

/// Whether anybody wants to know of attempts that fail like this.
#[inline(always)]
pub(crate) fn is_told(ret: i32) -> bool {
    scope::settings().is_some_and(|settings| settings.attempts != 0)
        && is_failure(ret.wrapping_neg())
}

#[inline(always)]
fn is_failure(errno: i32) -> bool {
    let mut index = 0;
    while index < TOLD.len() {
        if TOLD[index] == errno {
            return true;
        }
        index += 1;
    }
    false
}

/// Whether this attempt of the process is told, and with it how many were not.
#[inline(always)]
pub(crate) fn admit(key: &AttemptsKey) -> Option<u32> {
    let limit = scope::settings()?.attempts;
    // SAFETY: a helper without arguments; a map value. Threads of a process may come here at once:
    // what they fold is counted to the last; a few more may be told than the limit says.
    unsafe {
        let now = bpf_ktime_get_boot_ns();
        let Some(attempts) = ATTEMPTS.get_ptr_mut(key) else {
            let _ = ATTEMPTS.insert(key, Attempts { since: now, told: 1, folded: 0 }, 0);
            return Some(0);
        };
        if now.wrapping_sub((*attempts).since) > SECOND {
            (*attempts).since = now;
            (*attempts).told = 0;
        }
        if (*attempts).told >= limit {
            atomic::add_u32(&raw mut (*attempts).folded, 1);
            return None;
        }
        (*attempts).told += 1;
        let folded = (&raw const (*attempts).folded).read_volatile();
        // Less what is told, and not set to zero: another thread may count meanwhile.
        atomic::add_u32(&raw mut (*attempts).folded, folded.wrapping_neg());
        Some(folded)
    }
}

/// Copies a kernel name into `target`; returns its length.
#[inline(always)]
pub(crate) unsafe fn copy_name(target: *mut [u8; NAME_MAX + 1], dentry: *const u8) -> u32 {
    // SAFETY: of the caller; at most NAME_MAX bytes.
    unsafe {
        let len = Typed::read::<u32>(dentry, off::dentry_name_len()) & NAME_MAX as u32;
        let name: *const u8 = Typed::read(dentry, off::dentry_name());
        bpf_probe_read_kernel(target.cast(), len, name.cast());
        len
    }
}
