//! The sessions that there are, and what a test does with them.

use std::collections::{HashMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use windows::Win32::System::Diagnostics::Etw::PEVENT_RECORD_CALLBACK;

use crate::record::Record;

/// Somewhere in each program that the stand-in is linked into.
pub const MARK: &str = "fim-etw-standin stands in for ETW";

/// Beyond this what a test waits for does not come.
const PATIENCE: Duration = Duration::from_secs(60);

/// A provider that was enabled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enabled {
    /// Its GUID.
    pub provider: u128,
    /// Level.
    pub level: u8,
    /// Any of these keywords.
    pub keywords: u64,
    /// `EVENT_ENABLE_PROPERTY_*`.
    pub properties: u32,
    /// The event ids let through.
    pub ids: Vec<u16>,
    /// The payload of a filter of type 0.
    pub private: Option<Vec<u8>>,
}

/// A call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// StartTraceW: KiB of a buffer, buffers from the start and at most, mode, flags.
    Start(u32, u32, u32, u32, u32),
    /// EnableTraceEx2.
    Enable(Enabled),
    /// OpenTraceW.
    Open,
    /// ProcessTrace has begun.
    Process,
    /// ControlTraceW, but for queries and flushes, of which there are many.
    Stop,
    /// CloseTrace.
    Close,
}

#[derive(Default)]
pub(crate) struct Session {
    /// Its handles: to control it, and to read it; 0: none.
    pub(crate) control: u64,
    pub(crate) trace: u64,
    pub(crate) callback: PEVENT_RECORD_CALLBACK,
    pub(crate) context: usize,
    pub(crate) runs: bool,
    pub(crate) waiting: VecDeque<Record>,
    pub(crate) delivered: u64,
    /// No more than so many are delivered.
    pub(crate) held_after: Option<u64>,
    pub(crate) lost: (u32, u32),
    pub(crate) calls: Vec<Call>,
    /// What the next calls fail with, by function.
    pub(crate) errors: HashMap<&'static str, VecDeque<u32>>,
}

impl Session {
    /// What the next call of a function is to fail with.
    pub(crate) fn error(&mut self, function: &str) -> Option<u32> {
        self.errors.get_mut(function)?.pop_front()
    }
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) by_name: HashMap<String, Session>,
    pub(crate) handles: u64,
}

impl State {
    pub(crate) fn named(&mut self, name: &str) -> &mut Session {
        self.by_name.entry(name.to_owned()).or_default()
    }

    pub(crate) fn controlled(&mut self, control: u64) -> Option<(&String, &mut Session)> {
        self.by_name.iter_mut().find(|(_, session)| control != 0 && session.control == control)
    }

    pub(crate) fn opened(&mut self, trace: u64) -> Option<&mut Session> {
        self.by_name.values_mut().find(|session| trace != 0 && session.trace == trace)
    }

    pub(crate) fn handle(&mut self) -> u64 {
        self.handles += 1;
        0x1000 + self.handles
    }
}

static STATE: Mutex<Option<State>> = Mutex::new(None);
pub(crate) static CHANGED: Condvar = Condvar::new();

/// All of it.
pub(crate) struct Locked(MutexGuard<'static, Option<State>>);

pub(crate) fn lock() -> Locked {
    let mut guard = STATE.lock().unwrap_or_else(PoisonError::into_inner);
    guard.get_or_insert_default();
    Locked(guard)
}

impl Locked {
    pub(crate) fn state(&mut self) -> &mut State {
        self.0.as_mut().unwrap()
    }

    /// Waits until something is another.
    pub(crate) fn wait(self) -> Self {
        Self(CHANGED.wait(self.0).unwrap_or_else(PoisonError::into_inner))
    }
}

fn with<T>(name: &str, change: impl FnOnce(&mut Session) -> T) -> T {
    let mut locked = lock();
    let result = change(locked.state().named(name));
    drop(locked);
    CHANGED.notify_all();
    result
}

/// Somebody has left a session behind.
pub fn exists(name: &str) {
    with(name, |session| session.runs = true);
}

/// The next call of a function (`StartTraceW`) for this session fails with `code`; and the one after
/// it, if this is said twice.
pub fn fail(name: &str, function: &'static str, code: u32) {
    with(name, |session| session.errors.entry(function).or_default().push_back(code));
}

/// The session delivers these, as soon as it is read.
pub fn deliver(name: &str, records: impl IntoIterator<Item = Record>) {
    with(name, |session| session.waiting.extend(records));
}

/// The session delivers no more than `count` in all: whoever reads it waits within ProcessTrace, also
/// when the session is stopped.
pub fn hold(name: &str, count: u64) {
    with(name, |session| session.held_after = Some(count));
}

/// It delivers what it has.
pub fn release(name: &str) {
    with(name, |session| session.held_after = None);
}

/// The session has lost so many events and buffers in all.
pub fn lose(name: &str, events: u32, buffers: u32) {
    with(name, |session| session.lost = (events, buffers));
}

/// Somebody else stops the session.
pub fn stop(name: &str) {
    with(name, |session| session.runs = false);
}

/// Whether there is a session of this name.
pub fn running(name: &str) -> bool {
    with(name, |session| session.runs)
}

/// How often a session of this name was started.
pub fn started(name: &str) -> usize {
    with(name, |session| {
        session.calls.iter().filter(|call| matches!(call, Call::Start(..))).count()
    })
}

/// What was called for this session, since this was asked last.
pub fn take_calls(name: &str) -> Vec<Call> {
    with(name, |session| std::mem::take(&mut session.calls))
}

/// Waits until the session has delivered so many in all: each callback has returned.
///
/// # Panics
/// When it does not in a minute.
pub fn wait_delivered(name: &str, count: u64) {
    let begun = Instant::now();
    let mut locked = lock();
    loop {
        let delivered = locked.state().named(name).delivered;
        if delivered >= count {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{delivered} of {count} were delivered by {name}");
        let waited = CHANGED.wait_timeout(locked.0, PATIENCE);
        locked = Locked(waited.unwrap_or_else(PoisonError::into_inner).0);
    }
}
