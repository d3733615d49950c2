//! Scope: whether an object lies in a watched tree, and its path relative to that tree's root.
//!
//! Most operations are outside, and the cached verdict on their directory is one lookup
//! ([`is_cached_outside`]); so is the path of the directory of a file that is inside
//! ([`inside::path`]). Else the path is walked towards the root of the file system, one
//! component at a time. The walk's state lies in the scratch of this CPU and each step is a
//! global function, which the verifier looks at once: walked in line, 64 levels cost it 65,000
//! instructions at each place that asks, and 2,048 levels would be refused.

use aya_ebpf::helpers::generated::{bpf_get_current_pid_tgid, bpf_probe_read_kernel};
use fim_common::record::{
    Object, PATH_MAX,
    maps::{FILTER_LEN, FilterKey, RootEntry, Settings},
};

use crate::{
    atomic, inside,
    maps::{FILTERS, LAST_INSIDE, LINKED, OUTSIDE, Outside, ROOTS, SCRATCH, SETTINGS, Scratch},
    mem::{Memory, Probed, Typed},
    offsets as off, record,
};

/// Components that one call of [`fim_walk_some`] looks at, and calls of it at most. A path of
/// `PATH_MAX` bytes has at most 2,048 components; one that is longer still (made with relative
/// names) is counted, and never dropped silently.
const STRIDE: u32 = 16;
const STRIDES: u32 = 132;

/// include/linux/dcache.h, from 5.10 to 7.x.
const DCACHE_DISCONNECTED: u32 = 1 << 5;
const S_IFMT: u32 = 0o170_000;
const S_IFREG: u32 = 0o100_000;
const S_IFDIR: u32 = 0o040_000;

/// The outcome of a walk.
#[derive(Clone, Copy)]
pub(crate) struct Walk {
    /// Id of the root that the path is relative to; 0: the root of the file system, or whatever
    /// was met when the walk was given up.
    pub(crate) root: u32,
    /// The object is in scope.
    pub(crate) inside: bool,
    /// The walk was given up: nobody knows.
    pub(crate) unknown: bool,
    /// The file has no name in memory: it was opened by its handle.
    pub(crate) disconnected: bool,
    /// The path lacks the components nearest the root.
    pub(crate) truncated: bool,
    /// Bytes of path.
    pub(crate) len: u32,
}

impl Walk {
    /// Whether the object is out of scope. One too deep to tell, or without a name, is not.
    #[inline(always)]
    pub(crate) fn is_outside(self) -> bool {
        !self.inside && !self.unknown && !self.disconnected
    }
}

/// How a step ends, in the upper half; the lower one is the root's id. 0: go on.
const AT_TOP: u64 = 1 << 32;
const WITHIN: u64 = 2 << 32;
const EXCLUDED: u64 = 3 << 32;
const TOO_LONG: u64 = 4 << 32;
const DISCONNECTED: u64 = 5 << 32;

#[inline(always)]
pub(crate) fn settings() -> Option<&'static Settings> {
    SETTINGS.get(0)
}

/// Whether the current task belongs to the agent, whose own work is not reported, its canary's
/// excepted.
#[inline(always)]
pub(crate) fn is_agent() -> bool {
    // SAFETY: a helper without arguments.
    let pid_tgid = unsafe { bpf_get_current_pid_tgid() };
    settings().is_some_and(|settings| {
        settings.agent_tgid == (pid_tgid >> 32) as u32 && settings.canary_tid != pid_tgid as u32
    })
}

/// Voids every cached verdict: a directory has another place.
#[inline(always)]
pub(crate) fn bump_epoch() {
    if let Some(settings) = SETTINGS.get_ptr_mut(0) {
        // SAFETY: a map value.
        unsafe { atomic::add_u64(&raw mut (*settings).epoch, 1) };
    }
}

#[inline(always)]
pub(crate) unsafe fn device<M: Memory>(inode: *const u8) -> u32 {
    // SAFETY: of the caller.
    unsafe {
        let sb: *const u8 = M::read(inode, off::inode_sb());
        M::read(sb, off::sb_dev())
    }
}

/// The identity of an inode.
#[inline(always)]
pub(crate) unsafe fn object<M: Memory>(inode: *const u8) -> Object {
    // SAFETY: of the caller.
    unsafe {
        Object {
            ino: M::read(inode, off::inode_ino()),
            dev: device::<M>(inode),
            generation: M::read(inode, off::inode_generation()),
        }
    }
}

