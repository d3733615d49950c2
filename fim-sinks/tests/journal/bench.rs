//! A journal that is written to, and sinks that read it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fim_common::config::Config;
use fim_common::config::sink::Sink;
use fim_common::event::{Action, Agent, Event, File, Fim, Host, Kind};
use fim_common::journal::{Journal, JournalOptions, follow};
use fim_common::ledger::{Ledger, Stage};
use fim_common::metrics::Metrics;
use fim_common::pipeline::own_event;
use fim_sinks::{Journaling, Sinks};
use tokio::sync::watch;

/// After this long something is taken for missing.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Bench {
    pub(crate) state: tempfile::TempDir,
    pub(crate) journal: Journal,
    pub(crate) metrics: Arc<Metrics>,
    ledger: Arc<Ledger>,
    written: watch::Sender<()>,
    opened_at: fim_common::journal::cursor::Position,
    sequence: u64,
}

impl Bench {
    pub(crate) fn new(options: JournalOptions) -> Self {
        Self::at(tempfile::tempdir().unwrap(), options)
    }

    fn at(state: tempfile::TempDir, options: JournalOptions) -> Self {
        let directory = state.path().join("journal");
        let journal = Journal::open(&directory, options).unwrap();
        let opened_at = follow::end(&directory).unwrap();
        Self {
            state,
            journal,
            metrics: Arc::new(Metrics::new().unwrap()),
            ledger: Arc::new(Ledger::default()),
            written: watch::Sender::new(()),
            opened_at,
            sequence: 0,
        }
    }

    /// The agent ends and begins anew.
    pub(crate) fn restarted(self, options: JournalOptions) -> Self {
        let Self { state, journal, .. } = self;
        drop(journal);
        Self::at(state, options)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.state.path().join(name)
    }

    pub(crate) fn start(&self, wanted: &[Sink]) -> Sinks {
        let journaling = Journaling {
            state: self.state.path().to_owned(),
            journal: self.path("journal"),
            opened_at: self.opened_at,
            written: self.written.clone(),
            ledger: Arc::clone(&self.ledger),
            metrics: Arc::clone(&self.metrics),
        };
        Sinks::start(journaling, wanted.to_vec()).unwrap()
    }

    /// Has the journal take these events.
    pub(crate) fn write(&mut self, events: impl IntoIterator<Item = Event>) {
        for mut event in events {
            self.sequence += 1;
            event.event.sequence = self.sequence;
            self.journal.append(&event).unwrap();
            self.ledger.add(Stage::Journaled, 1);
        }
        self.journal.flush().unwrap();
        self.written.send_replace(());
    }

    /// The value of a metric of a sink.
    pub(crate) fn metric(&self, name: &str, sink: &str) -> f64 {
        let text = self.metrics.encode().unwrap();
        let start = format!("fim_sink_{name}{{sink=\"{sink}\"}} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&start));
        line.unwrap_or_else(|| panic!("no {start}in\n{text}")).parse().unwrap()
    }

    /// Waits until a metric has a value.
    pub(crate) async fn wait_metric(&self, name: &str, sink: &str, wanted: impl Fn(f64) -> bool) {
        wait(&format!("{name} of {sink}"), || wanted(self.metric(name, sink)).then_some(())).await;
    }
}

/// Waits until there is something.
pub(crate) async fn wait<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "missing: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A created file.
pub(crate) fn event(path: &str, severity: u8) -> Event {
    let mut event =
        own_event(Action::Created, Fim::default(), Host::default().into(), Agent::default().into());
    event.event.kind = Kind::Event;
    event.event.severity = Some(severity);
    event.file = Some(Box::new(File { path: path.to_owned(), ..File::default() }));
    event
}

/// So many of them.
pub(crate) fn events(count: usize) -> impl Iterator<Item = Event> {
    (0..count).map(|number| event(&format!("/tmp/{number}"), 50))
}

/// The sinks in a configuration. `{}` in it is the state directory.
pub(crate) fn sinks(bench: &Bench, text: &str) -> Vec<Sink> {
    let text = text.replace("{}", bench.state.path().to_str().unwrap());
    Config::parse(&text, Path::new("f.toml")).unwrap().sinks
}

/// `event.sequence` of each line of a file; fails on a line that is not whole.
pub(crate) fn sequences(path: &Path) -> Vec<u64> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    assert!(text.is_empty() || text.ends_with('\n'), "not a whole line: {text}");
    text.lines().map(sequence).collect()
}

/// Like [`sequences`], of a file that is written to: who reads it beside a write(2) sees a part of
/// that, which ends anywhere in a line.
pub(crate) fn sequences_so_far(path: &Path) -> Vec<u64> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(sequence).collect()
}

/// `event.sequence` of an event.
pub(crate) fn sequence(line: &str) -> u64 {
    let event: serde_json::Value =
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    event["event"]["sequence"].as_u64().unwrap()
}
