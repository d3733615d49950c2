//! `[[sink]]` as it is written.

use serde::Deserialize;
use toml::Spanned;

use super::{Field, List, Scalar, Section, plain};

table! {
    /// Where events go besides the journal: see `docs/sinks.md`. Each sink reads the journal by
    /// itself, and gets each event at least once. A change of this is in force without a restart.
    Sink "[[sink]]" {
        /// Its name, in metrics, in the log, and of its files in the state directory.
        name: String {
            values: "1 to 48 letters, digits, `-`, `_`, unique; required",
            default: "",
            cost: "none"
        }
        /// What takes the events.
        r#type: String {
            values: "`\"file\"`, `\"stdout\"`, `\"syslog\"`, `\"elasticsearch\"` (OpenSearch too), `\"splunk\"`, `\"http\"`, `\"otlp\"` or `\"kafka\"`; required",
            default: "",
            cost: "none"
        }
        /// How an event is written: as the journal has it (fields of the Elastic Common Schema), as
        /// an event of the Open Cybersecurity Schema Framework, or as a line of the Common Event
        /// Format.
        format: String {
            values: "`\"ecs\"`, `\"ocsf\"` or `\"cef\"` (not for `elasticsearch`)",
            default: "\"ecs\"",
            cost: "processor time for each event, for the other two"
        }
        /// `file`: the file. It is opened anew when its name leads to another one, and on SIGHUP.
        path: String {
            values: "absolute path; required for `file`",
            default: "",
            cost: "disk, without a limit of its own: see logrotate(8)"
        }
        /// Where the receiver is. `syslog`: a socket of this host, or a host by TCP or TLS. `kafka`:
        /// brokers to begin with, by TCP or TLS. The others: by HTTP or HTTPS; where there is no path,
        /// the usual one of the type.
        url: String {
            values: "`syslog`: `\"unix:///dev/log\"`, `\"tcp://host:601\"` or `\"tls://host:6514\"`; `kafka`: `\"tls://host1:9093,host2:9093\"` or `\"tcp://host:9092\"`; others: `\"https://host:9200\"`; required but for `file` and `stdout`",
            default: "",
            cost: "none"
        }
        /// `elasticsearch`: the index, alias or data stream. `splunk`: the index, where it is not that
        /// of the token.
        index: String {
            values: "name; required for `elasticsearch`",
            default: "",
            cost: "none"
        }
        /// `kafka`: the topic.
        topic: String {
            values: "1 to 249 letters, digits, `.`, `_`, `-`; required for `kafka`",
            default: "",
            cost: "none"
        }
        /// `kafka`: how the password is proved (SASL).
        mechanism: String {
            values: "`\"plain\"` (with TLS only), `\"scram-sha-256\"` or `\"scram-sha-512\"`",
            default: "\"scram-sha-512\"",
            cost: "none"
        }
        /// `splunk`: the source type.
        source_type: String {
            values: "name",
            default: "\"fim:event\"",
            cost: "none"
        }
        /// `otlp`: HTTP with protobuf, or gRPC.
        protocol: String {
            values: "`\"http\"` or `\"grpc\"`",
            default: "\"http\"",
            cost: "none"
        }
        /// By HTTP and `kafka`: whether what is sent is compressed.
        compression: String {
            values: "`\"gzip\"` or `\"none\"`; for `kafka` also `\"lz4\"`",
            default: "\"gzip\"",
            cost: "processor time: 20 ms for a batch of 2 MiB; it then has a tenth of that"
        }
        /// By HTTP: the user of basic authentication. `kafka`: that of SASL.
        username: String {
            values: "text; with a password",
            default: "",
            cost: "none"
        }
        /// The file with its password. It is read each time it is needed.
        password_file: String {
            values: "absolute path",
            default: "",
            cost: "none"
        }
        /// In its place, the name of an environment variable of the agent.
        password_env: String {
            values: "name",
            default: "",
            cost: "none"
        }
        /// By HTTP: the file with a token: of the event collector for `splunk`, an API key for
        /// `elasticsearch`, else a bearer token. It is read each time it is needed.
        token_file: String {
            values: "absolute path",
            default: "",
            cost: "none"
        }
        /// In its place, the name of an environment variable of the agent.
        token_env: String {
            values: "name",
            default: "",
            cost: "none"
        }
        /// `syslog`: the facility of each message.
        facility: String {
            values: "name as in syslog(3): `\"local0\"`, `\"authpriv\"`, `\"daemon\"` … ; or `\"audit\"`, which is 13",
            default: "\"local0\"",
            cost: "none"
        }
        /// `syslog`: the name of the application in each message.
        app_name: String {
            values: "1 to 48 visible characters of ASCII",
            default: "\"fim\"",
            cost: "none"
        }
        /// TLS: certificates (PEM) of the authorities that the receiver's has to be signed by, in
        /// place of those of this host.
        ca_file: String {
            values: "absolute path",
            default: "",
            cost: "none"
        }
        /// TLS: the certificate (PEM, with what leads to its authority) that this host shows.
        cert_file: String {
            values: "absolute path; with `key_file`",
            default: "",
            cost: "none"
        }
        /// TLS: its private key (PEM).
        key_file: String {
            values: "absolute path; with `cert_file`",
            default: "",
            cost: "none"
        }
        /// TLS: the name that the receiver's certificate has to have, where that is not the host in
        /// the address.
        server_name: String {
            values: "name or IP address",
            default: "",
            cost: "none"
        }
        /// Events of a lower severity are left out. Those that have none, the agent's own, are not:
        /// see `kinds`.
        min_severity: Scalar {
            values: "0 to 100, or `\"low\"` (25), `\"medium\"` (50), `\"high\"` (75), `\"critical\"` (100)",
            default: "0",
            cost: "none"
        }
        /// Only events of these kinds (`event.kind`). The agent's own are `state`.
        kinds: List {
            values: "list of `\"event\"`, `\"alert\"`, `\"state\"`, `\"metric\"`",
            default: "[\"event\", \"alert\", \"state\", \"metric\"]",
            cost: "without `state` nobody is told of a `gap`"
        }
        /// Where a sink begins that has not been there before.
        start: String {
            values: "`\"oldest\"` (all that the journal has) or `\"newest\"`",
            default: "\"oldest\"",
            cost: "none"
        }
        /// How many events are sent together.
        batch_events: i64 {
            values: "count, 1 to 10000",
            default: "1000",
            cost: "memory"
        }
        /// How large they may be together; an event that is larger is sent alone.
        batch_bytes: Scalar {
            values: "size, `\"4KiB\"` to `\"64MiB\"`",
            default: "\"2MiB\"",
            cost: "memory, some three times as much"
        }
        /// How long an event waits for others, to be sent with them.
        batch_wait_ms: i64 {
            values: "milliseconds, 0 to 60000",
            default: "1000",
            cost: "less of it means more requests; more of it, later events"
        }
        /// How fast a backlog is sent. 0: as fast as the receiver takes it.
        max_events_per_second: i64 {
            values: "count, 0 to 1000000",
            default: "5000",
            cost: "where events come faster than this for long, the sink falls behind"
        }
        /// How long connecting, and the answer to a batch, may take.
        timeout: i64 {
            values: "seconds, 1 to 600",
            default: "30",
            cost: "none"
        }
        /// After a failure the sink waits before it tries again: a random time, up to 0.5 s after
        /// the first, up to twice as long after each further one, and never longer than this.
        max_retry_wait: i64 {
            values: "seconds, 1 to 3600",
            default: "60",
            cost: "more of it means that events come later after an outage; less, more attempts"
        }
        /// Events that the receiver refuses for good are kept in `sinks/NAME.parked.jsonl` of the state
        /// directory. When that has this size, the sink stops there, and the journal keeps what it
        /// has not sent.
        max_parked_bytes: Scalar {
            values: "size, `0` to `\"16GiB\"`",
            default: "\"64MiB\"",
            cost: "disk"
        }
    }
}
