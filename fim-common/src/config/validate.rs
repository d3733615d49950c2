//! From the file as it is written to the configuration in force.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;

use super::raw::{self, List, Scalar};
use super::{Canary, Collector, Config, Events, Hash, Journal, Metrics, Packages, Problem, Scan};
use crate::content;
use crate::journal::{Fsync, OnFull};
use crate::policy::{self, Operations, Pattern, Platform, Rule, Window};
use crate::scan::Limits;

const WORDS: [(&str, u8); 4] = [("low", 25), ("medium", 50), ("high", 75), ("critical", 100)];
const UNITS: [(&str, u32); 4] = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];

/// Parses and checks `text`; all problems, in the order of the file.
pub(super) fn config(text: &str, file: &Path) -> Result<Config, Vec<Problem>> {
    checked(text, file, cfg!(windows))
}

/// The same for rules about Windows paths.
pub(super) fn windows_config(text: &str, file: &Path) -> Result<Config, Vec<Problem>> {
    checked(text, file, true)
}

fn checked(text: &str, file: &Path, windows: bool) -> Result<Config, Vec<Problem>> {
    let mut check = Check { text, file, is_windows: windows, problems: Vec::new() };
    let raw: raw::File = match toml::from_str(text) {
        Ok(raw) => raw,
        Err(error) => {
            check.problem(error.span().unwrap_or(0..0), error.message().replace('\n', "; "));
            return Err(check.problems);
        }
    };
    let config = check.config(raw);
    if check.problems.is_empty() {
        return Ok(config);
    }
    check.problems.sort_by_key(|problem| (problem.line, problem.column));
    Err(check.problems)
}

pub(super) struct Check<'t> {
    text: &'t str,
    file: &'t Path,
    /// Patterns are those of Windows paths.
    is_windows: bool,
    pub(super) problems: Vec<Problem>,
}

