//! apk's database, `lib/apk/db/installed`: stanzas of one-letter fields, apk-v2(5) and
//! apk_db_fdb_read of apk-tools 2.14 and 3.0 (`src/database.c`).

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;

use super::{Content, DatabaseError, Digest, Entry, Key, Package, PackagesResult, Wanted};
use crate::event::Manager;

const INSTALLED: &str = "lib/apk/db/installed";
/// Since the merge of `/usr` in Alpine.
const INSTALLED_USR: &str = "usr/lib/apk/db/installed";

/// Of a file without a field `a`.
const DEFAULT_MODE: u32 = 0o644;

/// Where the database is, if it is there.
pub(super) fn find(root: &Path) -> Option<PathBuf> {
    files(root).into_iter().find(|path| path.is_file())
}

pub(super) fn files(root: &Path) -> Vec<PathBuf> {
    [INSTALLED, INSTALLED_USR].map(|name| root.join(name)).into()
}

/// One file of a package.
struct File {
    path: PathBuf,
    checksum: Option<Digest>,
    mode: Option<u32>,
}

/// Calls `found` for each package with its files; directories have no checksum and `None`.
fn each(
    root: &Path,
    found: &mut dyn FnMut(Package, Vec<File>, Vec<PathBuf>),
) -> Result<(), DatabaseError> {
    let Some(path) = find(root) else { return Ok(()) };
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(DatabaseError::new(&path, error)),
    };
    let text = String::from_utf8_lossy(&text);
    for block in text.split("\n\n") {
        let (mut name, mut version) = (String::new(), String::new());
        let mut directory = PathBuf::from("/");
        let mut format_3 = false;
        let (mut files, mut directories): (Vec<File>, Vec<PathBuf>) = (Vec::new(), Vec::new());
        for (number, line) in block.lines().enumerate() {
            let Some((field, value)) = line.split_once(':') else {
                let reason = format!("{line:?} (line {} of a package) is no field", number + 1);
                return Err(DatabaseError::new(&path, reason));
            };
            match field {
                "P" => value.clone_into(&mut name),
                "V" => value.clone_into(&mut version),
                "F" => {
                    directory = Path::new("/").join(value);
                    if !value.is_empty() {
                        directories.push(directory.clone());
                    }
                }
                "R" => {
                    let path = directory.join(value);
                    files.push(File { path, checksum: None, mode: Some(DEFAULT_MODE) });
                }
                // Flags of the package; they stand before its files.
                "f" => format_3 = value.contains('S'),
                // uid:gid:mode[:…]
                "a" => {
                    let mode = value.split(':').nth(2).and_then(|m| u32::from_str_radix(m, 8).ok());
                    if let Some(file) = files.last_mut() {
                        file.mode = mode;
                    }
                }
                "Z" => {
                    if let Some(file) = files.last_mut() {
                        file.checksum = digest(value, format_3);
                    }
                }
                _ => {}
            }
        }
        if !name.is_empty() {
            let package = Package { name, version, manager: Manager::Apk, key: Key::Apk };
            found(package, files, directories);
        }
    }
    Ok(())
}

pub(super) fn packages(root: &Path) -> PackagesResult {
    let mut packages = Vec::new();
    each(root, &mut |package, _, _| packages.push(package))?;
    Ok(packages)
}

pub(super) fn each_path(
    root: &Path,
    found: &mut dyn FnMut(&Package, &Path),
) -> Result<(), DatabaseError> {
    each(root, &mut |package, files, directories| {
        let paths = files.iter().map(|file| &file.path).chain(&directories);
        paths.for_each(|path| found(&package, path));
    })
}

pub(super) fn entries(
    root: &Path,
    name: &str,
    wanted: Wanted<'_>,
) -> Result<HashMap<PathBuf, Entry>, DatabaseError> {
    let mut entries = HashMap::new();
    each(root, &mut |package, files, directories| {
        if package.name != name {
            return;
        }
        for directory in directories {
            if let Some(path) = wanted(&directory) {
                let content = Content::Directory;
                entries.insert(path, Entry { content, configuration: false, mode: None });
            }
        }
        for file in files {
            let Some(path) = wanted(&file.path) else { continue };
            // What is in /etc is protected unless a package says otherwise (apk-protected_paths(5)).
            let configuration = file.path.starts_with("/etc");
            let content = file.checksum.map_or(Content::Unrecorded, Content::File);
            // Of a link the checksum is that of its target.
            entries.insert(path, Entry { content, configuration, mode: file.mode });
        }
    })?;
    Ok(entries)
}

/// `Q1` and 160 bits in base64, of SHA-1 or, for packages in format 3, of SHA-256, which are written
/// alike; `Q2` and a SHA-256.
fn digest(text: &str, format_3: bool) -> Option<Digest> {
    let decode = |text: &str| base64::engine::general_purpose::STANDARD.decode(text).ok();
    let of_160 = if format_3 { Digest::Sha256Of160 } else { Digest::Sha1 };
    match text.split_at_checked(2)? {
        ("Q1", sum) => decode(sum)?.try_into().ok().map(of_160),
        ("Q2", sum) => decode(sum)?.try_into().ok().map(Digest::Sha256),
        _ => None,
    }
}
