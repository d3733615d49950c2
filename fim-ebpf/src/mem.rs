//! Two ways to read a kernel field, one body for both.

use core::mem::MaybeUninit;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;

use crate::offsets::{self as off, ABSENT};

/// How a program reaches kernel memory.
pub(crate) trait Memory {
    /// Reads the field at `offset` of the object at `base`; all zeroes when it cannot be read.
    ///
    /// # Safety
    /// `base` is an address of the kind that the implementation takes; the verifier refuses the
    /// program otherwise. `T` is valid as all zeroes.
    unsafe fn read<T: Copy>(base: *const u8, offset: u32) -> T;

    /// Reads what leads from a dentry to its directory, its name and its object.
    ///
    /// # Safety
    /// As for [`Memory::read`].
    #[inline(always)]
    unsafe fn dentry(dentry: *const u8) -> DentryFields {
        // SAFETY: of the caller.
        unsafe {
            DentryFields {
                parent: Self::read(dentry, off::dentry_parent()),
                hash: 0,
                len: Self::read(dentry, off::dentry_name_len()),
                name: Self::read(dentry, off::dentry_name()),
                inode: Self::read(dentry, off::dentry_inode()),
            }
        }
    }
}

/// As `struct dentry` (include/linux/dcache.h) has them in a row.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct DentryFields {
    pub(crate) parent: *const u8,
    hash: u32,
    pub(crate) len: u32,
    pub(crate) name: *const u8,
    pub(crate) inode: *const u8,
}

/// Plain loads through a pointer whose type the verifier knows from BTF: one instruction. The
/// kernel handles a fault by loading zero (`PROBE_MEM`).
pub(crate) struct Typed;

impl Memory for Typed {
    #[inline(always)]
    unsafe fn read<T: Copy>(base: *const u8, offset: u32) -> T {
        // SAFETY: the verifier checks the type and the offset.
        unsafe { core::ptr::read_volatile(base.add(offset as usize).cast::<T>()) }
    }
}

/// `bpf_probe_read_kernel`, for addresses that passed through a map or arithmetic. A call costs as
/// much as copying some hundred bytes: fields that lie in a row are read as one `T`.
pub(crate) struct Probed;

impl Memory for Probed {
    #[inline(always)]
    unsafe fn read<T: Copy>(base: *const u8, offset: u32) -> T {
        let mut value = MaybeUninit::<T>::uninit();
        if offset == ABSENT || base.is_null() {
            value = MaybeUninit::zeroed();
        } else {
            // SAFETY: the helper checks the source; the destination is a T. On failure it
            // zeroes the destination.
            unsafe {
                bpf_probe_read_kernel(
                    value.as_mut_ptr().cast(),
                    size_of::<T>() as u32,
                    base.wrapping_add(offset as usize).cast(),
                );
            }
        }
        // SAFETY: initialised above, by zeroes or by the helper.
        unsafe { value.assume_init() }
    }

    #[inline(always)]
    unsafe fn dentry(dentry: *const u8) -> DentryFields {
        let first = off::dentry_parent();
        // SAFETY: of the caller.
        unsafe {
            if off::dentry_name_len() == first + 12
                && off::dentry_name() == first + 16
                && off::dentry_inode() == first + 24
            {
                return Self::read(dentry, first);
            }
            DentryFields {
                parent: Self::read(dentry, first),
                hash: 0,
                len: Self::read(dentry, off::dentry_name_len()),
                name: Self::read(dentry, off::dentry_name()),
                inode: Self::read(dentry, off::dentry_inode()),
            }
        }
    }
}

/// Fills a value with zeroes, a word at a time. What LLVM recognises as that becomes a call of a
/// memset which goes byte by byte: 4,000 instructions for what one open, write and close tell.
///
/// # Safety
/// `target` is writable and aligned to 8 bytes, of a type without pointers or invalid values whose
/// size is a multiple of 8.
#[inline(always)]
pub(crate) unsafe fn zero<T>(target: *mut T) {
    const { assert!(size_of::<T>().is_multiple_of(8) && align_of::<T>() <= 8) };
    let words: *mut u64 = target.cast();
    let mut index = 0;
    while index < size_of::<T>() / 8 {
        // SAFETY: of the caller; volatile so that it stays what it is.
        unsafe { words.add(index).write_volatile(0) };
        index += 1;
    }
}

/// Copies a value, a word at a time, for the same reason.
///
/// # Safety
/// As for [`zero`]; `source` is readable.
#[inline(always)]
pub(crate) unsafe fn copy<T>(target: *mut T, source: *const T) {
    const { assert!(size_of::<T>().is_multiple_of(8) && align_of::<T>() <= 8) };
    let (target, source): (*mut u64, *const u64) = (target.cast(), source.cast());
    let mut index = 0;
    while index < size_of::<T>() / 8 {
        // SAFETY: of the caller; volatile so that it stays what it is.
        unsafe { target.add(index).write_volatile(source.add(index).read()) };
        index += 1;
    }
}
