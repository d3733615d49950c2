//! Receivers by HTTP: what they have in common.

use std::io::Write as _;

use fim_common::config::sink::{Http as Config, HttpProtocol, HttpVersion, SinkFormat};
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::body::Bytes;

use super::{elasticsearch, otlp, splunk, webhook};
use crate::item::Item;
use crate::net::http::{Answered, Client, ENCODING, TYPE};
use crate::sink::{Answer, Failure, Pending, Sink};

pub(crate) struct Http {
    config: Config,
    format: SinkFormat,
    client: Client,
}

impl Http {
    pub(crate) fn new(config: Config, format: SinkFormat) -> Self {
        let scheme = match config.protocol {
            HttpProtocol::Elasticsearch { .. } => "ApiKey",
            HttpProtocol::Splunk { .. } => "Splunk",
            HttpProtocol::Webhook | HttpProtocol::Otlp => "Bearer",
        };
        Self { client: Client::new(config.clone(), scheme), config, format }
    }

    async fn send(&mut self, items: &[Item]) -> Result<Answer, Failure> {
        let Config { url, gzip, version, protocol, .. } = &self.config;
        let given = url.path.as_str();
        let (path, body, mut headers) = match protocol {
            HttpProtocol::Elasticsearch { index } => {
                let path = format!("{}/_bulk", given.trim_end_matches('/'));
                (path, elasticsearch::body(items, index), vec![(TYPE, "application/x-ndjson")])
            }
            HttpProtocol::Splunk { index, source_type } => {
                let body = splunk::body(items, index.as_deref(), source_type);
                (or(given, "/services/collector/event"), body, vec![(TYPE, "application/json")])
            }
            HttpProtocol::Webhook => {
                let media = match self.format {
                    SinkFormat::Ecs | SinkFormat::Ocsf => "application/x-ndjson",
                    SinkFormat::Cef => "text/plain; charset=utf-8",
                };
                (given.to_owned(), webhook::body(items), vec![(TYPE, media)])
            }
            HttpProtocol::Otlp => {
                let path = or(given, otlp::path(*version));
                (path, otlp::body(items), otlp::headers(*version, *gzip))
            }
        };
        let body: Bytes = if *gzip { compressed(&body) } else { body.into() };
        // gRPC has a compression of its own.
        let body = match (protocol, version) {
            (HttpProtocol::Otlp, HttpVersion::Two) => otlp::framed(&body, *gzip),
            _ => {
                headers.extend(gzip.then_some((ENCODING, "gzip")));
                body
            }
        };
        let answered = self.client.post(&path, body, &headers).await.map_err(Failure::retry)?;
        match protocol {
            HttpProtocol::Elasticsearch { .. } => elasticsearch::judge(&answered, items.len()),
            HttpProtocol::Splunk { .. } => splunk::judge(&answered),
            HttpProtocol::Webhook => webhook::judge(&answered),
            HttpProtocol::Otlp => otlp::judge(&answered, *version, items.len()),
        }
    }
}

impl Sink for Http {
    fn deliver<'a>(&'a mut self, items: &'a [Item]) -> Pending<'a, Result<Answer, Failure>> {
        Box::pin(self.send(items))
    }

    fn reset(&mut self) {
        self.client.reset();
    }
}

/// An answer that is no success: the receiver does not want what was sent, or not now. What is
/// wrong with the configuration (a token, a path) can be mended, and is no fault of the events.
pub(crate) fn refused(answered: &Answered) -> Failure {
    let reason = answered.text();
    match answered.status.as_u16() {
        400 | 413 | 422 => Failure::Refused { reason },
        _ => Failure::Retry { reason, after: answered.retry_after() },
    }
}

fn compressed(bytes: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    // Writing to a Vec does not fail.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default().into()
}

/// A path that was given, or this.
fn or(path: &str, default: &str) -> String {
    if matches!(path, "" | "/") { default.to_owned() } else { path.to_owned() }
}
