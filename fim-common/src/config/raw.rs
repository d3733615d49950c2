//! The file as it is written: one struct a table, every value with its place in the file, so that
//! each error can say where. [`super::reference_markdown`] is made of the same declarations.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};
use toml::Spanned;

/// A number, or a word or a text with a unit that stands for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scalar {
    Integer(i64),
    Text(String),
}

impl<'de> Deserialize<'de> for Scalar {
    // An untagged enum would do, but its error says nothing.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ScalarVisitor;
        impl Visitor<'_> for ScalarVisitor {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer or a string")
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Scalar, E> {
                Ok(Scalar::Integer(value))
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<Scalar, E> {
                Ok(Scalar::Text(value.to_owned()))
            }
        }
        deserializer.deserialize_any(ScalarVisitor)
    }
}

/// A list of texts.
pub(super) type List = Vec<Spanned<String>>;

/// One key, for the reference.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub(super) key: &'static str,
    /// Type, unit and range.
    pub(super) values: &'static str,
    /// As TOML; empty: the key is required or has no default.
    pub(super) default: &'static str,
    /// What more of it costs.
    pub(super) cost: &'static str,
    pub(super) doc: &'static [&'static str],
}

/// One table, for the reference.
#[derive(Clone, Copy, Debug)]
pub(super) struct Section {
    pub(super) title: &'static str,
    pub(super) doc: &'static [&'static str],
    pub(super) fields: &'static [Field],
}

