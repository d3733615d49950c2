//! Texts as Windows has them.

use std::fmt;

/// UTF-16, little endian, without its NUL.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Wide<'a>(pub(super) &'a [u8]);

impl<'a> Wide<'a> {
    /// From its bytes: pairs, without a NUL.
    pub fn from_bytes(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// There is none.
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    fn units(self) -> impl Iterator<Item = u16> + 'a {
        self.0.chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]]))
    }

    /// Whether it is proper UTF-16: names may be anything. If not, [`fmt::Display`] puts U+FFFD
    /// where it is not.
    pub fn is_exact(self) -> bool {
        char::decode_utf16(self.units()).all(|unit| unit.is_ok())
    }
}

impl fmt::Display for Wide<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        for unit in char::decode_utf16(self.units()) {
            f.write_char(unit.unwrap_or(char::REPLACEMENT_CHARACTER))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Wide<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

/// A text of bytes in the system's code page, without its NUL.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Ansi<'a>(pub(super) &'a [u8]);

impl fmt::Display for Ansi<'_> {
    /// Which code page is not said: what is not ASCII becomes U+FFFD.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        for &byte in self.0 {
            let ascii = byte.is_ascii().then_some(char::from(byte));
            f.write_char(ascii.unwrap_or(char::REPLACEMENT_CHARACTER))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Ansi<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}
