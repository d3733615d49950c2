//! Where the journal begins and ends: what the last run left, what is too much or too old, and what
//! makes room.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::time::Duration;

use super::chain::{self, Head};
use super::recover::Checked;
use super::seal::{self, SegmentState, Statement, seal_path};
use super::{
    Dropped, Journal, JournalError, Key, Notice, OnFull, Reason, SEAL, SEGMENT, cursor, numbers,
    segment_path,
};
use crate::time::Timestamp;

/// How the last run ended.
pub(super) struct End {
    /// The chain before the first line of the segment that is written to now.
    pub(super) previous: Head,
    /// The chain of its last line.
    pub(super) head: Head,
    pub(super) entries: u64,
    pub(super) length: u64,
    /// The last segment is complete: another one is begun.
    pub(super) is_closed: bool,
    /// The number of that other one.
    pub(super) next: u64,
    pub(super) notices: Vec<Notice>,
}

impl End {
    /// What is known of the journal's end, whose last segment is `number`.
    pub(super) fn find(
        directory: &Path,
        number: u64,
        checked: Option<&Checked>,
        key: Option<&Key>,
    ) -> Result<Self, JournalError> {
        let path = segment_path(directory, number);
        let mut notices = Vec::new();
        close_the_one_before(directory, number, key)?;
        // Something else in place of a seal is for `fim verify` to say; it is written anew.
        let seal = seal::read(&path).ok().flatten();
        let before = (number > 1).then(|| segment_path(directory, number - 1));
        let previous = seal
            .as_ref()
            .and_then(seal::Seal::previous)
            .or_else(|| tail_chain(&before?).ok().flatten())
            .unwrap_or(Head::START);
        let (length, entries) = checked.map_or((0, 0), |c| (c.length, c.entries));
        let head = checked.and_then(|checked| checked.chain).unwrap_or(previous);
        let ours = seal.filter(|seal| {
            key.is_some_and(|key| seal.is_signed_by(&key.public()))
                && seal.statement.segment == number
        });
        let mut is_closed = false;
        if let Some(Statement { state, bytes, entries: sealed, .. }) =
            ours.as_ref().map(|seal| &seal.statement)
        {
            is_closed = *state == SegmentState::Closed;
            if length < *bytes {
                let message = format!(
                    "{} has {length} bytes and {entries} events, and had {bytes} bytes and {sealed} \
                     events when it was sealed last: its end was cut off, or lost in a power cut",
                    path.display()
                );
                notices.push(Notice::Truncated { message });
            }
        }
        let mut next = number + 1;
        let beyond = numbers(directory, SEAL)?.pop().unwrap_or_default();
        if beyond > number || (checked.is_none() && beyond == number) {
            is_closed = true;
            next = beyond + 1;
            let message = format!(
                "segment {beyond} of the journal is not there, and was sealed: it was removed"
            );
            notices.push(Notice::Truncated { message });
        }
        if is_closed && notices.is_empty() {
            let message = format!(
                "segment {next} of the journal is not there, and was begun before segment {number} \
                 was closed: it was removed"
            );
            notices.push(Notice::Truncated { message });
        }
        let fresh = is_closed;
        Ok(Self {
            previous: if fresh { head } else { previous },
            head,
            entries: if fresh { 0 } else { entries },
            length: if fresh { 0 } else { length },
            is_closed,
            next,
            notices,
        })
    }
}

/// A run that was killed while it began a segment has not closed the one before.
fn close_the_one_before(
    directory: &Path,
    number: u64,
    key: Option<&Key>,
) -> Result<(), JournalError> {
    let (Some(key), Some(before)) = (key, number.checked_sub(1)) else { return Ok(()) };
    let path = segment_path(directory, before);
    let Ok(Some(seal)) = seal::read(&path) else { return Ok(()) };
    if seal.statement.state == SegmentState::Closed || !seal.is_signed_by(&key.public()) {
        return Ok(());
    }
    // Only what is whole is signed. Anything else stays as it is, for `fim verify` to say.
    let Some(previous) = seal.previous() else { return Ok(()) };
    let Ok(whole) = super::verify::whole(&path, previous) else { return Ok(()) };
    if whole.bytes < seal.statement.bytes {
        return Ok(());
    }
    let statement = Statement {
        state: SegmentState::Closed,
        chain: whole.chain.to_string(),
        entries: whole.entries,
        bytes: whole.bytes,
        time: Timestamp::now(),
        ..seal.statement
    };
    seal::write(&path, &statement, key, true).map_err(|source| JournalError::io(&path, source))
}

/// The chain at the very end of a segment.
fn tail_chain(path: &Path) -> io::Result<Option<Head>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let wanted = (chain::SUFFIX as u64 + 1).min(length);
    file.seek(SeekFrom::Start(length - wanted))?;
    let mut end = Vec::new();
    file.take(wanted).read_to_end(&mut end)?;
    Ok(end.strip_suffix(b"\n").and_then(chain::claimed))
}

