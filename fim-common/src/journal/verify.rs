//! Whether a journal is whole and unaltered, or where it is not: for an auditor, without the agent.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::chain::{self, Head};
use super::key::PublicKey;
use super::recover::MAXIMUM_LINE;
use super::seal::{self, Seal, SegmentState};
use super::{JournalError, SEAL, SEGMENT, number_of, numbers, segment_path};
use crate::time::Timestamp;

/// What kind of damage it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// An entry, or what is signed, is not what was written.
    Altered,
    /// Entries are missing between others.
    EntriesMissing,
    /// Entries are missing at the end of a segment.
    Truncated,
    /// A segment is missing.
    SegmentMissing,
    /// A segment is not signed, or by another key.
    NotSigned,
    /// A file cannot be read.
    Unreadable,
}

impl Kind {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Altered => "ALTERED",
            Self::EntriesMissing => "ENTRIES MISSING",
            Self::Truncated => "TRUNCATED",
            Self::SegmentMissing => "SEGMENT MISSING",
            Self::NotSigned => "NOT SIGNED",
            Self::Unreadable => "UNREADABLE",
        }
    }
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// What kind.
    pub kind: Kind,
    /// Number of the segment.
    pub segment: u64,
    /// The first bad line, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// Where it begins, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// `event.sequence` that the line has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// `event.id` that the line has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_id: Option<String>,
    /// For people.
    pub message: String,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// Segments read.
    pub segments: u64,
    /// Of these, closed and signed.
    pub sealed: u64,
    /// Whole lines read.
    pub entries: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Number of the first segment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_segment: Option<u64>,
    /// Number of the last segment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_segment: Option<u64>,
    /// The chain of the last line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
    /// The key that signatures were checked with: 32 bytes in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
    /// Whether somebody gave that key, rather than the journal itself.
    pub key_is_given: bool,
    /// Whether the chain that was asked for is in the journal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contains: Option<bool>,
    /// What is wrong, oldest segment first; at most one of the entries of each segment.
    pub faults: Vec<Fault>,
    /// What else there is to know, for people.
    pub notes: Vec<String>,
}

impl Verification {
    /// Nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty() && self.contains != Some(false)
    }
}

/// What to check, and with what.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The key that must have signed; `None`: the one that the journal names.
    pub key: Option<PublicKey>,
    /// An agent is writing now: the last line may be under way.
    pub is_running: bool,
    /// A `fim.chain` that must be in the journal, as an earlier heartbeat told it; [`Head::START`]:
    /// the beginning of the first segment must be there.
    pub contains: Option<Head>,
}

/// What a segment is found to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Whole {
    pub(super) chain: Head,
    pub(super) entries: u64,
    pub(super) bytes: u64,
}

