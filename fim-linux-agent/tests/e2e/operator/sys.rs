//! The system calls for which no safe function is at hand. The only file of these tests in which
//! the compiler does not check everything.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

fn result(code: libc::c_int) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// truncate(2).
pub(super) fn truncate(path: &Path, size: u64) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: `path` ends with a NUL and outlives the call.
    result(unsafe { libc::truncate(path.as_ptr(), size.cast_signed()) })
}

/// seteuid(2), for all threads of this process.
pub(super) fn seteuid(uid: u32) -> io::Result<()> {
    // SAFETY: takes a number.
    result(unsafe { libc::seteuid(uid) })
}

/// Stores `bytes` at the beginning of `file` through a shared mapping, when the file has been
/// closed already: then there is nothing but the mapping to tell of it.
pub(super) fn store_through_mapping(file: File, bytes: &[u8]) -> io::Result<()> {
    let length = bytes.len();
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let descriptor = file.as_raw_fd();
    // SAFETY: a new mapping at an address of the kernel's choice aliases nothing of ours.
    let mapping = unsafe {
        let nowhere = std::ptr::null_mut();
        libc::mmap(nowhere, length, protection, libc::MAP_SHARED, descriptor, 0)
    };
    if mapping == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    drop(file);
    // SAFETY: the mapping is `length` bytes long, as is `bytes`, and does not overlap it.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), mapping.cast::<u8>(), length) };
    // SAFETY: exactly what was mapped above, and nothing refers to it any more.
    result(unsafe { libc::munmap(mapping, length) })
}
