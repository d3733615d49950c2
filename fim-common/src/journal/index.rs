//! What may be in each block of a closed segment, so that most of a journal need not be read: a
//! file beside the segment (`journal-000000000001.index`), gathered as its events are written, and made
//! anew when it is missing or does not fit. The journal is the truth: an index only says where not to
//! look.
//!
//! Of each block of 256 KiB of lines: its times, and a Bloom filter over what its events have:
//! paths with all their parents, their last components and how those begin and end, users,
//! processes, actions, rules, alerts.

use std::collections::HashSet;
use std::fs::File;
use std::hash::{BuildHasherDefault, Hasher};
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::brief::Brief;
use super::recover::MAXIMUM_LINE;
use crate::durable::write_beside;
use crate::event::Kind;
use crate::{platform, policy};

/// Bytes of lines in a block. A block has some 170 events.
const BLOCK: u64 = 256 * 1024;
/// Bits of a Bloom filter for each term, and how many of them a term sets: one block in a hundred
/// is read in vain.
const BITS: usize = 10;
const PROBES: u32 = 7;
const MAGIC: &[u8; 8] = b"fimidx04";
/// `2026-11-22T19:50:01.393327336Z`.
const TIME: usize = 30;

/// Of how many bytes there are terms of how a name begins. More of them would not leave out much more.
const STARTS: [usize; 6] = [2, 3, 4, 6, 8, 12];

/// The term that every name has which begins with `text`, if there is one.
pub(super) fn start(text: &[u8]) -> Option<Term<'_>> {
    STARTS.iter().rev().find_map(|&length| text.get(..length)).map(Term::Start)
}

/// The term that every name has which ends with `text`, if there is one.
pub(super) fn end(text: &[u8]) -> Option<Term<'_>> {
    let dot = memchr::memrchr(b'.', text)?;
    text.get(dot + 1..).map(Term::End)
}

/// A time as a line has it: its order is that of the text.
pub(super) type TimeText = [u8; TIME];

