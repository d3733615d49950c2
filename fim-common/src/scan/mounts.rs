//! Which file systems a scan enters.

use std::io;
use std::path::Path;

use crate::object::{Handle, Place};

/// Opens a directory for listing, unless it is the root of a pseudo file system. Where another
/// file system begins this is found out before it is opened: opening an autofs directory mounts.
pub(super) fn enter(
    parent: Place<'_>,
    name: &Path,
    device: Option<u64>,
) -> io::Result<Option<Handle>> {
    let place = Handle::open_at(parent, name)?;
    if place.stat()?.device != device && place.is_pseudo()? {
        return Ok(None);
    }
    Handle::open_directory_at(parent, name).map(Some)
}
