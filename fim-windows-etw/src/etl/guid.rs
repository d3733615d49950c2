//! GUIDs, as Windows stores and writes them.

use std::fmt;

/// A GUID in the order in which it is written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Guid(u128);

impl Guid {
    /// From the number that its digits form: `0xedd08927_9cc4_4e65_b970_c2560fb5c289`.
    pub const fn new(digits: u128) -> Self {
        Self(digits)
    }

    /// The number that its digits form.
    pub const fn digits(self) -> u128 {
        self.0
    }

    /// From the 16 bytes of a `GUID` structure: a `u32` and two `u16`, little endian, and 8 bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let [a, b, c, d, e, f, g, h, rest @ ..] = bytes;
        let mut digits = [0; 16];
        digits[..8].copy_from_slice(&[d, c, b, a, f, e, h, g]);
        digits[8..].copy_from_slice(&rest);
        Self(u128::from_be_bytes(digits))
    }

    /// The bytes of a `GUID` structure.
    pub fn to_bytes(self) -> [u8; 16] {
        let [d, c, b, a, f, e, h, g, rest @ ..] = self.0.to_be_bytes();
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&[a, b, c, d, e, f, g, h]);
        bytes[8..].copy_from_slice(&rest);
        bytes
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let d = self.0;
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            d >> 96,
            (d >> 80) & 0xffff,
            (d >> 64) & 0xffff,
            (d >> 48) & 0xffff,
            d & 0xffff_ffff_ffff
        )
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_text() {
        let guid = Guid::new(0xedd0_8927_9cc4_4e65_b970_c256_0fb5_c289);
        assert_eq!(guid.to_string(), "edd08927-9cc4-4e65-b970-c2560fb5c289");
        assert_eq!(guid.to_bytes()[..4], [0x27, 0x89, 0xd0, 0xed]);
        assert_eq!(Guid::from_bytes(guid.to_bytes()), guid);
    }
}
