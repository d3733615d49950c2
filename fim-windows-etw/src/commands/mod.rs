//! The subcommands.

#[cfg(windows)]
pub mod doctor;
pub mod replay;
#[cfg(windows)]
pub mod run;
mod stats;

pub use fim_commands::exit;
