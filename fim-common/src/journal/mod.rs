//! The journal: every event, one JSON object a line, in numbered segments
//! (`journal-000000000001.jsonl`) of the state directory.
//!
//! Invariant: outside of a write(2) that is going on, a segment ends with a whole line. A write
//! that the disk refuses half way is cut back to it.
//!
//! Invariant: [`Journal::append`] either takes an event, to be written now or later, or says that
//! it did not; nothing it took is dropped while the journal lives.
//!
//! Invariant: each line carries the hash of itself and of all before it ([`chain`]), and what is
//! signed of a segment ([`seal`]) is true of it whatever happens.
//!
//! Lines are gathered and written together: call [`Journal::flush`] when there is nothing to do,
//! and [`FLUSH_INTERVAL`] after the first unflushed event at the latest.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::event::Event;
use crate::platform;
use crate::time::Timestamp;

mod brief;
pub mod chain;
pub mod cursor;
mod error;
pub mod follow;
mod index;
pub mod key;
mod notice;
mod options;
pub mod query;
mod recover;
mod retain;
pub mod seal;
mod sync;
pub mod verify;

use brief::Brief;
use chain::Head;
pub use error::JournalError;
pub use key::{Key, KeyError};
pub use notice::{Dropped, Notice, Reason};
pub use options::{Fsync, JournalOptions, OnFull};
pub use recover::Torn;
use seal::{SegmentState, Statement};
use sync::Syncer;

