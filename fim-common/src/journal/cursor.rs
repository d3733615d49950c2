//! Who reads the journal, and how far: files in `cursors/` of the journal's directory, each a
//! reader's own. Retention keeps the segment of the slowest one and those after it, unless the
//! operator said `on_full = "drop_oldest"`.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::durable::replace;
use crate::platform;

/// The directory, in the journal's.
const DIRECTORY: &str = "cursors";

/// How far a reader has got: everything before `offset` of `segment` is dealt with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// Number of the segment.
    pub segment: u64,
    /// Bytes.
    pub offset: u64,
}

/// A reader's place, kept on disk.
#[derive(Debug)]
pub struct Cursor {
    path: PathBuf,
    position: Option<Position>,
}

impl Cursor {
    /// The cursor of the reader `name` (letters, digits, `-`, `_`, `.`; not beginning with a dot)
    /// of the journal in `directory`.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for another name, [`io::ErrorKind::InvalidData`] when the
    /// file is something else, and what the system says.
    pub fn open(directory: &Path, name: &str) -> io::Result<Self> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.len() > 64 || name.starts_with('.') || !name.chars().all(plain) {
            let why = "a cursor's name has 1 to 64 letters, digits, '-', '_' and '.', and does not \
                       begin with a dot";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let cursors = directory.join(DIRECTORY);
        platform::own_directory(&cursors)?;
        let path = cursors.join(format!("{name}.json"));
        let position = read(&path)?;
        Ok(Self { path, position })
    }

    /// Where it stands; `None`: at the beginning of what there is.
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// Says that everything before `position` is dealt with, and has the disk keep that.
    ///
    /// # Errors
    /// What the system says; then the reader gets the same events again next time.
    pub fn advance(&mut self, position: Position) -> io::Result<()> {
        let text = serde_json::to_string(&position).map_err(io::Error::other)?;
        replace(&self.path, format!("{text}\n").as_bytes(), 0o600)?;
        self.position = Some(position);
        Ok(())
    }
}

/// The names of all readers of the journal in `directory`.
///
/// # Errors
/// What the system says.
pub fn names(directory: &Path) -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(directory.join(DIRECTORY)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        names.extend(name.to_str().and_then(|name| name.strip_suffix(".json")).map(str::to_owned));
    }
    Ok(names)
}

/// Removes a reader: the journal keeps nothing for it any more.
///
/// # Errors
/// What the system says; one that is not there is none.
pub fn remove(directory: &Path, name: &str) -> io::Result<()> {
    let path = directory.join(DIRECTORY).join(format!("{name}.json"));
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn read(path: &Path) -> io::Result<Option<Position>> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display()))
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The slowest reader of the journal in `directory`: its name and segment. A cursor that cannot be
/// read holds everything: its reader has to be asked.
///
/// # Errors
/// What the system says of the directory.
pub(super) fn slowest(directory: &Path) -> io::Result<Option<(String, u64)>> {
    let entries = match std::fs::read_dir(directory.join(DIRECTORY)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut slowest: Option<(String, u64)> = None;
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let segment = match read(&path) {
            Ok(position) => position.map_or(0, |position| position.segment),
            Err(_) => 0,
        };
        if slowest.as_ref().is_none_or(|(_, least)| segment < *least) {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            slowest = Some((name, segment));
        }
    }
    Ok(slowest)
}
