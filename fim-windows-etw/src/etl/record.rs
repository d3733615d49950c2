//! One record of a buffer: its header, extended items and payload.
//!
//! Layouts: `evntrace.h`, `evntcons.h` and, for the kernel's own headers, Geoff Chappell's
//! descriptions of `WMI_TRACE_PACKET` and its kin.

use super::bytes::{u16_at, u32_at, u64_at};
use super::guid::Guid;

/// How wide pointers in a payload are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PointerSize {
    /// Four bytes.
    Four,
    /// Eight bytes.
    Eight,
}

impl PointerSize {
    /// In bytes.
    pub fn bytes(self) -> usize {
        match self {
            Self::Four => 4,
            Self::Eight => 8,
        }
    }
}

/// Who wrote a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// A provider with a manifest, or a self-describing one: events are told apart by their id.
    Manifest(Guid),
    /// A class of classic events: told apart by their opcode.
    Classic(Guid),
    /// The kernel, by the group of the event (the high byte of the hook id): told apart by the
    /// low byte, which is the opcode.
    Kernel(u8),
    /// A WPP message.
    Message,
    /// A record of a type without any of that; its type.
    Other(u8),
}

/// What a record is about: who wrote it, which of their events, in which version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventKey {
    /// Who wrote it.
    pub source: Source,
    /// Event id, or opcode of a classic event; message number.
    pub id: u16,
    /// Version of its layout.
    pub version: u8,
}

/// A record.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// What it is about.
    pub key: EventKey,
    /// When, in the trace's own clock; `None`: it does not say.
    pub ticks: Option<u64>,
    /// When, as FILETIME: 100 ns since 1601. What the trace makes of `ticks`.
    pub filetime: u64,
    /// Process that wrote it; `None`: not said.
    pub pid: Option<u32>,
    /// Thread that wrote it; `None`: not said.
    pub tid: Option<u32>,
    /// Of pointers in the payload.
    pub pointer_size: PointerSize,
    /// What belongs to the event beside its payload.
    pub items: Items<'a>,
    /// What the provider wrote.
    pub payload: &'a [u8],
}

/// Why a record could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordError {
    /// There is no record here: where the next one begins is not known either.
    Lost,
    /// It says how long it is, and nothing else can be made of it.
    Malformed {
        /// Bytes to the next record.
        size: usize,
    },
}

const TRACE_HEADER: u8 = 0x80;

/// Extended items follow the header of an event.
const FLAG_EXTENDED_INFO: u16 = 0x0001;
/// A classic event in the form of a new one: told apart by its opcode.
const FLAG_CLASSIC_HEADER: u16 = 0x0100;

/// Reads the record at the beginning of `bytes`, and how many bytes it takes, to the next one.
pub(super) fn parse(bytes: &[u8]) -> Result<(Record<'_>, usize), RecordError> {
    let (&[_, _, kind, flags], Some(word), Some(second)) =
        (bytes.first_chunk::<4>().ok_or(RecordError::Lost)?, u16_at(bytes, 0), u16_at(bytes, 4))
    else {
        return Err(RecordError::Lost);
    };
    if flags & TRACE_HEADER == 0 {
        return Err(RecordError::Lost);
    }
    // WPP messages have no type: that byte is reserved. Their marker lacks the bit of events.
    let message = flags & 0x40 == 0;
    let size = match kind {
        _ if message => word,
        0x01..=0x04 | 0x10 | 0x11 => second,
        _ => word,
    };
    let size = usize::from(size);
    if size < 8 || size > bytes.len() {
        return Err(RecordError::Lost);
    }
    let aligned = size.next_multiple_of(8).min(bytes.len());
    let record = &bytes[..size];
    let parsed = match kind {
        _ if message => self::message(record),
        0x01..=0x04 => system(record, kind),
        0x10 | 0x11 => perfinfo(record, kind),
        0x0a | 0x14 => full(record, kind),
        0x12 | 0x13 => event(record, kind),
        _ => Some(other(record, kind)),
    };
    match parsed {
        Some(record) => Ok((record, aligned)),
        None => Err(RecordError::Malformed { size: aligned }),
    }
}

