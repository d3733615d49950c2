//! Small files of the agent's own that are there whole or not at all.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::Path;

use crate::platform;

/// Writes a file under another name and renames it, so that a crash leaves the old or the new one.
///
/// # Errors
/// Those of open(2), write(2), fsync(2) and rename(2).
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    write_beside(path, bytes, mode, true)
}

/// As [`replace`]; without `sync` a power cut may leave neither.
///
/// # Errors
/// As [`replace`].
pub(crate) fn write_beside(path: &Path, bytes: &[u8], mode: u32, sync: bool) -> io::Result<()> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    let mut file = platform::own(&mut options, mode).open(&fresh)?;
    file.write_all(bytes)?;
    if sync {
        file.sync_all()?;
    }
    // Not while it is open: Windows may refuse to.
    drop(file);
    std::fs::rename(&fresh, path)
}
