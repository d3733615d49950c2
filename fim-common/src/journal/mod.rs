//! The journal: every event, one JSON object a line, in numbered segments
//! (`journal-000000000001.jsonl`) of the state directory.
//!
//! Invariant: outside of a write(2) that is going on, a segment ends with a whole line. A write
//! that the disk refuses half way is cut back to it.
//!
//! Invariant: [`Journal::append`] either takes an event, to be written now or later, or says that
//! it did not; nothing it took is dropped while the journal lives.
//!
//! Lines are gathered and written together: call [`Journal::flush`] when there is nothing to do,
//! and [`FLUSH_INTERVAL`] after the first unflushed event at the latest.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::event::Event;

mod error;
mod recover;

pub use error::JournalError;
pub use recover::Torn;

/// How long an event may wait in memory: what a killed agent loses at most.
pub const FLUSH_INTERVAL: Duration = Duration::from_millis(100);
/// Gathered bytes that are written without waiting for [`Journal::flush`].
const WRITE_AT: usize = 64 * 1024;
/// Bytes kept in memory while the disk refuses them; beyond, events are refused.
const KEEP: usize = 4 * 1024 * 1024;

/// Size and number of the segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalOptions {
    /// Bytes after which a new segment is begun. A segment may exceed it by one event.
    pub segment_bytes: u64,
    /// Segments kept, the one being written included; the oldest are removed. At least 1.
    pub segments: usize,
}

impl Default for JournalOptions {
    /// 16 segments of 64 MiB: a gigabyte, some two million events.
    fn default() -> Self {
        Self { segment_bytes: 64 * 1024 * 1024, segments: 16 }
    }
}

/// The journal, open for appending. The caller holds the lock of the state directory.
#[derive(Debug)]
pub struct Journal {
    directory: PathBuf,
    options: JournalOptions,
    number: u64,
    path: PathBuf,
    file: File,
    /// Length of the file: it ends with a whole line.
    length: u64,
    /// Whole lines that are not written yet.
    buffer: Vec<u8>,
    last_sequence: Option<u64>,
    torn: Option<Torn>,
    removed: u64,
}

impl Journal {
    /// Opens the journal in `directory`, making both where they are missing. Reads the last
    /// segment to check it; a torn end is repaired, see [`Journal::torn`].
    ///
    /// # Errors
    /// [`JournalError::Damaged`] and [`JournalError::Foreign`], the file left as it is;
    /// [`JournalError::Full`], [`JournalError::ReadOnly`], [`JournalError::Io`].
    pub fn open(directory: &Path, options: JournalOptions) -> Result<Self, JournalError> {
        let io = |source| JournalError::io(directory, source);
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(io)?;
        let last = numbers(directory)?.pop();
        let number = last.unwrap_or(1);
        let path = segment_path(directory, number);
        let (length, last_sequence, torn) = match last {
            Some(_) => {
                let checked = recover::check(&path)?;
                (checked.length, checked.last_sequence, checked.torn)
            }
            None => (0, None, None),
        };
        let file = open_segment(directory, &path)?;
        let mut journal = Self {
            directory: directory.to_owned(),
            options,
            number,
            path,
            file,
            length,
            buffer: Vec::new(),
            last_sequence,
            torn,
            removed: 0,
        };
        journal.retain()?;
        Ok(journal)
    }

    /// Takes an event, and returns the length of its line in bytes. Writes when 64 KiB are
    /// gathered, and begins a new segment when this one is full.
    ///
    /// # Errors
    /// The event was not taken. [`JournalError::Full`] and the like once 4 MiB are gathered that
    /// cannot be written; [`JournalError::Event`].
    pub fn append(&mut self, event: &Event) -> Result<usize, JournalError> {
        let before = self.buffer.len();
        if let Err(source) = serde_json::to_writer(&mut self.buffer, event) {
            self.buffer.truncate(before);
            return Err(JournalError::Event { source });
        }
        self.buffer.push(b'\n');
        let line = self.buffer.len() - before;
        let gathered = self.length + self.buffer.len() as u64;
        if self.buffer.len() >= WRITE_AT || gathered >= self.options.segment_bytes {
            match self.flush() {
                Ok(()) => {}
                // Kept: the next call tries again, and the pipeline's own flush reports it.
                Err(_) if self.buffer.len() <= KEEP => {}
                Err(error) => {
                    // The newest line is the last to be written, so it is still here, whole.
                    self.buffer.truncate(self.buffer.len().saturating_sub(line));
                    return Err(error);
                }
            }
        }
        self.last_sequence = Some(event.event.sequence);
        Ok(line)
    }

