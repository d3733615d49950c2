//! Checking the last segment at start, and setting a torn end aside.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::JournalError;
use super::chain::{self, Head};
use crate::platform;

/// How the last run left the end of the journal, when it was not with a whole line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Torn {
    /// The last line was whole and lacked only its newline, which was added. Nothing is missing.
    Completed {
        /// The segment.
        segment: PathBuf,
    },
    /// The last line was cut short; what there is of it was moved to a file beside the segment.
    SetAside {
        /// The segment, which ends before that line now.
        segment: PathBuf,
        /// Where the bytes are.
        file: PathBuf,
        /// How many.
        bytes: u64,
    },
}

/// What the journal relies on in a line. The rest is for `fim verify` to check: it may have been
/// written by another version.
#[derive(Deserialize)]
struct Line {
    event: Meta,
}

#[derive(Deserialize)]
struct Meta {
    #[serde(rename = "id")]
    _id: String,
    sequence: u64,
}

/// What is known of a segment that was found whole or made so.
#[derive(Debug)]
pub(super) struct Checked {
    /// Its length now.
    pub(super) length: u64,
    /// `event.sequence` of its last line.
    pub(super) last_sequence: Option<u64>,
    /// Its lines.
    pub(super) entries: u64,
    /// The chain of its last line, where that has one.
    pub(super) chain: Option<Head>,
    pub(super) torn: Option<Torn>,
}

/// Reads a segment from its beginning. A bad last line is set aside; any other is an error, and
/// the file is then not touched.
pub(super) fn check(path: &Path) -> Result<Checked, JournalError> {
    let io = |source| JournalError::io(path, source);
    let file = open(path)?;
    let mut reader = BufReader::with_capacity(256 * 1024, file);
    let mut buffer = Vec::new();
    let (mut number, mut offset) = (0_u64, 0_u64);
    let mut last_sequence = None;
    let mut chain = None;
    loop {
        buffer.clear();
        // Not one line of a foreign file of any size into memory: an event has a few kilobytes.
        let length =
            reader.by_ref().take(MAXIMUM_LINE).read_until(b'\n', &mut buffer).map_err(io)? as u64;
        if length == 0 {
            return Ok(Checked {
                length: offset,
                last_sequence,
                entries: number,
                chain,
                torn: None,
            });
        }
        number += 1;
        let whole = buffer.last() == Some(&b'\n');
        let parsed = serde_json::from_slice::<Line>(&buffer);
        let last = reader.fill_buf().map_err(io)?.is_empty();
        match parsed {
            Ok(line) if whole => {
                last_sequence = Some(line.event.sequence);
                chain = chain::claimed(buffer.strip_suffix(b"\n").unwrap_or(&buffer));
            }
            Ok(line) if last => {
                complete(path, reader.into_inner())?;
                let torn = Some(Torn::Completed { segment: path.to_owned() });
                let last_sequence = Some(line.event.sequence);
                return Ok(Checked {
                    length: offset + length + 1,
                    last_sequence,
                    entries: number,
                    chain: chain::claimed(&buffer),
                    torn,
                });
            }
            // A file without one good line is not a journal with a torn end, unless that is all
            // that was ever written to it.
            Err(_) if last && (number > 1 || begins_like_an_event(&buffer)) => {
                let torn = Some(set_aside(path, reader.into_inner(), offset)?);
                let entries = number - 1;
                return Ok(Checked { length: offset, last_sequence, entries, chain, torn });
            }
            Err(error) if number == 1 => {
                let why = format!("its first line is not an event: {error}");
                return Err(JournalError::Foreign { path: path.to_owned(), why });
            }
            Ok(_) => {
                let why = format!("longer than {MAXIMUM_LINE} bytes");
                return Err(damaged(path, number, offset, why));
            }
            Err(error) => return Err(damaged(path, number, offset, error.to_string())),
        }
        offset += length;
    }
}

/// Bytes in a line; the largest event has an argument vector of 2 MiB (`ARG_MAX`), which JSON can
/// swell sixfold.
pub(super) const MAXIMUM_LINE: u64 = 16 * 1024 * 1024;

fn damaged(path: &Path, line: u64, offset: u64, why: String) -> JournalError {
    JournalError::Damaged { path: path.to_owned(), line, offset, why }
}

/// Every event begins with its timestamp. Blocks that were allocated and never written, as a
/// power cut leaves them, are zeros.
fn begins_like_an_event(bytes: &[u8]) -> bool {
    const START: &[u8] = br#"{"@timestamp":"#;
    let length = bytes.len().min(START.len());
    bytes.get(..length) == START.get(..length) || bytes.iter().all(|&byte| byte == 0)
}

fn open(path: &Path) -> Result<File, JournalError> {
    let metadata =
        std::fs::symlink_metadata(path).map_err(|source| JournalError::io(path, source))?;
    if !metadata.is_file() {
        let why = "not a regular file".to_owned();
        return Err(JournalError::Foreign { path: path.to_owned(), why });
    }
    platform::own(OpenOptions::new().read(true).write(true), 0o600)
        .open(path)
        .map_err(|source| JournalError::io(path, source))
}

fn complete(path: &Path, mut file: File) -> Result<(), JournalError> {
    file.seek(SeekFrom::End(0))
        .and_then(|_| file.write_all(b"\n"))
        .and_then(|()| file.sync_data())
        .map_err(|source| JournalError::io(path, source))
}

/// Copies everything from `offset` to a side file, and only when that is safely on disk cuts it
/// off. A crash in between leaves both, and the next start does it again.
fn set_aside(path: &Path, mut file: File, offset: u64) -> Result<Torn, JournalError> {
    let mut tail = Vec::new();
    let read = file.seek(SeekFrom::Start(offset)).and_then(|_| file.read_to_end(&mut tail));
    read.map_err(|source| JournalError::io(path, source))?;
    let mut attempt = 0_u32;
    let side = loop {
        let side = side_path(path, offset, attempt);
        match write_new(&side, &tail) {
            Ok(()) => break side,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // From a start that crashed here before: the same bytes need no second copy.
                if std::fs::read(&side).is_ok_and(|bytes| bytes == tail) {
                    break side;
                }
                attempt += 1;
            }
            Err(source) => return Err(JournalError::io(&side, source)),
        }
    };
    file.set_len(offset)
        .and_then(|()| file.sync_all())
        .map_err(|source| JournalError::io(path, source))?;
    Ok(Torn::SetAside { segment: path.to_owned(), file: side, bytes: tail.len() as u64 })
}

fn side_path(path: &Path, offset: u64, attempt: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".torn-{offset}"));
    if attempt > 0 {
        name.push(format!("-{attempt}"));
    }
    PathBuf::from(name)
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file =
        platform::own(OpenOptions::new().write(true).create_new(true), 0o600).open(path)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if written.is_err() {
        // A half copy must not pass for the whole at the next start.
        let _ = std::fs::remove_file(path);
    }
    written
}
