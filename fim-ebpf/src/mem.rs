//! Two ways to read a kernel field, one body for both.

use core::mem::MaybeUninit;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;

use crate::offsets::ABSENT;

/// How a program reaches kernel memory.
pub(crate) trait Memory {
    /// Reads the field at `offset` of the object at `base`; all zeroes when it cannot be read.
    ///
    /// # Safety
    /// `base` is an address of the kind that the implementation takes; the verifier refuses the
    /// program otherwise. `T` is valid as all zeroes.
    unsafe fn read<T: Copy>(base: *const u8, offset: u32) -> T;
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
        let mut value = MaybeUninit::<T>::zeroed();
        if offset != ABSENT && !base.is_null() {
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
}
