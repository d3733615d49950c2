//! A record, as a test has it, and as a callback gets it.

use core::ffi::c_void;

use windows::Win32::System::Diagnostics::Etw::{
    EVENT_DESCRIPTOR, EVENT_HEADER, EVENT_HEADER_EXTENDED_DATA_ITEM, EVENT_RECORD,
    PEVENT_RECORD_CALLBACK,
};
use windows::core::GUID;

/// `EVENT_HEADER_FLAG_EXTENDED_INFO`, `_32_BIT_HEADER`, `_64_BIT_HEADER`, `_CLASSIC_HEADER`.
const EXTENDED: u16 = 0x1;
const BITS_32: u16 = 0x20;
const BITS_64: u16 = 0x40;
const CLASSIC: u16 = 0x100;

/// An event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The GUID of its provider or class.
    pub provider: u128,
    /// Its id; of a classic event the opcode.
    pub id: u16,
    /// Version of its layout.
    pub version: u8,
    /// A classic event.
    pub classic: bool,
    /// Pointers in it have 32 bits.
    pub narrow: bool,
    /// Process and thread that wrote it.
    pub process: u32,
    /// Its thread.
    pub thread: u32,
    /// FILETIME.
    pub time: u64,
    /// Extended items: type and bytes.
    pub items: Vec<(u16, Vec<u8>)>,
    /// What the provider wrote.
    pub payload: Vec<u8>,
}

impl Record {
    /// Hands it to a callback, as the system does.
    pub(crate) fn hand_to(&self, callback: PEVENT_RECORD_CALLBACK, context: usize) {
        let mut items: Vec<EVENT_HEADER_EXTENDED_DATA_ITEM> = self
            .items
            .iter()
            .map(|(kind, data)| EVENT_HEADER_EXTENDED_DATA_ITEM {
                ExtType: *kind,
                DataSize: u16::try_from(data.len()).unwrap(),
                DataPtr: data.as_ptr() as u64,
                ..Default::default()
            })
            .collect();
        let mut flags = if self.narrow { BITS_32 } else { BITS_64 };
        flags |= if items.is_empty() { 0 } else { EXTENDED };
        flags |= if self.classic { CLASSIC } else { 0 };
        let (id, opcode) = match self.classic {
            true => (0, u8::try_from(self.id).unwrap()),
            false => (self.id, 0),
        };
        let mut record = EVENT_RECORD {
            EventHeader: EVENT_HEADER {
                Flags: flags,
                ThreadId: self.thread,
                ProcessId: self.process,
                TimeStamp: self.time.cast_signed(),
                ProviderId: GUID::from_u128(self.provider),
                EventDescriptor: EVENT_DESCRIPTOR {
                    Id: id,
                    Version: self.version,
                    Opcode: opcode,
                    Level: 4,
                    ..Default::default()
                },
                ..Default::default()
            },
            ExtendedDataCount: u16::try_from(items.len()).unwrap(),
            ExtendedData: if items.is_empty() { std::ptr::null_mut() } else { items.as_mut_ptr() },
            UserDataLength: u16::try_from(self.payload.len()).unwrap(),
            UserData: match self.payload.is_empty() {
                true => std::ptr::null_mut(),
                false => self.payload.as_ptr() as *mut c_void,
            },
            UserContext: context as *mut c_void,
            ..Default::default()
        };
        if let Some(callback) = callback {
            // SAFETY: the record and all that it points to outlive the call; whoever opened the
            // trace gave callback and context, as it would to the system.
            unsafe { callback(&mut record) };
        }
    }
}
