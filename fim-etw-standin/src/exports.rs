//! The functions, by the names and with the arguments that they have in advapi32 and tdh.

use core::ffi::c_void;

use windows::Win32::System::Diagnostics::Etw::{
    CONTROLTRACE_HANDLE, ENABLE_TRACE_PARAMETERS, EVENT_FILTER_DESCRIPTOR,
    EVENT_FILTER_TYPE_EVENT_ID, EVENT_TRACE_LOGFILEW, EVENT_TRACE_PROPERTIES, PROCESSTRACE_HANDLE,
};
use windows::core::{GUID, PCWSTR};

use crate::session::{CHANGED, Call, Enabled, MARK, lock};

const OK: u32 = 0;
const INVALID_HANDLE: u32 = 6;
const ALREADY_EXISTS: u32 = 183;
const NOT_SUPPORTED: u32 = 50;
const WMI_INSTANCE_NOT_FOUND: u32 = 4201;
const CTX_CLOSE_PENDING: u32 = 7007;
const INVALID_TRACE: u64 = u64::MAX;

/// Kept in each program that these functions are in.
#[used]
static MARKED: &str = MARK;

#[link(name = "kernel32")]
unsafe extern "system" {
    fn SetLastError(code: u32);
}

/// A text of the caller's.
///
/// # Safety
/// `text` is null or ends with a NUL.
unsafe fn text(text: PCWSTR) -> Option<String> {
    // SAFETY: by contract.
    (!text.is_null()).then(|| unsafe { text.to_string() }.unwrap())
}

/// Starts a session.
///
/// # Safety
/// As in Windows: pointers are good, the name ends with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn StartTraceW(
    handle: *mut CONTROLTRACE_HANDLE,
    name: PCWSTR,
    properties: *mut EVENT_TRACE_PROPERTIES,
) -> u32 {
    // SAFETY: by contract.
    let (name, properties) = unsafe { (text(name).unwrap(), &*properties) };
    let mut locked = lock();
    let state = locked.state();
    let control = state.handle();
    let session = state.named(&name);
    session.calls.push(Call::Start(
        properties.BufferSize,
        properties.MinimumBuffers,
        properties.MaximumBuffers,
        properties.LogFileMode,
        properties.EnableFlags.0,
    ));
    if let Some(code) = session.error("StartTraceW") {
        return code;
    }
    if session.runs {
        return ALREADY_EXISTS;
    }
    session.runs = true;
    session.control = control;
    session.lost = (0, 0);
    // SAFETY: by contract.
    unsafe { *handle = CONTROLTRACE_HANDLE { Value: control } };
    OK
}

/// Enables a provider.
///
/// # Safety
/// As in Windows: pointers are good, filters as large as they say.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn EnableTraceEx2(
    handle: CONTROLTRACE_HANDLE,
    provider: *const GUID,
    code: u32,
    level: u8,
    any: u64,
    _all: u64,
    _timeout: u32,
    parameters: *const ENABLE_TRACE_PARAMETERS,
) -> u32 {
    // SAFETY: by contract.
    let (provider, parameters) = unsafe { (*provider, &*parameters) };
    let filters: &[EVENT_FILTER_DESCRIPTOR] = match parameters.EnableFilterDesc.is_null() {
        true => &[],
        // SAFETY: by contract.
        false => unsafe {
            std::slice::from_raw_parts(
                parameters.EnableFilterDesc,
                parameters.FilterDescCount as usize,
            )
        },
    };
    let (mut ids, mut private) = (Vec::new(), None);
    for filter in filters {
        // SAFETY: by contract.
        let bytes =
            unsafe { std::slice::from_raw_parts(filter.Ptr as *const u8, filter.Size as usize) };
        let words: Vec<u16> =
            bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
        match filter.Type {
            EVENT_FILTER_TYPE_EVENT_ID => {
                assert_eq!((words[0], usize::from(words[1])), (1, words.len() - 2));
                ids.extend(&words[2..]);
            }
            0 => private = Some(bytes.to_vec()),
            other => panic!("a filter of type {other:#x}"),
        }
    }
    assert_eq!((code, parameters.Version), (1, 2));
    let mut locked = lock();
    let Some((_, session)) = locked.state().controlled(handle.Value) else {
        return INVALID_HANDLE;
    };
    session.calls.push(Call::Enable(Enabled {
        provider: provider.to_u128(),
        level,
        keywords: any,
        properties: parameters.EnableProperty,
        ids,
        private,
    }));
    session.error("EnableTraceEx2").unwrap_or(OK)
}

