//! How an event is written for a receiver.

pub(crate) mod syslog;
