//! Small files of the agent's own that are there whole or not at all.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

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
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .custom_flags(nofollow())
        .open(&fresh)?;
    file.write_all(bytes)?;
    if sync {
        file.sync_all()?;
    }
    std::fs::rename(&fresh, path)
}

/// The flag of open(2) that refuses a symbolic link, which somebody else may have put there.
pub(crate) fn nofollow() -> i32 {
    rustix::fs::OFlags::NOFOLLOW.bits().cast_signed()
}
