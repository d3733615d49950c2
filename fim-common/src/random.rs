//! Random bytes for keys.

use std::io;

use rustix::rand::{GetRandomFlags, getrandom};

/// Fills `bytes` with the kernel's random numbers.
///
/// # Errors
/// When the kernel has none.
pub(crate) fn fill(bytes: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    // More than 256 bytes may be cut short by a signal (getrandom(2)).
    while let Some(rest @ [_, ..]) = bytes.get_mut(filled..) {
        filled += getrandom(rest, GetRandomFlags::empty())?;
    }
    Ok(())
}
