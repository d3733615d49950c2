//! Stands in for Windows' functions of ETW in a test program, so that ferrisetw's and our own code
//! around them really run where there is no ETW: under Wine.
//!
//! ferrisetw takes the functions from an import library, by their names: a program that has
//! functions of the same names of its own gets those ([`exports`]). So a test that wants them says
//! `use fim_etw_standin as etw;`, and nothing else is to be done. It is a dependency of tests only;
//! `cargo xtask windows test` looks at the agent's executable, which must have none of it.
//!
//! [`session`] is what a test says and asks: which sessions there are, what they are to fail with,
//! what they deliver and have lost, and what was called.
#![cfg(windows)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a tool of tests: what cannot be is to fail at once"
)]

#[allow(unreachable_pub, reason = "the linker reaches them")]
mod exports;
mod record;
mod session;

pub use record::Record;
pub use session::{
    Call, Enabled, MARK, deliver, exists, fail, hold, lose, release, running, started, stop,
    take_calls, wait_delivered,
};