#[inline(always)]
pub(crate) unsafe fn mode<M: Memory>(inode: *const u8) -> u32 {
    // SAFETY: of the caller. i_mode is an unsigned short (umode_t).
    u32::from(unsafe { M::read::<u16>(inode, off::inode_mode()) })
}

#[inline(always)]
pub(crate) unsafe fn is_directory<M: Memory>(inode: *const u8) -> bool {
    // SAFETY: of the caller.
    is_directory_mode(unsafe { mode::<M>(inode) })
}

#[inline(always)]
pub(crate) fn is_directory_mode(mode: u32) -> bool {
    mode & S_IFMT == S_IFDIR
}

/// The first name of an inode, which is the only one of a directory; null without any.
#[inline(always)]
pub(crate) unsafe fn first_name<M: Memory>(inode: *const u8) -> *const u8 {
    // SAFETY: of the caller.
    let alias: u64 = unsafe { M::read(inode, off::inode_aliases()) };
    if alias == 0 {
        return core::ptr::null();
    }
    alias.wrapping_sub(u64::from(off::dentry_alias())) as *const u8
}

/// Whether a watched file has other names, and this is such a file: it is in scope wherever the
/// name lies that is used.
#[inline(always)]
pub(crate) unsafe fn is_linked<M: Memory>(inode: *const u8) -> bool {
    // SAFETY: of the caller.
    unsafe {
        if inode.is_null() {
            return false;
        }
        let nlink = M::read(inode, off::inode_nlink());
        nlink >= 2 && is_linked_object(object::<M>(inode), nlink, mode::<M>(inode))
    }
}

/// The same for an object that is known already.
#[inline(always)]
pub(crate) fn is_linked_object(mut key: Object, nlink: u32, mode: u32) -> bool {
    if nlink < 2 || mode & S_IFMT != S_IFREG {
        return false;
    }
    // User space knows no generations.
    key.generation = 0;
    // SAFETY: only the presence of the value counts.
    unsafe { LINKED.get(key) }.is_some()
}

/// Makes a file with more than one name, of which one is in scope, be so by all of them: at once,
/// since the next operation may come through the other.
#[inline(always)]
pub(crate) unsafe fn follow(inode: *const u8) {
    // SAFETY: of the caller.
    unsafe {
        if Typed::read::<u32>(inode, off::inode_nlink()) < 2
            || mode::<Typed>(inode) & S_IFMT != S_IFREG
        {
            return;
        }
        let mut key = object::<Typed>(inode);
        key.generation = 0;
        let _ = LINKED.insert(key, 1, 0);
    }
}

#[inline(always)]
unsafe fn root_entry<M: Memory>(inode: *const u8) -> Option<&'static RootEntry> {
    // SAFETY: entries are replaced as a whole by user space; a torn read is caught by the
    // identity below.
    let entry = unsafe { ROOTS.get(inode as u64) }?;
    // SAFETY: of the caller.
    let same = unsafe {
        entry.ino == M::read::<u64>(inode, off::inode_ino())
            && entry.generation == M::read::<u32>(inode, off::inode_generation())
    };
    if same { Some(entry) } else { None }
}

/// Whether a name filter of `root` lets through the path whose component right below the root is
/// the dentry `child`, `depth` components deep. A name that has no dentry is let through.
#[inline(always)]
unsafe fn filter_accepts(root: u32, child: *const u8, depth: u32) -> bool {
    if child.is_null() {
        return true;
    }
    let mut key = FilterKey { name: [0; 2], root, reserved: 0 };
    // SAFETY: of the caller; at most 16 bytes are copied into 16 bytes.
    unsafe {
        let len: u32 = Probed::read(child, off::dentry_name_len());
        let len = if len > FILTER_LEN as u32 { FILTER_LEN as u32 } else { len };
        let source: *const u8 = Probed::read(child, off::dentry_name());
        bpf_probe_read_kernel(key.name.as_mut_ptr().cast(), len, source.cast());
        FILTERS.get(key).is_some_and(|&limit| depth <= limit)
    }
}

