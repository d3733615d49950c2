//! Memory: who gives it out, and what is not needed any more.

use std::ffi::CStr;
use std::ptr::null_mut;

use tikv_jemallocator::Jemalloc;

/// Of C libraries, too: it stands for malloc(3).
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// How it is set up (jemalloc(3), "TUNING"): one arena, and pages that are free go back to the system
/// within a second. An agent has few threads, which find most of what they ask for in their own
/// caches; with an arena for each of them, and pages kept for ten seconds, it would take twice the
/// memory. Huge pages are refused here for what is asked for before [`no_huge_pages`] is called.
// The name that it looks for. SAFETY: a pointer to text that ends with zero, as it expects.
#[unsafe(export_name = "malloc_conf")]
static CONFIGURATION: &[u8; 57] = b"narenas:1,dirty_decay_ms:1000,muzzy_decay_ms:0,thp:never\0";

/// Has the system back none of this process's memory with huge pages (`PR_SET_THP_DISABLE`), which
/// Debian gives to whoever does not say no: each stack of a thread would take 2 MiB, and each part of
/// the heap that is given back in part as much again. To be called before there are threads.
pub(crate) fn no_huge_pages() {
    // A kernel without them says that there is nothing to disable.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

/// Gives back what has been free for a while. The allocator does it while it is asked for memory; to
/// be called every now and then for when it is not.
pub(crate) fn tidy() {
    // Of all arenas (MALLCTL_ARENAS_ALL).
    purge(c"arena.4096.decay");
}

fn purge(control: &CStr) {
    // SAFETY: a name that ends with zero, of a control that neither reads nor writes a value. What it
    // says can only be that there is no such control.
    unsafe {
        tikv_jemalloc_sys::mallctl(control.as_ptr(), null_mut(), null_mut(), null_mut(), 0);
    }
}

/// Gives memory that is free back to the system at once, and code that has been run: to be called
/// after what takes much of it for a while, such as the start. What of the code is run again is mapped
/// again, from the page cache.
pub(crate) fn give_back() {
    purge(c"arena.4096.purge");
    // SAFETY: the callback is given what the loader knows, and the pages are as they are in their
    // files.
    unsafe {
        libc::dl_iterate_phdr(Some(unmap_code), null_mut());
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

#[cfg(test)]
mod tests {
    #[test]
    fn huge_pages_are_refused() {
        super::no_huge_pages();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let says = status.lines().find_map(|line| line.strip_prefix("THP_enabled:"));
        assert!(says.is_none_or(|says| says.trim() == "0"), "{says:?}");
    }
}
