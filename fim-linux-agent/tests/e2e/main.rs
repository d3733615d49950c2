//! End to end: a real `fim run`, real system calls, and what comes out.
//!
//! `cargo xtask test --only e2e` runs this program on the host (fanotify) and in virtual machines
//! (BPF). By hand, as root:
//!
//! ```text
//! cargo test -p fim-linux-agent --test e2e [-- FILTER]
//! FIM_BIN=/usr/bin/fim FIM_BACKEND=bpf e2e [FILTER]
//! ```
//!
//! `cargo xtask conformance` runs the table of [`conformance`] with it, which only ordinary tests
//! of this program leave out: it wants file systems of its own.
//!
//! `FIM_CASES=rename` runs only those cases of the tables whose names contain it.
//!
//! Every operation is done by another process, the [`operator`], which says who it is: the truth
//! that events are compared with never comes from fim. Most tests are tables of [`cases`] on one
//! [`shared`] agent, since an agent takes long to start under emulation.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "this whole program is a test"
)]

mod agent;
mod bad_input;
mod browser;
mod cases;
mod conformance;
mod conservation;
mod contents;
mod day;
mod directories;
mod dnf;
mod environment;
mod event;
mod expect;
mod folding;
mod full_disk;
mod journal;
mod lifecycle;
mod operations;
mod operator;
mod packages;
mod policy;
mod scenarios;
mod scene;
mod scratch;
mod shared;
mod sinks;
mod stream;

/// Not a test: what this program does when it has started itself to be an [`operator`]. libtest
/// has no other way in.
#[test]
fn operator_entry() {
    operator::entry::main();
}
