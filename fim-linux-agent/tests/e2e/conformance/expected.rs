//! An event that is to come, and what it is to say.

use std::any::Any;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::environment::backend;
use crate::event::{Event, path_text, sha256};
use crate::expect::{self, Known};
use crate::operator::Report;

/// Operations within this time are one event; the default of `events.fold_ms` is 50. What an
/// operator did in less has to be folded, and what took longer may be.
const FOLDED: Duration = Duration::from_millis(20);
/// Events of one content that took long to write: the beginning, a late look, the end.
const MOST: usize = 3;

/// An event.
pub(super) struct Expected {
    action: &'static str,
    path: PathBuf,
    report: Report,
    /// The attempt failed.
    errno: Option<&'static str>,
    checks: Vec<(&'static str, Check)>,
    /// The operation writes: the content may be told in several events.
    content: bool,
    /// A thread of the process that it does not know itself.
    any_thread: bool,
}

type Check = Box<dyn Fn(&Event)>;

impl Expected {
    /// `report`'s process did this.
    pub(super) fn new(report: &Report, action: &'static str, path: &Path) -> Self {
        Self {
            action,
            path: path.to_owned(),
            report: report.clone(),
            errno: None,
            checks: Vec::new(),
            content: false,
            any_thread: false,
        }
    }

    fn check(mut self, name: &'static str, check: impl Fn(&Event) + 'static) -> Self {
        self.checks.push((name, Box::new(check)));
        self
    }

    /// It failed like this.
    pub(super) fn failed(self, errno: &'static str) -> Self {
        Self { errno: Some(errno), ..self }
    }

    /// A worker thread of the kernel's did it.
    pub(super) fn by_worker(self) -> Self {
        Self { any_thread: true, ..self }
    }

    /// `file.*` is what is there when everything is over.
    pub(super) fn state(self) -> Self {
        let path = self.path.clone();
        self.check("file", move |event| expect::state(event, &path))
    }

    /// The exact hash of what the file has in it now.
    pub(super) fn hash(self) -> Self {
        let content = fs::read(&self.path).unwrap();
        self.check("hash", move |event| expect::exact_hash(event, &content))
    }

    /// As [`Expected::hash`], of an operation that writes.
    pub(super) fn written(self) -> Self {
        Self { content: true, ..self }.hash()
    }

    /// The content was `old`, and is what the file has in it now.
    pub(super) fn changed_from(self, old: &[u8]) -> Self {
        let old = old.to_vec();
        self.written().check("before", move |event| {
            assert!(event.list("fim.changes").contains(&"content"), "fim.changes: {event}");
            assert_eq!(event.text("fim.before.sha256"), Some(&*sha256(&old)), "sha256: {event}");
            assert_eq!(event.number("fim.before.size"), Some(old.len() as u64), "size: {event}");
        })
    }

    /// `fim.changes` is this.
    pub(super) fn changes(self, changes: &'static [&'static str]) -> Self {
        self.check("changes", move |event| {
            let mut told = event.list("fim.changes");
            told.sort_unstable();
            let mut changes = changes.to_vec();
            changes.sort_unstable();
            assert_eq!(told, changes, "fim.changes: {event}");
        })
    }

    /// `fim.changes` has this among others.
    pub(super) fn changes_with(self, change: &'static str) -> Self {
        self.check("changes", move |event| {
            assert!(event.list("fim.changes").contains(&change), "no {change}: {event}");
        })
    }

    /// `side`, as `fim.before` or `fim.replaced`, is what was known.
    pub(super) fn known(self, side: &'static str, known: Known) -> Self {
        self.check(side, move |event| known.is(event, side))
    }

    /// A field has this value; null for a field that is not there.
    pub(super) fn field(self, place: &'static str, value: impl Into<Value>) -> Self {
        let value = value.into();
        self.check("field", move |event| assert_eq!(event.at(place), &value, "{place}: {event}"))
    }

    /// There is something here.
    pub(super) fn present(self, place: &'static str) -> Self {
        self.check("field", move |event| {
            assert!(event.text(place) != Some("") && event.has(place), "no {place}: {event}")
        })
    }

    /// There is nothing here, or something that is known to be empty.
    pub(super) fn empty(self, place: &'static str) -> Self {
        self.check("field", move |event| {
            let is_empty = event.text(place).is_none_or(str::is_empty);
            assert!(is_empty && event.list(place).is_empty(), "{place} is not empty: {event}");
        })
    }

    /// There is nothing here.
    pub(super) fn absent(self, place: &'static str) -> Self {
        self.field(place, ())
    }

