//! How an event is written for a receiver. `ecs` is as the journal has it; the others are made of the
//! event, and each kind of event has a place in them.

mod cef;
mod ocsf;
pub(crate) mod syslog;

use fim_common::config::sink::SinkFormat;
use fim_common::event::{Action, Event};

/// A line of the journal in this format; `None`: as it is.
///
/// # Errors
/// When the line is no event.
pub(crate) fn formatted(
    format: SinkFormat,
    line: &[u8],
) -> Result<Option<Vec<u8>>, serde_json::Error> {
    let event = || serde_json::from_slice::<Event>(line);
    Ok(match format {
        SinkFormat::Ecs => None,
        SinkFormat::Ocsf => Some(serde_json::to_vec(&ocsf::object(&event()?))?),
        SinkFormat::Cef => Some(cef::line(&event()?).into_bytes()),
    })
}

/// How severe an event is, 0 to 100. The agent's own have no severity of their own: that something
/// was lost, or silenced, is not informational.
fn severity(event: &Event) -> u8 {
    event.event.severity.unwrap_or(match event.event.action {
        Action::CanaryMissed
        | Action::AgentKilled
        | Action::AgentTampered
        | Action::JournalTruncated => 90,
        Action::Gap | Action::JournalFull | Action::JournalDropped | Action::ClockChanged => 50,
        _ => 0,
    })
}

/// Milliseconds since 1970.
fn milliseconds(time: fim_common::time::Timestamp) -> i64 {
    i64::try_from(time.as_nanos() / 1_000_000).unwrap_or_default()
}

/// The last component of a path of Linux or Windows; of a root, the path.
fn name(path: &str) -> &str {
    path.rsplit(['/', '\\']).find(|part| !part.is_empty()).unwrap_or(path)
}