/// Whether `dentry` is known to be out of scope by the cached verdict on its directory: what
/// almost every operation on a machine comes to.
///
/// # Safety
/// `dentry` is a dentry in the sense of `M`.
#[inline(always)]
pub(crate) unsafe fn is_cached_outside<M: Memory>(dentry: *const u8) -> bool {
    let Some(settings) = settings() else { return true };
    // SAFETY: of the caller.
    unsafe {
        let fields = M::dentry(dentry);
        let parent_inode: *const u8 = M::read(fields.parent, off::dentry_inode());
        if is_last_inside(parent_inode) {
            return false;
        }
        let Some(outside) = OUTSIDE.get(parent_inode as u64) else { return false };
        if outside.epoch != settings.epoch
            || outside.ino != M::read::<u64>(parent_inode, off::inode_ino())
            || outside.generation != M::read::<u32>(parent_inode, off::inode_generation())
            || outside.dev != device::<M>(parent_inode)
        {
            return false;
        }
        let inode = fields.inode;
        // The watched directory itself may lie in a directory that is outside, and a watched file
        // may have a name there.
        if inode.is_null() {
            return true;
        }
        if is_directory::<M>(inode) {
            return root_entry::<M>(inode).is_none();
        }
        !is_linked::<M>(inode)
    }
}

/// Whether the directory was in scope when this CPU met it last, which was just now. One word, so
/// that no half of another's is taken for it; that it still is, [`inside::path`] makes sure of.
#[inline(always)]
fn is_last_inside(inode: *const u8) -> bool {
    // SAFETY: a map value.
    LAST_INSIDE.get_ptr_mut(0).is_some_and(|last| unsafe { last.read_volatile() } == inode as u64)
}

/// Whether a dentry without a parent is that of a file which was found by its handle
/// (open_by_handle_at(2), a file server) while no name of it was in memory: `d_obtain_alias` marks
/// it. What never has a name (a pipe, a memfd) is not marked; a directory is given its place at once.
#[inline(always)]
unsafe fn is_disconnected(dentry: *const u8, inode: *const u8) -> bool {
    // SAFETY: of the caller; Probed reads check addresses.
    unsafe {
        !inode.is_null()
            && !is_directory::<Probed>(inode)
            && Probed::read::<u32>(dentry, off::dentry_flags()) & DCACHE_DISCONNECTED != 0
    }
}

/// Looks at the directory where the walk is, and goes one up. Returns 0 to go on.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn fim_walk_step() -> u64 {
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return AT_TOP };
    // SAFETY: a map value; Probed reads check addresses.
    unsafe {
        let walk = &raw mut (*scratch).walk;
        let here = (*walk).here as *const u8;
        let depth = (*walk).depth;
        let dentry = Probed::dentry(here);
        if depth > 0 {
            let inode = dentry.inode;
            if let Some(entry) = root_entry::<Probed>(inode) {
                let root = u64::from(entry.root);
                if entry.exclude != 0 {
                    return EXCLUDED | root;
                }
                if depth <= entry.depth {
                    return WITHIN | root;
                }
                if depth == 1 {
                    // This verdict depends on the object's own name.
                    (*walk).by_name = 1;
                }
                if entry.filtered != 0
                    && filter_accepts(entry.root, (*walk).child as *const u8, depth)
                {
                    return WITHIN | root;
                }
            }
        }
        let parent = dentry.parent as u64;
        if parent == here as u64 {
            return if depth == 0 && is_disconnected(here, dentry.inode) {
                DISCONNECTED
            } else {
                AT_TOP
            };
        }
        if (*walk).copy != 0 {
            if Scratch::cursor(scratch) as u64 > (*walk).start + PATH_MAX as u64 {
                // Whether it is in scope can still be told.
                (*walk).copy = 0;
                (*walk).cut = 1;
            } else {
                Scratch::push_name(scratch, dentry.name, dentry.len);
            }
        }
        if depth == 0 {
            (*walk).above = Scratch::cursor(scratch) as u32;
        }
        (*walk).child = here as u64;
        (*walk).here = parent;
        (*walk).depth = depth + 1;
    }
    0
}

/// Some steps.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn fim_walk_some() -> u64 {
    let mut left = STRIDE;
    while left > 0 {
        let end = fim_walk_step();
        if end != 0 {
            return end;
        }
        left -= 1;
    }
    0
}

