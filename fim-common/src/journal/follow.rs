//! Reading the journal from a place on, in order, while it is written.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::cursor::Position;
use super::{JournalError, SEGMENT, numbers, segment_path};
use crate::platform::FileExt as _;

/// Bytes read at a time.
const CHUNK: usize = 256 * 1024;

/// A place in the journal, and what was read ahead from there.
#[derive(Debug)]
pub struct Follower {
    directory: PathBuf,
    at: Position,
    /// Of the segment of `at`.
    file: Option<File>,
    /// What the segment has from `at` on, as far as it was read.
    ahead: Vec<u8>,
    /// Of that, what was given out.
    taken: usize,
}

/// What [`Follower::read`] came upon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Lines given out.
    pub lines: usize,
    /// The journal has no more now.
    pub is_end: bool,
    /// Segments that are not there any more: retention has removed them before they were read.
    pub missing: u64,
}

impl Follower {
    /// Of the journal in `directory`, from `at` on, which is where a line begins.
    pub fn new(directory: &Path, at: Position) -> Self {
        Self { directory: directory.into(), at, file: None, ahead: Vec::new(), taken: 0 }
    }

    /// Where the next line begins.
    pub fn position(&self) -> Position {
        Position { offset: self.at.offset + self.taken as u64, ..self.at }
    }

    /// Goes on from somewhere else.
    pub fn seek(&mut self, at: Position) {
        *self = Self::new(&self.directory, at);
    }

    /// Gives the next lines (without their newlines) to `take`, each with the place behind it, until
    /// that returns `false`, which leaves out none, or the journal ends.
    ///
    /// # Errors
    /// When the journal cannot be read. What was given out before is.
    pub fn read(
        &mut self,
        mut take: impl FnMut(&[u8], Position) -> bool,
    ) -> Result<Found, JournalError> {
        let mut found = Found::default();
        loop {
            while let Some(length) = self.line_length() {
                let start = self.taken;
                self.taken += length + 1;
                let line = self.ahead.get(start..start + length).unwrap_or_default();
                found.lines += 1;
                if !take(line, self.position()) {
                    return Ok(found);
                }
            }
            if !self.more(&mut found)? {
                found.is_end = true;
                return Ok(found);
            }
        }
    }

    /// The length of the next line that was read whole.
    fn line_length(&self) -> Option<usize> {
        memchr::memchr(b'\n', self.ahead.get(self.taken..)?)
    }

    /// Reads on. `false`: there is nothing more now.
    fn more(&mut self, found: &mut Found) -> Result<bool, JournalError> {
        self.at = self.position();
        self.ahead.drain(..self.taken);
        self.taken = 0;
        if self.file.is_none() && !self.open(found)? {
            return Ok(false);
        }
        if self.extend()? {
            return Ok(true);
        }
        // Only a segment that is the last one grows, and one can have grown before there was
        // another.
        let Some(next) = self.next()? else { return Ok(false) };
        if self.extend()? {
            return Ok(true);
        }
        if !self.ahead.is_empty() {
            tracing::error!(segment = self.at.segment, "a closed segment ends within a line");
        }
        found.missing += next - self.at.segment - 1;
        self.seek(Position { segment: next, offset: 0 });
        Ok(true)
    }

    /// Opens the segment of `at`, or the one behind it that is there.
    fn open(&mut self, found: &mut Found) -> Result<bool, JournalError> {
        loop {
            let path = segment_path(&self.directory, self.at.segment);
            match File::open(&path) {
                Ok(file) => {
                    self.file = Some(file);
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let Some(next) = self.next()? else { return Ok(false) };
                    // Segment 0 is where a reader stands that never read.
                    found.missing += next - self.at.segment.max(1);
                    self.at = Position { segment: next, offset: 0 };
                }
                Err(error) => return Err(JournalError::io(&path, error)),
            }
        }
    }

    /// The number of the segment behind this one.
    fn next(&self) -> Result<Option<u64>, JournalError> {
        let numbers = numbers(&self.directory, SEGMENT)?;
        Ok(numbers.into_iter().find(|&number| number > self.at.segment))
    }

    /// Reads more of the segment; whether there was any.
    fn extend(&mut self) -> Result<bool, JournalError> {
        let Some(file) = &self.file else { return Ok(false) };
        let had = self.ahead.len();
        self.ahead.resize(had + CHUNK, 0);
        let room = self.ahead.get_mut(had..).unwrap_or_default();
        let read = file.read_at(room, self.at.offset + had as u64);
        self.ahead.truncate(had + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(length) => Ok(length > 0),
            Err(error) => {
                Err(JournalError::io(&segment_path(&self.directory, self.at.segment), error))
            }
        }
    }
}

/// Where the journal in `directory` begins.
///
/// # Errors
/// When it cannot be read.
pub fn beginning(directory: &Path) -> Result<Position, JournalError> {
    let first = numbers(directory, SEGMENT)?.first().copied();
    Ok(Position { segment: first.unwrap_or(1), offset: 0 })
}

