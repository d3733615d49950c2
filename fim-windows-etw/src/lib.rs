//! fim for Windows: what ETW says of files, registry and processes, as operations of fim-common.
//!
//! `trace -> decode -> correlate => Operation => the pipeline of fim-common`
//!
//! Decoding and correlating depend on no system: recorded traces are replayed anywhere. What only a
//! live Windows has is in `live`.
#![forbid(unsafe_code)]

pub mod cli;
pub mod commands;
pub mod correlate;
pub mod decode;
pub mod etl;
pub mod filetime;
#[cfg(windows)]
pub mod live;
pub mod paths;
pub mod process;
#[cfg(windows)]
pub mod service;
pub mod stream;