/// Declares a table: the struct that serde fills, and what the reference says of it.
macro_rules! table {
    (
        $(#[doc = $about:literal])*
        $name:ident $title:literal {
            $(
                $(#[doc = $doc:literal])*
                $field:ident: $type:ty { values: $values:literal, default: $default:literal, cost: $cost:literal }
            )*
        }
        $(with { $( $inner:ident: $inner_type:ty, )* })?
    ) => {
        $(#[doc = $about])*
        #[derive(Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub(super) struct $name {
            $( $(#[doc = $doc])* pub(super) $field: Option<Spanned<$type>>, )*
            $( $( pub(super) $inner: $inner_type, )* )?
        }

        impl $name {
            pub(super) const SECTION: Section = Section {
                title: $title,
                doc: &[$($about),*],
                fields: &[$(Field {
                    key: stringify!($field),
                    values: $values,
                    default: $default,
                    cost: $cost,
                    doc: &[$($doc),*],
                }),*],
            };
        }
    };
}

table! {
    /// Keys outside of every table; they stand before the first one.
    File "Top level" {
        /// The source of events. `auto` takes `bpf` where the kernel lets it load its programs,
        /// else `fanotify`, which has no exact times and less to say of attributes.
        backend: String {
            values: "`\"auto\"`, `\"bpf\"` or `\"fanotify\"`",
            default: "\"auto\"",
            cost: "fanotify costs more per event and knows less of each"
        }
        /// Whether the recommended rules (`fim policy recommended`) apply, after those of the file.
        /// Without the key they apply when the file has no `[[rule]]`.
        recommended: bool {
            values: "`true` or `false`",
            default: "",
            cost: "hashing them at the first start: 1,100 files on a minimal Debian 12"
        }
    }
    with {
        journal: Journal,
        metrics: Metrics,
        hash: Hash,
        events: Events,
        collector: Collector,
        canary: Canary,
        rule: Vec<Spanned<Rule>>,
    }
}

table! {
    /// The journal in the state directory, where every event is kept.
    Journal "[journal]" {
        /// A segment that has reached this size is closed, and the next one begun.
        max_segment_bytes: Scalar {
            values: "size, `\"64KiB\"` to `\"16GiB\"`",
            default: "\"64MiB\"",
            cost: "disk: at most `max_segment_bytes` × `max_segments`"
        }
        /// How many segments are kept; the oldest is removed when there are more.
        max_segments: i64 {
            values: "count, 2 to 100000",
            default: "16",
            cost: "disk: at most `max_segment_bytes` × `max_segments`"
        }
        /// Segments whose last event is older are removed. 0: only their number counts.
        max_age_days: i64 {
            values: "days, 0 to 36500",
            default: "0",
            cost: "less history"
        }
        /// When the disk is asked to keep what was written: with each write, once a second, or when a
        /// segment is full and at the end. What a power cut can lose then: 20 ms, a second, or what
        /// the kernel had not written by itself (30 s as a rule). A killed agent loses 20 ms.
        fsync: String {
            values: "`\"always\"`, `\"interval\"` or `\"never\"`",
            default: "\"interval\"",
            cost: "`always` holds every event up until the disk has it"
        }
        /// What to do when the disk is full, or `max_segments` is reached and a reader
        /// (`fim events --cursor`) still needs the oldest segment: remove that segment, wait for room
        /// (what the queues cannot hold meanwhile becomes a `gap`), or stop the agent with exit code 1.
        on_full: String {
            values: "`\"block\"`, `\"drop_oldest\"` or `\"stop\"`",
            default: "\"block\"",
            cost: "`drop_oldest` loses history to whoever fills the disk"
        }
        /// How often the agent says that it lives, with the head of the journal's hash chain. 0: never.
        heartbeat: i64 {
            values: "seconds, 0 to 86400",
            default: "60",
            cost: "1 KiB of the journal each"
        }
    }
}

table! {
    /// `GET /metrics` (Prometheus) and `/healthz`.
    Metrics "[metrics]" {
        /// Whether they are served.
        enabled: bool {
            values: "`true` or `false`",
            default: "true",
            cost: "a listening socket"
        }
        /// Where. There is no authentication: an address other than the host's own lets everybody
        /// who can reach it read how much is changed here, though not what.
        listen: String {
            values: "IP address and port; port 0 takes a free one",
            default: "\"127.0.0.1:9977\"",
            cost: "none"
        }
    }
}

table! {
    /// Hashing of content.
    Hash "[hash]" {
        /// Larger files are not hashed; their events say `too_large` in `fim.hash_state`. A rule
        /// can say otherwise with `max_hash_size`.
        max_size: Scalar {
            values: "size, `0` to `\"1TiB\"`",
            default: "\"256MiB\"",
            cost: "reading: a changed file of this size takes about 0.2 s of one core with SHA instructions, 1 s without"
        }
        /// Threads that hash. 0: as many as there are cores.
        workers: i64 {
            values: "count, 0 to 256",
            default: "0",
            cost: "cores kept busy while many files change at once and while the baseline is taken"
        }
    }
}

table! {
    /// How operations become events.
    Events "[events]" {
        /// From this severity on, an event has `event.kind` `alert`.
        alert_severity: Scalar {
            values: "0 to 100, or `\"low\"` (25), `\"medium\"` (50), `\"high\"` (75), `\"critical\"` (100)",
            default: "70",
            cost: "none"
        }
        /// Operations on the same object within this time become one event. 0: each its own.
        fold_ms: i64 {
            values: "milliseconds, 0 to 10000",
            default: "50",
            cost: "an event is that much later; less of it means more events"
        }
        /// A file that is still written to is reported at once, and again when it has been quiet
        /// for this long or is closed.
        settle_ms: i64 {
            values: "milliseconds, 0 to 60000",
            default: "1000",
            cost: "less of it means more events and hashes for files that are written to for long"
        }
    }
}

table! {
    /// Between the kernel and the pipeline.
    Collector "[collector]" {
        /// The bpf backend's ring: what the kernel may be ahead of the agent before operations are
        /// lost (which is reported as a `gap`). About 25,000 operations in 8 MiB.
        ring_bytes: Scalar {
            values: "size, a power of two, `\"4KiB\"` to `\"1GiB\"`",
            default: "\"8MiB\"",
            cost: "kernel memory, all of it from the start"
        }
        /// fanotify: what the collector holds beyond that while the pipeline is busy, before
        /// operations are lost (which is reported as a `gap`).
        spill_events: i64 {
            values: "count, 1024 to 16777216",
            default: "262144",
            cost: "memory, about 1 KiB for each operation that waits"
        }
        /// fanotify: whether the kernel's queue is limited by nothing but memory. If not, it holds
        /// `fs.fanotify.max_queued_events` (16,384 unless set otherwise), and what is beyond is lost
        /// without being counted (which is reported as a `gap`).
        unlimited_queue: bool {
            values: "`true` or `false`",
            default: "true",
            cost: "kernel memory, charged to the agent's cgroup: about 200 bytes for each event that waits"
        }
        /// What the collector may be ahead of the pipeline.
        queue_events: i64 {
            values: "count, 1024 to 16777216",
            default: "65536",
            cost: "memory, about 1 KiB for each event that waits"
        }
    }
}

table! {
    /// The agent's check of itself: on each watched file system it does every operation to a file
    /// of its own, and expects its event.
    Canary "[canary]" {
        /// How often. 0: never.
        interval: i64 {
            values: "seconds, 0 to 86400",
            default: "60",
            cost: "some 20 operations on each watched file system, in a directory `.fim-canary-…` at its root"
        }
    }
}

table! {
    /// What is watched, and what is said about it. When several rules match, the one with the
    /// highest severity decides; see `docs/policy.md`.
    Rule "[[rule]]" {
        /// Name of the rule, `rule.name` in its events.
        name: String {
            values: "text, unique; required",
            default: "",
            cost: "none"
        }
        /// The objects: absolute paths. One without wildcards is the object itself and everything
        /// below it. Otherwise `*` and `?` match within a name, `[a-z]` and `{a,b}` choose, `**`
        /// between slashes is any number of directories, `\` escapes; only objects whose whole path
        /// matches are meant.
        paths: List {
            values: "list of paths and globs, not empty; required",
            default: "",
            cost: "each object is hashed once at the first start and kept in the baseline, about 300 bytes"
        }
        /// Objects among them that this rule leaves out. Other rules may still have them.
        exclude: List {
            values: "list of paths and globs",
            default: "[]",
            cost: "directories that are left out entirely cost nothing: the kernel drops what happens there"
        }
        /// What has to happen.
        operations: List {
            values: "list of `created`, `updated`, `attributes_modified`, `moved`, `deleted`, `linked`; or `[\"all\"]`",
            default: "[\"all\"]",
            cost: "none"
        }
        /// How bad it is: `event.severity`, and whether it is an alert (`events.alert_severity`).
        severity: Scalar {
            values: "0 to 100, or `\"low\"` (25), `\"medium\"` (50), `\"high\"` (75), `\"critical\"` (100)",
            default: "50",
            cost: "none"
        }
        /// `rule.category` in its events.
        category: String {
            values: "text",
            default: "",
            cost: "none"
        }
        /// `tags` in its events: the standards that ask for the rule, owners, whatever is searched
        /// for later.
        tags: List {
            values: "list of texts",
            default: "[]",
            cost: "their length in each event"
        }
        /// MITRE ATT&CK techniques, `threat.technique.id` in its events.
        techniques: List {
            values: "list of ids, `T1543` or `T1543.002`",
            default: "[]",
            cost: "their length in each event"
        }
        /// Whether the content is hashed.
        hash: bool {
            values: "`true` or `false`",
            default: "true",
            cost: "reading each file that was changed, once"
        }
        /// Larger files are not hashed. Without the key `hash.max_size` counts.
        max_hash_size: Scalar {
            values: "size, `0` to `\"1TiB\"`",
            default: "",
            cost: "as for `hash.max_size`"
        }
        /// Whether attempts that were denied or failed are told, with `event.outcome` `failure`.
        /// The backend `fanotify` cannot see them.
        attempts: bool {
            values: "`true` or `false`",
            default: "true",
            cost: "at most 100 events a second and process; what is beyond is counted in the next one"
        }
    }
}

/// All tables, in the order of the reference.
pub(super) const SECTIONS: [Section; 8] = [
    File::SECTION,
    Journal::SECTION,
    Metrics::SECTION,
    Hash::SECTION,
    Events::SECTION,
    Collector::SECTION,
    Canary::SECTION,
    Rule::SECTION,
];
