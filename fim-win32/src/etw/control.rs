//! What ferrisetw does not offer: how much a session lost, handing over what is buffered, and the
//! data of registry values.

use std::ffi::OsStr;
use std::io;

use windows::Win32::Foundation::WIN32_ERROR;
use windows::Win32::System::Diagnostics::Etw::{
    CONTROLTRACE_HANDLE, ControlTraceW, ENABLE_TRACE_PARAMETERS, ENABLE_TRACE_PARAMETERS_VERSION_2,
    EVENT_CONTROL_CODE_ENABLE_PROVIDER, EVENT_FILTER_DESCRIPTOR, EVENT_FILTER_TYPE_EVENT_ID,
    EVENT_TRACE_CONTROL, EVENT_TRACE_CONTROL_FLUSH, EVENT_TRACE_CONTROL_QUERY,
    EVENT_TRACE_PROPERTIES, EnableTraceEx2,
};
use windows::core::{GUID, PCWSTR};

use super::session::{Provider, properties};
use crate::text::wide;

/// What a session could not take or hand over since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Events for which there was no room.
    pub events: u32,
    /// Buffers that nobody fetched in time; how many events they had is not known.
    pub buffers: u32,
}

/// The properties, and room behind them for the two names that the system writes there.
#[repr(C)]
struct Properties {
    fixed: EVENT_TRACE_PROPERTIES,
    names: [[u16; 1024]; 2],
}

fn result(code: WIN32_ERROR) -> io::Result<()> {
    match code.0 {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code.cast_signed())),
    }
}

fn control(name: &str, code: EVENT_TRACE_CONTROL) -> io::Result<Box<Properties>> {
    let name = wide(OsStr::new(name))?;
    let mut all =
        Box::new(Properties { fixed: EVENT_TRACE_PROPERTIES::default(), names: [[0; 1024]; 2] });
    all.fixed.Wnode.BufferSize = size_of::<Properties>() as u32;
    all.fixed.LoggerNameOffset = core::mem::offset_of!(Properties, names) as u32;
    all.fixed.LogFileNameOffset = all.fixed.LoggerNameOffset + size_of::<[u16; 1024]>() as u32;
    let none = CONTROLTRACE_HANDLE { Value: 0 };
    // SAFETY: the name ends with a NUL; the structure is ours, as large as it says, and has room
    // for both names at the offsets that it gives.
    result(unsafe { ControlTraceW(none, PCWSTR(name.as_ptr()), (&raw mut *all).cast(), code) })?;
    Ok(all)
}

/// What the session lost since it began.
///
/// # Errors
/// What the system says: 4201 (`ERROR_WMI_INSTANCE_NOT_FOUND`) where there is no such session.
pub fn losses(name: &str) -> io::Result<Losses> {
    let found = control(name, EVENT_TRACE_CONTROL_QUERY)?.fixed;
    Ok(Losses {
        events: found.EventsLost,
        buffers: found.RealTimeBuffersLost.saturating_add(found.LogBuffersLost),
    })
}

/// Has the session hand over what it has buffered.
///
/// # Errors
/// As [`losses`].
pub fn flush(name: &str) -> io::Result<()> {
    control(name, EVENT_TRACE_CONTROL_FLUSH).map(drop)
}

/// Has Kernel-Registry record the data of values, by enabling it once more with everything it was
/// enabled with and a filter of its own: type 0 and a number with bit `0x2`. That is documented
/// nowhere; it was measured on Windows 11 by others. Without it the data of each value is empty.
///
/// # Errors
/// What the system says; the provider then goes on as it was enabled before.
pub(super) fn capture_data(name: &str, provider: &Provider) -> io::Result<()> {
    const CAPTURE: u32 = 0x2;
    let session = control(name, EVENT_TRACE_CONTROL_QUERY)?.fixed;
    // SAFETY: each bit pattern is a number. It is the session's handle.
    let value = unsafe { session.Wnode.Anonymous1.HistoricalContext };
    let handle = CONTROLTRACE_HANDLE { Value: value };
    // `EVENT_FILTER_EVENT_ID`: in, reserved, count, ids.
    let mut ids = vec![0x0001_u16, provider.ids.len() as u16];
    ids.extend(provider.ids);
    let capture = CAPTURE.to_le_bytes();
    let mut filters = [
        EVENT_FILTER_DESCRIPTOR {
            Ptr: ids.as_ptr() as u64,
            Size: size_of_val(&*ids) as u32,
            Type: EVENT_FILTER_TYPE_EVENT_ID,
        },
        EVENT_FILTER_DESCRIPTOR {
            Ptr: capture.as_ptr() as u64,
            Size: capture.len() as u32,
            Type: 0,
        },
    ];
    let guid = GUID::from_u128(provider.guid);
    let parameters = ENABLE_TRACE_PARAMETERS {
        Version: ENABLE_TRACE_PARAMETERS_VERSION_2,
        EnableProperty: properties(provider).bits(),
        ControlFlags: 0,
        SourceId: guid,
        EnableFilterDesc: filters.as_mut_ptr(),
        FilterDescCount: filters.len() as u32,
    };
    // SAFETY: everything that is pointed to outlives the call, and is as large as is said.
    result(unsafe {
        EnableTraceEx2(
            handle,
            &guid,
            EVENT_CONTROL_CODE_ENABLE_PROVIDER.0,
            provider.level,
            provider.keywords,
            0,
            0,
            Some(&parameters),
        )
    })
}