/// The segment if each line of it is chained, and it ends with one.
pub(super) fn whole(path: &Path, previous: Head) -> Result<Whole, io::Error> {
    let mut walk = Walk::begin(path, Some(previous))?;
    while walk.next(None)? {}
    match walk.fault {
        None if !walk.is_torn => {
            Ok(Whole { chain: walk.head, entries: walk.entries, bytes: walk.bytes })
        }
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Reads all of a journal (its directory, or one segment of it).
///
/// # Errors
/// When there is no journal there, or it cannot be read.
pub fn verify(journal: &Path, request: &Request) -> Result<Verification, JournalError> {
    let io = |source| JournalError::io(journal, source);
    let metadata = std::fs::metadata(journal).map_err(io)?;
    let (directory, only) = match metadata.is_dir() {
        true => (journal.to_owned(), None),
        false => {
            let directory = journal.parent().filter(|p| !p.as_os_str().is_empty());
            let number = number_of(journal).ok_or_else(|| JournalError::Foreign {
                path: journal.to_owned(),
                why: "its name is not journal-NNNNNNNNNNNN.jsonl".to_owned(),
            })?;
            (directory.unwrap_or(Path::new(".")).to_owned(), Some(number))
        }
    };
    let found: Vec<u64> = match only {
        Some(number) => vec![number],
        None => numbers(&directory, SEGMENT)?,
    };
    if found.is_empty() {
        return Err(JournalError::Foreign {
            path: directory,
            why: "there is no journal-NNNNNNNNNNNN.jsonl in it".to_owned(),
        });
    }
    let mut verifier = Verifier {
        request,
        key: request.key,
        found: Verification {
            key_is_given: request.key.is_some(),
            contains: request.contains.map(|_| false),
            ..Verification::default()
        },
        oldest: None,
        last: None,
        is_closed: false,
    };
    for &number in &found {
        let is_last = only.is_none() && Some(&number) == found.last();
        verifier.segment(&directory, number, is_last, only.is_some());
    }
    if only.is_none() {
        verifier.whole_journal(&directory, &found);
    }
    verifier.finish(&found);
    Ok(verifier.found)
}

struct Verifier<'r> {
    request: &'r Request,
    key: Option<PublicKey>,
    found: Verification,
    /// The oldest segment that is kept, by what is signed.
    oldest: Option<u64>,
    /// The number and the last chain of the segment before.
    last: Option<(u64, Option<Head>)>,
    /// That one is signed as complete.
    is_closed: bool,
}

impl Verifier<'_> {
    fn segment(&mut self, directory: &Path, number: u64, is_last: bool, alone: bool) {
        let path = segment_path(directory, number);
        // Before the events: these may grow meanwhile.
        self.is_closed = false;
        let seal = self.seal(&path, number, is_last);
        let before = match self.last {
            Some((last, chain)) if last + 1 == number => chain,
            _ if number == 1 => Some(Head::START),
            _ => None,
        };
        let sealed = seal.as_ref().and_then(Seal::previous);
        if let (Some(before), Some(sealed)) = (before, sealed)
            && before != sealed
            && !alone
        {
            let message = "the segment does not begin where the one before it ends: entries were \
                           cut off there, or one of both was replaced"
                .to_owned();
            self.fault(Kind::Altered, number, message);
        }
        let previous = sealed.or(before);
        if previous.is_none() {
            self.found.notes.push(format!(
                "segment {number}: nothing says what came before its first entry, so that one is \
                 not checked"
            ));
        }
        let mut walk = match Walk::begin(&path, previous) {
            Ok(walk) => walk,
            Err(error) => {
                let gone = error.kind() == io::ErrorKind::NotFound && self.request.is_running;
                match gone {
                    true => self.found.notes.push(format!("segment {number} was removed just now")),
                    false => self.fault(Kind::Unreadable, number, error.to_string()),
                }
                self.last = Some((number, None));
                return;
            }
        };
        let statement = seal.as_ref().map(|seal| &seal.statement);
        // The chain where the seal was made.
        let mut at_seal = statement.filter(|statement| statement.entries == 0).map(|_| walk.head);
        loop {
            match walk.next(self.request.contains.as_ref()) {
                Ok(true) => {
                    if statement.is_some_and(|statement| statement.entries == walk.entries) {
                        at_seal = Some(walk.head);
                    }
                }
                Ok(false) => break,
                Err(error) => {
                    self.fault(Kind::Unreadable, number, error.to_string());
                    break;
                }
            }
        }
        // An agent that starts with an empty journal tells that it begins there.
        let begins =
            number == 1 && previous == Some(Head::START) && self.request.contains == previous;
        if walk.contains || begins {
            self.found.contains = Some(true);
        }
        self.found.segments += 1;
        self.found.entries += walk.entries;
        self.found.bytes += walk.bytes;
        let is_whole = walk.fault.is_none();
        self.found.faults.extend(walk.fault.take().map(|fault| Fault { segment: number, ..fault }));
        self.end(number, seal.as_ref(), &walk, at_seal, is_whole, is_last);
        self.last = Some((number, Some(walk.head)));
    }

    /// Whether a segment ends where it should.
    fn end(
        &mut self,
        number: u64,
        seal: Option<&Seal>,
        walk: &Walk,
        at_seal: Option<Head>,
        is_whole: bool,
        is_last: bool,
    ) {
        let (entries, bytes) = (walk.entries, walk.bytes);
        if walk.is_torn && !(is_last && self.request.is_running) {
            let message = format!(
                "it ends in the middle of an entry, after {entries} whole ones: cut off, or a power \
                 cut or kill before the agent was started again"
            );
            self.fault(Kind::Truncated, number, message);
        }
        let Some(seal) = seal else { return };
        let statement = &seal.statement;
        let closed = statement.state == SegmentState::Closed;
        if !is_whole {
            return;
        }
        if entries < statement.entries {
            let message = format!(
                "it has {entries} entries ({bytes} bytes), and was signed with {} ({} bytes) on {}: \
                 the last {} are missing",
                statement.entries,
                statement.bytes,
                statement.time,
                statement.entries - entries
            );
            self.fault(Kind::Truncated, number, message);
        } else if at_seal != seal.chain() {
            let message = format!(
                "its first {} entries are not those that were signed on {}: they were rewritten, \
                 chain and all",
                statement.entries, statement.time
            );
            self.fault(Kind::Altered, number, message);
        } else if closed && (entries > statement.entries || bytes > statement.bytes) {
            let message = format!(
                "{} entries were added after it was closed and signed on {}",
                entries - statement.entries,
                statement.time
            );
            self.fault(Kind::Altered, number, message);
        } else if closed {
            self.found.sealed += 1;
        }
    }

    /// The seal of a segment, if it can be trusted.
    fn seal(&mut self, path: &Path, number: u64, is_last: bool) -> Option<Seal> {
        let seal = match seal::read(path) {
            Ok(Some(seal)) => seal,
            Ok(None) => {
                if self.key.is_some() && !(is_last && self.request.is_running) {
                    let message = "it has no seal: the file that is signed was removed".to_owned();
                    self.fault(Kind::NotSigned, number, message);
                }
                return None;
            }
            Err(error) => {
                self.fault(Kind::Altered, number, format!("its seal cannot be read: {error}"));
                return None;
            }
        };
        // Without a key from elsewhere the first one is taken, and must stay the same.
        let key = self.key.or_else(|| seal.key());
        self.key = key;
        match key {
            Some(key) if seal.is_signed_by(&key) => {}
            _ => {
                let other = seal.statement.public_key.as_str();
                let foreign = key.is_some_and(|key| key.to_base64() != other)
                    && seal.key().is_some_and(|key| seal.is_signed_by(&key));
                let (kind, message) = match foreign {
                    true => (Kind::NotSigned, format!("it is signed by another key, {other}")),
                    false => (Kind::Altered, "the signature of its seal is wrong".to_owned()),
                };
                self.fault(kind, number, message);
                return None;
            }
        }
        if seal.statement.segment != number {
            let message = format!("its seal is that of segment {}", seal.statement.segment);
            self.fault(Kind::Altered, number, message);
            return None;
        }
        if seal.statement.state == SegmentState::Open && !is_last {
            self.found.notes.push(format!(
                "segment {number} was not closed: what follows the {} entries that are signed is \
                 held by the chain alone",
                seal.statement.entries
            ));
        }
        self.oldest = self.oldest.max(Some(seal.statement.oldest));
        self.is_closed = seal.statement.state == SegmentState::Closed;
        Some(seal)
    }

    /// Whether all segments are there.
    fn whole_journal(&mut self, directory: &Path, found: &[u64]) {
        let (Some(&first), Some(&last)) = (found.first(), found.last()) else { return };
        let oldest = self.oldest.unwrap_or(first);
        if oldest < first {
            let message = format!("segments {oldest} to {} are not there", first - 1);
            self.fault(Kind::SegmentMissing, oldest, message);
        } else if first > 1 {
            self.found.notes.push(format!(
                "segments 1 to {} were removed by the agent, as its retention says",
                first - 1
            ));
        }
        for pair in found.windows(2) {
            if let [before, after] = pair
                && before + 1 < *after
            {
                let message = match after - before {
                    2 => format!("segment {} is not there", before + 1),
                    _ => format!("segments {} to {} are not there", before + 1, after - 1),
                };
                self.fault(Kind::SegmentMissing, before + 1, message);
            }
        }
        let mut sealed = numbers(directory, SEAL).unwrap_or_default();
        sealed.retain(|number| *number > last);
        // A running agent may have begun it after the others were listed.
        if self.is_closed && sealed.is_empty() && !segment_path(directory, last + 1).exists() {
            let number = last + 1;
            let message = format!(
                "segment {number} is not there: it was begun before segment {last} was closed"
            );
            self.fault(Kind::SegmentMissing, number, message);
        }
        for number in sealed {
            let message = format!("segment {number} is not there, and its seal is");
            self.fault(Kind::SegmentMissing, number, message);
        }
    }

    fn finish(&mut self, found: &[u64]) {
        self.found.first_segment = found.first().copied();
        self.found.last_segment = found.last().copied();
        self.found.head = self.last.and_then(|(_, head)| Some(head?.to_string()));
        self.found.public_key = self.key.map(|key| key.to_base64());
        self.found.faults.sort_by_key(|fault| fault.segment);
        if self.key.is_none() {
            self.found.notes.push(
                "the journal is not signed: that nobody wrote it anew cannot be told from it"
                    .to_owned(),
            );
        } else if !self.found.key_is_given {
            self.found.notes.push(
                "the key is the one that the journal itself names: compare it with the one that \
                 agent_started told elsewhere, or give a trusted copy with --key"
                    .to_owned(),
            );
        }
    }

    fn fault(&mut self, kind: Kind, segment: u64, message: String) {
        self.found.faults.push(Fault {
            kind,
            segment,
            line: None,
            offset: None,
            sequence: None,
            event_id: None,
            message,
        });
    }
}

