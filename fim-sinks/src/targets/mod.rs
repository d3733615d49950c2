//! What takes events, each in its own way.

mod file;
mod stdout;
mod syslog;

use fim_common::config::sink::{Sink as Config, Target};

use crate::sink::Sink;

/// The sink that is configured. It connects when there is something to send.
pub(crate) fn open(config: &Config) -> Box<dyn Sink> {
    match &config.target {
        Target::File(path) => Box::new(file::File::new(path.clone())),
        Target::Stdout => Box::new(stdout::Stdout),
        Target::Syslog(syslog) => Box::new(syslog::Syslog::new(syslog.clone())),
    }
}
