//! The agent on Windows, or under Wine: what needs no trace.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "this whole program is a test"
)]
#![cfg(windows)]

mod agent;
mod commands;
mod objects;
mod registry;
mod sinks;
