//! The allocator's memory.

/// Has free memory given back for good. By default the allocator keeps the more, the larger what it
/// was once asked for (mallopt(3)): of a scan of a million files 30 MiB, which [`give_back`] does not
/// get at. Costs nothing that can be measured. To be called before there are threads.
pub(crate) fn set_up() {
    #[cfg(target_env = "gnu")]
    {
        /// Bytes: larger than what is asked for all the time.
        const THRESHOLD: libc::c_int = 1 << 20;
        // SAFETY: takes numbers; nothing else uses the allocator at the same time.
        unsafe {
            libc::mallopt(libc::M_TRIM_THRESHOLD, THRESHOLD);
            libc::mallopt(libc::M_MMAP_THRESHOLD, THRESHOLD);
        }
    }
}

/// Gives memory that is free back to the system, as far as the allocator can: to be called after
/// what takes much of it for a while.
pub(crate) fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes a number; malloc_trim(3) is safe at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}
