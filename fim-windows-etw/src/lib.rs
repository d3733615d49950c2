//! fim for Windows: what ETW says of files, registry and processes, as operations of fim-common.
//!
//! `trace -> decode -> correlate => Operation => the pipeline of fim-common`
//!
//! Nothing here depends on Windows: recorded traces are replayed on any system.
#![forbid(unsafe_code)]

pub mod cli;
pub mod commands;
pub mod correlate;
pub mod decode;
pub mod etl;
pub mod filetime;
pub mod paths;
pub mod process;
