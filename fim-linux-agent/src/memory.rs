//! Memory that is not needed any more: the allocator's, and that of the program's own code.

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

/// Gives memory that is free back to the system, as far as the allocator can, and code that has been
/// run: to be called after what takes much of it for a while, such as the start. What of the code is
/// run again is mapped again, from the page cache.
pub(crate) fn give_back() {
    // SAFETY: takes a number; malloc_trim(3) is safe at any time. The callback is given what the
    // loader knows, and the pages are as they are in their files.
    unsafe {
        #[cfg(target_env = "gnu")]
        libc::malloc_trim(0);
        libc::dl_iterate_phdr(Some(unmap_code), std::ptr::null_mut());
    }
}

/// Has the system forget which pages of an object's code and constants this process has met: what of
/// the object is never written to. A breakpoint is, and goes.
unsafe extern "C" fn unmap_code(
    object: *mut libc::dl_phdr_info,
    _size: libc::size_t,
    _data: *mut libc::c_void,
) -> libc::c_int {
    let page = rustix::param::page_size();
    // SAFETY: dl_iterate_phdr(3) gives an object with as many headers as it says.
    let (base, headers) = unsafe {
        let object = &*object;
        let headers = std::slice::from_raw_parts(object.dlpi_phdr, object.dlpi_phnum.into());
        (object.dlpi_addr, headers)
    };
    let is_constant = |header: &&libc::Elf64_Phdr| {
        header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0
    };
    for header in headers.iter().filter(is_constant) {
        let start = (base + header.p_vaddr) as usize;
        let (first, end) = (start.next_multiple_of(page), start + header.p_filesz as usize);
        let length = (end / page * page).saturating_sub(first);
        // SAFETY: whole pages of a mapping that is private, of a file, and was never written to.
        // Where it is refused the pages stay.
        unsafe {
            libc::madvise(first as *mut libc::c_void, length, libc::MADV_DONTNEED);
        }
    }
    0
}
