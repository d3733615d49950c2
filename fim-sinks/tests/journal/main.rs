//! Sinks on a real journal, with what this host has to send to: files and sockets. Other receivers
//! are in the end-to-end tests (`tests/e2e/sinks` of the agent).
#![allow(clippy::unwrap_used, clippy::panic, reason = "this whole program is a test")]

mod bench;
mod delivery;
mod http;
mod retention;
mod sockets;
