//! Reads event trace files (`.etl`) on any system.
//!
//! A trace is a row of buffers; a buffer belongs to one processor and holds records. [`Trace::open`]
//! looks through the whole file once and notes of each buffer where it lies and which time it
//! covers; [`Trace::next_record`] then reads the buffers again, merged, so that records come in the
//! order of their time stamps although each processor wrote its own.
//!
//! The file is untrusted: nothing is allocated by a size that it claims, what is damaged is said
//! and left out, and reading goes on at the next buffer that can be found.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{Read, Seek, SeekFrom};

use thiserror::Error;

mod buffer;
mod bytes;
mod guid;
mod header;
mod lz77;
mod record;
mod scan;

pub use guid::Guid;
pub use header::{Clock, LogFileHeader};
pub use record::{EventKey, Items, PointerSize, Record, Source};

use buffer::BufferHeader;

impl<'a> Record<'a> {
    /// The record at the beginning of `bytes`, where time stamps are FILETIME, and how many bytes
    /// there are to the next one.
    pub fn parse(bytes: &'a [u8]) -> Option<(Self, usize)> {
        let (record, length) = record::parse(bytes).ok()?;
        Some((Self { filetime: record.ticks.unwrap_or(0), ..record }, length))
    }
}

/// Why a file cannot be read at all.
#[derive(Debug, Error)]
pub enum EtlError {
    /// It is no trace: it does not begin with a buffer that holds a log file header.
    #[error("not an event trace file: {0}")]
    NotATrace(&'static str),
    /// It could not be read.
    #[error("cannot be read")]
    Io(#[from] std::io::Error),
}

/// A part of the file that could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where the buffer begins, in bytes; for missing buffers, the end of the file.
    pub offset: u64,
    /// What is wrong.
    pub kind: DamageKind,
}

/// What is wrong with a part of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DamageKind {
    /// The file ends within a buffer.
    Truncated,
    /// Where a buffer should begin there is none; so many bytes were left out.
    NoBuffer {
        /// To the next buffer, or to the end of the file.
        skipped: u64,
    },
    /// The compressed body does not give what it should.
    Compression,
    /// From some place on, a buffer holds no records although it should.
    Records,
    /// Records that say how long they are, and nothing else can be made of them.
    Malformed {
        /// How many.
        records: u64,
    },
    /// The file has fewer buffers than its header says.
    Missing {
        /// How many there should be.
        expected: u32,
        /// How many there are.
        found: u64,
    },
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { offset, kind } = self;
        match kind {
            DamageKind::Truncated => write!(f, "the buffer at {offset} is cut off"),
            DamageKind::NoBuffer { skipped } => {
                write!(f, "there is no buffer at {offset}; {skipped} bytes are left out")
            }
            DamageKind::Compression => {
                write!(
                    f,
                    "the compressed buffer at {offset} is damaged; what could be \
                           decompressed is used"
                )
            }
            DamageKind::Records => {
                write!(f, "the buffer at {offset} is damaged; its records are used up to there")
            }
            DamageKind::Malformed { records } => {
                write!(f, "the buffer at {offset} has {records} records that cannot be read")
            }
            DamageKind::Missing { expected, found } => {
                write!(f, "the file ends after {found} of {expected} buffers")
            }
        }
    }
}

/// What was found in the file as a whole.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Buffers that were found.
    pub buffers: u64,
    /// Of these, compressed.
    pub compressed: u64,
    /// Records in them.
    pub records: u64,
    /// What is damaged, the first [`DAMAGES_MAX`] of it.
    pub damages: Vec<Damage>,
    /// How much is damaged.
    pub damaged: u64,
    /// Records that came later than one with a later time stamp: more buffers than fit in memory
    /// cover the same time.
    pub disordered: u64,
}

/// Damages that are kept to be told.
pub const DAMAGES_MAX: usize = 100;

impl Summary {
    fn damage(&mut self, offset: u64, kind: DamageKind) {
        self.damaged += 1;
        if self.damages.len() < DAMAGES_MAX {
            self.damages.push(Damage { offset, kind });
        }
    }
}

/// A buffer that was found.
#[derive(Clone, Copy, Debug)]
struct Slot {
    offset: u64,
    header: BufferHeader,
    /// The earliest time stamp in it.
    first: u64,
}

/// A buffer that is being read: its records in the order of time.
struct Open {
    body: Vec<u8>,
    /// Time stamp and place of each record, the next one last.
    order: Vec<(u64, u32)>,
}

/// Buffers that are open at a time take at most so many bytes (and one more buffer).
const OPEN_BYTES_MAX: usize = 256 << 20;