impl Check<'_> {
    pub(super) fn problem(&mut self, span: Range<usize>, message: impl Into<String>) {
        let (line, column) = self.position(&span);
        let message = message.into();
        self.problems.push(Problem { file: self.file.into(), line, column, message });
    }

    /// Line and column, each from 1.
    pub(super) fn position(&self, span: &Range<usize>) -> (usize, usize) {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    fn config(&mut self, raw: raw::File) -> Config {
        let default = Config::default();
        let backend = self.value(raw.backend, default.backend, |name| {
            name.parse().map_err(|_| {
                format!("backend {name:?} is unknown; allowed: \"auto\", \"bpf\", \"fanotify\"")
            })
        });
        let tls = self.pair(raw.metrics.tls_cert, raw.metrics.tls_key, ["tls_cert", "tls_key"]);
        let tls = tls.and_then(|(cert, key)| Some((self.absolute(cert)?, self.absolute(key)?)));
        let names = ["username", "password_file"];
        let login = self.pair(raw.metrics.username, raw.metrics.password_file, names);
        let login =
            login.and_then(|(user, file)| Some((self.username(user)?, self.absolute(file)?)));
        let hash = Hash {
            max_size: self.size(raw.hash.max_size, default.hash.max_size, 0..=1 << 40),
            workers: self.number(raw.hash.workers, default.hash.workers, 0..=256),
            large: self.size(raw.hash.large, default.hash.large, 64 << 10..=1 << 40),
        };
        let mut rules = Vec::new();
        let mut taken: HashMap<String, (usize, Range<usize>)> = HashMap::new();
        let own_rules = !raw.rule.is_empty();
        let windows = self.windows(raw.maintenance);
        for rule in raw.rule {
            let span = rule.span();
            let (rule, span) = self.rule(rule.into_inner(), span, hash.max_size, &windows);
            if let Some((line, _)) = taken.get(&rule.name) {
                let message =
                    format!("rule name {:?} is taken by the rule at line {line}", rule.name);
                self.problem(span, message);
            } else if !rule.name.is_empty() {
                taken.insert(rule.name.clone(), (self.position(&span).0, span));
            }
            rules.push(rule);
        }
        let sets = self.sets(raw.sets, raw.recommended, own_rules);
        let platform = if self.is_windows { Platform::Windows } else { Platform::Linux };
        // What the file says of hashing counts for the built-in rules too.
        let max_hash_size = hash.max_size;
        let mut built_in: Vec<Rule> = policy::rules_of(&sets, platform)
            .into_iter()
            .map(|rule| Rule { max_hash_size, ..rule })
            .collect();
        for rule in &built_in {
            if let Some((line, span)) = taken.get(&rule.name) {
                let message = format!(
                    "rule name {:?} is taken by a built-in rule of `sets`; rename the rule at \
                     line {line}",
                    rule.name
                );
                self.problem(span.clone(), message);
            }
        }
        self.adjust(raw.adjust, &mut built_in, &windows);
        rules.append(&mut built_in);
        Config {
            file: Some(self.file.into()),
            backend,
            journal: Journal {
                max_segment_bytes: self.size(
                    raw.journal.max_segment_bytes,
                    default.journal.max_segment_bytes,
                    64 << 10..=16 << 30,
                ),
                max_segments: self.number(
                    raw.journal.max_segments,
                    default.journal.max_segments,
                    2..=100_000,
                ),
                max_age: match self.number(raw.journal.max_age_days, 0_u64, 0..=36_500) {
                    0 => None,
                    days => Some(Duration::from_secs(days * 86_400)),
                },
                fsync: self.named(raw.journal.fsync, default.journal.fsync, &Fsync::ALL),
                on_full: self.named(raw.journal.on_full, default.journal.on_full, &OnFull::ALL),
                heartbeat: match self.number(raw.journal.heartbeat, 60_u64, 0..=86_400) {
                    0 => None,
                    seconds => Some(Duration::from_secs(seconds)),
                },
            },
            metrics: Metrics {
                enabled: raw.metrics.enabled.map_or(default.metrics.enabled, Spanned::into_inner),
                listen: self.value(raw.metrics.listen, default.metrics.listen, |text| {
                    text.parse::<SocketAddr>().map_err(|_| {
                        format!(
                            "{text:?} is not an IP address and a port; as in \"127.0.0.1:9977\" or \
                             \"[::1]:9977\""
                        )
                    })
                }),
                tls,
                login,
            },
            hash,
            content: content::Limits {
                file: self.size(raw.content.max_file, default.content.file, 1 << 10..=64 << 20),
                diff: self.size(raw.content.max_diff, default.content.diff as u64, 256..=1 << 20)
                    as usize,
                total: self.size(raw.content.max_total, default.content.total, 1 << 20..=1 << 40),
            },
            events: Events {
                alert_severity: self
                    .severity(raw.events.alert_severity, default.events.alert_severity),
                fold: self.milliseconds(raw.events.fold_ms, default.events.fold, 10_000),
                settle: self.milliseconds(raw.events.settle_ms, default.events.settle, 60_000),
                suppressed_interval: Duration::from_secs(self.number(
                    raw.events.suppressed_interval,
                    default.events.suppressed_interval.as_secs(),
                    1..=86_400,
                )),
            },
            fold: self.fold(raw.fold),
            collector: self.collector(raw.collector, default.collector),
            canary: Canary {
                interval: match self.number(raw.canary.interval, 60_u64, 0..=86_400) {
                    0 => None,
                    seconds => Some(Duration::from_secs(seconds)),
                },
            },
            packages: self.packages(raw.packages, default.packages),
            scan: self.scan(raw.scan, default.scan),
            sinks: self.sinks(raw.sink),
            rules,
            windows,
        }
    }

    fn packages(&mut self, raw: raw::Packages, default: Packages) -> Packages {
        let hold: u64 = self.number(raw.hold, default.hold.as_secs(), 1..=3600);
        Packages {
            enabled: raw.enabled.map_or(default.enabled, Spanned::into_inner),
            hold: Duration::from_secs(hold),
            details: raw.details.map_or(default.details, Spanned::into_inner),
            alert_severity: self.severity(raw.alert_severity, default.alert_severity),
        }
    }

    fn scan(&mut self, raw: raw::Scan, default: Scan) -> Scan {
        let span = raw.verify_interval.as_ref().map(Spanned::span);
        let default_interval = default.verify.map_or(0, |interval| interval.as_secs());
        let interval = self.number(raw.verify_interval, default_interval, 0..=31_536_000);
        if (1..60).contains(&interval) {
            let message = format!("{interval} is too short; allowed: 0 (never), or 60 and more");
            self.problem(span.unwrap_or_default(), message);
        }
        let limits = default.limits;
        Scan {
            limits: Limits {
                threads: self.number(raw.threads, limits.threads, 0..=256),
                bytes_per_second: NonZeroU64::new(self.size(
                    raw.max_bytes_per_second,
                    0,
                    0..=1 << 40,
                )),
                cpu_percent: self.number(raw.cpu_percent, limits.cpu_percent, 1..=100),
                nice: self.number(raw.nice, limits.nice, 0..=19),
            },
            verify: (interval > 0).then(|| Duration::from_secs(interval)),
        }
    }

    fn collector(&mut self, raw: raw::Collector, default: Collector) -> Collector {
        let span = raw.ring_bytes.as_ref().map(Spanned::span);
        let ring_bytes = self.size(raw.ring_bytes, default.ring_bytes.into(), 4 << 10..=1 << 30);
        if !ring_bytes.is_power_of_two() {
            let below = size_text(1 << ring_bytes.ilog2());
            let above = size_text(2 << ring_bytes.ilog2());
            let message =
                format!("{ring_bytes} is not a power of two; the nearest are {below} and {above}");
            self.problem(span.unwrap_or_default(), message);
        }
        Collector {
            ring_bytes: u32::try_from(ring_bytes).unwrap_or(default.ring_bytes),
            queue_events: self.number(raw.queue_events, default.queue_events, 1024..=16 << 20),
            spill_events: self.number(raw.spill_events, default.spill_events, 1024..=16 << 20),
            unlimited_queue: raw
                .unlimited_queue
                .map_or(default.unlimited_queue, Spanned::into_inner),
            etw_buffer: u32::try_from(self.size(
                raw.etw_buffer,
                default.etw_buffer.into(),
                4 << 10..=1 << 20,
            ))
            .unwrap_or(default.etw_buffer),
            etw_buffers: self.number(raw.etw_buffers, default.etw_buffers, 4..=4096),
            etw_queue: usize::try_from(self.size(
                raw.etw_queue,
                default.etw_queue as u64,
                1 << 20..=1 << 30,
            ))
            .unwrap_or(default.etw_queue),
        }
    }

    fn rule(
        &mut self,
        raw: raw::Rule,
        span: Range<usize>,
        max_size: u64,
        windows: &[Window],
    ) -> (Rule, Range<usize>) {
        let name_span = raw.name.as_ref().map_or(span.clone(), Spanned::span);
        let name = match raw.name.map(Spanned::into_inner) {
            Some(name) if name.trim().is_empty() => {
                self.problem(name_span.clone(), "the name of a rule must not be empty");
                String::new()
            }
            Some(name) => name,
            None => {
                self.problem(span.clone(), "the rule has no name; add name = \"...\"");
                String::new()
            }
        };
        let paths = match raw.paths {
            Some(paths) if paths.get_ref().is_empty() => {
                let message =
                    "paths is empty: the rule would watch nothing; name at least one path";
                self.problem(paths.span(), message);
                Vec::new()
            }
            Some(paths) => self.patterns(paths.into_inner()),
            None if raw.registry.is_some() => Vec::new(),
            None => {
                self.problem(span, "the rule has no paths; add paths = [\"/...\"]");
                Vec::new()
            }
        };
        let exclude = raw.exclude.map_or_else(Vec::new, |list| self.patterns(list.into_inner()));
        let operations = raw.operations.map_or(Operations::ALL, |list| self.operations(list));
        let rule = Rule {
            exclude,
            containers: raw.containers.is_some_and(Spanned::into_inner),
            operations,
            severity: self.severity(raw.severity, policy::DEFAULT_SEVERITY),
            category: raw.category.map(Spanned::into_inner),
            tags: raw.tags.map_or_else(Vec::new, |tags| {
                tags.into_inner().into_iter().map(Spanned::into_inner).collect()
            }),
            techniques: raw.techniques.map_or_else(Vec::new, |list| self.techniques(list)),
            hash: raw.hash.is_none_or(Spanned::into_inner),
            max_hash_size: self.size(raw.max_hash_size, max_size, 0..=1 << 40),
            attempts: raw.attempts.is_none_or(Spanned::into_inner),
            content_diff: raw.content_diff.is_some_and(Spanned::into_inner),
            secret: raw.secret.map(Spanned::into_inner),
            registry: raw.registry.map_or_else(Vec::new, |list| self.registry(list)),
            only: self.conditions(raw.only),
            allow: self.conditions(raw.allow),
            suppress: self.conditions(raw.suppress),
            maintenance: self.named_windows(raw.maintenance, windows),
            expect: self.expect(raw.expect, windows),
            ..Rule::new(name, paths)
        };
        (rule, name_span)
    }

    pub(super) fn patterns(&mut self, list: List) -> Vec<Pattern> {
        let mut patterns = Vec::new();
        for text in list {
            let parse = if self.is_windows { Pattern::parse_windows } else { Pattern::parse };
            match parse(text.get_ref()) {
                Ok(_) if self.is_windows && !policy::is_absolute_windows(text.get_ref()) => {
                    let message = format!(
                        "{:?}: the path is not absolute; it must begin with a drive or a share \
                         (\"/**/NAME\" matches NAME anywhere)",
                        text.get_ref()
                    );
                    self.problem(text.span(), message);
                }
                Ok(mut parsed) => patterns.append(&mut parsed),
                Err(error) => {
                    let at = self.inside(&text, error.at);
                    self.problem(at, format!("{:?}: {error}", text.get_ref()));
                }
            }
        }
        patterns
    }

    /// The place of byte `at` of a text, where it is written without escapes; else of the text.
    pub(super) fn inside(&self, text: &Spanned<String>, at: usize) -> Range<usize> {
        let span = text.span();
        let written = self.text.get(span.start + 1..span.end.saturating_sub(1));
        if written == Some(text.get_ref()) { span.start + 1 + at..span.end } else { span }
    }

    pub(super) fn operations(&mut self, list: Spanned<List>) -> Operations {
        if list.get_ref().is_empty() {
            let message =
                "operations is empty: the rule would report nothing; leave the key out for all";
            self.problem(list.span(), message);
        }
        let mut actions = Vec::new();
        for name in list.into_inner() {
            match (name.get_ref().as_str(), Operations::action(name.get_ref())) {
                ("all", _) => actions.extend(Operations::ALL.iter()),
                (_, Some(action)) => actions.push(action),
                (unknown, None) => {
                    let allowed = Operations::names().collect::<Vec<_>>().join(", ");
                    let message =
                        format!("operation {unknown:?} is unknown; allowed: {allowed}, or \"all\"");
                    self.problem(name.span(), message);
                }
            }
        }
        actions.into_iter().collect()
    }

    fn techniques(&mut self, list: Spanned<List>) -> Vec<String> {
        let mut techniques = Vec::new();
        for id in list.into_inner() {
            if !is_technique(id.get_ref()) {
                let message = format!(
                    "{:?} is not an ATT&CK technique id; as in \"T1543\" or \"T1543.002\"",
                    id.get_ref()
                );
                self.problem(id.span(), message);
            }
            techniques.push(id.into_inner());
        }
        techniques
    }

    /// The value that `read` makes of what is written; `default` where nothing is.
    pub(super) fn value<R, T>(
        &mut self,
        written: Option<Spanned<R>>,
        default: T,
        read: impl FnOnce(&R) -> Result<T, String>,
    ) -> T {
        let Some(written) = written else { return default };
        read(written.get_ref()).unwrap_or_else(|message| {
            self.problem(written.span(), message);
            default
        })
    }

    /// Two keys of which neither is of use alone.
    fn pair<T>(
        &mut self,
        one: Option<Spanned<T>>,
        other: Option<Spanned<T>>,
        names: [&str; 2],
    ) -> Option<(Spanned<T>, Spanned<T>)> {
        let (span, lacks) = match (one, other) {
            (Some(one), Some(other)) => return Some((one, other)),
            (None, None) => return None,
            (Some(one), None) => (one.span(), names),
            (None, Some(other)) => (other.span(), [names[1], names[0]]),
        };
        self.problem(span, format!("{} is of no use without {}", lacks[0], lacks[1]));
        None
    }

    fn absolute(&mut self, written: Spanned<String>) -> Option<PathBuf> {
        let path = PathBuf::from(written.get_ref());
        if !path.is_absolute() {
            self.problem(
                written.span(),
                format!("{:?} is not an absolute path", written.get_ref()),
            );
            return None;
        }
        Some(path)
    }

    /// RFC 7617: the first colon ends it.
    fn username(&mut self, written: Spanned<String>) -> Option<String> {
        let name = written.get_ref();
        if name.is_empty() || name.contains(':') {
            let message = format!("{name:?} is no user name: it is empty, or has a colon");
            self.problem(written.span(), message);
            return None;
        }
        Some(written.into_inner())
    }

    /// One of a few values, each with its name.
    pub(super) fn named<T: Copy>(
        &mut self,
        written: Option<Spanned<String>>,
        default: T,
        names: &[(&str, T)],
    ) -> T {
        self.value(written, default, |name| {
            let known = names.iter().find(|(known, _)| known == name).map(|(_, value)| *value);
            known.ok_or_else(|| {
                let allowed: Vec<_> = names.iter().map(|(name, _)| format!("{name:?}")).collect();
                format!("{name:?} is unknown; allowed: {}", allowed.join(", "))
            })
        })
    }

    pub(super) fn number<T>(
        &mut self,
        written: Option<Spanned<i64>>,
        default: T,
        range: RangeInclusive<i64>,
    ) -> T
    where
        T: TryFrom<i64>,
    {
        self.value(written, default, |&number| {
            let value = range.contains(&number).then(|| T::try_from(number).ok()).flatten();
            value.ok_or_else(|| {
                format!("{number} is out of range; allowed: {} to {}", range.start(), range.end())
            })
        })
    }

    pub(super) fn milliseconds(
        &mut self,
        written: Option<Spanned<i64>>,
        default: Duration,
        max: i64,
    ) -> Duration {
        let default = i64::try_from(default.as_millis()).unwrap_or(max);
        let number: i64 = self.number(written, default, 0..=max);
        Duration::from_millis(number.unsigned_abs())
    }

    pub(super) fn severity(&mut self, written: Option<Spanned<Scalar>>, default: u8) -> u8 {
        self.value(written, default, |scalar| {
            let known = match scalar {
                Scalar::Integer(number) => u8::try_from(*number).ok().filter(|&n| n <= 100),
                Scalar::Text(word) => {
                    WORDS.iter().find(|(known, _)| known == word).map(|&(_, severity)| severity)
                }
            };
            let said = said(scalar);
            known.ok_or_else(|| {
                format!(
                    "severity {said} is out of range; allowed: 0 to 100, or \"low\" (25), \
                     \"medium\" (50), \"high\" (75), \"critical\" (100)"
                )
            })
        })
    }

    pub(super) fn size(
        &mut self,
        written: Option<Spanned<Scalar>>,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> u64 {
        self.value(written, default, |scalar| {
            let bytes = match scalar {
                Scalar::Integer(number) => u64::try_from(*number).ok(),
                Scalar::Text(text) => Some(parse_size(text).ok_or_else(|| {
                    format!("{text:?} is not a size; as in 1048576, \"64KiB\", \"8MiB\", \"1GiB\"")
                })?),
            };
            bytes.filter(|bytes| range.contains(bytes)).ok_or_else(|| {
                format!(
                    "{} is out of range; allowed: {} to {}",
                    said(scalar),
                    size_text(*range.start()),
                    size_text(*range.end())
                )
            })
        })
    }
}

fn said(scalar: &Scalar) -> String {
    match scalar {
        Scalar::Integer(number) => number.to_string(),
        Scalar::Text(text) => format!("{text:?}"),
    }
}

/// `"64MiB"`, `"64 MiB"`, `"64"`: whole numbers of bytes or of binary multiples. Decimal units
/// are refused: `MB` means one thing to some and another to others.
fn parse_size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let shift = match unit.trim() {
        "" | "B" => 0,
        unit => UNITS.iter().find(|(known, _)| *known == unit)?.1,
    };
    number.checked_mul(1 << shift)
}

/// The shortest text that [`parse_size`] reads as `bytes`.
pub(super) fn size_text(bytes: u64) -> String {
    let whole = |shift: u32| bytes != 0 && bytes.is_multiple_of(1 << shift);
    match UNITS.iter().rev().find(|&&(_, shift)| whole(shift)) {
        Some((unit, shift)) => format!("\"{}{unit}\"", bytes >> shift),
        None => bytes.to_string(),
    }
}

/// `T1543` or `T1543.002`.
fn is_technique(id: &str) -> bool {
    let digits = |text: &str, len| text.len() == len && text.bytes().all(|b| b.is_ascii_digit());
    let Some(id) = id.strip_prefix('T') else { return false };
    match id.split_once('.') {
        Some((technique, sub)) => digits(technique, 4) && digits(sub, 3),
        None => digits(id, 4),
    }
}
