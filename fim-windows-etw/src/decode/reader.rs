//! Taking a payload apart, field by field.

use crate::etl::PointerSize;

use super::sid::Sid;
use super::text::{Ansi, Wide};

/// Why a payload is not what its layout says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// It ends before this field does.
    Short(&'static str),
    /// A text has no end.
    Unterminated(&'static str),
    /// A SID is none.
    Sid(&'static str),
    /// So many bytes are left behind the last field.
    Long(usize),
}

/// A payload, and how far it was read.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    pointer: PointerSize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(payload: &'a [u8], pointer: PointerSize) -> Self {
        Self { rest: payload, pointer }
    }

    pub(super) fn take(&mut self, count: usize, name: &'static str) -> Result<&'a [u8], Misfit> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Misfit::Short(name))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, name: &'static str) -> Result<[u8; N], Misfit> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(Misfit::Short(name))?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(super) fn u16(&mut self, name: &'static str) -> Result<u16, Misfit> {
        Ok(u16::from_le_bytes(self.array(name)?))
    }

    pub(super) fn u32(&mut self, name: &'static str) -> Result<u32, Misfit> {
        Ok(u32::from_le_bytes(self.array(name)?))
    }

    pub(super) fn u64(&mut self, name: &'static str) -> Result<u64, Misfit> {
        Ok(u64::from_le_bytes(self.array(name)?))
    }

    pub(super) fn pointer(&mut self, name: &'static str) -> Result<u64, Misfit> {
        match self.pointer {
            PointerSize::Four => self.u32(name).map(u64::from),
            PointerSize::Eight => self.u64(name),
        }
    }

    /// UTF-16 up to a NUL.
    pub(super) fn wide(&mut self, name: &'static str) -> Result<Wide<'a>, Misfit> {
        let end = self.rest.chunks_exact(2).position(|unit| unit == [0, 0]);
        let text = self.take(2 * end.ok_or(Misfit::Unterminated(name))?, name)?;
        self.take(2, name)?;
        Ok(Wide(text))
    }

    /// Bytes up to a NUL.
    pub(super) fn ansi(&mut self, name: &'static str) -> Result<Ansi<'a>, Misfit> {
        let end = self.rest.iter().position(|&byte| byte == 0);
        let text = self.take(end.ok_or(Misfit::Unterminated(name))?, name)?;
        self.take(1, name)?;
        Ok(Ansi(text))
    }

    pub(super) fn sid(&mut self, name: &'static str) -> Result<Sid<'a>, Misfit> {
        let sid = Sid::parse(self.rest).ok_or(Misfit::Sid(name))?;
        self.take(sid.bytes().len(), name)?;
        Ok(sid)
    }

    /// The SID of a classic event: nothing but a null pointer; or a `TOKEN_USER` (two pointers)
    /// and the SID behind it.
    pub(super) fn classic_sid(&mut self, name: &'static str) -> Result<Option<Sid<'a>>, Misfit> {
        let pointer = self.rest.get(..4).ok_or(Misfit::Short(name))?;
        if pointer == [0; 4] {
            // A null pointer is written as four bytes, whatever its width.
            self.take(4, name)?;
            return Ok(None);
        }
        self.take(2 * self.pointer.bytes(), name)?;
        self.sid(name).map(Some)
    }

    /// Nothing may be left but padding.
    pub(super) fn end(self) -> Result<(), Misfit> {
        let padding = self.rest.len() < 8 && self.rest.iter().all(|&byte| byte == 0);
        if padding { Ok(()) } else { Err(Misfit::Long(self.rest.len())) }
    }
}
