//! The file as it is written: one struct a table, every value with its place in the file, so that
//! each error can say where. [`super::reference_markdown`] is made of the same declarations.

use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
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

/// A moment, as a text or as TOML's own date and time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Moment(pub(super) String);

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MomentVisitor;
        impl<'de> Visitor<'de> for MomentVisitor {
            type Value = Moment;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a date and time")
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<Moment, E> {
                Ok(Moment(value.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Moment, A::Error> {
                // toml hands its own type over as a map.
                let moment = toml::value::Datetime::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Moment(moment.to_string()))
            }
        }
        deserializer.deserialize_any(MomentVisitor)
    }
}

/// A registry key, alone or with names of values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RegistryPath {
    pub(super) key: String,
    pub(super) values: Option<Vec<String>>,
}

impl<'de> Deserialize<'de> for RegistryPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            key: String,
            values: Option<Vec<String>>,
        }
        struct PathVisitor;
        impl<'de> Visitor<'de> for PathVisitor {
            type Value = RegistryPath;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a registry key, or { key = '...', values = ['...'] }")
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<RegistryPath, E> {
                Ok(RegistryPath { key: value.to_owned(), values: None })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RegistryPath, A::Error> {
                let Table { key, values } = Table::deserialize(MapAccessDeserializer::new(map))?;
                Ok(RegistryPath { key, values })
            }
        }
        deserializer.deserialize_any(PathVisitor)
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

/// The name of a field that is a keyword of Rust.
const fn plain(field: &'static str) -> &'static str {
    match field.as_bytes() {
        [b'r', b'#', ..] => field.split_at(2).1,
        _ => field,
    }
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
        pub(in crate::config) struct $name {
            $( $(#[doc = $doc])* pub(in crate::config) $field: Option<Spanned<$type>>, )*
            $( $( pub(in crate::config) $inner: $inner_type, )* )?
        }

        impl $name {
            pub(in crate::config) const SECTION: Section = Section {
                title: $title,
                doc: &[$($about),*],
                fields: &[$(Field {
                    key: plain(stringify!($field)),
                    values: $values,
                    default: $default,
                    cost: $cost,
                    doc: &[$($doc),*],
                }),*],
            };
        }
    };
}

// Behind the macro, which it uses.
mod sink;
pub(super) use sink::Sink;

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
        /// Whether the set `recommended` applies; the same as naming it in `sets`. Without either
        /// key it applies when the file has no `[[rule]]`.
        recommended: bool {
            values: "`true` or `false`",
            default: "",
            cost: "hashing them at the first start: 1,100 files on a minimal Debian 12"
        }
        /// Built-in rules that apply, after those of the file. `fim policy recommended` shows them.
        sets: List {
            values: "list of `\"recommended\"` and `\"attack-surface\"`",
            default: "",
            cost: "hashing them at the first start; `attack-surface` looks at what happens up to five levels below `/home`"
        }
    }
    with {
        maintenance: Vec<Spanned<Maintenance>>,
        adjust: Vec<Spanned<Adjust>>,
        journal: Journal,
        metrics: Metrics,
        hash: Hash,
        content: Content,
        events: Events,
        fold: Fold,
        collector: Collector,
        canary: Canary,
        packages: Packages,
        scan: Scan,
        sink: Vec<Spanned<Sink>>,
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
    /// `GET /metrics` (Prometheus; every metric: docs/metrics.md), `/healthz` (503 and why, when
    /// something is wrong) and `/livez` (503 when nothing gets through the pipeline).
    Metrics "[metrics]" {
        /// Whether they are served.
        enabled: bool {
            values: "`true` or `false`",
            default: "true",
            cost: "a listening socket"
        }
        /// Where. An address other than the host's own lets everybody who can reach it, and knows
        /// the password if there is one, read how much is changed here, though not what.
        listen: String {
            values: "IP address and port; port 0 takes a free one",
            default: "\"127.0.0.1:9977\"",
            cost: "none"
        }
        /// TLS: the server's certificate, and those between it and its authority, in PEM. A renewed
        /// one is in use from the next connection on.
        tls_cert: String {
            values: "absolute path; with `tls_key`",
            default: "",
            cost: "a handshake for each scrape"
        }
        /// The key of `tls_cert`, in PEM; nobody but its owner may be able to read it.
        tls_key: String {
            values: "absolute path",
            default: "",
            cost: "none"
        }
        /// The name that is asked for (HTTP basic authentication). Without TLS the password crosses
        /// the network readable.
        username: String {
            values: "text without `:`; with `password_file`",
            default: "",
            cost: "none"
        }
        /// The file whose first line is the password; nobody but its owner may be able to read it.
        /// It is read at the start.
        password_file: String {
            values: "absolute path",
            default: "",
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
        /// Larger files are hashed aside, on one thread, those of the highest severity first. Their
        /// event does not wait: it says `fim.hash_follows`, and an event `updated` that names it in
        /// `fim.follows` brings the hash.
        large: Scalar {
            values: "size, `\"64KiB\"` to `\"1TiB\"`",
            default: "\"64MiB\"",
            cost: "more of it means that events of large files come later"
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
    /// Earlier contents of files, for rules with `content_diff`. They lie in the state directory,
    /// compressed, and only root can read them.
    Content "[content]" {
        /// Larger files are not kept, and their events do not say what text changed.
        max_file: Scalar {
            values: "size, `\"1KiB\"` to `\"64MiB\"`",
            default: "\"1MiB\"",
            cost: "memory of the thread that hashes, some four times as much; disk"
        }
        /// Where the difference in an event is cut, at the end of a line.
        max_diff: Scalar {
            values: "size, `256` to `\"1MiB\"`",
            default: "\"16KiB\"",
            cost: "its length in the event"
        }
        /// What all kept contents may take. When it is reached, no more are kept, and differences to
        /// what is not kept are not known.
        max_total: Scalar {
            values: "size, `\"1MiB\"` to `\"1TiB\"`",
            default: "\"256MiB\"",
            cost: "disk"
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
        /// How often a `suppressed` event sums up what rules with `suppress` have counted. Nothing
        /// comes when nothing was suppressed; the rest is told at the stop and at a reload.
        suppressed_interval: i64 {
            values: "seconds, 1 to 86400",
            default: "3600",
            cost: "one event"
        }
    }
}

table! {
    /// One change, one event: what editors and tools do to replace a file. See `docs/folding.md`.
    Fold "[fold]" {
        /// The steps of one change (a temporary file, a backup, a rename over the file) become one
        /// event of the file's own name when they follow one another within this time. An event that
        /// may be such a step (a file that was made, removed or renamed) waits for the others no
        /// longer than that. 0: each step is an event of its own, at once.
        window: Scalar {
            values: "duration, 0 or `\"1ms\"` to `\"60s\"`; as in `\"500ms\"`, `\"1s\"`",
            default: "\"500ms\"",
            cost: "memory, about 3 KiB for each event that waits, at most 8,192"
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
            cost: "memory, about 2 KiB for each operation that waits"
        }
        /// fanotify: whether the kernel's queue is limited by nothing but memory. If not, it holds
        /// `fs.fanotify.max_queued_events` (16,384 unless set otherwise), and what is beyond is lost
        /// without being counted (which is reported as a `gap`).
        unlimited_queue: bool {
            values: "`true` or `false`",
            default: "true",
            cost: "kernel memory, charged to the agent's cgroup: about 200 bytes for each event that waits"
        }
        /// Windows: the size of one of the buffers that a session has. Small ones lose events when
        /// thousands come at once (which is reported as a `gap`).
        etw_buffer: Scalar {
            values: "size, `\"4KiB\"` to `\"1MiB\"`",
            default: "\"256KiB\"",
            cost: "kernel memory, that of all buffers"
        }
        /// Windows: how many buffers each of the two sessions has at most; half of them from the
        /// start. At least two for each processor.
        etw_buffers: i64 {
            values: "count, 4 to 4096",
            default: "128",
            cost: "kernel memory, `etw_buffer` each: 32 MiB a session unless set otherwise"
        }
        /// Windows: records that may wait between the sessions and the agent, before they are lost
        /// (which is reported as a `gap`). About 250,000 in 64 MiB.
        etw_queue: Scalar {
            values: "size, `\"1MiB\"` to `\"1GiB\"`",
            default: "\"64MiB\"",
            cost: "memory, twice as much when it is full"
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
    /// What package managers change: see `docs/verdicts.md`.
    Packages "[packages]" {
        /// Whether changes are compared with the package database, and those of a run of a package
        /// manager are told as one event. Otherwise each is an event, without a verdict.
        enabled: bool {
            values: "`true` or `false`",
            default: "true",
            cost: "memory: 12 bytes for each path of an installed package; reading each file that a package manager changes twice"
        }
        /// How long an event of a run may wait for its end. What cannot be verified by then is told
        /// as `unknown`, and judged again at the end.
        hold: i64 {
            values: "seconds, 1 to 3600",
            default: "60",
            cost: "memory, about 3 KiB for each event that waits, at most 32,768; what an agent that is killed has not told yet"
        }
        /// Changes that were to be expected are told one by one, too, before the summary.
        details: bool {
            values: "`true` or `false`",
            default: "false",
            cost: "an event for each file of an upgrade"
        }
        /// From this severity on, a change of a run that cannot be verified (by a maintainer script,
        /// to a configuration file) is an alert, as it would be without the run.
        alert_severity: Scalar {
            values: "0 to 100, or `\"low\"` (25), `\"medium\"` (50), `\"high\"` (75), `\"critical\"` (100)",
            default: "\"critical\"",
            cost: "none"
        }
    }
}

table! {
    /// What a comparison of the disk with the baseline may take of the machine: the first scan, the
    /// one at each start and after a loss, `fim check`, `fim baseline` and the regular one.
    Scan "[scan]" {
        /// Threads that walk and hash. 0: as many as there are cores.
        threads: i64 {
            values: "count, 0 to 256",
            default: "0",
            cost: "cores kept busy while a scan runs; one of them hashes some 2 GB a second with SHA instructions"
        }
        /// Content that is read a second, by all threads together. 0: as fast as the disk and the
        /// processor can.
        max_bytes_per_second: Scalar {
            values: "size, `0` to `\"1TiB\"`",
            default: "0",
            cost: "a limit makes scans that read content longer: `\"10MiB\"` reads 36 GB in an hour"
        }
        /// How much of a core each thread may use.
        cpu_percent: i64 {
            values: "percentage, 1 to 100",
            default: "100",
            cost: "less makes scans longer"
        }
        /// Nice value of the threads, as of nice(1): with 19 they use what others leave.
        nice: i64 {
            values: "0 to 19",
            default: "0",
            cost: "more makes scans longer on a busy machine; a gap is closed later"
        }
        /// Within this time the content of everything that is known is read and compared once,
        /// a part at a time. 0: never.
        verify_interval: i64 {
            values: "seconds, 0 or 60 to 31536000",
            default: "604800",
            cost: "reading everything that is hashed once in this time; the work is spread over it evenly"
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
            values: "list of paths and globs, not empty; required unless there is `registry`",
            default: "",
            cost: "each object is hashed once at the first start and kept in the baseline, about 300 bytes"
        }
        /// Registry keys, with all their values and everything below, or some values of a key:
        /// `{ key = '...', values = ['...'] }`. `*` stands within a name. Case does not matter;
        /// `WOW6432Node` is a key of its own. On Linux they are checked, and mean nothing.
        registry: Vec<Spanned<RegistryPath>> {
            values: "list of keys, `'HKLM\\SOFTWARE\\...'`; a rule has `paths`, `registry` or both",
            default: "",
            cost: "none"
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
        /// Whether the same paths are watched inside every container too. Symbolic links are followed
        /// below the container's root, mounts to where the host has them; events carry the path on
        /// the host, and `container.id` where somebody in the container did it.
        containers: bool {
            values: "`true` or `false`",
            default: "false",
            cost: "for each container as much as the rule costs on the host"
        }
        /// Whether attempts that were denied or failed are told, with `event.outcome` `failure`.
        /// The backend `fanotify` cannot see them.
        attempts: bool {
            values: "`true` or `false`",
            default: "true",
            cost: "at most 100 events a second and process; what is beyond is counted in the next one"
        }
        /// Whether events say what text changed, in `fim.diff`. Contents are kept for it, see
        /// `[content]`.
        content_diff: bool {
            values: "`true` or `false`",
            default: "false",
            cost: "disk: the files, compressed; `content.max_diff` in an event at most"
        }
        /// Whether the content is secret: nothing of it is kept that could be read, and events say
        /// only how many lines changed. Without the key, files of passwords, keys and credentials
        /// are, by their names. A private key always is, whatever its file is called.
        secret: bool {
            values: "`true` or `false`",
            default: "",
            cost: "none"
        }
        /// What is expected of the objects. `never`: each change is an alert, whatever the severity.
        /// `maintenance`: in a `[[maintenance]]` window a change is expected and no alert, at any
        /// other time it is an alert. An entry of `allow` comes before both.
        expect: String {
            values: "`\"never\"` or `\"maintenance\"`",
            default: "",
            cost: "none"
        }
        /// The windows that count for `expect = "maintenance"`; without the key all of them.
        maintenance: List {
            values: "list of names of `[[maintenance]]`",
            default: "",
            cost: "none"
        }
    }
    with {
        only: Vec<Spanned<Condition>>,
        allow: Vec<Spanned<Condition>>,
        suppress: Vec<Spanned<Condition>>,
    }
}

table! {
    /// Who and what a part of a rule is about. With `[[rule.only]]` the rule is about such
    /// operations and no others; what `[[rule.allow]]` describes is told and never an alert; what
    /// `[[rule.suppress]]` describes is counted, and told in a `suppressed` event. Of several
    /// entries one has to hold; of the keys of an entry all; of a list one element. What is not
    /// known of an operation does not hold. See `docs/policy.md`.
    Condition "[[rule.only]], [[rule.allow]], [[rule.suppress]]" {
        /// The object.
        paths: List {
            values: "list of paths and globs, as in `[[rule]]`",
            default: "",
            cost: "none"
        }
        /// What is done to it.
        operations: List {
            values: "as in `[[rule]]`",
            default: "",
            cost: "none"
        }
        /// The executable of the process. Symbolic links are resolved, as in `paths` of a rule. It
        /// never holds for a process in a container, whose paths are its own.
        executable: List {
            values: "list of paths and globs",
            default: "",
            cost: "none"
        }
        /// The name of the process, exactly: the last part of its executable. Anybody can give a
        /// program any name.
        process_name: List {
            values: "list of names",
            default: "",
            cost: "none"
        }
        /// The executable of its parent, or of one further up (eight are known).
        ancestor: List {
            values: "list of paths and globs",
            default: "",
            cost: "none"
        }
        /// The user whose rights the process had (the effective user).
        user: Vec<Spanned<Scalar>> {
            values: "list of names and ids",
            default: "",
            cost: "none"
        }
        /// The user who logged in. A daemon has none.
        login_user: Vec<Spanned<Scalar>> {
            values: "list of names and ids",
            default: "",
            cost: "none"
        }
        /// Why; events and summaries have it.
        reason: String {
            values: "text",
            default: "",
            cost: "its length in each event"
        }
    }
}

table! {
    /// A time in which changes of objects with `expect = "maintenance"` are expected: either
    /// `days`, `start` and `duration`, or `from` and `until`.
    Maintenance "[[maintenance]]" {
        /// Its name, in events in it.
        name: String {
            values: "text, unique; required",
            default: "",
            cost: "none"
        }
        /// The days on which it opens.
        days: List {
            values: "list of `mon` `tue` `wed` `thu` `fri` `sat` `sun`, or `[\"daily\"]`",
            default: "",
            cost: "none"
        }
        /// When it opens on those days. Where the clock is set forward over this time, as much
        /// later; where it comes twice, at the first.
        start: String {
            values: "time, `\"22:30\"`",
            default: "",
            cost: "none"
        }
        /// How long it is open, also across midnight.
        duration: String {
            values: "duration, `\"1m\"` to `\"168h\"`; as in `\"4h\"`, `\"1h30m\"`",
            default: "",
            cost: "none"
        }
        /// When it opens, once.
        from: Moment {
            values: "date and time, `\"2026-03-01T22:00:00+01:00\"`; without an offset that of `timezone`",
            default: "",
            cost: "none"
        }
        /// When it is over.
        until: Moment {
            values: "as `from`, and later",
            default: "",
            cost: "none"
        }
        /// The time zone of the times above.
        timezone: String {
            values: "IANA name, `\"UTC\"`, or `\"local\"`: that of the host",
            default: "\"local\"",
            cost: "none"
        }
    }
}

table! {
    /// Changes a rule of one of the `sets`.
    Adjust "[[adjust]]" {
        /// Its name.
        rule: String {
            values: "name of a built-in rule that applies; required, once",
            default: "",
            cost: "none"
        }
        /// Whether the rule applies.
        enabled: bool {
            values: "`true` or `false`",
            default: "true",
            cost: "none"
        }
        /// Takes the place of its severity.
        severity: Scalar {
            values: "as in `[[rule]]`",
            default: "",
            cost: "none"
        }
        /// Objects that it leaves out.
        exclude: List {
            values: "as in `[[rule]]`",
            default: "[]",
            cost: "none"
        }
        /// As in `[[rule]]`.
        expect: String {
            values: "as in `[[rule]]`",
            default: "",
            cost: "none"
        }
        /// As in `[[rule]]`.
        maintenance: List {
            values: "as in `[[rule]]`",
            default: "",
            cost: "none"
        }
    }
    with {
        allow: Vec<Spanned<Condition>>,
        suppress: Vec<Spanned<Condition>>,
    }
}

/// All tables, in the order of the reference.
pub(super) const SECTIONS: [Section; 16] = [
    File::SECTION,
    Journal::SECTION,
    Metrics::SECTION,
    Hash::SECTION,
    Content::SECTION,
    Events::SECTION,
    Fold::SECTION,
    Collector::SECTION,
    Canary::SECTION,
    Packages::SECTION,
    Scan::SECTION,
    Sink::SECTION,
    Rule::SECTION,
    Condition::SECTION,
    Maintenance::SECTION,
    Adjust::SECTION,
];