/// Walks from where the scratch says, and remembers a verdict of "outside" for the directory.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn fim_walk() -> u64 {
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return AT_TOP };
    let Some(settings) = settings() else { return AT_TOP };
    let epoch = settings.epoch;
    // SAFETY: map values; Probed reads check addresses.
    unsafe {
        let generation = (&raw const (*scratch).generation).read_volatile();
        let walk = &raw mut (*scratch).walk;
        let first = (*walk).here as *const u8;
        (*walk).first = first as u64;
        (*walk).epoch = epoch;
        if (*walk).depth == 0 {
            let inode: *const u8 = Probed::read(first, off::dentry_inode());
            if !inode.is_null()
                && is_directory::<Probed>(inode)
                && let Some(entry) = root_entry::<Probed>(inode)
                && entry.depth != 0
                && entry.exclude == 0
            {
                // Nothing of its directory.
                (*walk).by_name = 1;
                return WITHIN | u64::from(entry.root);
            }
        }
        let mut end = 0;
        let mut left = STRIDES;
        while left > 0 {
            end = fim_walk_some();
            if end != 0 {
                break;
            }
            left -= 1;
        }
        if (&raw const (*scratch).generation).read_volatile() != generation {
            // Another task took the scratch in the middle (a preemptible kernel): nothing is known.
            return TOO_LONG;
        }
        if end == 0 {
            return TOO_LONG;
        }
        if (*walk).by_name != 0 || end == DISCONNECTED {
            return end;
        }
        let outside = end == AT_TOP || end >> 32 == EXCLUDED >> 32;
        if outside {
            let parent: *const u8 = if (*walk).started == 0 {
                Probed::read(first, off::dentry_parent())
            } else {
                first
            };
            let inode: *const u8 = Probed::read(parent, off::dentry_inode());
            let identity = object::<Probed>(inode);
            let outside = Outside {
                ino: identity.ino,
                dev: identity.dev,
                generation: identity.generation,
                epoch,
            };
            let _ = OUTSIDE.insert(inode as u64, outside, 0);
        }
        end
    }
}

/// Walks from `dentry`, or for a name that has no dentry from its directory (`BELOW`: the name was
/// appended by the caller). With `COPY` the path is appended to the scratch, leaf first.
///
/// # Safety
/// `dentry` is a dentry in the sense of `M`; `scratch` is a map value that the caller has begun as
/// `generation`.
#[inline(always)]
pub(crate) unsafe fn walk<M: Memory, const COPY: bool, const BELOW: bool>(
    dentry: *const u8,
    scratch: *mut Scratch,
    generation: u64,
) -> Walk {
    // SAFETY: of the caller.
    unsafe {
        if COPY
            && !BELOW
            && let Some(walk) = inside::path::<M>(dentry, scratch, false)
        {
            return walk;
        }
        walk_anew::<COPY, BELOW>(dentry, scratch, generation)
    }
}

/// The same, by walking.
///
/// # Safety
/// As for [`walk`].
#[inline(always)]
pub(crate) unsafe fn walk_anew<const COPY: bool, const BELOW: bool>(
    dentry: *const u8,
    scratch: *mut Scratch,
    generation: u64,
) -> Walk {
    // SAFETY: of the caller.
    unsafe {
        let at = Scratch::cursor(scratch);
        let walk = &raw mut (*scratch).walk;
        (&raw mut (*walk).here).write_volatile(dentry as u64);
        (*walk).child = 0;
        (*walk).start = at as u64;
        (*walk).depth = u32::from(BELOW);
        (*walk).started = u32::from(BELOW);
        (*walk).by_name = 0;
        (*walk).cut = 0;
        (*walk).copy = u32::from(COPY);
        let mut end = fim_walk();
        if COPY && !BELOW && end >> 32 == WITHIN >> 32 {
            inside::fim_remember(u64::from(end as u32), generation);
        }
        if (&raw const (*scratch).generation).read_volatile() != generation {
            // Another task took the scratch in the middle (a preemptible kernel): nothing is known.
            end = TOO_LONG;
        }
        let len = (Scratch::cursor(scratch) - at) as u32;
        let kind = end >> 32;
        Walk {
            root: end as u32,
            inside: kind == WITHIN >> 32,
            unknown: kind == TOO_LONG >> 32,
            disconnected: kind == DISCONNECTED >> 32,
            truncated: kind == TOO_LONG >> 32 || (*walk).cut != 0,
            len,
        }
    }
}

/// Whether `dentry` is in scope; one too deep to tell is.
///
/// # Safety
/// `dentry` is a dentry in the sense of the verifier. Nothing is being put together in the scratch.
#[inline(always)]
pub(crate) unsafe fn is_inside(dentry: *const u8) -> bool {
    // SAFETY: of the caller.
    unsafe {
        if is_cached_outside::<Typed>(dentry) {
            return false;
        }
        let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return false };
        let generation = record::begin(scratch);
        if !walk::<Typed, false, false>(dentry, scratch, generation).is_outside() {
            return true;
        }
        is_linked::<Typed>(Typed::read(dentry, off::dentry_inode()))
    }
}