/// The end of the journal in `directory`: where its last whole line ends.
///
/// # Errors
/// When it cannot be read.
pub fn end(directory: &Path) -> Result<Position, JournalError> {
    let Some(segment) = numbers(directory, SEGMENT)?.pop() else {
        return Ok(Position { segment: 1, offset: 0 });
    };
    let path = segment_path(directory, segment);
    let offset = File::open(&path).and_then(|file| super::query::whole_length(&file));
    Ok(Position { segment, offset: offset.map_err(|error| JournalError::io(&path, error))? })
}

/// How many lines of what is there lie between two places.
///
/// # Errors
/// When the journal cannot be read.
pub fn count(directory: &Path, from: Position, to: Position) -> Result<u64, JournalError> {
    let mut lines = 0;
    let mut buffer = vec![0; CHUNK];
    let between = from.segment..=to.segment;
    for number in numbers(directory, SEGMENT)?.into_iter().filter(|number| between.contains(number))
    {
        let path = segment_path(directory, number);
        let io = |error| JournalError::io(&path, error);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(io(error)),
        };
        let mut at = if number == from.segment { from.offset } else { 0 };
        let end = if number == to.segment { to.offset } else { u64::MAX };
        while at < end {
            let length = file.read_at(&mut buffer, at).map_err(io)?;
            let wanted = length.min(usize::try_from(end - at).unwrap_or(usize::MAX));
            if wanted == 0 {
                break;
            }
            let part = buffer.get(..wanted).unwrap_or_default();
            lines += memchr::memchr_iter(b'\n', part).count() as u64;
            at += wanted as u64;
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;

    use super::*;

    fn write(directory: &Path, segment: u64, text: &str) {
        let path = segment_path(directory, segment);
        let mut file = fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn read(follower: &mut Follower) -> (Vec<String>, Found) {
        let mut lines = Vec::new();
        let found = follower.read(|line, _| {
            lines.push(String::from_utf8(line.to_vec()).unwrap());
            true
        });
        (lines, found.unwrap())
    }

    #[test]
    fn lines_are_given_once_across_segments_and_while_they_are_written() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let mut follower = Follower::new(directory, Position { segment: 1, offset: 0 });
        assert_eq!(read(&mut follower), (vec![], Found { is_end: true, ..Found::default() }));
        write(directory, 1, "a\nb\nc");
        assert_eq!(read(&mut follower).0, ["a", "b"]);
        assert_eq!(read(&mut follower).0, [""; 0]);
        assert_eq!(follower.position(), Position { segment: 1, offset: 4 });
        write(directory, 1, "d\ne\n");
        write(directory, 2, "f\n");
        let (lines, found) = read(&mut follower);
        assert_eq!(lines, ["cd", "e", "f"]);
        assert_eq!(found, Found { lines: 3, is_end: true, missing: 0 });
        // A line that is longer than what is read at a time.
        let long = "x".repeat(3 * CHUNK);
        write(directory, 2, &format!("{long}\ng\n"));
        assert_eq!(read(&mut follower).0, [long.as_str(), "g"]);
    }

    #[test]
    fn it_stops_where_it_is_told_to_and_goes_on_there() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let text: String = (0..1000).map(|number| format!("{number}\n")).collect();
        write(directory, 1, &text);
        write(directory, 2, &text);
        let mut all = Vec::new();
        let mut at = Position { segment: 1, offset: 0 };
        loop {
            // Each time from the place that was given: what a cursor keeps.
            let mut follower = Follower::new(directory, at);
            let mut count = 0;
            let found = follower.read(|line, end| {
                all.push(String::from_utf8(line.to_vec()).unwrap());
                at = end;
                count += 1;
                count < 7
            });
            assert_eq!(follower.position(), at.max(follower.position()));
            if found.unwrap().is_end {
                break;
            }
        }
        assert_eq!(all.len(), 2000);
        assert_eq!(all.concat(), text.replace('\n', "").repeat(2));
        let start = Position { segment: 1, offset: 0 };
        assert_eq!(count(directory, start, at).unwrap(), 2000);
        assert_eq!(end(directory).unwrap(), at);
        let middle = Position { segment: 2, offset: 4 };
        assert_eq!(count(directory, start, middle).unwrap(), 1002);
        assert_eq!(count(directory, middle, at).unwrap(), 998);
    }

    #[test]
    fn segments_that_were_removed_are_counted() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        write(directory, 4, "a\n");
        let mut follower = Follower::new(directory, Position { segment: 2, offset: 17 });
        assert_eq!(read(&mut follower).1, Found { lines: 1, is_end: true, missing: 2 });
        let mut follower = Follower::new(directory, Position { segment: 0, offset: 0 });
        assert_eq!(read(&mut follower).1.missing, 3);
    }
}
