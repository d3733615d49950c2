//! What fim asks of Windows, with a safe face: each function checks what goes in, owns what it
//! opens, and gives an [`std::io::Error`] with the system's code. On other systems it is empty.
//!
//! Invariant: nothing here knows of files under watch, policies or events.
#![cfg(windows)]

pub mod clock;
pub mod etw;
pub mod file;
pub mod handles;
pub mod net;
pub mod process;
pub mod registry;
mod registry_write;
pub mod security;
pub mod system;
mod text;