/// What tells an entry from its neighbours.
#[derive(Deserialize)]
struct Line {
    #[serde(rename = "@timestamp")]
    timestamp: Timestamp,
    event: Meta,
    agent: Agent,
}

#[derive(Deserialize)]
struct Meta {
    id: String,
    sequence: u64,
}

#[derive(Deserialize)]
struct Agent {
    ephemeral_id: String,
}

/// One pass over the lines of a segment.
struct Walk {
    reader: BufReader<File>,
    buffer: Vec<u8>,
    /// The line before.
    before: Vec<u8>,
    /// The chain of the last line, as that line has it.
    head: Head,
    is_known: bool,
    entries: u64,
    bytes: u64,
    is_torn: bool,
    contains: bool,
    fault: Option<Fault>,
}

impl Walk {
    fn begin(path: &Path, previous: Option<Head>) -> io::Result<Self> {
        let file = File::open(path)?;
        Ok(Self {
            reader: BufReader::with_capacity(1 << 20, file),
            buffer: Vec::new(),
            before: Vec::new(),
            head: previous.unwrap_or(Head::START),
            is_known: previous.is_some(),
            entries: 0,
            bytes: 0,
            is_torn: false,
            contains: false,
            fault: None,
        })
    }

    /// Takes a line; `false` at the end.
    fn next(&mut self, wanted: Option<&Head>) -> io::Result<bool> {
        std::mem::swap(&mut self.before, &mut self.buffer);
        self.buffer.clear();
        let length =
            self.reader.by_ref().take(MAXIMUM_LINE).read_until(b'\n', &mut self.buffer)? as u64;
        if length == 0 {
            return Ok(false);
        }
        let Some(line) = self.buffer.strip_suffix(b"\n") else {
            self.is_torn = true;
            return Ok(false);
        };
        let claimed = chain::claimed(line);
        let follows = match claimed {
            Some(claimed) if self.is_known => chain::computed(line, &self.head) == claimed,
            Some(_) => true,
            None => false,
        };
        if !follows && self.fault.is_none() {
            self.fault = Some(self.explain(line, claimed.is_some()));
        }
        if let Some(claimed) = claimed {
            self.head = claimed;
            self.is_known = true;
            self.contains |= wanted == Some(&claimed);
        }
        self.entries += 1;
        self.bytes += length;
        Ok(true)
    }

