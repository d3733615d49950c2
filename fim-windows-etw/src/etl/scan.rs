//! Looks through a trace file: finds its buffers, also behind damaged ones.

use std::io::{Read, Seek};

use super::buffer::{self, BufferHeader, HEADER, NoBuffer};
use super::record::EventKey;
use super::{DamageKind, EtlError, LogFileHeader, Slot, Summary};

/// What was found.
pub(super) struct Scan {
    pub(super) header: LogFileHeader,
    pub(super) slots: Vec<Slot>,
    pub(super) summary: Summary,
    pub(super) seen: Vec<EventKey>,
}

/// Bytes that are searched at a time.
const CHUNK: usize = 1 << 20;
/// Bytes of a buffer that are looked at to tell whether it is one.
const PROBE: u32 = 4096;

/// What there is at the place of a buffer.
enum There {
    Buffer(BufferHeader),
    /// None, and how to find the next one.
    None {
        zero: bool,
    },
    End,
}

/// Looks through the file, `size` bytes long.
pub(super) fn scan<R: Read + Seek>(
    source: &mut R,
    size: u64,
    watch: &[EventKey],
) -> Result<Scan, EtlError> {
    let (first, header) = first(source)?;
    let mut summary = Summary::default();
    let mut slots = Vec::new();
    let mut seen = Vec::new();
    let (mut raw, mut body) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < size {
        let found = match there(source, at)? {
            There::Buffer(found) => found,
            There::End => {
                let skipped = size - at;
                summary.damage(at, DamageKind::NoBuffer { skipped });
                break;
            }
            There::None { zero } => {
                let next = next_buffer(source, at, size, &first, &header)?;
                // A file that was made as large as it may get ends with zeros.
                let rest_of_it = zero && next == size;
                if !rest_of_it || summary.buffers < u64::from(header.buffers_written) {
                    summary.damage(at, DamageKind::NoBuffer { skipped: next - at });
                }
                at = next;
                continue;
            }
        };
        let damage = buffer::body_at(source, at, &found, &mut raw, &mut body)?;
        let mut earliest = None;
        let mut records = 0;
        let (malformed, lost) = buffer::walk(&body, |_, record| {
            records += 1;
            if let Some(ticks) = record.ticks {
                earliest = Some(earliest.map_or(ticks, |known: u64| known.min(ticks)));
            }
            if watch.contains(&record.key) && !seen.contains(&record.key) {
                seen.push(record.key);
            }
        });
        if let Some(kind) = damage.or(lost) {
            summary.damage(at, kind);
        }
        if malformed > 0 {
            summary.damage(at, DamageKind::Malformed { records: malformed });
        }
        summary.buffers += 1;
        summary.records += records;
        summary.compressed += u64::from(found.compressed);
        if records > 0 {
            let first = earliest.unwrap_or(header.start_ticks);
            slots.push(Slot { offset: at, header: found, first });
        }
        at += u64::from(found.size);
        if at > size && damage.is_none() && !found.compressed {
            // Nothing of the records is missing, but of the room behind them.
            summary.damage(size, DamageKind::Truncated);
        }
    }
    let expected = header.buffers_written;
    if summary.buffers < u64::from(expected) && !header.is_circular() {
        summary.damage(size, DamageKind::Missing { expected, found: summary.buffers });
    }
    Ok(Scan { header, slots, summary, seen })
}

/// The first buffer, with the log file header.
fn first<R: Read + Seek>(source: &mut R) -> Result<(BufferHeader, LogFileHeader), EtlError> {
    let found = match buffer::header_at(source, 0)? {
        None => return Err(EtlError::NotATrace("it is too short")),
        Some(Err(_)) => return Err(EtlError::NotATrace("it does not begin with a buffer")),
        Some(Ok(found)) => found,
    };
    let (mut raw, mut body) = (Vec::new(), Vec::new());
    buffer::body_at(source, 0, &found, &mut raw, &mut body)?;
    let record = super::record::parse(&body);
    let header = match &record {
        Ok((record, _)) if record.key.source == super::Source::Kernel(0) && record.key.id == 0 => {
            LogFileHeader::parse(record)
        }
        _ => None,
    };
    let header = header.ok_or(EtlError::NotATrace("its first record is no log file header"))?;
    Ok((found, header))
}

fn there<R: Read + Seek>(source: &mut R, at: u64) -> Result<There, EtlError> {
    Ok(match buffer::header_at(source, at)? {
        None => There::End,
        Some(Ok(found)) => There::Buffer(found),
        Some(Err(NoBuffer::Garbled)) => There::None { zero: false },
        Some(Err(NoBuffer::Zero)) => There::None { zero: true },
    })
}

/// Where the next buffer begins behind one that cannot be told from its header; the size of the
/// file when there is none.
fn next_buffer<R: Read + Seek>(
    source: &mut R,
    at: u64,
    size: u64,
    first: &BufferHeader,
    header: &LogFileHeader,
) -> Result<u64, EtlError> {
    let step = u64::from(header.buffer_size);
    let regular = header.buffer_size == first.size && !first.compressed && at.is_multiple_of(step);
    if regular {
        // Buffers that are not compressed lie at multiples of their size.
        let mut at = at + step;
        while at < size {
            if let There::Buffer(_) = there(source, at)? {
                return Ok(at);
            }
            at += step;
        }
        return Ok(size);
    }
    // Compressed ones lie anywhere: what looks like a header, and is followed by records, is one.
    let mut chunk = Vec::new();
    let mut from = at + 1;
    while from < size {
        buffer::read_at(source, from, CHUNK + HEADER, &mut chunk)?;
        for (place, window) in chunk.windows(HEADER).take(CHUNK).enumerate() {
            let Some(window) = window.first_chunk() else { break };
            let candidate = from + place as u64;
            if let Ok(found) = BufferHeader::parse(window)
                && holds_records(source, candidate, &found, size)?
            {
                return Ok(candidate);
            }
        }
        from += CHUNK as u64;
    }
    Ok(size)
}

/// Whether what looks like a buffer is one: it is whole, and begins with a record. Looks at little
/// of it, since a file may be made so that there is something to look at everywhere.
fn holds_records<R: Read + Seek>(
    source: &mut R,
    at: u64,
    found: &BufferHeader,
    size: u64,
) -> Result<bool, EtlError> {
    if at + u64::from(found.size) > size || found.filled as usize == HEADER {
        return Ok(false);
    }
    let little =
        BufferHeader { size: found.size.min(PROBE), filled: found.filled.min(PROBE), ..*found };
    let (mut raw, mut body) = (Vec::new(), Vec::new());
    buffer::body_at(source, at, &little, &mut raw, &mut body)?;
    Ok(super::record::looks_like_one(&body))
}
