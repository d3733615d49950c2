//! OTLP logs, by HTTP with protobuf or by gRPC.
//!
//! The body of a record is the event as the journal has it, so that its hash chain can be checked
//! wherever it ends up; what is looked for most stands beside it as attributes, with the names of
//! OpenTelemetry's semantic conventions.
//!
//! Source: opentelemetry-proto 1.7, `collector/logs/v1/logs_service.proto` and what it imports. A
//! dozen messages do not need a generator.

use fim_common::config::sink::HttpVersion;
use hyper::body::Bytes;
use hyper::header::HeaderName;
use prost::Message;
use serde::Deserialize;

use crate::item::Item;
use crate::net::http::Answered;
use crate::sink::{Answer, Failure};

#[derive(Clone, PartialEq, Message)]
struct ExportRequest {
    #[prost(message, repeated, tag = "1")]
    resource_logs: Vec<ResourceLogs>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceLogs {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_logs: Vec<ScopeLogs>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeLogs {
    #[prost(message, optional, tag = "1")]
    scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    log_records: Vec<LogRecord>,
}

#[derive(Clone, PartialEq, Message)]
struct Scope {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Clone, PartialEq, Message)]
struct LogRecord {
    #[prost(fixed64, tag = "1")]
    time_unix_nano: u64,
    #[prost(fixed64, tag = "11")]
    observed_time_unix_nano: u64,
    #[prost(int32, tag = "2")]
    severity_number: i32,
    #[prost(string, tag = "3")]
    severity_text: String,
    #[prost(message, optional, tag = "5")]
    body: Option<AnyValue>,
    #[prost(message, repeated, tag = "6")]
    attributes: Vec<KeyValue>,
    #[prost(string, tag = "12")]
    event_name: String,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    #[prost(oneof = "Value", tags = "1, 3")]
    value: Option<Value>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Value {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(int64, tag = "3")]
    Integer(i64),
}

/// The answer.
#[derive(Clone, PartialEq, Message)]
struct ExportResponse {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected_log_records: i64,
    #[prost(string, tag = "2")]
    error_message: String,
}

/// What of an event becomes attributes.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Attributes {
    event: Id,
    host: Named,
    file: Path,
    rule: Named,
    process: Process,
    user: Named,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Id {
    id: String,
    outcome: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Named {
    id: Option<String>,
    name: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Path {
    path: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Process {
    pid: Option<i64>,
    executable: Option<String>,
    command_line: Option<String>,
}

/// The path of a request.
pub(super) fn path(version: HttpVersion) -> &'static str {
    match version {
        HttpVersion::One => "/v1/logs",
        HttpVersion::Two => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    }
}

/// Its headers, `Content-Type` first.
pub(super) fn headers(version: HttpVersion, gzip: bool) -> Vec<(HeaderName, &'static str)> {
    let te = HeaderName::from_static("te");
    let encoding = HeaderName::from_static("grpc-encoding");
    match version {
        HttpVersion::One => vec![(crate::net::http::TYPE, "application/x-protobuf")],
        HttpVersion::Two => {
            let mut headers = vec![(crate::net::http::TYPE, "application/grpc"), (te, "trailers")];
            headers.extend(gzip.then_some((encoding, "gzip")));
            headers
        }
    }
}

/// gRPC's frame: whether it is compressed, its length, the message.
pub(super) fn framed(message: &[u8], gzip: bool) -> Bytes {
    let mut frame = Vec::with_capacity(message.len() + 5);
    frame.push(gzip.into());
    frame.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    frame.extend_from_slice(message);
    frame.into()
}

pub(super) fn body(items: &[Item]) -> Vec<u8> {
    // All are of one host: the resource is that of the first.
    let first: Attributes =
        items.first().and_then(|item| serde_json::from_slice(&item.line).ok()).unwrap_or_default();
    let resource = Resource {
        attributes: attributes([
            ("service.name", Some(Value::Text("fim".to_owned()))),
            ("host.name", first.host.name.map(Value::Text)),
            ("host.id", first.host.id.map(Value::Text)),
        ]),
    };
    let scope = Scope { name: "fim".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() };
    let log_records = items.iter().map(record).collect();
    let scope_logs = vec![ScopeLogs { scope: Some(scope), log_records }];
    let logs = ResourceLogs { resource: Some(resource), scope_logs };
    ExportRequest { resource_logs: vec![logs] }.encode_to_vec()
}

fn record(item: &Item) -> LogRecord {
    let event: Attributes = serde_json::from_slice(&item.line).unwrap_or_default();
    let time = u64::try_from(item.brief.timestamp.as_nanos()).unwrap_or_default();
    let now = fim_common::time::Timestamp::now().as_nanos();
    let (severity_number, severity_text) = severity(item.brief.event.severity);
    let action = item.brief.event.action.as_str();
    LogRecord {
        time_unix_nano: time,
        observed_time_unix_nano: u64::try_from(now).unwrap_or(time),
        severity_number,
        severity_text: severity_text.to_owned(),
        body: Some(AnyValue {
            value: Some(Value::Text(String::from_utf8_lossy(item.payload()).into_owned())),
        }),
        attributes: attributes([
            ("log.record.uid", Some(Value::Text(event.event.id))),
            ("fim.action", Some(Value::Text(action.to_owned()))),
            ("fim.outcome", event.event.outcome.map(Value::Text)),
            ("fim.rule.name", event.rule.name.map(Value::Text)),
            ("file.path", event.file.path.map(Value::Text)),
            ("process.pid", event.process.pid.map(Value::Integer)),
            ("process.executable.path", event.process.executable.map(Value::Text)),
            ("process.command_line", event.process.command_line.map(Value::Text)),
            ("user.id", event.user.id.map(Value::Text)),
            ("user.name", event.user.name.map(Value::Text)),
        ]),
        event_name: format!("fim.{action}"),
    }
}

/// What is known.
fn attributes<const N: usize>(pairs: [(&str, Option<Value>); N]) -> Vec<KeyValue> {
    let known = pairs.into_iter().filter_map(|(key, value)| Some((key, value?)));
    known
        .map(|(key, value)| KeyValue {
            key: key.to_owned(),
            value: Some(AnyValue { value: Some(value) }),
        })
        .collect()
}

/// Numbers and names of OpenTelemetry's data model for logs.
fn severity(severity: Option<u8>) -> (i32, &'static str) {
    match severity {
        Some(90..) => (18, "ERROR2"),
        Some(70..) => (17, "ERROR"),
        Some(50..) => (13, "WARN"),
        Some(25..) => (10, "INFO2"),
        _ => (9, "INFO"),
    }
}

pub(super) fn judge(
    answered: &Answered,
    version: HttpVersion,
    count: usize,
) -> Result<Answer, Failure> {
    let message = match version {
        HttpVersion::One => {
            match answered.status.as_u16() {
                // A proxy or a portal on the way: no collector answers with a page.
                200..=299 if answered.is_page() => return Err(super::http::refused(answered)),
                200..=299 => {}
                400 | 413 => return Err(Failure::Refused { reason: answered.text() }),
                _ => return Err(super::http::refused(answered)),
            }
            answered.body.clone()
        }
        HttpVersion::Two => {
            let said = answered.field("grpc-message").unwrap_or_default();
            let status = answered.field("grpc-status");
            match status {
                Some("0") => {}
                // INVALID_ARGUMENT.
                Some("3") => return Err(Failure::Refused { reason: said.to_owned() }),
                Some(status) => {
                    return Err(Failure::retry(format!("gRPC status {status}: {said}")));
                }
                None => return Err(Failure::retry(format!("no gRPC: {}", answered.text()))),
            }
            answered.body.slice(answered.body.len().min(5)..)
        }
    };
    // A receiver may say of a JSON answer, or none, that it took all.
    let partial = ExportResponse::decode(message).ok().and_then(|answer| answer.partial_success);
    match partial {
        Some(partial) if partial.rejected_log_records > 0 => {
            // It does not say which: found out like any other refusal.
            let rejected = partial.rejected_log_records;
            let reason = format!("{rejected} of {count} refused: {}", partial.error_message);
            Err(Failure::Refused { reason })
        }
        _ => Ok(Answer::default()),
    }
}
