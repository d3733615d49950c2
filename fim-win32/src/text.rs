//! UTF-16, as Windows takes and gives it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::windows::ffi::{OsStrExt as _, OsStringExt as _};

use windows_sys::Win32::Foundation::LocalFree;

/// With a NUL at its end.
///
/// # Errors
/// `InvalidInput` for a text that has one elsewhere.
pub(crate) fn wide(text: &OsStr) -> io::Result<Vec<u16>> {
    let mut wide: Vec<u16> = text.encode_wide().collect();
    if wide.contains(&0) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a NUL within a text"));
    }
    wide.push(0);
    Ok(wide)
}

/// Up to the first NUL.
pub(crate) fn narrow(wide: &[u16]) -> OsString {
    let end = wide.iter().position(|unit| *unit == 0).unwrap_or(wide.len());
    OsString::from_wide(wide.get(..end).unwrap_or_default())
}

/// What a function of Windows left in memory of its own: freed when it goes.
pub(crate) struct Local(pub(crate) *mut core::ffi::c_void);

impl Drop for Local {
    fn drop(&mut self) {
        // SAFETY: it was allocated by LocalAlloc, as the functions that fill it document, and is
        // freed once; LocalFree takes a null pointer.
        unsafe { LocalFree(self.0) };
    }
}

/// A NUL-terminated text.
///
/// # Safety
/// `text` points to one, or is null.
pub(crate) unsafe fn from_pointer(text: *const u16) -> Option<OsString> {
    if text.is_null() {
        return None;
    }
    let mut length = 0;
    // SAFETY: up to the NUL everything is the text's.
    while unsafe { *text.add(length) } != 0 {
        length += 1;
    }
    // SAFETY: as above.
    Some(OsString::from_wide(unsafe { std::slice::from_raw_parts(text, length) }))
}
