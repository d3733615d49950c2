//! Scope: whether an object lies in a watched tree, and its path relative to that tree's root.

use aya_ebpf::helpers::generated::{bpf_get_current_pid_tgid, bpf_probe_read_kernel};
use fim_common::record::{
    PATH_MAX,
    maps::{FILTER_LEN, FilterKey, RootEntry, Settings},
};

use crate::{
    atomic,
    maps::{FILTERS, OUTSIDE, Outside, ROOTS, SETTINGS, Scratch},
    mem::Memory,
    offsets as off,
};

/// Directories walked at most. A deeper object is counted as an error, never dropped silently.
const DEPTH_MAX: u32 = 64;

const S_IFMT: u32 = 0o170_000;
const S_IFDIR: u32 = 0o040_000;

/// The outcome of a walk.
#[derive(Clone, Copy)]
pub(crate) struct Walk {
    /// Id of the root; 0: none was met, the path (if one was asked for) is that in the object's
    /// file system.
    pub(crate) root: u32,
    /// Bytes written.
    pub(crate) len: u32,
    /// The walk was given up.
    pub(crate) truncated: bool,
}

impl Walk {
    /// Whether the object is out of scope. One too deep to tell is not.
    #[inline(always)]
    pub(crate) fn is_outside(self) -> bool {
        self.root == 0 && !self.truncated
    }
}

const OUT: Walk = Walk { root: 0, len: 0, truncated: false };

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

#[inline(always)]
pub(crate) unsafe fn mode<M: Memory>(inode: *const u8) -> u32 {
    // SAFETY: of the caller. i_mode is an unsigned short (umode_t).
    u32::from(unsafe { M::read::<u16>(inode, off::inode_mode()) })
}

#[inline(always)]
pub(crate) unsafe fn is_directory<M: Memory>(inode: *const u8) -> bool {
    // SAFETY: of the caller.
    unsafe { mode::<M>(inode) & S_IFMT == S_IFDIR }
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
/// the dentry `child`, `depth` components deep.
#[inline(always)]
unsafe fn filter_accepts<M: Memory>(root: u32, child: *const u8, depth: u32) -> bool {
    let mut key = FilterKey { name: [0; 2], root, reserved: 0 };
    // SAFETY: of the caller; at most 16 bytes are copied into 16 bytes.
    unsafe {
        let len: u32 = M::read(child, off::dentry_name_len());
        let len = if len > FILTER_LEN as u32 { FILTER_LEN as u32 } else { len };
        let source: *const u8 = M::read(child, off::dentry_name());
        bpf_probe_read_kernel(key.name.as_mut_ptr().cast(), len, source.cast());
        FILTERS.get(key).is_some_and(|&limit| depth <= limit)
    }
}

#[inline(always)]
unsafe fn written<const COPY: bool>(scratch: *mut Scratch, from: usize) -> u32 {
    if !COPY {
        return 0;
    }
    // SAFETY: of the caller.
    (unsafe { Scratch::cursor(scratch) } - from) as u32
}

/// Walks from `dentry` towards the root of its file system until a watched or excluded directory
/// is met.
///
/// With `COPY` the components are appended to `scratch`, leaf first. With `FULL` cached verdicts
/// are not asked, so that the path in the file system is there even out of scope.
///
/// # Safety
/// `dentry` is a dentry in the sense of `M`; with `COPY`, `scratch` is a map value.
#[inline(always)]
pub(crate) unsafe fn walk<M: Memory, const COPY: bool, const FULL: bool>(
    dentry: *const u8,
    scratch: *mut Scratch,
) -> Walk {
    let Some(settings) = settings() else { return OUT };
    let epoch = settings.epoch;
    // SAFETY: of the caller, here and below.
    unsafe {
        let parent: *const u8 = M::read(dentry, off::dentry_parent());
        let parent_inode: *const u8 = M::read(parent, off::dentry_inode());

        // The watched directory itself lies in a directory that may well be outside.
        let inode: *const u8 = M::read(dentry, off::dentry_inode());
        if !inode.is_null()
            && is_directory::<M>(inode)
            && let Some(entry) = root_entry::<M>(inode)
            && entry.depth != 0
            && entry.exclude == 0
        {
            return Walk { root: entry.root, len: 0, truncated: false };
        }
        if !FULL
            && let Some(outside) = OUTSIDE.get(parent_inode as u64)
            && outside.epoch == epoch
            && outside.ino == M::read::<u64>(parent_inode, off::inode_ino())
            && outside.generation == M::read::<u32>(parent_inode, off::inode_generation())
            && outside.dev == device::<M>(parent_inode)
        {
            return OUT;
        }

        let mut here = dentry;
        let mut child = dentry;
        let mut depth = 0u32;
        let at = if COPY { Scratch::cursor(scratch) } else { 0 };
        // A verdict that depends on the object's own name must not be cached for its directory.
        let mut cacheable = true;
        while depth < DEPTH_MAX {
            if depth > 0 {
                let inode: *const u8 = M::read(here, off::dentry_inode());
                if let Some(entry) = root_entry::<M>(inode) {
                    if entry.exclude != 0 {
                        break;
                    }
                    if depth <= entry.depth
                        || (entry.filtered != 0 && filter_accepts::<M>(entry.root, child, depth))
                    {
                        return Walk {
                            root: entry.root,
                            len: written::<COPY>(scratch, at),
                            truncated: false,
                        };
                    }
                    if depth == 1 {
                        cacheable = false;
                    }
                }
            }
            let parent: *const u8 = M::read(here, off::dentry_parent());
            if parent == here {
                break;
            }
            if COPY {
                if written::<COPY>(scratch, at) > PATH_MAX as u32 {
                    return Walk { root: 0, len: written::<COPY>(scratch, at), truncated: true };
                }
                let len: u32 = M::read(here, off::dentry_name_len());
                let name: *const u8 = M::read(here, off::dentry_name());
                Scratch::push_name(scratch, name, len);
            }
            child = here;
            here = parent;
            depth += 1;
        }
        if depth >= DEPTH_MAX {
            return Walk { root: 0, len: written::<COPY>(scratch, at), truncated: true };
        }
        if cacheable && !FULL {
            let outside = Outside {
                ino: M::read(parent_inode, off::inode_ino()),
                dev: device::<M>(parent_inode),
                generation: M::read(parent_inode, off::inode_generation()),
                epoch,
            };
            let _ = OUTSIDE.insert(parent_inode as u64, outside, 0);
        }
        Walk { root: 0, len: written::<COPY>(scratch, at), truncated: false }
    }
}
