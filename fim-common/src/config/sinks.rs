//! The checks of `[[sink]]`.

use std::num::NonZeroU32;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use hyper::Uri;
use toml::Spanned;

use super::raw;
use super::sink::{
    Auth, Batch, FACILITIES, Http, HttpProtocol, HttpVersion, Peer, Secret, Sink, SinkFormat,
    SinkStart, Syslog, SyslogTo, Target, Tls, Url,
};
use super::validate::Check;
use crate::event::Kind;

const KINDS: [(&str, Kind); 4] = [
    ("event", Kind::Event),
    ("alert", Kind::Alert),
    ("state", Kind::State),
    ("metric", Kind::Metric),
];

const TLS: &[&str] = &["ca_file", "cert_file", "key_file", "server_name"];
/// The same without a name of its own: each broker is known by the name it is reached by.
const CERTIFICATES: &[&str] = &["ca_file", "cert_file", "key_file"];
const HTTP: &[&str] =
    &["url", "compression", "username", "password_file", "password_env", "token_file", "token_env"];

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
            ("index", raw.index.as_ref().map(Spanned::span)),
            ("topic", raw.topic.as_ref().map(Spanned::span)),
            ("mechanism", raw.mechanism.as_ref().map(Spanned::span)),
            ("source_type", raw.source_type.as_ref().map(Spanned::span)),
            ("protocol", raw.protocol.as_ref().map(Spanned::span)),
            ("compression", raw.compression.as_ref().map(Spanned::span)),
            ("username", raw.username.as_ref().map(Spanned::span)),
            ("password_file", raw.password_file.as_ref().map(Spanned::span)),
            ("password_env", raw.password_env.as_ref().map(Spanned::span)),
            ("token_file", raw.token_file.as_ref().map(Spanned::span)),
            ("token_env", raw.token_env.as_ref().map(Spanned::span)),
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
                self.only(type_name, &said, &[&["url", "facility", "app_name"], TLS].concat());
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
            "elasticsearch" | "splunk" | "http" | "otlp" => {
                let keys: &[&str] = match type_name {
                    "elasticsearch" => &["index"],
                    "splunk" => &["index", "source_type"],
                    "otlp" => &["protocol"],
                    _ => &[],
                };
                self.only(type_name, &said, &[keys, HTTP, TLS].concat());
                let Some(url) = raw.url else {
                    self.problem(span, "the sink has no url; add url = \"https://host\"");
                    return None;
                };
                let mut version = HttpVersion::One;
                let protocol = match type_name {
                    "elasticsearch" => match raw.index {
                        Some(index) => {
                            HttpProtocol::Elasticsearch { index: self.index_name(&index) }
                        }
                        None => {
                            let message = "the sink has no index; add index = \"logs-fim-default\"";
                            self.problem(span, message);
                            return None;
                        }
                    },
                    "splunk" => HttpProtocol::Splunk {
                        index: raw.index.map(Spanned::into_inner),
                        source_type: raw
                            .source_type
                            .map_or_else(|| "fim:event".to_owned(), Spanned::into_inner),
                    },
                    "otlp" => {
                        let names = [("http", HttpVersion::One), ("grpc", HttpVersion::Two)];
                        version = self.named(raw.protocol, version, &names);
                        HttpProtocol::Otlp
                    }
                    _ => HttpProtocol::Webhook,
                };
                let password = [raw.password_file, raw.password_env];
                let token = [raw.token_file, raw.token_env];
                let tls = self.tls(tls, &span);
                Target::Http(Http {
                    url: self.http_url(&url, &tls, &protocol, version)?,
                    tls,
                    auth: self.auth(raw.username, password, token, &span),
                    gzip: self.named(raw.compression, true, &[("gzip", true), ("none", false)]),
                    version,
                    protocol,
                })
            }
            "kafka" => {
                self.only(type_name, &said, &[super::sinks_kafka::KEYS, CERTIFICATES].concat());
                let tls = self.tls(tls, &span);
                Target::Kafka(self.kafka(
                    super::sinks_kafka::Written {
                        url: raw.url,
                        topic: raw.topic,
                        mechanism: raw.mechanism,
                        compression: raw.compression,
                        username: raw.username,
                        password: [raw.password_file, raw.password_env],
                    },
                    tls,
                    &span,
                )?)
            }
            unknown => {
                let message = format!(
                    "type {unknown:?} is unknown; allowed: \"file\", \"stdout\", \"syslog\", \
                     \"elasticsearch\", \"splunk\", \"http\", \"otlp\", \"kafka\""
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
        let format = self.format(raw.format, &target);
        let rate: u32 = self.number(raw.max_events_per_second, 5000, 0..=1_000_000);
        Some(Sink {
            name,
            target,
            format,
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

    fn format(&mut self, written: Option<Spanned<String>>, target: &Target) -> SinkFormat {
        let span = written.as_ref().map(Spanned::span);
        let format = self.named(written, SinkFormat::default(), &SinkFormat::ALL);
        let is_json = format != SinkFormat::Cef;
        if let (Some(span), false, "elasticsearch") = (span, is_json, target.type_name()) {
            self.problem(span, "a sink of type \"elasticsearch\" takes JSON: \"ecs\" or \"ocsf\"");
        }
        format
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
            Some(SyslogTo::Unix(_)) if cfg!(windows) => {
                self.problem(url.span(), "Windows has no such socket; take tcp:// or tls://");
            }
            Some(SyslogTo::Unix(_) | SyslogTo::Tcp(_)) if tls != Tls::default() => {
                self.problem(url.span(), "without tls:// there is no use for certificates");
            }
            Some(_) => {}
        }
        to
    }

    fn http_url(
        &mut self,
        url: &Spanned<String>,
        tls: &Tls,
        protocol: &HttpProtocol,
        version: HttpVersion,
    ) -> Option<Url> {
        let text = url.get_ref();
        let uri: Option<Uri> = text.parse().ok();
        let is_https = uri.as_ref().and_then(Uri::scheme_str) == Some("https");
        let default_port = match protocol {
            HttpProtocol::Elasticsearch { .. } => 9200,
            HttpProtocol::Splunk { .. } => 8088,
            HttpProtocol::Otlp if version == HttpVersion::Two => 4317,
            HttpProtocol::Otlp => 4318,
            HttpProtocol::Webhook if is_https => 443,
            HttpProtocol::Webhook => 80,
        };
        let peer = uri
            .as_ref()
            .filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")))
            .and_then(|uri| authority(uri, default_port));
        let (Some(uri), Some(peer)) = (&uri, peer) else {
            let message = format!("{text:?} is no address; as in \"https://host:9200\"");
            self.problem(url.span(), message);
            return None;
        };
        if !is_https && *tls != Tls::default() {
            self.problem(url.span(), "without https:// there is no use for certificates");
        }
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Some(Url { is_https, peer, path })
    }

    fn index_name(&mut self, index: &Spanned<String>) -> String {
        // What Elasticsearch says of names.
        let bad = |c: char| c.is_uppercase() || c.is_whitespace() || "\\/*?\"<>|,#:".contains(c);
        let name = index.get_ref();
        if name.is_empty()
            || name.len() > 255
            || name.starts_with(['-', '_', '+'])
            || name.contains(bad)
        {
            let message = format!(
                "{name:?} is no name of an index: lower case, no blanks, none of \\ / * ? \" < > | , # :"
            );
            self.problem(index.span(), message);
        }
        name.clone()
    }

    fn auth(
        &mut self,
        username: Option<Spanned<String>>,
        password: [Option<Spanned<String>>; 2],
        token: [Option<Spanned<String>>; 2],
        span: &Range<usize>,
    ) -> Auth {
        let (password, token) = (self.secret(password), self.secret(token));
        match (username, password, token) {
            (None, None, None) => Auth::None,
            (None, None, Some(token)) => Auth::Token(token),
            (Some(username), Some(password), None) => {
                Auth::Basic { username: username.into_inner(), password }
            }
            _ => {
                let message = "either username with password_file or password_env, or token_file \
                               or token_env";
                self.problem(span.clone(), message);
                Auth::None
            }
        }
    }

    pub(super) fn secret(
        &mut self,
        [file, variable]: [Option<Spanned<String>>; 2],
    ) -> Option<Secret> {
        match (file, variable) {
            (Some(_), Some(variable)) => {
                self.problem(variable.span(), "the secret is in a file already");
                None
            }
            (None, Some(variable)) => Some(Secret::Env(variable.into_inner())),
            (file, None) => self.sink_path(file).map(Secret::File),
        }
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
pub(super) fn peer(url: &str, default_port: u16) -> Option<Peer> {
    let uri: Uri = url.parse().ok()?;
    let is_bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
    is_bare.then(|| authority(&uri, default_port)).flatten()
}

pub(super) fn authority(uri: &Uri, default_port: u16) -> Option<Peer> {
    let authority = uri.authority()?;
    // A password has no place here.
    if authority.as_str().contains('@') {
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
