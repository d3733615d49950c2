//! What each subcommand of `fim` does. They write to what they are given and return the exit
//! code; [`crate::cli`] has the command line.

mod accounts;
mod agent_status;
pub mod baseline;
pub mod check;
pub mod doctor;
pub mod events;
pub mod explain;
pub mod man;
pub mod policy;
mod reload;
mod replay;
pub mod report;
pub mod run;
mod survey;
pub mod verify;

use fim_common::config::Config;
use fim_common::policy::{self as rules, Policy};
use fim_common::time::{Timestamp, when};

/// The policy of a configuration as it applies to this host now, and to the containers on it.
fn policy_here(config: &Config) -> Policy {
    config.policy().resolved_with(&rules::canonical, &reload::containers_for(config))
}

/// Exit codes, after sysexits.h where it has one.
pub mod exit {
    /// Done.
    pub const OK: u8 = 0;
    /// It failed at run time.
    pub const FAILURE: u8 = 1;
    /// Bad usage or configuration (EX_USAGE).
    pub const USAGE: u8 = 64;
    /// The baseline is damaged, foreign, or of a later version (EX_DATAERR).
    pub const DATA: u8 = 65;
    /// There is no baseline (EX_NOINPUT).
    pub const NO_INPUT: u8 = 66;
    /// No backend works here (EX_UNAVAILABLE).
    pub const UNAVAILABLE: u8 = 69;
    /// `fim check`: something could not be read (EX_IOERR).
    pub const INPUT_OUTPUT: u8 = 74;
    /// Not allowed (EX_NOPERM).
    pub const NOT_PERMITTED: u8 = 77;
}

/// A time on the command line; see [`when`].
fn parse_when(text: &str) -> Result<Timestamp, String> {
    when(text, Timestamp::now())
}

/// A reader that has seen enough (`| head`) is no error.
pub(crate) fn quiet_on_closed_pipe(result: std::io::Result<()>) -> std::io::Result<()> {
    match result {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Becomes true at SIGINT or SIGTERM: a command that scans ends in order, and keeps what it has.
pub(crate) fn interrupted() -> std::sync::Arc<std::sync::atomic::AtomicBool> {
    let cancel = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // Fails for signals that cannot be caught only.
        let _ = signal_hook::flag::register(signal, std::sync::Arc::clone(&cancel));
    }
    cancel
}