    /// A list is this; one that is not there is empty.
    pub(super) fn list(self, place: &'static str, texts: &'static [&'static str]) -> Self {
        self.check("field", move |event| assert_eq!(event.list(place), texts, "{place}: {event}"))
    }

    /// A list has this in it.
    pub(super) fn has(self, place: &'static str, text: &'static str) -> Self {
        self.check("field", move |event| {
            assert!(event.list(place).contains(&text), "{place} lacks {text}: {event}");
        })
    }

    /// A list does not have this in it.
    pub(super) fn has_not(self, place: &'static str, text: &'static str) -> Self {
        self.check("field", move |event| {
            assert!(!event.list(place).contains(&text), "{place} has {text}: {event}");
        })
    }

    /// An extended attribute on one side, in Base64.
    pub(super) fn xattr(self, side: &'static str, name: &str, value: Option<&'static str>) -> Self {
        let name = name.to_owned();
        self.check("field", move |event| {
            let told = event.at(side)["xattrs"][&name].as_str();
            assert_eq!(told, value, "{side}.xattrs: {event}");
        })
    }

    /// Where it was.
    pub(super) fn from(self, path: &Path) -> Self {
        self.field("fim.before.path", path_text(path))
    }

    /// A rename put it in place, and `fim.operations` says from where.
    pub(super) fn renamed_from(self, path: &Path) -> Self {
        let path = path_text(path);
        self.check("operations", move |event| expect::renamed_from(event, &path))
    }

    /// Takes what tells of it out of `events`, and says what is wrong with that. `None` when
    /// nothing tells of it.
    pub(super) fn take(&self, events: &mut Vec<Event>) -> Option<Vec<String>> {
        let pid = Some(u64::from(self.report.pid));
        let path = path_text(&self.path);
        let is_this = |event: &Event, action: &str| {
            event.action() == action
                && event.path() == path
                && event.is_success() == self.errno.is_none()
        };
        let same_process = |event: &&Event| event.number("process.pid") == pid;
        let candidates = || events.iter().filter(|event| is_this(event, self.action));
        let first = candidates().find(same_process).or_else(|| candidates().next())?.clone();
        let mut taken = vec![first];
        if self.content {
            let more = events.iter().filter(|event| {
                event.id() != taken[0].id()
                    && is_this(event, "updated")
                    && same_process(event)
                    && event.number("event.sequence") > taken[0].number("event.sequence")
            });
            taken.extend(more.cloned().collect::<Vec<_>>());
        }
        events.retain(|event| taken.iter().all(|taken| taken.id() != event.id()));
        let mut faults = Vec::new();
        let quick = Duration::from_nanos(self.report.took()) < FOLDED;
        if taken.len() > if quick { 1 } else { MOST } {
            faults.push(format!("{} events of one operation", taken.len()));
        }
        for event in &taken {
            faults.extend(self.faults_of_any(event));
        }
        let last = taken.last()?;
        for (name, check) in &self.checks {
            faults.extend(fault(name, || check(last)));
        }
        Some(faults)
    }

    fn faults_of_any(&self, event: &Event) -> Vec<String> {
        let general = fault("event", || match self.errno {
            None => expect::change(event),
            Some(errno) => {
                assert_eq!(event.text("event.provider"), Some(backend().name()), "{event}");
                assert_eq!(event.text("fim.errno"), Some(errno), "fim.errno: {event}");
                assert_eq!(event.list("event.category"), ["file"], "event.category: {event}");
            }
        });
        let actor = fault("who", || match self.any_thread {
            true => expect::process(event, &self.report),
            false => expect::actor(event, &self.report),
        });
        general.into_iter().chain(actor).collect()
    }

    /// For messages.
    pub(super) fn text(&self) -> String {
        let name = self.path.file_name().unwrap_or_default().display();
        match self.errno {
            Some(errno) => format!("{} {name} ({errno})", self.action),
            None => format!("{} {name}", self.action),
        }
    }
}

/// What a check says that fails.
fn fault(name: &str, check: impl FnOnce()) -> Option<String> {
    let panic = catch_unwind(AssertUnwindSafe(check)).err()?;
    Some(format!("{name}: {}", message(&*panic)))
}

/// The message of a panic, on one line and less the event that is in it.
pub(super) fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
    let text = text.trim_start_matches("assertion `left == right` failed").trim_start_matches(": ");
    let without = match (text.find("{\""), text.find("\n  left: ")) {
        (Some(from), Some(to)) if from < to => format!("{}{}", &text[..from], &text[to..]),
        (Some(from), None) => text[..from].to_owned(),
        _ => text.to_owned(),
    };
    let words: Vec<&str> = without.split_whitespace().collect();
    let line = words.join(" ");
    line.chars().take(240).collect()
}
