//! From the records of live sessions to operations, in bounded memory; nothing of it depends on
//! Windows.
//!
//! `callback -> queue => order -> decode -> correlate => Operation`
//!
//! A record in the queue has the form that it has in a trace file ([`form`]), so that what is live
//! is read, decoded and correlated by the same code as what was recorded.

mod form;
mod order;
mod queue;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fim_common::operation::Operation;
use serde::Serialize;

pub use form::{HEADER_BYTES, write};
pub use order::{Held, Order};
pub use queue::{Batch, Lost, Queue};

use crate::correlate::Correlator;
use crate::decode::{self, Undecoded};
use crate::etl::{EventKey, Record};

/// Kinds of events that are not decoded and told apart.
const UNDECODED_MAX: usize = 256;

/// What became of the records.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Records that came out of the queue.
    pub records: u64,
    /// Of these, the same as the one before to the last byte; used once.
    pub duplicates: u64,
    /// Later than one with a later time that was used already.
    pub late: u64,
    /// No records.
    pub malformed: u64,
    /// In a version that no table has, or with a payload that does not fit: not used.
    pub undecoded: u64,
}

/// Orders, decodes and correlates.
pub struct Stream {
    order: Order,
    correlator: Correlator,
    counts: Counts,
    /// Those that were said.
    undecoded: HashMap<EventKey, u64>,
}

impl Stream {
    /// Records that come within `hold` of each other are brought into order, in at most `bytes` of
    /// memory.
    pub fn new(correlator: Correlator, hold: Duration, bytes: usize) -> Self {
        Self {
            order: Order::new(hold, bytes),
            correlator,
            counts: Counts::default(),
            undecoded: HashMap::new(),
        }
    }

    /// What is known so far, to tell it more.
    pub fn correlator(&mut self) -> &mut Correlator {
        &mut self.correlator
    }

    /// What became of the records so far.
    pub fn counts(&self) -> Counts {
        Counts {
            duplicates: self.order.duplicates(),
            late: self.order.late(),
            ..self.counts.clone()
        }
    }

    /// Takes in what came at `now`: records one behind the other.
    pub fn push(&mut self, records: Vec<u8>, now: Instant) {
        self.counts.malformed += self.order.push(Arc::new(records), now);
    }

    /// When something is due; `None`: nothing is held.
    pub fn due(&self) -> Option<Instant> {
        self.order.due()
    }

    /// Goes on with what is due at `now`; with `None`, with everything. What comes of it is
    /// appended to `out`, at most some operations for each call: `false` when there is more.
    pub fn advance(&mut self, now: Option<Instant>, out: &mut Vec<Operation>) -> bool {
        while let Some(held) = self.order.pop(now) {
            if let Some(record) = held.record() {
                self.record(&record, out);
            }
            if out.len() >= 256 {
                return false;
            }
        }
        true
    }

    /// Takes in a record now, before those that are held.
    pub fn record(&mut self, record: &Record<'_>, out: &mut Vec<Operation>) {
        self.counts.records += 1;
        match decode::decode(record) {
            Ok(event) => self.correlator.take(record, &event, out),
            Err(Undecoded::Provider | Undecoded::Id) => {}
            Err(why) => self.not_decoded(record.key, why),
        }
    }

    fn not_decoded(&mut self, key: EventKey, why: Undecoded) {
        self.counts.undecoded += 1;
        if self.undecoded.len() >= UNDECODED_MAX && !self.undecoded.contains_key(&key) {
            return;
        }
        let count = self.undecoded.entry(key).or_default();
        *count += 1;
        if *count == 1 {
            tracing::warn!(
                id = key.id, version = key.version, source = ?key.source, ?why,
                "events of this kind are not decoded"
            );
        }
    }

    /// Nothing more comes: tells what was waiting.
    pub fn finish(&mut self, out: &mut Vec<Operation>) {
        self.correlator.finish(out);
    }
}