/// Whether `bytes`, the beginning of a buffer's records, begin with a record; it need not be whole.
pub(super) fn looks_like_one(bytes: &[u8]) -> bool {
    let Some(&[_, _, kind, flags]) = bytes.first_chunk::<4>() else { return false };
    flags & TRACE_HEADER != 0 && flags & !0xf0 == 0 && (1..=0x15).contains(&kind)
}

/// `u32::MAX` is what the kernel writes where there is no process.
fn id(bytes: &[u8], at: usize) -> Option<u32> {
    u32_at(bytes, at).filter(|&id| id != u32::MAX)
}

/// `SYSTEM_TRACE_HEADER`; types 3 and 4 are compact: without the two CPU times.
fn system(record: &[u8], kind: u8) -> Option<Record<'_>> {
    let header = if kind <= 2 { 0x20 } else { 0x18 };
    let hook = u16_at(record, 6)?;
    Some(Record {
        key: EventKey {
            source: Source::Kernel((hook >> 8) as u8),
            id: hook & 0xff,
            version: u16_at(record, 0)? as u8,
        },
        ticks: Some(u64_at(record, 0x10)?),
        filetime: 0,
        pid: id(record, 0xc),
        tid: id(record, 8),
        pointer_size: if kind % 2 == 1 { PointerSize::Four } else { PointerSize::Eight },
        items: Items::default(),
        payload: record.get(header..)?,
    })
}

/// `PERFINFO_TRACE_HEADER`.
fn perfinfo(record: &[u8], kind: u8) -> Option<Record<'_>> {
    let hook = u16_at(record, 6)?;
    Some(Record {
        key: EventKey {
            source: Source::Kernel((hook >> 8) as u8),
            id: hook & 0xff,
            version: u16_at(record, 0)? as u8,
        },
        ticks: Some(u64_at(record, 8)?),
        filetime: 0,
        pid: None,
        tid: None,
        pointer_size: if kind == 0x10 { PointerSize::Four } else { PointerSize::Eight },
        items: Items::default(),
        payload: record.get(0x10..)?,
    })
}

/// `EVENT_TRACE_HEADER`.
fn full(record: &[u8], kind: u8) -> Option<Record<'_>> {
    let guid = record.get(0x18..0x28)?.first_chunk::<16>()?;
    Some(Record {
        key: EventKey {
            source: Source::Classic(Guid::from_bytes(*guid)),
            id: u16::from(*record.get(4)?),
            version: u16_at(record, 6)? as u8,
        },
        ticks: Some(u64_at(record, 0x10)?),
        filetime: 0,
        pid: id(record, 0xc),
        tid: id(record, 8),
        pointer_size: if kind == 0x0a { PointerSize::Four } else { PointerSize::Eight },
        items: Items::default(),
        payload: record.get(0x30..)?,
    })
}

/// `EVENT_HEADER`.
fn event(record: &[u8], kind: u8) -> Option<Record<'_>> {
    let flags = u16_at(record, 4)?;
    let guid = Guid::from_bytes(*record.get(0x18..0x28)?.first_chunk()?);
    let classic = flags & FLAG_CLASSIC_HEADER != 0;
    let opcode = u16::from(*record.get(0x2d)?);
    let rest = record.get(0x50..)?;
    let (items, payload) = match flags & FLAG_EXTENDED_INFO {
        0 => (Items::default(), rest),
        _ => Items::split(rest)?,
    };
    Some(Record {
        key: EventKey {
            source: if classic { Source::Classic(guid) } else { Source::Manifest(guid) },
            id: if classic { opcode } else { u16_at(record, 0x28)? },
            version: *record.get(0x2a)?,
        },
        ticks: Some(u64_at(record, 0x10)?),
        filetime: 0,
        pid: id(record, 0xc),
        tid: id(record, 8),
        pointer_size: if kind == 0x12 { PointerSize::Four } else { PointerSize::Eight },
        items,
        payload,
    })
}

