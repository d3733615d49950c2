//! Splunk's HTTP Event Collector.
//!
//! Source: Splunk documentation, "Format events for HTTP Event Collector" and "Troubleshoot HTTP
//! Event Collector" (the codes).

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::item::Item;
use crate::net::http::Answered;
use crate::sink::{Answer, Failure};

/// One event; several stand one behind the other.
#[derive(Serialize)]
struct Envelope<'e> {
    /// Seconds since 1970.
    time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'e str>,
    source: &'static str,
    sourcetype: &'e str,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<&'e str>,
    event: Event<'e>,
}

/// JSON as it is, anything else as a text.
#[derive(Serialize)]
#[serde(untagged)]
enum Event<'e> {
    Json(&'e RawValue),
    Text(std::borrow::Cow<'e, str>),
}

pub(super) fn body(items: &[Item], index: Option<&str>, source_type: &str) -> Vec<u8> {
    let mut body = Vec::new();
    for item in items {
        let nanoseconds = item.brief.timestamp.as_nanos();
        let (seconds, rest) = (nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000);
        let payload = item.payload();
        let envelope = Envelope {
            time: format!("{seconds}.{:06}", rest / 1000),
            host: item.brief.host.name.as_deref(),
            source: "fim",
            sourcetype: source_type,
            index,
            event: match serde_json::from_slice(payload) {
                Ok(json) => Event::Json(json),
                Err(_) => Event::Text(String::from_utf8_lossy(payload)),
            },
        };
        // Writing texts to a Vec does not fail.
        let _ = serde_json::to_writer(&mut body, &envelope);
        body.push(b'\n');
    }
    body
}

/// What it answers.
#[derive(Deserialize)]
struct Said {
    code: i64,
}

/// No data, invalid data format, event field is required, or blank: it is the events' fault.
const OF_EVENTS: [i64; 4] = [5, 6, 12, 13];

pub(super) fn judge(answered: &Answered) -> Result<Answer, Failure> {
    let code = serde_json::from_slice::<Said>(&answered.body).map(|said| said.code);
    match (answered.status.as_u16(), code) {
        (200..=299, Ok(0)) => Ok(Answer::default()),
        (413, _) => Err(Failure::Refused { reason: answered.text() }),
        (_, Ok(code)) if OF_EVENTS.contains(&code) => {
            Err(Failure::Refused { reason: answered.text() })
        }
        // A token that is wrong or wants a channel, an index that is not there: can be mended.
        _ => Err(Failure::Retry { reason: answered.text(), after: answered.retry_after() }),
    }
}
