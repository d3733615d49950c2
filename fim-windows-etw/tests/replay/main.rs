//! `fim-windows-etw replay`, from the bytes of a trace to the events that are printed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unreachable_pub,
    reason = "this whole program is a test"
)]
#![cfg(not(windows))]

mod command;
mod data;
mod decoding;
mod fuzz_seeds;
mod lifecycles;
mod recorded;
mod scenario;
mod scenarios;
mod traces;
mod who;
mod writer;
