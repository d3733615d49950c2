//! The subcommands.

#[cfg(windows)]
pub mod doctor;
pub mod replay;
#[cfg(windows)]
pub mod run;
#[cfg(windows)]
pub mod selftest;
mod stats;

pub use fim_commands::exit;
