//! Plain LZ77 decompression, as [MS-XCA] 2.4 has it: how compressed trace buffers are written.

/// Why a compressed body could not be read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lz77Error {
    /// The input ends within a match.
    Truncated,
    /// A match refers to bytes before the beginning, or has an impossible length.
    BadMatch,
    /// There is more output than `limit`.
    TooLong,
}

/// Appends what `input` holds to `output`, up to `limit` bytes. Nothing is allocated before there
/// are bytes to put there.
///
/// # Errors
/// When the input is damaged; what was decompressed until there is in `output`.
pub(super) fn decompress(
    input: &[u8],
    output: &mut Vec<u8>,
    limit: usize,
) -> Result<(), Lz77Error> {
    let start = output.len();
    let mut at = 0;
    let mut flags = 0u32;
    let mut left = 0;
    // Where the second half of a byte lies that holds two lengths of four bits.
    let mut half: Option<usize> = None;
    loop {
        if left == 0 {
            let Some(word) = take(input, &mut at) else {
                // The end, or less than a word of padding after it.
                return Ok(());
            };
            flags = u32::from_le_bytes(word);
            left = 32;
        }
        left -= 1;
        if flags & (1 << left) == 0 {
            let Some(&byte) = input.get(at) else { return Ok(()) };
            at += 1;
            if output.len() - start >= limit {
                return Err(Lz77Error::TooLong);
            }
            output.push(byte);
            continue;
        }
        if at == input.len() {
            return Ok(());
        }
        let pair = u16::from_le_bytes(take(input, &mut at).ok_or(Lz77Error::Truncated)?);
        let distance = usize::from(pair >> 3) + 1;
        let mut length = usize::from(pair & 7);
        if length == 7 {
            length = match half.take() {
                Some(place) => usize::from(input[place] >> 4),
                None => {
                    half = Some(at);
                    let [byte] = take(input, &mut at).ok_or(Lz77Error::Truncated)?;
                    usize::from(byte & 15)
                }
            };
            if length == 15 {
                let [byte] = take(input, &mut at).ok_or(Lz77Error::Truncated)?;
                length = usize::from(byte);
                if length == 255 {
                    let word = take(input, &mut at).ok_or(Lz77Error::Truncated)?;
                    length = usize::from(u16::from_le_bytes(word));
                    if length == 0 {
                        let long = take(input, &mut at).ok_or(Lz77Error::Truncated)?;
                        length = u32::from_le_bytes(long) as usize;
                    }
                    length = length.checked_sub(15 + 7).ok_or(Lz77Error::BadMatch)?;
                }
                length += 15;
            }
            length += 7;
        }
        length += 3;
        let done = output.len() - start;
        if distance > done {
            return Err(Lz77Error::BadMatch);
        }
        let fits = length.min(limit - done);
        let from = output.len() - distance;
        if distance >= fits {
            output.extend_from_within(from..from + fits);
        } else {
            // The match overlaps what it produces.
            for place in from..from + fits {
                output.push(output[place]);
            }
        }
        if fits < length {
            return Err(Lz77Error::TooLong);
        }
    }
}

fn take<const N: usize>(input: &[u8], at: &mut usize) -> Option<[u8; N]> {
    let bytes = input.get(*at..)?.first_chunk::<N>()?;
    *at += N;
    Some(*bytes)
}

#[cfg(test)]
#[cfg(not(windows))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain(input: &[u8]) -> Vec<u8> {
        let mut output = Vec::new();
        decompress(input, &mut output, 1 << 20).unwrap();
        output
    }

    /// The examples of [MS-XCA] 3.1.
    #[test]
    fn the_examples_of_the_specification() {
        let alphabet = [&[0x3f, 0, 0, 0][..], b"abcdefghijklmnopqrstuvwxyz"].concat();
        assert_eq!(plain(&alphabet), b"abcdefghijklmnopqrstuvwxyz");
        let repeated =
            [0xff, 0xff, 0xff, 0x1f, 0x61, 0x62, 0x63, 0x17, 0x00, 0x0f, 0xff, 0x26, 0x01];
        assert_eq!(plain(&repeated), b"abc".repeat(100));
    }

    #[test]
    fn damage_is_said() {
        let mut output = Vec::new();
        let before_the_beginning = [0xff, 0xff, 0xff, 0xff, 0x10, 0x00];
        assert_eq!(decompress(&before_the_beginning, &mut output, 99), Err(Lz77Error::BadMatch));
        let repeated =
            [0xff, 0xff, 0xff, 0x1f, 0x61, 0x62, 0x63, 0x17, 0x00, 0x0f, 0xff, 0x26, 0x01];
        output.clear();
        assert_eq!(decompress(&repeated, &mut output, 10), Err(Lz77Error::TooLong));
        assert_eq!(output, b"abcabcabca");
        output.clear();
        assert_eq!(decompress(&repeated[..10], &mut output, 1000), Err(Lz77Error::Truncated));
    }

    proptest! {
        #[test]
        fn any_input_ends_within_the_limit(input: Vec<u8>, limit in 0usize..5000) {
            let mut output = Vec::new();
            let _ = decompress(&input, &mut output, limit);
            prop_assert!(output.len() <= limit);
        }
    }
}
