//! The form of a record in the queue: that of a trace file.

/// Bytes of an event's header, in memory and in a file.
pub const HEADER_BYTES: usize = 0x50;

/// What of the extended items is of use: the user's SID, the start key of the process.
const ITEMS: [u16; 2] = [2, 13];
/// `EVENT_HEADER_FLAG_EXTENDED_INFO`.
const EXTENDED_INFO: u16 = 0x1;
/// `EVENT_HEADER_FLAG_32_BIT_HEADER`.
const POINTERS_OF_32_BITS: u16 = 0x20;

/// Appends a record to `out`, padded to eight bytes: its header as the system gives it, of its
/// extended items those that are of use, and its payload. False, and nothing is appended: it is
/// longer than a record can be.
pub fn write<'a>(
    out: &mut Vec<u8>,
    header: &[u8; HEADER_BYTES],
    items: impl Iterator<Item = (u16, &'a [u8])>,
    payload: &[u8],
) -> bool {
    let begin = out.len();
    out.extend_from_slice(header);
    let mut last = None;
    for (kind, data) in items.filter(|(kind, _)| ITEMS.contains(kind)) {
        let place = out.len();
        let (Ok(size), Ok(length)) = (u16::try_from(8 + data.len()), u16::try_from(data.len()))
        else {
            out.truncate(begin);
            return false;
        };
        for word in [size, kind, 0, length] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.extend_from_slice(data);
        out.resize(out.len().next_multiple_of(8), 0);
        // The one before is not the last one.
        if let Some(before) = last.replace(place) {
            out[before + 4] = 1;
        }
    }
    out.extend_from_slice(payload);
    let Ok(size) = u16::try_from(out.len() - begin) else {
        out.truncate(begin);
        return false;
    };
    out.resize(out.len().next_multiple_of(8), 0);
    let record = &mut out[begin..];
    let flags = u16::from_le_bytes([record[4], record[5]]);
    let flags = flags & !EXTENDED_INFO | u16::from(last.is_some());
    // The marker of an event, and its type: how wide its pointers are.
    let kind = if flags & POINTERS_OF_32_BITS == 0 { 0x13 } else { 0x12 };
    record[..2].copy_from_slice(&size.to_le_bytes());
    record[2..4].copy_from_slice(&[kind, 0xc0]);
    record[4..6].copy_from_slice(&flags.to_le_bytes());
    true
}
