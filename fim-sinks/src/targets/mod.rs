//! What takes events, each in its own way.

#[cfg(not(feature = "kafka"))]
mod absent;
mod elasticsearch;
mod file;
mod http;
#[cfg(feature = "kafka")]
mod kafka;
mod otlp;
mod splunk;
mod stdout;
mod syslog;
mod webhook;

use fim_common::config::sink::{Sink as Config, Target};

use crate::sink::Sink;

/// The sink that is configured. It connects when there is something to send.
pub(crate) fn open(config: &Config) -> Box<dyn Sink> {
    match &config.target {
        Target::File(path) => Box::new(file::File::new(path.clone())),
        Target::Stdout => Box::new(stdout::Stdout),
        Target::Http(http) => Box::new(http::Http::new(http.clone(), config.format)),
        #[cfg(feature = "kafka")]
        Target::Kafka(kafka) => Box::new(kafka::Kafka::new(kafka, config)),
        #[cfg(not(feature = "kafka"))]
        Target::Kafka(_) => Box::new(absent::Absent("kafka")),
        Target::Syslog(syslog) => Box::new(syslog::Syslog::new(syslog.clone())),
    }
}