/// `MESSAGE_TRACE_HEADER`, and what its flags say follows.
fn message(record: &[u8]) -> Option<Record<'_>> {
    let flags = u16_at(record, 6)?;
    let mut at = 8;
    for (flag, bytes) in [(0x1, 4), (0x2, 16), (0x4, 4)] {
        if flags & flag != 0 {
            at += bytes;
        }
    }
    let mut ticks = None;
    if flags & (0x8 | 0x10) != 0 {
        ticks = Some(u64_at(record, at)?);
        at += 8;
    }
    let (mut tid, mut pid) = (None, None);
    if flags & 0x20 != 0 {
        (tid, pid) = (id(record, at), id(record, at + 4));
        at += 8;
    }
    Some(Record {
        key: EventKey { source: Source::Message, id: u16_at(record, 4)?, version: 0 },
        ticks,
        filetime: 0,
        pid,
        tid,
        pointer_size: if flags & 0x40 != 0 { PointerSize::Four } else { PointerSize::Eight },
        items: Items::default(),
        payload: record.get(at..)?,
    })
}

/// Types that nobody here has a use for: instances (0x0b, 0x15), errors, WNODEs.
fn other(record: &[u8], kind: u8) -> Record<'_> {
    let instance = matches!(kind, 0x0b | 0x15);
    Record {
        key: EventKey { source: Source::Other(kind), id: 0, version: 0 },
        ticks: if instance { u64_at(record, 0x10) } else { None },
        filetime: 0,
        pid: if instance { id(record, 0xc) } else { None },
        tid: if instance { id(record, 8) } else { None },
        pointer_size: PointerSize::Eight,
        items: Items::default(),
        payload: &[],
    }
}

/// The extended items of an event (`EVENT_HEADER_EXTENDED_DATA_ITEM`): beside the payload.
#[derive(Clone, Copy, Debug, Default)]
pub struct Items<'a>(&'a [u8]);

/// The user who did it, as a SID.
const ITEM_SID: u16 = 2;
/// The start key of the process: unlike its id it is never used again.
const ITEM_PROCESS_START_KEY: u16 = 13;

impl<'a> Items<'a> {
    /// Items and the payload behind them; `None` when an item leads out of the record.
    fn split(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let mut at = 0;
        loop {
            let size = usize::from(u16_at(bytes, at)?);
            let linkage = u16_at(bytes, at + 4)?;
            let data = usize::from(u16_at(bytes, at + 6)?);
            if size < 8 || 8 + data > size {
                return None;
            }
            let end = at + size.next_multiple_of(8);
            if end > bytes.len() {
                return None;
            }
            at = end;
            if linkage & 1 == 0 {
                return Some((Self(&bytes[..at]), &bytes[at..]));
            }
        }
    }

    /// From the items as they lie in a record; for tests and for live sessions.
    pub fn from_bytes(bytes: &'a [u8]) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Self::default());
        }
        Self::split(bytes).map(|(items, _)| items)
    }

    /// Each with its type.
    pub fn iter(self) -> impl Iterator<Item = (u16, &'a [u8])> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let size = usize::from(u16_at(rest, 0)?);
            let (kind, data) = (u16_at(rest, 2)?, usize::from(u16_at(rest, 6)?));
            let item = rest.get(8..8 + data)?;
            rest = rest.get(size.next_multiple_of(8).max(8)..)?;
            Some((kind, item))
        })
    }

    fn find(self, wanted: u16) -> Option<&'a [u8]> {
        self.iter().find(|(kind, _)| *kind == wanted).map(|(_, data)| data)
    }

    /// The bytes of the user's SID.
    pub fn sid(self) -> Option<&'a [u8]> {
        self.find(ITEM_SID)
    }

    /// The start key of the process.
    pub fn process_start_key(self) -> Option<u64> {
        u64_at(self.find(ITEM_PROCESS_START_KEY)?, 0)
    }
}
