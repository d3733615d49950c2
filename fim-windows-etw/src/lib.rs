//! fim for Windows: what ETW says of files, registry, processes, as the operations of fim-common.
//!
//! `trace -> decode -> correlate => Operation => the pipeline of fim-common`
//!
//! Nothing here depends on Windows: recorded traces are replayed on any system.
#![forbid(unsafe_code)]

pub mod decode;
pub mod etl;