    /// Writes what is gathered.
    ///
    /// # Errors
    /// [`JournalError::Full`] and the like. Nothing is lost: the events are kept, the segment ends
    /// with a whole line, and the next call tries again.
    pub fn flush(&mut self) -> Result<(), JournalError> {
        self.write_buffer()?;
        if self.length >= self.options.segment_bytes {
            self.rotate()?;
        }
        Ok(())
    }

    /// Writes what is gathered and has the disk keep it through a power cut (fdatasync(2)).
    ///
    /// # Errors
    /// As [`Journal::flush`].
    pub fn sync(&mut self) -> Result<(), JournalError> {
        self.flush()?;
        self.file.sync_data().map_err(|source| JournalError::io(&self.path, source))
    }

    /// Whether events are gathered that are not written yet.
    pub fn is_dirty(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// What [`Journal::open`] had to do about the end that the last run left.
    pub fn torn(&self) -> Option<&Torn> {
        self.torn.as_ref()
    }

    /// `event.sequence` of the last event taken, or found in the last segment at
    /// [`Journal::open`].
    pub fn last_sequence(&self) -> Option<u64> {
        self.last_sequence
    }

    /// The segment being written.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Segments removed since [`Journal::open`] because there were more than
    /// [`JournalOptions::segments`].
    pub fn removed(&self) -> u64 {
        self.removed
    }

    fn write_buffer(&mut self) -> Result<(), JournalError> {
        let mut written = 0;
        let result = loop {
            match self.buffer.get(written..) {
                None | Some([]) => break Ok(()),
                Some(rest) => match self.file.write(rest) {
                    Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                    Ok(length) => written += length,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => break Err(error),
                },
            }
        };
        if let Err(source) = result {
            // A full disk takes a part. Keep the lines that are whole, cut off the rest.
            let whole = self.buffer.get(..written).map_or(0, |bytes| {
                bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1)
            });
            let error = JournalError::io(&self.path, source);
            if whole < written {
                // Making a file shorter needs no space. Were it refused, what is on disk is the
                // start of the line that is still first in the buffer: write the rest of it then.
                match self.file.set_len(self.length + whole as u64) {
                    Ok(()) => self.written(whole),
                    Err(_) => self.written(written),
                }
            } else {
                self.written(written);
            }
            return Err(error);
        }
        self.written(written);
        Ok(())
    }

    fn written(&mut self, bytes: usize) {
        self.buffer.drain(..bytes);
        self.length += bytes as u64;
        if self.buffer.is_empty() && self.buffer.capacity() > 4 * WRITE_AT {
            self.buffer.shrink_to(WRITE_AT);
        }
    }

    fn rotate(&mut self) -> Result<(), JournalError> {
        let path = segment_path(&self.directory, self.number + 1);
        let file = open_segment(&self.directory, &path)?;
        // A full segment is final, and an auditor's: have the disk keep it.
        self.file.sync_data().map_err(|source| JournalError::io(&self.path, source))?;
        self.number += 1;
        self.path = path;
        self.file = file;
        self.length = 0;
        self.retain()
    }

    fn retain(&mut self) -> Result<(), JournalError> {
        let numbers = numbers(&self.directory)?;
        let surplus = numbers.len().saturating_sub(self.options.segments.max(1));
        for number in numbers.into_iter().take(surplus) {
            let path = segment_path(&self.directory, number);
            std::fs::remove_file(&path).map_err(|source| JournalError::io(&path, source))?;
            self.removed += 1;
        }
        Ok(())
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        if let Err(error) = self.sync() {
            tracing::error!(%error, bytes = self.buffer.len(), "the last events are not in the journal");
        }
    }
}

/// The segments in a journal's directory, oldest first.
///
/// # Errors
/// [`JournalError::Io`] and the like when the directory cannot be read.
pub fn segments(directory: &Path) -> Result<Vec<PathBuf>, JournalError> {
    Ok(numbers(directory)?.into_iter().map(|number| segment_path(directory, number)).collect())
}

fn numbers(directory: &Path) -> Result<Vec<u64>, JournalError> {
    let io = |source| JournalError::io(directory, source);
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(io)? {
        let name = entry.map_err(io)?.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_prefix("journal-")?.strip_suffix(".jsonl"))
            .filter(|digits| digits.len() == DIGITS && digits.bytes().all(|b| b.is_ascii_digit()));
        numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Digits of a segment's number, so that names sort as numbers do.
const DIGITS: usize = 12;

fn segment_path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("journal-{number:0DIGITS$}.jsonl"))
}

fn open_segment(directory: &Path, path: &Path) -> Result<File, JournalError> {
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)
        .map_err(|source| JournalError::io(path, source))?;
    // The name has to survive a power cut too.
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|source| JournalError::io(directory, source))?;
    Ok(file)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