/// Opens a session to read it.
///
/// # Safety
/// As in Windows: the structure is a whole one, its texts end with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn OpenTraceW(file: *mut EVENT_TRACE_LOGFILEW) -> PROCESSTRACE_HANDLE {
    // SAFETY: by contract; which of the two callbacks it is, follows of the mode.
    let (name, callback, context) = unsafe {
        let file = &*file;
        let name = text(PCWSTR(file.LoggerName.0)).unwrap();
        (name, file.Anonymous2.EventRecordCallback, file.Context as usize)
    };
    let mut locked = lock();
    let trace = locked.state().handle();
    let session = locked.state().named(&name);
    session.calls.push(Call::Open);
    let error = session.error("OpenTraceW");
    let error = error.or((!session.runs).then_some(WMI_INSTANCE_NOT_FOUND));
    if let Some(code) = error {
        // SAFETY: it takes a number.
        unsafe { SetLastError(code) };
        return PROCESSTRACE_HANDLE { Value: INVALID_TRACE };
    }
    (session.trace, session.callback, session.context) = (trace, callback, context);
    PROCESSTRACE_HANDLE { Value: trace }
}

/// Reads a session until it ends.
///
/// # Safety
/// As in Windows: there are as many handles as is said.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn ProcessTrace(
    handles: *const PROCESSTRACE_HANDLE,
    count: u32,
    _start: *const c_void,
    _end: *const c_void,
) -> u32 {
    assert_eq!(count, 1);
    // SAFETY: by contract.
    let handle = unsafe { *handles }.Value;
    let mut locked = lock();
    match locked.state().opened(handle) {
        Some(session) => session.calls.push(Call::Process),
        None => return INVALID_HANDLE,
    }
    loop {
        // Closed: nothing is delivered any more.
        let Some(session) = locked.state().opened(handle) else { return OK };
        if let Some(code) = session.error("ProcessTrace") {
            return code;
        }
        let held = session.held_after.is_some_and(|most| session.delivered >= most);
        match session.waiting.pop_front() {
            Some(record) if !held => {
                let (callback, context) = (session.callback, session.context);
                drop(locked);
                record.hand_to(callback, context);
                locked = lock();
                if let Some(session) = locked.state().opened(handle) {
                    session.delivered += 1;
                }
                CHANGED.notify_all();
                continue;
            }
            Some(record) => session.waiting.push_front(record),
            None if !session.runs && !held => return OK,
            None => {}
        }
        locked = locked.wait();
    }
}

/// Ends reading.
///
/// # Safety
/// None is needed: it takes a number.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn CloseTrace(handle: PROCESSTRACE_HANDLE) -> u32 {
    let mut locked = lock();
    let Some(session) = locked.state().opened(handle.Value) else { return INVALID_HANDLE };
    session.calls.push(Call::Close);
    session.trace = 0;
    let pending = !session.waiting.is_empty();
    let error = session.error("CloseTrace");
    drop(locked);
    CHANGED.notify_all();
    error.unwrap_or(if pending { CTX_CLOSE_PENDING } else { OK })
}

/// Asks a session, has it hand over what it has, or stops it.
///
/// # Safety
/// As in Windows: the name is null or ends with a NUL, the structure is a whole one.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn ControlTraceW(
    handle: CONTROLTRACE_HANDLE,
    name: PCWSTR,
    properties: *mut EVENT_TRACE_PROPERTIES,
    code: u32,
) -> u32 {
    // SAFETY: by contract.
    let (name, properties) = unsafe { (text(name), &mut *properties) };
    let mut locked = lock();
    let found = match name {
        Some(name) => Some(name),
        None => locked.state().controlled(handle.Value).map(|(name, _)| name.clone()),
    };
    let Some(name) = found else { return WMI_INSTANCE_NOT_FOUND };
    let session = locked.state().named(&name);
    let function = match code {
        0 => "ControlTraceW query",
        1 => "ControlTraceW stop",
        _ => "ControlTraceW flush",
    };
    if let Some(code) = session.error(function) {
        return code;
    }
    if !session.runs {
        return WMI_INSTANCE_NOT_FOUND;
    }
    properties.Wnode.Anonymous1.HistoricalContext = session.control;
    properties.EventsLost = session.lost.0;
    properties.RealTimeBuffersLost = session.lost.1;
    if code == 1 {
        session.calls.push(Call::Stop);
        session.runs = false;
        session.control = 0;
    }
    drop(locked);
    CHANGED.notify_all();
    OK
}

/// Nobody is to ask for a schema: what is decoded is decoded by our own tables.
///
/// # Safety
/// None is needed: it looks at nothing.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn TdhGetEventInformation(
    _record: *const c_void,
    _contexts: u32,
    _context: *const c_void,
    _buffer: *mut c_void,
    _size: *mut u32,
) -> u32 {
    NOT_SUPPORTED
}

/// As [`TdhGetEventInformation`].
///
/// # Safety
/// None is needed: it looks at nothing.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn TdhGetPropertySize(
    _record: *const c_void,
    _contexts: u32,
    _context: *const c_void,
    _count: u32,
    _properties: *const c_void,
    _size: *mut u32,
) -> u32 {
    NOT_SUPPORTED
}
