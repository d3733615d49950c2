//! The allocator's memory.

/// Gives memory that is free back to the system, as far as the allocator can: to be called after what
/// takes much of it for a while.
pub(crate) fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes a number; malloc_trim(3) is safe at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}