    /// What is wrong with a line that does not follow from those before.
    fn explain(&self, line: &[u8], is_chained: bool) -> Fault {
        let this = serde_json::from_slice::<Line>(line);
        let before = serde_json::from_slice::<Line>(&self.before).ok();
        let mut fault = Fault {
            kind: Kind::Altered,
            segment: 0,
            line: Some(self.entries + 1),
            offset: Some(self.bytes),
            sequence: None,
            event_id: None,
            message: String::new(),
        };
        let this = match this {
            Ok(this) => this,
            Err(error) => {
                fault.message = format!("the entry is not an event any more: {error}");
                return fault;
            }
        };
        let name =
            format!("event {} of {} (id {})", this.event.sequence, this.timestamp, this.event.id);
        let same_start =
            before.as_ref().map(|before| before.agent.ephemeral_id == this.agent.ephemeral_id);
        let expected = match (&before, same_start) {
            (Some(before), Some(true)) => Some(before.event.sequence + 1),
            (Some(_), _) => Some(1),
            (None, _) => None,
        };
        fault.message = match expected {
            Some(expected) if this.event.sequence > expected => {
                fault.kind = Kind::EntriesMissing;
                let count = this.event.sequence - expected;
                format!("{count} entries are missing before {name}: expected event {expected}")
            }
            Some(expected) if this.event.sequence < expected => {
                format!(
                    "{name} is out of order: expected event {expected}; it was inserted or moved"
                )
            }
            _ if !is_chained => format!("{name} has no chain: it was altered or inserted"),
            _ => format!("{name} was altered, or the one before it was"),
        };
        fault.sequence = Some(this.event.sequence);
        fault.event_id = Some(this.event.id);
        fault
    }
}

/// Where the journal of a path is: of a state directory, the directory `journal` in it.
pub fn directory_of(path: &Path) -> PathBuf {
    let inner = path.join("journal");
    if inner.is_dir() { inner } else { path.to_owned() }
}