/// What kind of thing a term is.
#[derive(Clone, Copy)]
pub(super) enum Term<'a> {
    Path(&'a [u8]),
    /// The last component of a path.
    Name(&'a [u8]),
    /// The first bytes of that, as many as one of [`STARTS`].
    Start(&'a [u8]),
    /// What stands behind its last dot.
    End(&'a [u8]),
    User(&'a str),
    Process(&'a str),
    Action(&'a str),
    Rule(&'a str),
    /// There is an alert.
    Alert,
}

impl Term<'_> {
    const PATH: u8 = b'd';

    pub(super) fn hash(self) -> u64 {
        let (kind, bytes) = match self {
            Self::Path(bytes) => (Self::PATH, bytes),
            Self::Name(bytes) => (b'n', bytes),
            Self::Start(bytes) => (b's', bytes),
            Self::End(bytes) => (b'e', bytes),
            Self::User(text) => (b'u', text.as_bytes()),
            Self::Process(text) => (b'p', text.as_bytes()),
            Self::Action(text) => (b'a', text.as_bytes()),
            Self::Rule(text) => (b'r', text.as_bytes()),
            Self::Alert => (b'!', &[][..]),
        };
        let mut hash = Hash::of(kind);
        bytes.iter().for_each(|&byte| hash.add(byte));
        hash.stirred()
    }
}

/// FNV-1a, stirred in the end: the same in every build, which std's hasher does not promise. What was
/// hashed so far can be had in passing.
#[derive(Clone, Copy)]
struct Hash(u64);

impl Hash {
    fn of(kind: u8) -> Self {
        let mut hash = Self(0xcbf2_9ce4_8422_2325);
        hash.add(kind);
        hash
    }

    fn add(&mut self, byte: u8) {
        self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }

    fn stirred(self) -> u64 {
        let mut hash = self.0 ^ (self.0 >> 33);
        hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash ^ (hash >> 33)
    }
}

/// One block.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) offset: u64,
    pub(super) length: u64,
    /// Times of its earliest and latest event.
    pub(super) times: (TimeText, TimeText),
    filter: Vec<u64>,
}

impl Block {
    /// Whether it may have the term with this hash.
    pub(super) fn may_have(&self, hash: u64) -> bool {
        probes(hash, self.filter.len())
            .all(|(word, bit)| self.filter.get(word).is_some_and(|filter| filter & bit != 0))
    }
}

/// The places that a term sets in a filter of `words` words.
fn probes(hash: u64, words: usize) -> impl Iterator<Item = (usize, u64)> {
    let bits = (words.max(1) * 64) as u64;
    let (first, step) = (hash & 0xffff_ffff, (hash >> 32) | 1);
    (0..u64::from(PROBES)).map(move |n| {
        let bit = first.wrapping_add(n.wrapping_mul(step)) % bits;
        ((bit / 64) as usize, 1 << (bit % 64))
    })
}

/// Where the index of a segment is.
pub(super) fn path(segment: &Path) -> PathBuf {
    segment.with_extension("index")
}

/// What has to be the same for an index to fit: length, and times of change in nanoseconds.
fn fit(file: &File) -> io::Result<[u64; 3]> {
    let metadata = file.metadata()?;
    let [content, anything] = platform::change_times(&metadata);
    Ok([metadata.len(), content, anything])
}

/// The time of a line, if it begins with one.
pub(super) fn time_of(line: &[u8]) -> Option<TimeText> {
    let time = line.strip_prefix(b"{\"@timestamp\":\"")?.get(..TIME)?;
    (time.last() == Some(&b'Z')).then(|| time.try_into().ok()).flatten()
}

/// Reads the index of a segment; `None` if there is none that fits.
pub(super) fn read(segment: &Path) -> Option<Vec<Block>> {
    let file = File::open(segment).ok()?;
    let bytes = std::fs::read(path(segment)).ok()?;
    let (bytes, sum) = bytes.split_at_checked(bytes.len().checked_sub(32)?)?;
    if Sha256::digest(bytes).as_slice() != sum {
        return None;
    }
    let mut reader = Reader(bytes.strip_prefix(MAGIC)?);
    for part in fit(&file).ok()? {
        if reader.number()? != part {
            return None;
        }
    }
    let count = reader.number()?;
    let mut blocks = Vec::new();
    for _ in 0..count {
        let (offset, length) = (reader.number()?, reader.number()?);
        let times = (reader.time()?, reader.time()?);
        let words = reader.number()?;
        let filter = (0..words).map(|_| reader.number()).collect::<Option<_>>()?;
        blocks.push(Block { offset, length, times, filter });
    }
    Some(blocks)
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn number(&mut self) -> Option<u64> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*number))
    }

    fn time(&mut self) -> Option<TimeText> {
        let (time, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*time)
    }
}

/// Makes the index of a closed segment from its lines.
///
/// # Errors
/// What the system says; then there is none, and the segment is read.
pub(super) fn build(segment: &Path) -> io::Result<Vec<Block>> {
    let file = File::open(segment)?;
    let before = fit(&file)?;
    let mut reader = BufReader::with_capacity(1 << 20, &file);
    let mut gathered = Gathered::default();
    let mut line = Vec::new();
    loop {
        line.clear();
        let length = reader.by_ref().take(MAXIMUM_LINE).read_until(b'\n', &mut line)? as u64;
        if length == 0 {
            break;
        }
        let brief = serde_json::from_slice::<Brief>(line.trim_ascii_end()).ok();
        gathered.line(brief.as_ref(), &line, length);
    }
    if fit(&file)? != before {
        return Err(io::Error::other("the segment was changed meanwhile"));
    }
    let blocks = gathered.blocks();
    write(segment, before, &blocks)?;
    Ok(blocks)
}

/// Keeps what was gathered of a segment while it was written.
///
/// # Errors
/// What the system says, and when it is not all that the segment has.
pub(super) fn keep(segment: &Path, gathered: Gathered) -> io::Result<()> {
    let fit = fit(&File::open(segment)?)?;
    let blocks = gathered.blocks();
    let [length, ..] = fit;
    if blocks.last().map_or(0, |block| block.offset + block.length) != length {
        return Err(io::Error::other("the segment has other lines than were gathered"));
    }
    write(segment, fit, &blocks)
}

fn write(segment: &Path, fit: [u64; 3], blocks: &[Block]) -> io::Result<()> {
    let mut bytes = MAGIC.to_vec();
    for number in fit.into_iter().chain([blocks.len() as u64]) {
        bytes.extend(number.to_le_bytes());
    }
    for block in blocks {
        bytes.extend(block.offset.to_le_bytes());
        bytes.extend(block.length.to_le_bytes());
        bytes.extend(block.times.0);
        bytes.extend(block.times.1);
        bytes.extend((block.filter.len() as u64).to_le_bytes());
        bytes.extend(block.filter.iter().flat_map(|word| word.to_le_bytes()));
    }
    let sum = Sha256::digest(&bytes);
    bytes.extend(sum);
    write_beside(&path(segment), &bytes, 0o600, false)
}

/// Blocks of a segment so far.
#[derive(Default)]
pub(super) struct Gathered {
    blocks: Vec<Block>,
    building: Building,
    /// Where the block that is gathered begins.
    offset: u64,
}

impl std::fmt::Debug for Gathered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gathered").field("blocks", &self.blocks.len()).finish_non_exhaustive()
    }
}

