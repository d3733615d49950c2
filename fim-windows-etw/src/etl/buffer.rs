//! The buffers a trace file consists of: `WMI_BUFFER_HEADER`, 72 bytes, and records behind it.

use std::io::{Read, Seek, SeekFrom};

use super::bytes::{u16_at, u32_at};
use super::lz77;
use super::record::{self, Record, RecordError};
use super::{DamageKind, EtlError};

/// Bytes of a buffer's header.
pub(super) const HEADER: usize = 72;
/// Windows takes no larger buffers (16,384 KiB).
pub(super) const LARGEST: usize = 16 << 20;

/// The body is compressed.
const FLAG_COMPRESSED: u16 = 0x40;
/// Flags that are in use; others are a sign of damage.
const FLAGS: u16 = 0x03ff;

/// What the header of a buffer says.
#[derive(Clone, Copy, Debug)]
pub(super) struct BufferHeader {
    /// Bytes in the file, header included.
    pub(super) size: u32,
    /// Bytes in memory that hold records, header included.
    pub(super) filled: u32,
    pub(super) compressed: bool,
}

/// Why there is no buffer at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoBuffer {
    /// All its bytes are zero.
    Zero,
    /// The header is none.
    Garbled,
}

impl BufferHeader {
    pub(super) fn parse(bytes: &[u8; HEADER]) -> Result<Self, NoBuffer> {
        if bytes.iter().all(|&byte| byte == 0) {
            return Err(NoBuffer::Zero);
        }
        let field = |at| u32_at(bytes, at).ok_or(NoBuffer::Garbled);
        let size = field(0)?;
        // Written by ETW as `Offset`; tools that write traces leave it out now and then.
        let filled = match field(0x30)? {
            0 => field(4)?,
            filled => filled,
        };
        let flags = u16_at(bytes, 0x34).ok_or(NoBuffer::Garbled)?;
        let plausible = |bytes: u32| (HEADER..=LARGEST).contains(&(bytes as usize));
        let compressed = flags & FLAG_COMPRESSED != 0;
        let holds = compressed || filled <= size;
        if !plausible(size) || !plausible(filled) || !holds || flags & !FLAGS != 0 {
            return Err(NoBuffer::Garbled);
        }
        Ok(Self { size, filled, compressed })
    }
}

/// Reads up to `wanted` bytes at `at` into `into`, which holds nothing else afterwards. Fewer at
/// the end of the file.
pub(super) fn read_at<R: Read + Seek>(
    source: &mut R,
    at: u64,
    wanted: usize,
    into: &mut Vec<u8>,
) -> Result<(), EtlError> {
    into.clear();
    source.seek(SeekFrom::Start(at))?;
    // Grows with what there is, not with what was asked for.
    source.take(wanted as u64).read_to_end(into)?;
    Ok(())
}

/// Reads the header at `at`; `None`: fewer than its bytes are left.
pub(super) fn header_at<R: Read + Seek>(
    source: &mut R,
    at: u64,
) -> Result<Option<Result<BufferHeader, NoBuffer>>, EtlError> {
    let mut bytes = Vec::with_capacity(HEADER);
    read_at(source, at, HEADER, &mut bytes)?;
    Ok(bytes.first_chunk().map(BufferHeader::parse))
}

/// Reads the records of the buffer at `at` into `body`; `raw` is room to work in. Says what of
/// it is missing.
pub(super) fn body_at<R: Read + Seek>(
    source: &mut R,
    at: u64,
    header: &BufferHeader,
    raw: &mut Vec<u8>,
    body: &mut Vec<u8>,
) -> Result<Option<DamageKind>, EtlError> {
    let expected = header.filled as usize - HEADER;
    let in_file = if header.compressed { header.size as usize - HEADER } else { expected };
    if !header.compressed {
        read_at(source, at + HEADER as u64, in_file, body)?;
        return Ok((body.len() < expected).then_some(DamageKind::Truncated));
    }
    read_at(source, at + HEADER as u64, in_file, raw)?;
    body.clear();
    let result = lz77::decompress(raw, body, expected);
    Ok(if raw.len() < in_file {
        Some(DamageKind::Truncated)
    } else if result.is_err() || body.len() < expected {
        Some(DamageKind::Compression)
    } else {
        None
    })
}

/// Calls `each` with the place and content of each record of a body. Says what could not be read.
pub(super) fn walk<'a>(
    body: &'a [u8],
    mut each: impl FnMut(usize, Record<'a>),
) -> (u64, Option<DamageKind>) {
    let mut at = 0;
    let mut malformed = 0;
    while at < body.len() {
        match record::parse(&body[at..]) {
            Ok((record, size)) => {
                each(at, record);
                at += size;
            }
            Err(RecordError::Malformed { size }) => {
                malformed += 1;
                at += size;
            }
            Err(RecordError::Lost) => return (malformed, Some(DamageKind::Records)),
        }
    }
    (malformed, None)
}
