//! Directories whose files are in scope whatever their name: the way to them is remembered, so that
//! their files are placed without a walk.

use core::mem::MaybeUninit;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;

use crate::{
    maps::{CURSOR_MASK, INSIDE, INSIDE_PATH, Inside, LAST_INSIDE, SCRATCH, Scratch},
    mem::{self, Memory, Probed},
    offsets as off,
    scope::{Walk, device, is_directory, settings},
};

/// Remembers the directory of the object where the walk began that has just led to `root`, and the
/// way to it. Not part of the walk: together they would need too much stack.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn fim_remember(root: u64, generation: u64) -> u64 {
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return 0 };
    // SAFETY: map values; Probed reads check addresses; at most `INSIDE_PATH` bytes are copied to
    // as many.
    unsafe {
        let walk = &raw mut (*scratch).walk;
        if (*walk).by_name != 0 || (*walk).started != 0 || (*walk).copy == 0 {
            return 0;
        }
        let above = u64::from((*walk).above) & CURSOR_MASK;
        let len = (Scratch::cursor(scratch) as u64).wrapping_sub(above);
        // What the verifier knows of the length must outlive what LLVM makes of the comparison.
        let len = core::hint::black_box(len);
        if len > INSIDE_PATH as u64 {
            return 0;
        }
        let parent: *const u8 = Probed::read((*walk).first as *const u8, off::dentry_parent());
        let inode: *const u8 = Probed::read(parent, off::dentry_inode());
        let mut value = MaybeUninit::<Inside>::uninit();
        let inside = value.as_mut_ptr();
        mem::zero(inside);
        (*inside).ino = Probed::read(inode, off::inode_ino());
        (*inside).dev = device::<Probed>(inode);
        (*inside).generation = Probed::read(inode, off::inode_generation());
        (*inside).epoch = (*walk).epoch;
        (*inside).root = root as u32;
        (*inside).len = len as u32;
        let source = Scratch::bytes(scratch).add(above as usize);
        bpf_probe_read_kernel((&raw mut (*inside).path).cast(), len as u32, source.cast());
        // What is on this stack is of that walk if nobody has taken the scratch up to here.
        if (&raw const (*scratch).generation).read_volatile() == generation {
            let _ = INSIDE.insert(inode as u64, inside.as_ref_unchecked(), 0);
        }
    }
    0
}

/// The path of an object that is no directory by what is known of its directory, copied to the
/// scratch. `file`: it is known to be none, though its name may lead to it no more.
///
/// # Safety
/// `dentry` is a dentry in the sense of `M`, and `scratch` a map value.
#[inline(always)]
pub(crate) unsafe fn path<M: Memory>(
    dentry: *const u8,
    scratch: *mut Scratch,
    file: bool,
) -> Option<Walk> {
    let epoch = settings()?.epoch;
    // SAFETY: of the caller; a name fits behind any cursor, and so do `INSIDE_PATH` bytes.
    unsafe {
        let fields = M::dentry(dentry);
        // A directory may be a root itself.
        let inode = fields.inode;
        if !file && (inode.is_null() || is_directory::<M>(inode)) {
            return None;
        }
        let parent = fields.parent;
        let parent_inode: *const u8 = M::read(parent, off::dentry_inode());
        let inside: *const Inside = INSIDE.get(parent_inode as u64)?;
        let ino: u64 = M::read(parent_inode, off::inode_ino());
        let generation: u32 = M::read(parent_inode, off::inode_generation());
        let dev = device::<M>(parent_inode);
        let (root, len) = ((*inside).root, core::hint::black_box(u64::from((*inside).len)));
        if len > INSIDE_PATH as u64 {
            return None;
        }
        let at = Scratch::cursor(scratch);
        Scratch::push_name(scratch, fields.name, fields.len);
        let cursor = Scratch::cursor(scratch);
        let target = Scratch::bytes(scratch).add(cursor);
        bpf_probe_read_kernel(target.cast(), len as u32, (&raw const (*inside).path).cast());
        // Last: the entry may have become that of another directory meanwhile.
        if (&raw const (*inside).ino).read_volatile() != ino
            || (&raw const (*inside).generation).read_volatile() != generation
            || (&raw const (*inside).dev).read_volatile() != dev
            || (&raw const (*inside).epoch).read_volatile() != epoch
        {
            Scratch::set_cursor(scratch, at);
            return None;
        }
        if let Some(last) = LAST_INSIDE.get_ptr_mut(0) {
            last.write_volatile(parent_inode as u64);
        }
        let end = cursor + len as usize;
        Scratch::set_cursor(scratch, end);
        let len = (end - at) as u32;
        Some(Walk {
            root,
            inside: true,
            unknown: false,
            disconnected: false,
            truncated: false,
            len,
        })
    }
}
