//! Atomic additions (`BPF_ATOMIC | BPF_ADD`, without fetch: on all supported kernels). The BPF
//! target of rustc has no read-modify-write atomics of its own.

use core::arch::asm;

/// Adds to a 64-bit map value.
///
/// # Safety
/// `target` points into a map value and is aligned.
#[inline(always)]
pub(crate) unsafe fn add_u64(target: *mut u64, value: u64) {
    // SAFETY: of the caller.
    unsafe {
        asm!("lock *(u64 *)({target} + 0) += {value}", target = in(reg) target, value = in(reg) value);
    }
}

/// Adds to a 32-bit map value; adding `u32::MAX` takes one away.
///
/// # Safety
/// As for [`add_u64`].
#[inline(always)]
pub(crate) unsafe fn add_u32(target: *mut u32, value: u32) {
    // SAFETY: of the caller.
    unsafe {
        asm!("lock *(u32 *)({target} + 0) += {value}", target = in(reg) target, value = in(reg) u64::from(value));
    }
}
