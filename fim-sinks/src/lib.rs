//! Sends events to other systems.
//!
//! `journal -> read -> filter -> format -> deliver -> cursor`
//!
//! Each sink is a task of its own, with its own cursor in the journal, its own batches, back-off and
//! rate: what happens to one does not concern another, nor the pipeline that writes the journal.
//! [`Sinks`] starts, replaces and stops them.
//!
//! Invariant: a cursor stands behind an event only when the event has arrived, is filtered, or is
//! parked. So each event arrives at least once.
//!
//! Invariant: nothing here is waited for by the pipeline.
#![forbid(unsafe_code)]

mod backoff;
mod format;
mod item;
mod net;
mod parked;
mod progress;
mod rate;
mod reader;
mod sink;
mod sinks;
mod targets;
mod worker;

pub use sinks::{Journaling, Sinks};