impl Gathered {
    /// The next line, of `length` bytes with its newline; `None`: it is no event.
    pub(super) fn line(&mut self, brief: Option<&Brief<'_>>, line: &[u8], length: u64) {
        match brief.zip(time_of(line)) {
            Some((brief, time)) => self.building.event(brief, time),
            None => self.building.is_opaque = true,
        }
        self.building.length += length;
        if self.building.length >= BLOCK {
            self.end_block();
        }
    }

    fn end_block(&mut self) {
        let block = self.building.block(self.offset);
        self.offset += block.length;
        self.blocks.push(block);
    }

    fn blocks(mut self) -> Vec<Block> {
        if self.building.length > 0 {
            self.end_block();
        }
        self.blocks
    }
}

/// Leaves a number that is a hash already as it is.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

/// A block that is gathered.
#[derive(Default)]
struct Building {
    length: u64,
    times: Option<(TimeText, TimeText)>,
    terms: HashSet<u64, BuildHasherDefault<AsItIs>>,
    /// The directory that was met last: of it and those above it there are terms.
    directory: Vec<u8>,
    /// A line of it is no event, or has no time: it may have everything.
    is_opaque: bool,
}

impl Building {
    fn event(&mut self, brief: &Brief<'_>, time: TimeText) {
        let (first, last) = self.times.unwrap_or((time, time));
        self.times = Some((first.min(time), last.max(time)));
        self.terms.insert(Term::Action(brief.event.action.as_str()).hash());
        if brief.event.kind == Kind::Alert {
            self.terms.insert(Term::Alert.hash());
        }
        self.terms.extend(brief.rule.name.as_deref().map(|name| Term::Rule(name).hash()));
        self.terms.extend(brief.users().map(|name| Term::User(name).hash()));
        self.terms.extend(brief.process_names().map(|name| Term::Process(name).hash()));
        for path in brief.paths() {
            let path = platform::os_str(&path);
            self.path(&policy::subject(Path::new(&path)));
        }
    }

    fn path(&mut self, path: &[u8]) {
        let slash = memchr::memrchr(b'/', path);
        let last = path.get(slash.map_or(0, |slash| slash + 1)..).unwrap_or_default();
        self.terms.insert(Term::Name(last).hash());
        let starts = STARTS.iter().filter_map(|&length| last.get(..length));
        self.terms.extend(starts.map(|start| Term::Start(start).hash()));
        self.terms.extend(end(last).map(Term::hash));
        let directory = path.get(..slash.unwrap_or(0)).unwrap_or_default();
        let is_known = directory == self.directory;
        // Of all the directories in one go: there may be thousands of them.
        let mut hash = Hash::of(Term::PATH);
        for (at, &byte) in path.iter().enumerate() {
            if byte == b'/' && at > 0 && !is_known {
                self.terms.insert(hash.stirred());
            }
            hash.add(byte);
        }
        self.terms.insert(hash.stirred());
        if !is_known {
            self.directory.clear();
            self.directory.extend_from_slice(directory);
        }
    }

    fn block(&mut self, offset: u64) -> Block {
        let done = std::mem::take(self);
        let words = match done.is_opaque {
            true => 1,
            false => (done.terms.len() * BITS).div_ceil(64).max(1),
        };
        let mut filter = vec![if done.is_opaque { u64::MAX } else { 0 }; words];
        if !done.is_opaque {
            for term in done.terms {
                for (word, bit) in probes(term, words) {
                    if let Some(slot) = filter.get_mut(word) {
                        *slot |= bit;
                    }
                }
            }
        }
        let always = ([0; TIME], [u8::MAX; TIME]);
        let times = done.times.filter(|_| !done.is_opaque).unwrap_or(always);
        Block { offset, length: done.length, times, filter }
    }
}