/// How long an event may wait in memory: what a killed agent loses at most.
pub const FLUSH_INTERVAL: Duration = Duration::from_millis(100);
/// With [`Fsync::Interval`], how long what is written may wait until the disk has it.
pub const SYNC_INTERVAL: Duration = Duration::from_secs(1);
/// Gathered bytes that are written without waiting for [`Journal::flush`].
const WRITE_AT: usize = 64 * 1024;
/// Bytes kept in memory while the disk refuses them; beyond, events are refused.
const KEEP: usize = 4 * 1024 * 1024;

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
    /// The chain before the first line of the segment, and of the last line taken.
    previous: Head,
    head: Head,
    /// Lines of the segment, those that are not written yet included.
    entries: u64,
    /// When the segment was begun, as far as it is known.
    begun: Timestamp,
    /// What the events have to say that the next segment begins with.
    notices: Vec<Notice>,
    /// When the first line was written that is not synchronised yet.
    unsynced: Option<Instant>,
    syncer: Syncer,
    /// What the index of the segment is to have; `None`: it has lines that are not in it.
    index: Option<Box<index::Gathered>>,
    aged: Instant,
    full: bool,
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
        platform::own_directory(directory).map_err(io)?;
        let last = numbers(directory, SEGMENT)?.pop();
        let mut number = last.unwrap_or(1);
        let mut path = segment_path(directory, number);
        let checked = match last {
            Some(_) => Some(recover::check(&path)?),
            None => None,
        };
        let mut end = retain::End::find(directory, number, checked.as_ref(), options.key.as_ref())?;
        if end.is_closed {
            number = end.next;
            path = segment_path(directory, number);
        }
        let file = open_segment(directory, &path)?;
        let begun = file.metadata().and_then(|metadata| metadata.modified()).map_err(io)?;
        let syncer = Syncer::start().map_err(io)?;
        let mut journal = Self {
            directory: directory.to_owned(),
            options,
            number,
            path,
            file,
            length: end.length,
            buffer: Vec::new(),
            last_sequence: checked.as_ref().and_then(|checked| checked.last_sequence),
            torn: checked.and_then(|checked| checked.torn),
            removed: 0,
            previous: end.previous,
            head: end.head,
            entries: end.entries,
            begun: Timestamp::from(begun),
            notices: std::mem::take(&mut end.notices),
            unsynced: None,
            syncer,
            index: (end.length == 0).then(Box::default),
            aged: Instant::now(),
            full: false,
        };
        journal.retain()?;
        journal.seal_open()?;
        Ok(journal)
    }

    /// Takes an event, and returns the length of its line in bytes. The line is the event with
    /// `fim.chain`, which is [`Journal::head`] then. Writes when 64 KiB are gathered, and begins a
    /// new segment when this one is full.
    ///
    /// # Errors
    /// The event was not taken. [`JournalError::Full`] and the like once 4 MiB are gathered that
    /// cannot be written; [`JournalError::Event`].
    pub fn append(&mut self, event: &Event) -> Result<usize, JournalError> {
        let before = self.buffer.len();
        let head = self.head;
        if let Err(source) = serde_json::to_writer(&mut self.buffer, event) {
            self.buffer.truncate(before);
            return Err(JournalError::Event { source });
        }
        self.head = chain::extend(&mut self.buffer, before, &head);
        self.buffer.push(b'\n');
        self.entries += 1;
        let line = self.buffer.len() - before;
        if let Some(index) = &mut self.index {
            let text = self.buffer.get(before..).unwrap_or_default();
            index.line(Some(&Brief::of(event)), text, line as u64);
        }
        let gathered = self.length + self.buffer.len() as u64;
        if self.buffer.len() >= WRITE_AT || gathered >= self.options.segment_bytes {
            match self.flush() {
                Ok(()) => {}
                // Kept: the next call tries again, and the pipeline's own flush reports it.
                Err(_) if self.buffer.len() <= KEEP && self.buffer.len() >= line => {}
                // It is written, and the segment is full and cannot be closed: for the next one.
                Err(_) if self.buffer.is_empty() => {}
                Err(error) => {
                    // The newest line is the last to be written, so it is still here, whole.
                    self.buffer.truncate(self.buffer.len().saturating_sub(line));
                    self.head = head;
                    self.entries -= 1;
                    self.index = None;
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
        loop {
            match self.write_buffer() {
                Ok(()) => break,
                Err(error) if error.is_full() && self.make_room()? => {}
                Err(error) => return Err(self.note_full(error)),
            }
        }
        if self.options.fsync == Fsync::Always && self.unsynced.is_some() {
            self.sync_data()?;
        }
        let is_full = self.length >= self.options.segment_bytes;
        if is_full || self.is_old() {
            self.rotate().map_err(|error| self.note_full(error))?;
        }
        self.full = false;
        Ok(())
    }

    /// Writes what is gathered and has the disk keep it through a power cut (fdatasync(2)).
    ///
    /// # Errors
    /// As [`Journal::flush`].
    pub fn sync(&mut self) -> Result<(), JournalError> {
        self.flush()?;
        self.sync_data()?;
        self.seal_open()
    }

    /// When [`Journal::tend`] has something to do.
    pub fn due(&self) -> Option<Instant> {
        let sync = self.unsynced.map(|since| since + SYNC_INTERVAL);
        let age = self.options.max_age.map(|_| self.aged + AGE_INTERVAL);
        [sync, age].into_iter().flatten().min()
    }

    /// What time brings: has a thread synchronise and seal what was written, and removes what is
    /// too old.
    ///
    /// # Errors
    /// As [`Journal::flush`], and what the thread met.
    pub fn tend(&mut self) -> Result<(), JournalError> {
        if let Some(source) = self.syncer.failure() {
            return Err(JournalError::io(&self.path, source));
        }
        let now = Instant::now();
        if self.unsynced.is_some_and(|since| since + SYNC_INTERVAL <= now) && !self.is_dirty() {
            let job = sync::Written {
                file: self.file.try_clone().map_err(|e| JournalError::io(&self.path, e))?,
                path: self.path.clone(),
                statement: self.statement(SegmentState::Open),
                key: self.options.key.clone(),
                sync: self.options.fsync == Fsync::Interval,
            };
            // A disk that is slower than this is asked again later.
            self.unsynced =
                if self.syncer.ask(sync::Job::Sync(Box::new(job))) { None } else { Some(now) };
        }
        if self.options.max_age.is_some() && self.aged + AGE_INTERVAL <= now {
            self.aged = now;
            if self.is_old() {
                self.flush()?;
            }
            self.retain()?;
        }
        Ok(())
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

    /// `fim.chain` of the last event taken.
    pub fn head(&self) -> Head {
        self.head
    }

    /// Where the journal stands, for `fim.journal`.
    pub fn position(&self) -> (u64, u64) {
        (self.number, self.entries)
    }

    /// The key that segments are signed with.
    pub fn key(&self) -> Option<&Key> {
        self.options.key.as_ref()
    }

    /// What is to be done about an event that is refused for want of room.
    pub fn on_full(&self) -> OnFull {
        self.options.on_full
    }

    /// What has to be told of the journal itself, each once.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// The segment being written.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Segments removed since [`Journal::open`], for whatever reason.
    pub fn removed(&self) -> u64 {
        self.removed
    }

    fn note_full(&mut self, error: JournalError) -> JournalError {
        if error.is_full() && !std::mem::replace(&mut self.full, true) {
            self.notices.push(Notice::Full { message: error.to_string() });
        }
        error
    }

    fn sync_data(&mut self) -> Result<(), JournalError> {
        self.file.sync_data().map_err(|source| JournalError::io(&self.path, source))?;
        self.unsynced = None;
        Ok(())
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
        if bytes > 0 {
            self.unsynced.get_or_insert_with(Instant::now);
        }
        self.buffer.drain(..bytes);
        self.length += bytes as u64;
        if self.buffer.is_empty() && self.buffer.capacity() > 4 * WRITE_AT {
            self.buffer.shrink_to(WRITE_AT);
        }
    }

    /// Closes this segment and begins the next one.
    fn rotate(&mut self) -> Result<(), JournalError> {
        self.allow_rotation()?;
        let path = segment_path(&self.directory, self.number + 1);
        let file = open_segment(&self.directory, &path)?;
        // A full segment is final, and an auditor's: have the disk keep it.
        self.file.sync_data().map_err(|source| JournalError::io(&self.path, source))?;
        if let Some(key) = &self.options.key {
            let statement = self.statement(SegmentState::Closed);
            self.syncer
                .close(&self.path, &statement, key)
                .map_err(|source| JournalError::io(&self.path, source))?;
        }
        let gathered = self.index.replace(Box::default());
        self.syncer.ask(sync::Job::Index(self.path.clone(), gathered));
        self.number += 1;
        self.path = path;
        self.file = file;
        self.length = 0;
        self.entries = 0;
        self.previous = self.head;
        self.begun = Timestamp::now();
        self.unsynced = None;
        self.retain()?;
        self.seal_open()
    }

    /// What there is to say of the segment; only true while nothing is gathered.
    fn statement(&self, state: SegmentState) -> Statement {
        Statement {
            segment: self.number,
            state,
            previous: self.previous.to_string(),
            chain: self.head.to_string(),
            entries: self.entries,
            bytes: self.length,
            oldest: self.oldest().unwrap_or(self.number),
            time: Timestamp::now(),
            public_key: self
                .options
                .key
                .as_ref()
                .map(|key| key.public().to_base64())
                .unwrap_or_default(),
        }
    }

    fn seal_open(&self) -> Result<(), JournalError> {
        let Some(key) = self.options.key.as_ref().filter(|_| !self.is_dirty()) else {
            return Ok(());
        };
        let sealed = seal::write(&self.path, &self.statement(SegmentState::Open), key, false);
        match sealed.map_err(|source| JournalError::io(&self.path, source)) {
            // The events are more important; the next one seals again.
            Err(error) if error.is_full() => Ok(()),
            result => result,
        }
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
    let numbers = numbers(directory, SEGMENT)?;
    Ok(numbers.into_iter().map(|number| segment_path(directory, number)).collect())
}

/// The numbers of the files in `directory` with this ending, ascending.
fn numbers(directory: &Path, ending: &str) -> Result<Vec<u64>, JournalError> {
    let io = |source| JournalError::io(directory, source);
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(io)? {
        let name = entry.map_err(io)?.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_prefix("journal-")?.strip_suffix(ending))
            .filter(|digits| digits.len() == DIGITS && digits.bytes().all(|b| b.is_ascii_digit()));
        numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// The number in the name of a segment.
fn number_of(segment: &Path) -> Option<u64> {
    segment.file_stem()?.to_str()?.strip_prefix("journal-")?.parse().ok()
}

/// Digits of a segment's number, so that names sort as numbers do.
const DIGITS: usize = 12;
/// Endings of the files of a segment: itself, and what is signed of it.
const SEGMENT: &str = ".jsonl";
const SEAL: &str = ".seal";
/// How often the age of segments is looked at.
const AGE_INTERVAL: Duration = Duration::from_secs(60);

fn segment_path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("journal-{number:0DIGITS$}.jsonl"))
}

fn open_segment(directory: &Path, path: &Path) -> Result<File, JournalError> {
    let file = platform::own(OpenOptions::new().append(true).create(true), 0o600)
        .open(path)
        .map_err(|source| JournalError::io(path, source))?;
    // The name has to survive a power cut too.
    platform::sync_directory(directory).map_err(|source| JournalError::io(directory, source))?;
    Ok(file)
}

#[cfg(test)]
mod query_tests;
#[cfg(test)]
mod retain_tests;
#[cfg(test)]
#[path = "tests.rs"]
pub(crate) mod tests;
#[cfg(test)]
mod verify_tests;
