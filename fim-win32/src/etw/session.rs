//! A session, by ferrisetw: started, opened, read, stopped.
//!
//! What ferrisetw 1.2 leaves to whoever uses it:
//!
//! - When enabling a provider or opening fails, the session goes on: it is stopped by its name,
//!   before each start (it may be of an agent that was killed) and after each failure.
//! - An open that failed leaves its context registered; when the next one gets the same address, it
//!   fails for that reason alone. Each attempt holds on to some memory, so that it gets another.
//! - A panic in a callback ends the process: nothing gets out of ours.
//! - Stopping closes first, and drops what is still buffered: we have the session end, let what it
//!   holds be read, and close then.
//! - What `ProcessTrace` answers is only known on a thread of one's own.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use ferrisetw::native::{EvntraceNativeError, TraceHandle};
use ferrisetw::provider::kernel_providers::KernelProvider;
use ferrisetw::provider::{EventFilter, Provider as Enabled, TraceFlags};
use ferrisetw::schema_locator::SchemaLocator;
use ferrisetw::trace::{
    LoggingMode, RealTimeTraceTrait, TraceBuilder, TraceError, TraceProperties, TraceTrait as _,
    stop_trace_by_name,
};
use ferrisetw::{EventRecord, GUID, KernelTrace, UserTrace};

use windows::Win32::System::Diagnostics::Etw::EVENT_RECORD;

use super::control;
use super::record::RawRecord;

/// How often starting is tried: a session that was stopped just now may still be ending.
const ATTEMPTS: usize = 4;

/// `EVENT_TRACE_FLAG_DISK_FILE_IO`: at its end the session tells the name of each open file.
const DISK_FILE_IO: u32 = 0x200;
/// The class `FileIo`, whose events those are.
const FILE_IO: u128 = 0x90cb_dc39_4a3e_11d1_84f4_0000_f804_64e3;

/// Takes each record. It runs on a thread of the session, which must not wait: what is not fetched
/// in time is lost.
pub type Sink = Arc<dyn Fn(&RawRecord<'_>) + Send + Sync>;

/// A provider, and which of its events are wanted.
#[derive(Clone, Copy, Debug)]
pub struct Provider {
    /// Its GUID.
    pub guid: u128,
    /// Events with any of these keywords.
    pub keywords: u64,
    /// Events of this level and below (4: informational).
    pub level: u8,
    /// Of these, the ones with these ids (Windows 8.1 and newer); empty: all.
    pub ids: &'static [u16],
    /// Each event carries the SID of the user and the start key of the process.
    pub who: bool,
    /// Kernel-Registry: with the data of values, where the system takes that.
    pub data: bool,
}

/// A session.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// Its name: there is one session of a name. At most [`super::NAME_MAX`] units.
    pub name: String,
    /// KiB of a buffer.
    pub buffer_kib: u32,
    /// Buffers at most; half of them from the beginning.
    pub buffers: u32,
    /// What it records.
    pub providers: Vec<Provider>,
}

