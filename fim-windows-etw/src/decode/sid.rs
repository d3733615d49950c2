//! Security identifiers: who.

use std::fmt;

/// The name of an integrity level by its number (`SECURITY_MANDATORY_*_RID`); one between two has
/// what the lower one has.
pub fn integrity_level(number: u32) -> &'static str {
    match number {
        0..0x1000 => "untrusted",
        0x1000..0x2000 => "low",
        0x2000..0x2100 => "medium",
        0x2100..0x3000 => "medium_plus",
        0x3000..0x4000 => "high",
        0x4000..0x5000 => "system",
        _ => "protected_process",
    }
}

/// A SID as it lies in memory: revision, count, 6 bytes of authority, and up to 15 numbers.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sid<'a>(&'a [u8]);

impl<'a> Sid<'a> {
    /// The SID at the beginning of `bytes`; what follows is left alone.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let &[revision, count] = bytes.first_chunk()?;
        // SID_MAX_SUB_AUTHORITIES.
        if revision != 1 || count > 15 {
            return None;
        }
        bytes.get(..8 + 4 * usize::from(count)).map(Self)
    }

    /// Its bytes.
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }

    fn authority(self) -> u64 {
        self.0[2..8].iter().fold(0, |number, &byte| number << 8 | u64::from(byte))
    }

    fn numbers(self) -> impl DoubleEndedIterator<Item = u32> + 'a {
        self.0[8..].chunks_exact(4).map(|n| u32::from_le_bytes([n[0], n[1], n[2], n[3]]))
    }

    /// The integrity level that a mandatory label stands for (`S-1-16-…`).
    pub fn integrity_level(self) -> Option<&'static str> {
        let level = self.numbers().next_back().filter(|_| self.authority() == 16)?;
        Some(integrity_level(level))
    }

    /// The name of an account that is the same on each Windows; others have to be looked up there.
    pub fn well_known(self) -> Option<&'static str> {
        if self.authority() != 5 || self.0[1] != 1 {
            return None;
        }
        Some(match self.numbers().next()? {
            18 => "NT AUTHORITY\\SYSTEM",
            19 => "NT AUTHORITY\\LOCAL SERVICE",
            20 => "NT AUTHORITY\\NETWORK SERVICE",
            7 => "NT AUTHORITY\\ANONYMOUS LOGON",
            _ => return None,
        })
    }
}

impl fmt::Display for Sid<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S-1-{}", self.authority())?;
        self.numbers().try_for_each(|number| write!(f, "-{number}"))
    }
}

impl fmt::Debug for Sid<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_level_and_name() {
        let user = [1, 2, 0, 0, 0, 0, 0, 5, 32, 0, 0, 0, 0x20, 2, 0, 0, 99];
        assert_eq!(Sid::parse(&user).unwrap().to_string(), "S-1-5-32-544");
        assert_eq!(Sid::parse(&user).unwrap().bytes().len(), 16);
        let label = [1, 1, 0, 0, 0, 0, 0, 16, 0, 0x30, 0, 0];
        assert_eq!(Sid::parse(&label).unwrap().to_string(), "S-1-16-12288");
        assert_eq!(Sid::parse(&label).unwrap().integrity_level(), Some("high"));
        let system = [1, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0];
        assert_eq!(Sid::parse(&system).unwrap().well_known(), Some("NT AUTHORITY\\SYSTEM"));
        for bad in [&[][..], &[1], &[2, 0, 0, 0, 0, 0, 0, 5], &user[..15]] {
            assert_eq!(Sid::parse(bad), None);
        }
    }
}
