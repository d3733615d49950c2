//! Names of Windows as bytes: UTF-8 in which a lone surrogate has three bytes of its own (WTF-8,
//! what `OsStr::as_encoded_bytes` gives).

/// The 16-bit units that these bytes stand for. A byte that is no part of anything becomes U+FFFD:
/// such bytes do not come from a name.
pub(super) fn units(bytes: &[u8]) -> Vec<u16> {
    let mut units = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while !rest.is_empty() {
        let (valid, after) = match std::str::from_utf8(rest) {
            Ok(text) => (text, &rest[rest.len()..]),
            Err(error) => {
                let (valid, after) = rest.split_at(error.valid_up_to());
                (std::str::from_utf8(valid).unwrap_or_default(), after)
            }
        };
        units.extend(valid.encode_utf16());
        rest = match after {
            [0xed, second @ 0xa0..=0xbf, third @ 0x80..=0xbf, next @ ..] => {
                units.push(0xd000 | u16::from(second & 0x3f) << 6 | u16::from(third & 0x3f));
                next
            }
            [_, next @ ..] => {
                units.push(0xfffd);
                next
            }
            [] => &[],
        };
    }
    units
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lone_surrogates_survive() {
        assert_eq!(units("aß€😀".as_bytes()), "aß€😀".encode_utf16().collect::<Vec<_>>());
        assert_eq!(units(b"a\xed\xa0\x80b"), [0x61, 0xd800, 0x62]);
        assert_eq!(units(b"\xed\xbf\xbf"), [0xdfff]);
        assert_eq!(units(b"a\xffb"), [0x61, 0xfffd, 0x62]);
        assert!(units(b"").is_empty());
    }
}