/// Why a session cannot be started, by what can be done about it.
#[derive(Debug)]
pub enum StartError {
    /// Sessions are for administrators, the group `Performance Log Users` and services.
    NotPermitted(io::Error),
    /// One of this name is there and cannot be stopped.
    Exists,
    /// There are as many sessions as the system takes (64), or no memory for buffers.
    NoRoom(io::Error),
    /// Anything else.
    Io(io::Error),
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotPermitted(error) => {
                write!(f, "not permitted to start an ETW session ({error})")
            }
            Self::Exists => write!(f, "an ETW session of the same name runs and cannot be stopped"),
            Self::NoRoom(error) => write!(f, "no room for another ETW session ({error})"),
            Self::Io(error) => write!(f, "an ETW session cannot be started: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

impl StartError {
    fn of(error: io::Error) -> Self {
        // ERROR_ACCESS_DENIED, ERROR_NO_SYSTEM_RESOURCES, ERROR_NOT_ENOUGH_MEMORY.
        match error.raw_os_error() {
            Some(5) => Self::NotPermitted(error),
            Some(1450 | 8) => Self::NoRoom(error),
            Some(183) => Self::Exists,
            _ => Self::Io(error),
        }
    }
}

/// A plain code where ferrisetw gives the same as an HRESULT.
fn plain(error: TraceError) -> io::Error {
    match error {
        TraceError::InvalidTraceName => io::Error::from(io::ErrorKind::InvalidInput),
        TraceError::EtwNativeError(EvntraceNativeError::AlreadyExist) => {
            io::Error::from_raw_os_error(183)
        }
        TraceError::EtwNativeError(EvntraceNativeError::InvalidHandle) => {
            io::Error::from_raw_os_error(6)
        }
        TraceError::EtwNativeError(EvntraceNativeError::IoError(error)) => {
            match error.raw_os_error().map(i32::cast_unsigned) {
                Some(code) if code >> 16 == 0x8007 => {
                    io::Error::from_raw_os_error((code & 0xffff).cast_signed())
                }
                _ => error,
            }
        }
    }
}

/// Stops the session of this name, whoever started it; one that is not there is no error.
///
/// # Errors
/// What the system says.
pub fn stop_by_name(name: &str) -> io::Result<()> {
    match stop_trace_by_name(name).map_err(plain) {
        // ERROR_WMI_INSTANCE_NOT_FOUND.
        Err(error) if error.raw_os_error() != Some(4201) => Err(error),
        _ => Ok(()),
    }
}

pub(super) fn properties(provider: &Provider) -> TraceFlags {
    match provider.who {
        true => {
            TraceFlags::EVENT_ENABLE_PROPERTY_SID
                | TraceFlags::EVENT_ENABLE_PROPERTY_PROCESS_START_KEY
        }
        false => TraceFlags::empty(),
    }
}

/// What ferrisetw calls for each record of a provider.
fn callback(
    sink: &Sink,
) -> impl FnMut(&EventRecord, &SchemaLocator) + Send + Sync + 'static + use<> {
    let sink = Arc::clone(sink);
    move |record, _| {
        // SAFETY: `EventRecord` is a transparent wrapper of the system's own record, which is good
        // for the time of the callback; so is what its pointers lead to.
        let record = unsafe { RawRecord::new(&*std::ptr::from_ref(record).cast::<EVENT_RECORD>()) };
        // ferrisetw ends the process where a callback panics. What is lost is one record.
        let _ = catch_unwind(AssertUnwindSafe(|| sink(&record)));
    }
}

fn enabled(provider: &Provider, sink: &Sink) -> Enabled {
    let builder = Enabled::by_guid(GUID::from_u128(provider.guid))
        .any(provider.keywords)
        .level(provider.level)
        .trace_flags(properties(provider))
        .add_callback(callback(sink));
    match provider.ids {
        [] => builder.build(),
        ids => builder.add_filter(EventFilter::ByEventIds(ids.to_vec())).build(),
    }
}

fn builder<T: RealTimeTraceTrait>(
    builder: TraceBuilder<T>,
    options: &SessionOptions,
) -> TraceBuilder<T> {
    builder.named(options.name.clone()).set_trace_properties(TraceProperties {
        buffer_size: options.buffer_kib,
        min_buffer: (options.buffers / 2).max(2),
        max_buffer: options.buffers,
        flush_timer: Duration::from_secs(1),
        // A buffer for each processor: one for all would make them wait for each other.
        log_file_mode: LoggingMode::EVENT_TRACE_REAL_TIME_MODE,
    })
}

/// Starts, stopping what is in the way.
fn start<T>(
    name: &str,
    mut begin: impl FnMut() -> Result<(T, TraceHandle), TraceError>,
) -> Result<(T, TraceHandle), StartError> {
    let mut held = Vec::new();
    let mut last = StartError::Exists;
    for _ in 0..ATTEMPTS {
        // Of an agent that was killed.
        let stopped = stop_by_name(name);
        match begin() {
            Ok(started) => return Ok(started),
            Err(error) => {
                last = StartError::of(plain(error));
                let _ = stop_by_name(name);
            }
        }
        if !matches!(last, StartError::Exists) {
            return Err(last);
        }
        if let Err(error) = stopped {
            return Err(StartError::of(error));
        }
        held.push(Box::new([0_usize; 1]));
        std::thread::sleep(Duration::from_millis(50));
    }
    Err(last)
}

/// A session that runs. Dropping it ends it.
#[derive(Debug)]
pub struct Session {
    name: String,
    trace: Option<UserTrace>,
    /// Tells what `ProcessTrace` answered when it has.
    ended: Receiver<io::Result<()>>,
    has_ended: bool,
    /// Why there is no data of registry values, where it was asked for.
    no_data: Option<io::Error>,
}

impl Session {
    /// Starts a session, and a thread that hands each record to `sink`. One of the same name is
    /// stopped first.
    ///
    /// # Errors
    /// [`StartError`]; then no session is left behind.
    pub fn start(options: &SessionOptions, sink: &Sink) -> Result<Self, StartError> {
        let (trace, handle) = start(&options.name, || {
            let mut session = builder(UserTrace::new(), options);
            for provider in &options.providers {
                session = session.enable(enabled(provider, sink));
            }
            session.start()
        })?;
        let mut no_data = None;
        for provider in options.providers.iter().filter(|provider| provider.data) {
            no_data = control::capture_data(&options.name, provider).err();
        }
        let ended = process(&options.name, handle).map_err(|error| {
            let _ = stop_by_name(&options.name);
            StartError::Io(error)
        })?;
        let name = options.name.clone();
        Ok(Self { name, trace: Some(trace), ended, has_ended: false, no_data })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Why registry values come without their data, where that was asked for and refused.
    pub fn no_data(&self) -> Option<&io::Error> {
        self.no_data.as_ref()
    }

    /// Whether nothing comes any more, although nobody here has stopped it: somebody else did, or
    /// the system.
    pub fn has_ended(&mut self) -> bool {
        self.has_ended |=
            !matches!(self.ended.recv_timeout(Duration::ZERO), Err(RecvTimeoutError::Timeout));
        self.has_ended
    }

    /// Ends the session, and waits until what it holds was handed over, but no longer than
    /// `patience`.
    ///
    /// # Errors
    /// What the system says; `TimedOut` where not all was handed over.
    pub fn stop(mut self, patience: Duration) -> io::Result<()> {
        let stopped = stop_by_name(&self.name);
        let read = match self.has_ended {
            true => Ok(()),
            false => match self.ended.recv_timeout(patience) {
                Ok(answer) => answer,
                Err(RecvTimeoutError::Timeout) => Err(io::Error::from(io::ErrorKind::TimedOut)),
                Err(RecvTimeoutError::Disconnected) => {
                    Err(io::Error::other("the thread that reads the session has ended"))
                }
            },
        };
        // Closes it: what still comes is dropped.
        drop(self.trace.take());
        stopped.and(read)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(trace) = self.trace.take() {
            let _ = stop_by_name(&self.name);
            drop(trace);
        }
    }
}

/// Reads on a thread of its own, which ends with the session.
fn process(name: &str, handle: TraceHandle) -> io::Result<Receiver<io::Result<()>>> {
    let (sender, ended) = channel();
    std::thread::Builder::new().name(format!("etw {name}")).spawn(move || {
        let answer = UserTrace::process_from_handle(handle).map_err(plain);
        // Fails when nobody wants to know.
        let _ = sender.send(answer);
    })?;
    Ok(ended)
}

/// Has `sink` be told the name of each open file, as classic `FileIo` events (opcode 36): by a
/// session that is stopped as soon as it runs. `options.providers` is not looked at. Returns when
/// all was told, or after `patience`.
///
/// # Errors
/// [`StartError`], also where not all was told in time.
pub fn file_names(
    options: &SessionOptions,
    sink: &Sink,
    patience: Duration,
) -> Result<(), StartError> {
    let (trace, handle) = start(&options.name, || {
        let names = KernelProvider::new(GUID::from_u128(FILE_IO), DISK_FILE_IO);
        let names = Enabled::kernel(&names).add_callback(callback(sink)).build();
        builder(KernelTrace::new(), options).enable(names).start()
    })?;
    let ended = process(&options.name, handle).map_err(StartError::Io);
    let stopped = stop_by_name(&options.name).map_err(StartError::of);
    let read = ended.and_then(|ended| match ended.recv_timeout(patience) {
        Ok(answer) => answer.map_err(StartError::of),
        Err(_) => Err(StartError::Io(io::Error::from(io::ErrorKind::TimedOut))),
    });
    drop(trace);
    stopped.and(read)
}
