//! The subcommands.

pub mod replay;
mod stats;

/// Exit codes.
pub mod exit {
    /// Done.
    pub const OK: u8 = 0;
    /// It could not be done, or not with all of it: the trace is damaged.
    pub const FAILURE: u8 = 1;
    /// Bad usage or configuration.
    pub const USAGE: u8 = 64;
}
