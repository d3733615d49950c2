//! Between the callbacks of the sessions, which must not wait, and the thread that does the work.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Messages that wait at most; whoever has more waits.
const MESSAGES_MAX: usize = 4096;

/// Records that found no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// How many.
    pub count: u64,
    /// The time of the first and of the last one, FILETIME.
    pub times: (u64, u64),
}

/// What waited.
#[derive(Debug)]
pub struct Batch<M> {
    /// Records, one behind the other.
    pub records: Vec<u8>,
    /// Of those before these, or among them.
    pub lost: Option<Lost>,
    /// What else is to be done.
    pub messages: Vec<M>,
    /// Nothing comes after this.
    pub closed: bool,
}

struct Inner<M> {
    records: Vec<u8>,
    count: u64,
    lost: Option<Lost>,
    lost_in_all: u64,
    messages: Vec<M>,
    closed: bool,
    deepest: usize,
}

/// A queue of records by bytes, and of messages of another kind.
pub struct Queue<M> {
    inner: Mutex<Inner<M>>,
    filled: Condvar,
    emptied: Condvar,
    bytes_max: usize,
}

impl<M> Queue<M> {
    /// Holds at most so many bytes of records (and as many while they are worked on).
    pub fn new(bytes_max: usize) -> Self {
        let inner = Inner {
            records: Vec::new(),
            count: 0,
            lost: None,
            lost_in_all: 0,
            messages: Vec::new(),
            closed: false,
            deepest: 0,
        };
        Self {
            inner: Mutex::new(inner),
            filled: Condvar::new(),
            emptied: Condvar::new(),
            bytes_max,
        }
    }

    /// Each change leaves a whole value: a panic elsewhere does no harm.
    fn lock(&self) -> MutexGuard<'_, Inner<M>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a record: `append` writes it behind those that are there, and says whether it could.
    /// One that finds no room is counted by its time. Never waits but for another thread that is
    /// doing the same.
    pub fn push(&self, filetime: u64, length: usize, append: impl FnOnce(&mut Vec<u8>) -> bool) {
        let mut inner = self.lock();
        let room = !inner.closed && inner.records.len() + length <= self.bytes_max;
        if room && append(&mut inner.records) {
            inner.count += 1;
            inner.deepest = inner.deepest.max(inner.records.len());
        } else {
            inner.lost_in_all += 1;
            let lost = inner.lost.get_or_insert(Lost { count: 0, times: (filetime, filetime) });
            lost.count += 1;
            lost.times = (lost.times.0.min(filetime), lost.times.1.max(filetime));
        }
        drop(inner);
        self.filled.notify_one();
    }

    /// Adds a message; waits while there are too many. False: nobody takes them any more.
    pub fn send(&self, message: M) -> bool {
        let mut inner = self.lock();
        while inner.messages.len() >= MESSAGES_MAX && !inner.closed {
            inner = self.emptied.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        if inner.closed {
            return false;
        }
        inner.messages.push(message);
        drop(inner);
        self.filled.notify_one();
        true
    }

    /// Adds a message without waiting: for those that are few whatever happens.
    pub fn post(&self, message: M) {
        let mut inner = self.lock();
        if !inner.closed {
            inner.messages.push(message);
        }
        drop(inner);
        self.filled.notify_one();
    }

    /// Everything that is there; waits for something no longer than `patience`.
    pub fn take(&self, patience: Duration) -> Batch<M> {
        let mut inner = self.lock();
        let nothing = |inner: &mut Inner<M>| {
            inner.records.is_empty()
                && inner.messages.is_empty()
                && inner.lost.is_none()
                && !inner.closed
        };
        if nothing(&mut inner) {
            let waited = self.filled.wait_timeout_while(inner, patience, nothing);
            inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        // As much again will come: so it need not grow while others wait.
        let room = Vec::with_capacity(inner.records.len());
        let batch = Batch {
            records: std::mem::replace(&mut inner.records, room),
            lost: inner.lost.take(),
            messages: std::mem::take(&mut inner.messages),
            closed: inner.closed,
        };
        drop(inner);
        self.emptied.notify_all();
        batch
    }

    /// What found no room, where whoever takes the rest may be waiting for somebody else.
    pub fn take_lost(&self) -> Option<Lost> {
        self.lock().lost.take()
    }

    /// Takes nothing in any more.
    pub fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_all();
        self.emptied.notify_all();
    }

    /// Records that were taken in, those that were lost, and the most bytes that waited at a time.
    pub fn counts(&self) -> (u64, u64, usize) {
        let inner = self.lock();
        (inner.count, inner.lost_in_all, inner.deepest)
    }

    /// Bytes that wait.
    pub fn depth(&self) -> usize {
        self.lock().records.len()
    }
}