impl Journal {
    /// The oldest segment there is.
    pub(super) fn oldest(&self) -> Option<u64> {
        numbers(&self.directory, SEGMENT).ok()?.first().copied()
    }

    /// Removes the segments that are too many or too old.
    pub(super) fn retain(&mut self) -> Result<(), JournalError> {
        let numbers = numbers(&self.directory, SEGMENT)?;
        let surplus = numbers.len().saturating_sub(self.options.segments.max(1));
        let held = self.held()?;
        let mut doomed = Vec::new();
        for (index, &number) in numbers.iter().enumerate() {
            let reason = match self.options.max_age {
                _ if number == self.number => break,
                _ if index < surplus => Reason::Count,
                Some(age) if self.is_older(number, age) => Reason::Age,
                _ => break,
            };
            if held.as_ref().is_some_and(|(_, needed)| number >= *needed) {
                break;
            }
            doomed.push((number, reason));
        }
        self.drop_segments(&doomed)
    }

    /// The slowest reader that retention has to wait for.
    fn held(&self) -> Result<Option<(String, u64)>, JournalError> {
        if self.options.on_full == OnFull::DropOldest {
            return Ok(None);
        }
        cursor::slowest(&self.directory).map_err(|source| JournalError::io(&self.directory, source))
    }

    /// Whether another segment may be begun: not if that would remove what a reader needs.
    pub(super) fn allow_rotation(&self) -> Result<(), JournalError> {
        let Some((by, needed)) = self.held()? else { return Ok(()) };
        let numbers = numbers(&self.directory, SEGMENT)?;
        match numbers.first() {
            Some(&oldest)
                if numbers.len() >= self.options.segments.max(1)
                    && oldest >= needed
                    && numbers.last() == Some(&self.number) =>
            {
                Err(JournalError::Held { path: self.directory.clone(), segment: oldest, by })
            }
            _ => Ok(()),
        }
    }

    /// Whether the segment that is written to has been so long that nothing of it could be removed
    /// by age in time.
    pub(super) fn is_old(&self) -> bool {
        let Some(age) = self.options.max_age.filter(|_| self.entries > 0) else { return false };
        Timestamp::now().since(self.begun) > (age / 4).as_nanos() as i128
    }

    /// Whether the last event of a closed segment is older than `age`.
    fn is_older(&self, number: u64, age: Duration) -> bool {
        let path = segment_path(&self.directory, number);
        let modified = std::fs::metadata(path).and_then(|metadata| metadata.modified());
        let age = age.as_nanos() as i128;
        modified.is_ok_and(|time| Timestamp::now().since(Timestamp::from(time)) > age)
    }

    /// Removes the oldest segment because the disk is full, if the operator wants that and there
    /// is one besides this.
    pub(super) fn make_room(&mut self) -> Result<bool, JournalError> {
        if self.options.on_full != OnFull::DropOldest {
            return Ok(false);
        }
        match self.oldest() {
            Some(oldest) if oldest != self.number => {
                self.drop_segments(&[(oldest, Reason::DiskFull)])?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn drop_segments(&mut self, doomed: &[(u64, Reason)]) -> Result<(), JournalError> {
        let Some((last, _)) = doomed.last() else { return Ok(()) };
        // Signed first: whoever finds them gone without this has to ask why.
        if let (Some(key), Some(sealed)) = (&self.options.key, self.sealed()) {
            let statement = Statement { oldest: last + 1, time: Timestamp::now(), ..sealed };
            let sealed = seal::write(&self.path, &statement, key, true);
            match sealed.map_err(|source| JournalError::io(&self.path, source)) {
                // It is to make room.
                Err(error) if error.is_full() => {}
                result => result?,
            }
        }
        for &(number, reason) in doomed {
            let path = segment_path(&self.directory, number);
            let seal = seal::read(&path).ok().flatten().map(|seal| seal.statement);
            std::fs::remove_file(&path).map_err(|source| JournalError::io(&path, source))?;
            for beside in [seal_path(&path), crate::journal::index::path(&path)] {
                let _ = std::fs::remove_file(beside);
            }
            self.removed += 1;
            let entries = seal.as_ref().map(|seal| seal.entries);
            let chain = seal.map(|seal| seal.chain);
            self.notices.push(Notice::Dropped(Dropped { segment: number, reason, entries, chain }));
        }
        Ok(())
    }

    /// What can be signed of the segment now. While something is gathered, that is what was
    /// signed before: it has not become untrue.
    fn sealed(&self) -> Option<Statement> {
        if !self.is_dirty() {
            return Some(self.statement(SegmentState::Open));
        }
        seal::read(&self.path).ok().flatten().map(|seal| seal.statement)
    }
}
