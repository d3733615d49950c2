//! Files of the agent's own, for the crates beside this one: nobody else may write to them, and none
//! of them is opened through a link that somebody else may have put there.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

use crate::platform;

/// Opens a file to append to it, for the agent alone if it is made.
///
/// # Errors
/// What the system says; `InvalidInput` for what is no regular file.
pub fn append(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let file = platform::own(options.append(true).create(true), 0o600).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")),
    }
}

/// Makes a directory that only the agent can enter, and those above it.
///
/// # Errors
/// What the system says.
pub fn directory(path: &Path) -> io::Result<()> {
    platform::own_directory(path)
}

/// Whether a name still leads to this open file, by no link.
///
/// # Errors
/// What the system says, but that there is nothing of that name.
pub fn is_at(path: &Path, file: &File) -> io::Result<bool> {
    match platform::identity_at(path) {
        Ok(there) => Ok(there == platform::identity(file)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Why somebody else could write to an open file or directory, and what to do about it; `None`: only
/// administrators and whoever runs this can. On Windows the handle needs the right to read the
/// security descriptor.
///
/// # Errors
/// What the system says.
pub fn writable_by_others(file: &File) -> io::Result<Option<String>> {
    platform::writable(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_to_a_file_until_it_is_another() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        let file = append(&path).unwrap();
        assert!(is_at(&path, &file).unwrap());
        std::fs::rename(&path, directory.path().join("b")).unwrap();
        assert!(!is_at(&path, &file).unwrap());
        append(&path).unwrap();
        assert!(!is_at(&path, &file).unwrap());
        assert!(append(directory.path()).is_err());
    }
}
