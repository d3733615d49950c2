//! `[[sink]]`: where events go besides the journal, checked. What sends them is the crate
//! `fim-sinks`.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use crate::event::Kind;

/// One `[[sink]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sink {
    /// 1 to 48 letters, digits, `-` and `_`; unique.
    pub name: String,
    /// What takes the events.
    pub target: Target,
    /// How an event is written.
    pub format: SinkFormat,
    /// Events of a lower severity are left out.
    pub min_severity: u8,
    /// Only events of these kinds.
    pub kinds: Vec<Kind>,
    /// Where it begins when it is new.
    pub start: SinkStart,
    /// What is sent together.
    pub batch: Batch,
    /// How many events are sent a second; `None`: as many as the receiver takes.
    pub rate: Option<NonZeroU32>,
    /// How long connecting, and the answer to a batch, may take.
    pub timeout: Duration,
    /// How long it waits after a failure, at most.
    pub max_retry_wait: Duration,
    /// Bytes of refused events that are kept, before it stops.
    pub max_parked_bytes: u64,
}

/// What is sent together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Events.
    pub events: usize,
    /// Bytes of all of them, as the journal has them.
    pub bytes: usize,
    /// How long an event waits for others.
    pub wait: Duration,
}

/// What takes the events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A file, a line for each event.
    File(PathBuf),
    /// Standard output, a line for each event.
    Stdout,
    /// A receiver of syslog messages (RFC 5424).
    Syslog(Syslog),
    /// A receiver by HTTP.
    Http(Http),
    /// A topic of Apache Kafka.
    Kafka(Kafka),
}

impl Target {
    /// `type` in the configuration.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::File(_) => "file",
            Self::Stdout => "stdout",
            Self::Syslog(_) => "syslog",
            Self::Kafka(_) => "kafka",
            Self::Http(http) => match http.protocol {
                HttpProtocol::Elasticsearch { .. } => "elasticsearch",
                HttpProtocol::Splunk { .. } => "splunk",
                HttpProtocol::Webhook => "http",
                HttpProtocol::Otlp => "otlp",
            },
        }
    }
}

/// `type = "syslog"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Syslog {
    /// Where.
    pub to: SyslogTo,
    /// Its number, 0 to 23.
    pub facility: u8,
    /// Of each message.
    pub app_name: String,
}

/// How a syslog receiver is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyslogTo {
    /// A socket of this host: a datagram or a stream each.
    Unix(PathBuf),
    /// TCP, with the length before each message (RFC 6587, octet counting).
    Tcp(Peer),
    /// The same in TLS (RFC 5425).
    Tls(Peer, Tls),
}

/// `type = "kafka"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kafka {
    /// Brokers to begin with; the others are learned from them. Not empty.
    pub brokers: Vec<Peer>,
    /// How TLS is done; `None`: not at all.
    pub tls: Option<Tls>,
    /// The topic.
    pub topic: String,
    /// How the agent proves who it is, besides by its certificate.
    pub sasl: Option<Sasl>,
    /// How batches are compressed.
    pub compression: KafkaCompression,
}

/// SASL: a name and a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sasl {
    /// How the password is proved.
    pub mechanism: SaslMechanism,
    /// User.
    pub username: String,
    /// Password.
    pub password: Secret,
}

/// How a password is proved to a broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SaslMechanism {
    /// It is sent.
    Plain,
    /// RFC 5802 with SHA-256: it is not sent.
    ScramSha256,
    /// The same with SHA-512.
    #[default]
    ScramSha512,
}

impl SaslMechanism {
    /// Each with its name in the configuration.
    pub const ALL: [(&'static str, Self); 3] = [
        ("plain", Self::Plain),
        ("scram-sha-256", Self::ScramSha256),
        ("scram-sha-512", Self::ScramSha512),
    ];
}

/// How batches for Kafka are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KafkaCompression {
    /// Not.
    None,
    /// gzip.
    #[default]
    Gzip,
    /// LZ4: faster, and some half larger.
    Lz4,
}

impl KafkaCompression {
    /// Each with its name in the configuration, which is Kafka's.
    pub const ALL: [(&'static str, Self); 3] =
        [("gzip", Self::Gzip), ("lz4", Self::Lz4), ("none", Self::None)];
}

/// A receiver by HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// Where.
    pub url: Url,
    /// How TLS is done, with `https`.
    pub tls: Tls,
    /// How the agent proves who it is.
    pub auth: Auth,
    /// Whether what is sent is compressed.
    pub gzip: bool,
    /// 2: gRPC.
    pub version: HttpVersion,
    /// What it is that is sent.
    pub protocol: HttpProtocol,
}

/// An address of HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// With TLS.
    pub is_https: bool,
    /// The host.
    pub peer: Peer,
    /// From the first slash on, with the query.
    pub path: String,
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.is_https { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.peer, self.path)
    }
}

/// A version of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpVersion {
    /// 1.1.
    One,
    /// 2, without asking.
    Two,
}

/// What is sent by HTTP, and what is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpProtocol {
    /// `_bulk` of Elasticsearch and OpenSearch.
    Elasticsearch {
        /// Index, alias or data stream.
        index: String,
    },
    /// Splunk's HTTP Event Collector.
    Splunk {
        /// `None`: that of the token.
        index: Option<String>,
        /// `sourcetype`.
        source_type: String,
    },
    /// A line for each event.
    Webhook,
    /// OTLP logs; gRPC with [`HttpVersion::Two`].
    Otlp,
}

/// How the agent proves who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Not, or by its certificate.
    None,
    /// HTTP's basic authentication.
    Basic {
        /// User.
        username: String,
        /// Password.
        password: Secret,
    },
    /// A token: in whatever way the protocol has it.
    Token(Secret),
}

/// Where a secret is. It is read when it is needed, and is nowhere in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Secret {
    /// The first line of a file.
    File(PathBuf),
    /// An environment variable of the agent.
    Env(String),
}

/// A host and its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Name or address; an IPv6 address without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// How TLS is done. The files are read at each connection, so that they can be replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Authorities; `None`: those of this host.
    pub ca_file: Option<PathBuf>,
    /// The certificate that this host shows, and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name that the peer has to prove; `None`: the host.
    pub server_name: Option<String>,
}

/// How an event is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SinkFormat {
    /// As the journal has it.
    #[default]
    Ecs,
    /// Open Cybersecurity Schema Framework, a JSON object.
    Ocsf,
    /// ArcSight's Common Event Format, a line of text.
    Cef,
}

impl SinkFormat {
    /// Each with its name.
    pub const ALL: [(&'static str, Self); 3] =
        [("ecs", Self::Ecs), ("ocsf", Self::Ocsf), ("cef", Self::Cef)];

    /// Its name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ecs => "ecs",
            Self::Ocsf => "ocsf",
            Self::Cef => "cef",
        }
    }
}

/// Where a sink begins when it is new.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SinkStart {
    /// At the oldest event of the journal.
    #[default]
    Oldest,
    /// Behind the newest.
    Newest,
}

impl SinkStart {
    /// Each with its name.
    pub const ALL: [(&'static str, Self); 2] = [("oldest", Self::Oldest), ("newest", Self::Newest)];

    /// Its name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Oldest => "oldest",
            Self::Newest => "newest",
        }
    }
}

/// The facilities of syslog (RFC 5424, table 1, with the names of syslog.conf(5)), by number.
pub const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
    "ftp", "ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4",
    "local5", "local6", "local7",
];
