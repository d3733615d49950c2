//! The checks of `[[sink]]`.

use std::num::NonZeroU32;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use hyper::Uri;
use toml::Spanned;

use super::raw;
use super::sink::{
    Batch, FACILITIES, Peer, Sink, SinkFormat, SinkStart, Syslog, SyslogTo, Target, Tls,
};
use super::validate::Check;
use crate::event::Kind;

const KINDS: [(&str, Kind); 4] = [
    ("event", Kind::Event),
    ("alert", Kind::Alert),
    ("state", Kind::State),
    ("metric", Kind::Metric),
];

/// A key that only some types have, with where it is written.
type Said = (&'static str, Option<Range<usize>>);

impl Check<'_> {
    /// All sinks; names are unique.
    pub(super) fn sinks(&mut self, written: Vec<Spanned<raw::Sink>>) -> Vec<Sink> {
        let mut sinks: Vec<Sink> = Vec::new();
        let mut stdout = None;
        for raw in written {
            let span = raw.span();
            let line = self.position(&span).0;
            let Some(sink) = self.sink(raw.into_inner(), span.clone()) else { continue };
            if sinks.iter().any(|other| other.name == sink.name) {
                self.problem(span.clone(), format!("two sinks have the name {:?}", sink.name));
            }
            if sink.target == Target::Stdout
                && let Some(line) = stdout.replace(line)
            {
                let message = format!("standard output is taken by the sink at line {line}");
                self.problem(span, message);
            }
            sinks.push(sink);
        }
        sinks
    }

    fn sink(&mut self, raw: raw::Sink, span: Range<usize>) -> Option<Sink> {
        let name = self.sink_name(raw.name.as_ref(), &span);
        let tls = [
            ("ca_file", raw.ca_file.as_ref().map(Spanned::span)),
            ("cert_file", raw.cert_file.as_ref().map(Spanned::span)),
            ("key_file", raw.key_file.as_ref().map(Spanned::span)),
            ("server_name", raw.server_name.as_ref().map(Spanned::span)),
        ];
        let own = [
            ("path", raw.path.as_ref().map(Spanned::span)),
            ("url", raw.url.as_ref().map(Spanned::span)),
            ("facility", raw.facility.as_ref().map(Spanned::span)),
            ("app_name", raw.app_name.as_ref().map(Spanned::span)),
        ];
        let said: Vec<Said> = tls.into_iter().chain(own).collect();
        let Some(kind) = raw.r#type.as_ref() else {
            self.problem(span, "the sink has no type; add type = \"...\"");
            return None;
        };
        let type_name = kind.get_ref().as_str();
        let tls = Written {
            ca: self.sink_path(raw.ca_file),
            cert: self.sink_path(raw.cert_file),
            key: self.sink_path(raw.key_file),
            server_name: raw.server_name.map(Spanned::into_inner),
        };
        let target = match type_name {
            "file" => {
                self.only(type_name, &said, &["path"]);
                let Some(path) = self.sink_path(raw.path) else {
                    self.problem(span, "the sink has no path; add path = \"/...\"");
                    return None;
                };
                Target::File(path)
            }
            "stdout" => {
                self.only(type_name, &said, &[]);
                Target::Stdout
            }
            "syslog" => {
                let allowed = [
                    "url",
                    "facility",
                    "app_name",
                    "ca_file",
                    "cert_file",
                    "key_file",
                    "server_name",
                ];
                self.only(type_name, &said, &allowed);
                let Some(url) = raw.url else {
                    self.problem(span, "the sink has no url; add url = \"tls://host:6514\"");
                    return None;
                };
                let tls = self.tls(tls, &span);
                Target::Syslog(Syslog {
                    to: self.syslog_url(&url, tls)?,
                    facility: self.facility(raw.facility.as_ref()),
                    app_name: self.app_name(raw.app_name),
                })
            }
            unknown => {
                let message = format!(
                    "type {unknown:?} is unknown; allowed: \"file\", \"stdout\", \"syslog\""
                );
                self.problem(kind.span(), message);
                return None;
            }
        };
        let default_kinds = || KINDS.map(|(_, kind)| kind).to_vec();
        let kinds = raw.kinds.map_or_else(default_kinds, |list| {
            let mut kinds = Vec::new();
            for name in list.into_inner() {
                match KINDS.iter().find(|(known, _)| known == name.get_ref()) {
                    Some((_, kind)) => kinds.push(*kind),
                    None => {
                        let message = format!(
                            "kind {:?} is unknown; allowed: \"event\", \"alert\", \"state\", \
                             \"metric\"",
                            name.get_ref()
                        );
                        self.problem(name.span(), message);
                    }
                }
            }
            kinds
        });
        let rate: u32 = self.number(raw.max_events_per_second, 5000, 0..=1_000_000);
        Some(Sink {
            name,
            target,
            format: self.named(raw.format, SinkFormat::default(), &SinkFormat::ALL),
            min_severity: self.severity(raw.min_severity, 0),
            kinds,
            start: self.named(raw.start, SinkStart::default(), &SinkStart::ALL),
            batch: Batch {
                events: self.number(raw.batch_events, 1000, 1..=10_000),
                bytes: self.size(raw.batch_bytes, 2 << 20, 4 << 10..=64 << 20) as usize,
                wait: self.milliseconds(raw.batch_wait_ms, Duration::from_secs(1), 60_000),
            },
            rate: NonZeroU32::new(rate),
            timeout: Duration::from_secs(self.number(raw.timeout, 30, 1..=600)),
            max_retry_wait: Duration::from_secs(self.number(raw.max_retry_wait, 60, 1..=3600)),
            max_parked_bytes: self.size(raw.max_parked_bytes, 64 << 20, 0..=16 << 30),
        })
    }

    fn sink_name(&mut self, written: Option<&Spanned<String>>, span: &Range<usize>) -> String {
        let Some(name) = written else {
            self.problem(span.clone(), "the sink has no name; add name = \"...\"");
            return String::new();
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let text = name.get_ref();
        if text.is_empty() || text.len() > 48 || !text.chars().all(plain) {
            let message =
                format!("name {text:?} is not allowed; 1 to 48 letters, digits, '-' and '_'");
            self.problem(name.span(), message);
        }
        text.clone()
    }

    /// A key that means nothing for this type was meant for something.
    fn only(&mut self, type_name: &str, said: &[Said], allowed: &[&str]) {
        for (key, span) in said {
            if let Some(span) = span
                && !allowed.contains(key)
            {
                let message = format!("a sink of type {type_name:?} has no {key}");
                self.problem(span.clone(), message);
            }
        }
    }

    fn sink_path(&mut self, written: Option<Spanned<String>>) -> Option<PathBuf> {
        let written = written?;
        let path = PathBuf::from(written.get_ref());
        if !path.is_absolute() {
            let message = format!("{:?} is not an absolute path", written.get_ref());
            self.problem(written.span(), message);
        }
        Some(path)
    }

    fn tls(&mut self, written: Written, span: &Range<usize>) -> Tls {
        let identity = match (written.cert, written.key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            _ => {
                let message = "cert_file and key_file are of use together only";
                self.problem(span.clone(), message);
                None
            }
        };
        Tls { ca_file: written.ca, identity, server_name: written.server_name }
    }

    fn syslog_url(&mut self, url: &Spanned<String>, tls: Tls) -> Option<SyslogTo> {
        let text = url.get_ref();
        let to = match text.split_once("://") {
            Some(("unix", path)) if path.starts_with('/') => Some(SyslogTo::Unix(path.into())),
            Some(("tcp", _)) => peer(text, 601).map(SyslogTo::Tcp),
            Some(("tls", _)) => peer(text, 6514).map(|peer| SyslogTo::Tls(peer, tls.clone())),
            _ => None,
        };
        match &to {
            None => {
                let message = format!(
                    "{text:?} is no receiver of syslog; as in \"unix:///dev/log\", \
                     \"tcp://host:601\", \"tls://host:6514\""
                );
                self.problem(url.span(), message);
            }
            Some(SyslogTo::Unix(_) | SyslogTo::Tcp(_)) if tls != Tls::default() => {
                self.problem(url.span(), "without tls:// there is no use for certificates");
            }
            Some(_) => {}
        }
        to
    }

    fn facility(&mut self, written: Option<&Spanned<String>>) -> u8 {
        let Some(written) = written else { return 16 };
        match FACILITIES.iter().position(|name| name == written.get_ref()) {
            Some(number) => number as u8,
            None => {
                let message = format!(
                    "facility {:?} is unknown; allowed: {}",
                    written.get_ref(),
                    FACILITIES.join(", ")
                );
                self.problem(written.span(), message);
                16
            }
        }
    }

    fn app_name(&mut self, written: Option<Spanned<String>>) -> String {
        self.value(written, "fim".to_owned(), |name| {
            let fits = (1..=48).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic());
            let why = || format!("{name:?} does not fit: 1 to 48 visible characters of ASCII");
            fits.then(|| name.clone()).ok_or_else(why)
        })
    }
}

/// What is said of TLS.
struct Written {
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    server_name: Option<String>,
}

/// Host and port of `scheme://host[:port]`.
fn peer(url: &str, default_port: u16) -> Option<Peer> {
    let uri: Uri = url.parse().ok()?;
    let authority = uri.authority()?;
    let is_bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
    if !is_bare || authority.as_str().contains('@') {
        return None;
    }
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let rest = authority.as_str().strip_prefix(authority.host())?;
    let port = match rest.strip_prefix(':') {
        Some(port) => port.parse().ok().filter(|&port| port != 0)?,
        None => default_port,
    };
    (!host.is_empty()).then_some(Peer { host, port })
}
