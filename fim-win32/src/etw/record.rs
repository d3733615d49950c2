//! One record, as the system lends it to a callback.

use core::ffi::c_void;

use windows::Win32::System::Diagnostics::Etw::{EVENT_HEADER, EVENT_RECORD};

/// Bytes of a record's header (`EVENT_HEADER`): the same in memory and in a trace file.
pub const HEADER_BYTES: usize = 0x50;

const _: () = assert!(size_of::<EVENT_HEADER>() == HEADER_BYTES);

/// A record, for as long as the callback runs.
#[derive(Clone, Copy)]
pub struct RawRecord<'a>(&'a EVENT_RECORD);

impl<'a> RawRecord<'a> {
    /// Of a record that the system handed over.
    ///
    /// # Safety
    /// Its pointers are null, or good for as many bytes as its lengths say, as long as `'a`: this
    /// is what the system promises for the time of a callback.
    pub(super) unsafe fn new(record: &'a EVENT_RECORD) -> Self {
        Self(record)
    }

    /// Its header, as it lies in memory.
    pub fn header(&self) -> &'a [u8; HEADER_BYTES] {
        // SAFETY: a plain structure without padding, as long as is asserted above.
        unsafe { &*(&raw const self.0.EventHeader).cast() }
    }

    /// What the provider wrote; empty where there is nothing.
    pub fn payload(&self) -> &'a [u8] {
        // SAFETY: what `new` was promised.
        unsafe { bytes(self.0.UserData, self.0.UserDataLength) }
    }

    /// What belongs to the event beside its payload: type (`EVENT_HEADER_EXT_TYPE_*`) and bytes.
    pub fn items(&self) -> impl Iterator<Item = (u16, &'a [u8])> + use<'a> {
        let items = match self.0.ExtendedData.is_null() {
            true => &[][..],
            // SAFETY: what `new` was promised.
            false => unsafe {
                std::slice::from_raw_parts(
                    self.0.ExtendedData.cast_const(),
                    usize::from(self.0.ExtendedDataCount),
                )
            },
        };
        items.iter().map(|item| {
            // SAFETY: what `new` was promised.
            (item.ExtType, unsafe { bytes(item.DataPtr as *const c_void, item.DataSize) })
        })
    }
}

/// `length` bytes at `at`; none where that is null.
///
/// # Safety
/// `at` is null or good for as many bytes as long as `'a`.
unsafe fn bytes<'a>(at: *const c_void, length: u16) -> &'a [u8] {
    match at.is_null() {
        true => &[],
        // SAFETY: by contract.
        false => unsafe { std::slice::from_raw_parts(at.cast(), usize::from(length)) },
    }
}
