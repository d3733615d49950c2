//! The subcommands that fim has on every system. They write to what they are given and return the
//! exit code; what only the system knows they ask a [`Site`].
#![forbid(unsafe_code)]

#[cfg(test)]
mod bare;
pub mod baseline;
pub mod check;
pub mod events;
pub mod explain;
mod explain_registry;
pub mod policy;
pub mod reload;
pub mod report;
pub mod start;
mod survey;
pub mod verify;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Result;
use fim_common::config::Config;
use fim_common::event::Host;
use fim_common::event::actor::Actor;
use fim_common::pipeline::Names;
use fim_common::policy::{Policy, RegistryPattern};
use fim_common::time::{Timestamp, when};

pub use start::{Arguments, Failure};
pub use survey::Survey;

/// What a command asks of the system it runs on.
pub trait Site: Sync {
    /// `host.*` of every event.
    fn host(&self) -> Host;

    /// Names of users and groups.
    fn names(&self) -> Box<dyn Names>;

    /// Who runs this command.
    fn actor(&self) -> Arc<Actor>;

    /// The policy of a configuration as it applies here now.
    fn policy(&self, config: &Config) -> Policy;

    /// Directories of the agent's own among what is watched.
    fn own_directories(&self, policy: &Policy, state: &Path, agent_id: &str) -> Vec<PathBuf>;

    /// How many keys there are at the place that a pattern means or, where it names values, how many
    /// of these there are; `None`: that cannot be known here.
    fn registry(&self, pattern: &RegistryPattern) -> Option<usize> {
        let _ = pattern;
        None
    }

    /// Becomes true when the command is asked to end: it does so in order, and keeps what it has.
    fn interrupted(&self) -> Arc<AtomicBool>;
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
///
/// # Errors
/// Any other.
pub fn quiet_on_closed_pipe(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// An error and its causes in one line, each said once: many an error has what it comes of in its own
/// words.
pub fn causes(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// Ends quietly when the reader has gone: `fim policy show | head` is no failure.
///
/// # Errors
/// Any other.
pub fn quietly(result: Result<u8>) -> Result<u8> {
    let is_closed = |error: &anyhow::Error| {
        let io = error.downcast_ref::<io::Error>().map(io::Error::kind);
        let json =
            error.downcast_ref::<serde_json::Error>().and_then(serde_json::Error::io_error_kind);
        io.or(json) == Some(io::ErrorKind::BrokenPipe)
    };
    match result {
        Err(error) if is_closed(&error) => Ok(0),
        other => other,
    }
}

/// A path for a terminal, which a name on disk must not control.
pub fn clean(path: &Path) -> String {
    let mut text = String::new();
    for c in path.to_string_lossy().chars() {
        match c.is_control() {
            true => text.extend(c.escape_default()),
            false => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn each_cause_is_said_once() {
        let error = anyhow!("no such file").context("/x: no such file").context("cannot verify");
        assert_eq!(causes(&error), "cannot verify: /x: no such file");
        assert_eq!(causes(&anyhow!("a").context("b")), "b: a");
    }
}
