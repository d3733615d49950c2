//! Collecting through ETW, with a stand-in for ETW's functions: all of ferrisetw's and our own code
//! runs, from starting a session to the operation that is handed to the pipeline.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "this whole program is a test"
)]
#![cfg(windows)]

#[path = "../replay/data.rs"]
#[allow(unreachable_pub, reason = "as its own program has it")]
mod data;
mod errors;
mod losses;
mod recorded;
mod rig;
mod sessions;
mod who;
mod whole;
#[path = "../replay/writer.rs"]
#[allow(dead_code, unreachable_pub, reason = "its own program uses the rest")]
mod writer;