/// A trace file.
pub struct Trace<R> {
    source: R,
    header: LogFileHeader,
    summary: Summary,
    /// Those not begun, the next one last.
    slots: Vec<Slot>,
    open: Vec<Option<Open>>,
    free: Vec<usize>,
    open_bytes: usize,
    /// The next record of each open buffer: its time stamp, and which buffer.
    heap: BinaryHeap<Reverse<(u64, usize)>>,
    latest: u64,
    /// Events that were seen while the file was looked through.
    seen: Vec<EventKey>,
    raw: Vec<u8>,
}

impl<R: Read + Seek> Trace<R> {
    /// Opens a trace and looks through all of it; `watch` names events of which is to be known
    /// beforehand whether the trace has them.
    ///
    /// # Errors
    /// [`EtlError`]. Damage behind the first buffer is none: see [`Trace::summary`].
    pub fn open(mut source: R, watch: &[EventKey]) -> Result<Self, EtlError> {
        let size = source.seek(SeekFrom::End(0))?;
        let scan::Scan { header, mut slots, summary, seen } = scan::scan(&mut source, size, watch)?;
        // Equal ones in the order of the file.
        slots.sort_by_key(|slot| slot.first);
        slots.reverse();
        Ok(Self {
            source,
            header,
            summary,
            slots,
            open: Vec::new(),
            free: Vec::new(),
            open_bytes: 0,
            heap: BinaryHeap::new(),
            latest: 0,
            seen,
            raw: Vec::new(),
        })
    }

    /// What the trace says of itself.
    pub fn header(&self) -> &LogFileHeader {
        &self.header
    }

    /// What was found in the file.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Whether the trace has an event that was asked for with [`Trace::open`].
    pub fn has(&self, key: EventKey) -> bool {
        self.seen.contains(&key)
    }

    /// The next record in the order of time stamps; `None` at the end.
    ///
    /// # Errors
    /// When the file can no longer be read.
    pub fn next_record(&mut self) -> Result<Option<Record<'_>>, EtlError> {
        self.open_due()?;
        let Some(Reverse((ticks, index))) = self.heap.pop() else { return Ok(None) };
        let Some(place) = self.open[index].as_mut().and_then(|open| open.order.pop()) else {
            // Not reached: a buffer is in the heap with its next record only.
            return Ok(None);
        };
        if ticks < self.latest {
            self.summary.disordered += 1;
        }
        self.latest = self.latest.max(ticks);
        // A used up buffer is closed by the next call: its record is lent out until then.
        let next = self.open[index].as_ref().and_then(|open| open.order.last());
        let key = next.map_or((ticks, index), |(next, _)| (*next, index));
        self.heap.push(Reverse(key));
        let filetime = self.header.filetime(ticks);
        let body = self.open[index].as_ref().map_or(&[][..], |open| &open.body);
        let record = record::parse(body.get(place.1 as usize..).unwrap_or_default());
        Ok(record.ok().map(|(record, _)| Record { filetime, ..record }))
    }

    /// Opens buffers until the next record of all of them is the next one of the trace.
    fn open_due(&mut self) -> Result<(), EtlError> {
        loop {
            if let Some(&Reverse((_, index))) = self.heap.peek()
                && self.open[index].as_ref().is_none_or(|open| open.order.is_empty())
            {
                self.heap.pop();
                if let Some(open) = self.open[index].take() {
                    self.open_bytes -= open.body.len();
                }
                self.free.push(index);
                continue;
            }
            let Some(slot) = self.slots.last() else { return Ok(()) };
            let due = match self.heap.peek() {
                Some(Reverse((ticks, _))) => {
                    slot.first <= *ticks && self.open_bytes < OPEN_BYTES_MAX
                }
                None => true,
            };
            if !due {
                return Ok(());
            }
            let slot = *slot;
            self.slots.pop();
            self.open_slot(&slot)?;
        }
    }

    fn open_slot(&mut self, slot: &Slot) -> Result<(), EtlError> {
        let mut body = Vec::new();
        // What is damaged was said when the file was looked through.
        buffer::body_at(&mut self.source, slot.offset, &slot.header, &mut self.raw, &mut body)?;
        let mut order = Vec::new();
        let mut last = slot.first;
        buffer::walk(&body, |at, record| {
            last = record.ticks.unwrap_or(last);
            order.push((last, at as u32));
        });
        order.sort_by_key(|(ticks, _)| *ticks);
        order.reverse();
        let Some((first, _)) = order.last().copied() else { return Ok(()) };
        self.open_bytes += body.len();
        let open = Some(Open { body, order });
        let index = match self.free.pop() {
            Some(index) => {
                self.open[index] = open;
                index
            }
            None => {
                self.open.push(open);
                self.open.len() - 1
            }
        };
        self.heap.push(Reverse((first, index)));
        Ok(())
    }
}
