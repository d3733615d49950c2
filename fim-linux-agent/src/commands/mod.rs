//! What each subcommand of `fim` does. They write to what they are given and return the exit
//! code; [`crate::cli`] has the command line.

mod accounts;
mod agent_status;
pub mod doctor;
pub mod events;
pub mod explain;
pub mod policy;
pub mod report;
pub mod run;
pub mod verify;

/// Exit codes, after sysexits.h where it has one.
pub mod exit {
    /// Done.
    pub const OK: u8 = 0;
    /// It failed at run time.
    pub const FAILURE: u8 = 1;
    /// Bad usage or configuration (EX_USAGE).
    pub const USAGE: u8 = 64;
    /// No backend works here (EX_UNAVAILABLE).
    pub const UNAVAILABLE: u8 = 69;
    /// Not allowed (EX_NOPERM).
    pub const NOT_PERMITTED: u8 = 77;
}

/// A reader that has seen enough (`| head`) is no error.
pub(crate) fn quiet_on_closed_pipe(result: std::io::Result<()>) -> std::io::Result<()> {
    match result {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
