//! `[[sink]]` as a file that says the same. Secrets are not in the configuration, only where they
//! are.

use std::fmt::{self, Write as _};
use std::path::Path;

use super::render::{list, quoted};
use super::sink::{
    Auth, FACILITIES, Http, HttpProtocol, HttpVersion, Kafka, KafkaCompression, Peer, Sasl,
    SaslMechanism, Secret, Sink, Syslog, SyslogTo, Target, Tls,
};
use super::validate::size_text;

pub(super) fn write(out: &mut String, sink: &Sink) -> fmt::Result {
    let Sink {
        name,
        target,
        format,
        min_severity,
        kinds,
        start,
        batch,
        rate,
        timeout,
        max_retry_wait,
        max_parked_bytes,
    } = sink;
    writeln!(out, "\n[[sink]]\nname = {}", quoted(name))?;
    writeln!(out, "type = {}", quoted(target.type_name()))?;
    writeln!(out, "format = {}", quoted(format.as_str()))?;
    match target {
        Target::Stdout => {}
        Target::File(path) => write_path(out, "path", path)?,
        Target::Syslog(syslog) => write_syslog(out, syslog)?,
        Target::Http(http) => write_http(out, http)?,
        Target::Kafka(kafka) => write_kafka(out, kafka)?,
    }
    writeln!(out, "min_severity = {min_severity}")?;
    let kinds: Vec<String> = kinds
        .iter()
        .filter_map(|kind| serde_json::to_value(kind).ok()?.as_str().map(str::to_owned))
        .collect();
    writeln!(out, "kinds = {}", list(&kinds))?;
    writeln!(out, "start = {}", quoted(start.as_str()))?;
    writeln!(out, "batch_events = {}", batch.events)?;
    writeln!(out, "batch_bytes = {}", size_text(batch.bytes as u64))?;
    writeln!(out, "batch_wait_ms = {}", batch.wait.as_millis())?;
    writeln!(out, "max_events_per_second = {}", rate.map_or(0, std::num::NonZero::get))?;
    writeln!(out, "timeout = {}", timeout.as_secs())?;
    writeln!(out, "max_retry_wait = {}", max_retry_wait.as_secs())?;
    writeln!(out, "max_parked_bytes = {}", size_text(*max_parked_bytes))
}

fn write_path(out: &mut String, key: &str, path: &Path) -> fmt::Result {
    // It came from a text.
    writeln!(out, "{key} = {}", quoted(&path.to_string_lossy()))
}

fn write_syslog(out: &mut String, syslog: &Syslog) -> fmt::Result {
    let Syslog { to, facility, app_name } = syslog;
    let (url, tls) = match to {
        SyslogTo::Unix(path) => (format!("unix://{}", path.display()), None),
        SyslogTo::Tcp(peer) => (format!("tcp://{peer}"), None),
        SyslogTo::Tls(peer, tls) => (format!("tls://{peer}"), Some(tls)),
    };
    writeln!(out, "url = {}", quoted(&url))?;
    let facility = FACILITIES.get(usize::from(*facility)).copied().unwrap_or_default();
    writeln!(out, "facility = {}", quoted(facility))?;
    writeln!(out, "app_name = {}", quoted(app_name))?;
    tls.map_or(Ok(()), |tls| write_tls(out, tls))
}

fn write_kafka(out: &mut String, kafka: &Kafka) -> fmt::Result {
    let Kafka { brokers, tls, topic, sasl, compression } = kafka;
    let brokers: Vec<String> = brokers.iter().map(Peer::to_string).collect();
    let scheme = if tls.is_some() { "tls" } else { "tcp" };
    writeln!(out, "url = {}", quoted(&format!("{scheme}://{}", brokers.join(","))))?;
    writeln!(out, "topic = {}", quoted(topic))?;
    let name = KafkaCompression::ALL.iter().find(|(_, known)| known == compression);
    writeln!(out, "compression = {}", quoted(name.map_or("none", |(name, _)| name)))?;
    if let Some(Sasl { mechanism, username, password }) = sasl {
        let name = SaslMechanism::ALL.iter().find(|(_, known)| known == mechanism);
        writeln!(out, "mechanism = {}", quoted(name.map_or("plain", |(name, _)| name)))?;
        writeln!(out, "username = {}", quoted(username))?;
        write_secret(out, "password", password)?;
    }
    tls.as_ref().map_or(Ok(()), |tls| write_tls(out, tls))
}

fn write_http(out: &mut String, http: &Http) -> fmt::Result {
    let Http { url, tls, auth, gzip, version, protocol } = http;
    writeln!(out, "url = {}", quoted(&url.to_string()))?;
    match protocol {
        HttpProtocol::Elasticsearch { index } => writeln!(out, "index = {}", quoted(index))?,
        HttpProtocol::Splunk { index, source_type } => {
            if let Some(index) = index {
                writeln!(out, "index = {}", quoted(index))?;
            }
            writeln!(out, "source_type = {}", quoted(source_type))?;
        }
        HttpProtocol::Webhook => {}
        HttpProtocol::Otlp => {
            let name = match version {
                HttpVersion::One => "http",
                HttpVersion::Two => "grpc",
            };
            writeln!(out, "protocol = {}", quoted(name))?;
        }
    }
    writeln!(out, "compression = {}", quoted(if *gzip { "gzip" } else { "none" }))?;
    match auth {
        Auth::None => {}
        Auth::Basic { username, password } => {
            writeln!(out, "username = {}", quoted(username))?;
            write_secret(out, "password", password)?;
        }
        Auth::Token(token) => write_secret(out, "token", token)?,
    }
    write_tls(out, tls)
}

fn write_secret(out: &mut String, key: &str, secret: &Secret) -> fmt::Result {
    match secret {
        Secret::File(path) => write_path(out, &format!("{key}_file"), path),
        Secret::Env(name) => writeln!(out, "{key}_env = {}", quoted(name)),
    }
}

fn write_tls(out: &mut String, tls: &Tls) -> fmt::Result {
    let Tls { ca_file, identity, server_name } = tls;
    if let Some(path) = ca_file {
        write_path(out, "ca_file", path)?;
    }
    if let Some((cert, key)) = identity {
        write_path(out, "cert_file", cert)?;
        write_path(out, "key_file", key)?;
    }
    match server_name {
        Some(name) => writeln!(out, "server_name = {}", quoted(name)),
        None => Ok(()),
    }
}
