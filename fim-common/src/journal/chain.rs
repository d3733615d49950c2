//! The hash chain: each line says the hash of itself and of all before it.
//!
//! A line ends with `"chain":"<64 hexadecimal digits>"}}`. The digits are the SHA-256 of the
//! previous line's digits (as text; 64 zeros for the first line of the first segment) followed by
//! the bytes of this line up to `"chain":"`. So the hash is over bytes as they stand in the file:
//! nobody has to agree with us on how JSON is written.

use sha2::{Digest as _, Sha256};

/// What stands between a line's own bytes and its digits.
const OPENING: &[u8] = b"\"chain\":\"";
/// What follows the digits: the ends of the text, of `fim` and of the event.
const CLOSING: &[u8] = b"\"}}";
/// The end of every chained line, without its newline.
pub const SUFFIX: usize = OPENING.len() + DIGITS + CLOSING.len();
const DIGITS: usize = 64;

/// The hash of a line, as the 64 hexadecimal digits that stand in it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Head([u8; DIGITS]);

impl Head {
    /// Before the first line of the first segment.
    pub const START: Self = Self([b'0'; DIGITS]);

    /// From text; `None` if it is not 64 lower-case hexadecimal digits.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let digits: [u8; DIGITS] = text.try_into().ok()?;
        digits.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')).then_some(Self(digits))
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// What follows when a line of these bytes is added.
    fn after(&self, bytes: &[u8]) -> Self {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut hash = Sha256::new();
        hash.update(self.0);
        hash.update(bytes);
        let mut digits = [0; DIGITS];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(hash.finalize()) {
            pair.copy_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
        Self(digits)
    }
}

impl std::fmt::Debug for Head {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::fmt::Display for Head {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Adds the chain to the event that begins at `start` of `buffer` and ends with it: JSON whose
/// last member is `fim`, an object without `chain`. Gives the new head.
pub(super) fn extend(buffer: &mut Vec<u8>, start: usize, previous: &Head) -> Head {
    // The two braces that end `fim` and the event come back behind the digits.
    buffer.truncate(buffer.len().saturating_sub(2).max(start));
    if buffer.last() != Some(&b'{') {
        buffer.push(b',');
    }
    let head = previous.after(buffer.get(start..).unwrap_or_default());
    buffer.extend_from_slice(OPENING);
    buffer.extend_from_slice(&head.0);
    buffer.extend_from_slice(CLOSING);
    head
}

/// What a line says its hash is; `None` where it has no chain. `line` is without its newline.
pub(super) fn claimed(line: &[u8]) -> Option<Head> {
    let at = line.len().checked_sub(SUFFIX)?;
    let end = line.get(at..)?.strip_prefix(OPENING)?.strip_suffix(CLOSING)?;
    Head::parse(end)
}

/// What the hash of a chained line is, behind `previous`.
pub(super) fn computed(line: &[u8], previous: &Head) -> Head {
    previous.after(line.get(..line.len().saturating_sub(SUFFIX)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_extended_and_found_again() {
        for event in [&br#"{"a":1,"fim":{"b":[2]}}"#[..], br#"{"a":1,"fim":{}}"#] {
            let mut buffer = b"before\n".to_vec();
            let start = buffer.len();
            buffer.extend_from_slice(event);
            let head = extend(&mut buffer, start, &Head::START);
            let line = &buffer[start..];
            serde_json::from_slice::<serde_json::Value>(line).unwrap();
            assert_eq!(claimed(line), Some(head));
            assert_eq!(computed(line, &Head::START), head);
            assert_ne!(computed(line, &head), head, "the previous one counts");
            let mut other = line.to_vec();
            other[2] ^= 1;
            assert_ne!(computed(&other, &Head::START), head);
        }
    }

    #[test]
    fn the_construction_is_the_documented_one() {
        // printf '%064d{"fim":{' 0 | sha256sum
        let mut buffer = br#"{"fim":{}}"#.to_vec();
        let head = extend(&mut buffer, 0, &Head::START);
        let text = format!("{}{}", "0".repeat(64), r#"{"fim":{"#);
        let expected: String = Sha256::digest(text).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(head.as_str(), expected);
        assert_eq!(buffer, format!(r#"{{"fim":{{"chain":"{expected}"}}}}"#).into_bytes());
    }

    #[test]
    fn what_has_no_chain_is_said() {
        for line in ["", "{}", r#"{"fim":{"chain":"00"}}"#, &"x".repeat(200)] {
            assert_eq!(claimed(line.as_bytes()), None, "{line}");
        }
    }
}
