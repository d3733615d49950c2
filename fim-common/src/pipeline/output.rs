//! The end of the pipeline: numbers events, writes them to the journal and to standard output.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use prometheus::IntCounter;

use super::ids::Ids;
use super::runs::Summary;
use crate::collector;
use crate::event::actor::Actor;
use crate::event::{
    self, Action, Agent, Category, Event, Fim, Host, Kind, Meta, Outcome, Provider, Shared, Type,
    Window, path_text, pretty::pretty,
};
use crate::journal::{Journal, JournalError, Notice, OnFull};
use crate::ledger::{Ledger, Stage};
use crate::metrics::{Health, Metrics};
use crate::time::Timestamp;

/// How long an event may lie in the journal's buffer.
const FLUSH: Duration = Duration::from_millis(20);
/// Lines that may wait for standard output.
const LINES: usize = 65_536;
/// How often a journal that is full is asked again.
const ROOM: Duration = Duration::from_millis(50);
/// How long a program that reads JSON may keep the pipeline waiting, once.
const PATIENCE: Duration = Duration::from_secs(5);

/// What standard output gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One line for people.
    Pretty,
    /// One JSON object a line.
    Json,
    /// Nothing.
    None,
}

impl Format {
    /// `Pretty` on a terminal, else `Json`.
    pub fn for_stdout() -> Self {
        if std::io::stdout().is_terminal() { Self::Pretty } else { Self::Json }
    }
}

/// What an [`Output`] is made of.
pub struct OutputOptions {
    /// Open; `None`: events are printed only, and printing waits for whoever reads.
    pub journal: Option<Journal>,
    /// Of standard output.
    pub format: Format,
    /// `host.*`.
    pub host: Arc<Host>,
    /// `agent.*`.
    pub agent: Arc<Agent>,
    /// Counted here.
    pub metrics: Arc<Metrics>,
    /// Told when the journal fails.
    pub health: Arc<Health>,
    /// Counted here too.
    pub ledger: Arc<Ledger>,
    /// How often `heartbeat` is told; `None`: never.
    pub heartbeat: Option<Duration>,
    /// How the agent stops when the journal is full.
    pub stopping: Stopping,
    /// Told when the journal has written events, for whoever reads it.
    pub written: tokio::sync::watch::Sender<()>,
}

/// Between the journal that is full and whoever stops the agent.
#[derive(Clone, Debug, Default)]
pub struct Stopping {
    asked: Arc<AtomicBool>,
    wanted: Arc<tokio::sync::Notify>,
}

impl Stopping {
    /// The agent is stopping: nothing waits for room in the journal any more.
    pub fn ask(&self) {
        self.asked.store(true, Ordering::Relaxed);
    }

    /// Returns when the journal is full and the operator wants the agent to stop then.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }

    fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }
}

/// Standard output, behind a thread: a terminal that is paused must not stop the journal.
pub struct Sinks {
    lines: Option<SyncSender<String>>,
    thread: Option<JoinHandle<std::io::Result<()>>>,
    /// Disconnected when the thread has written its last line.
    ended: Option<Receiver<()>>,
    /// Events are in the journal as well; else here is the only place where they are.
    journal: bool,
}

impl Sinks {
    fn new(format: Format, journal: bool) -> std::io::Result<Self> {
        if format == Format::None {
            return Ok(Self { lines: None, thread: None, ended: None, journal });
        }
        let (lines, inbox) = sync_channel::<String>(LINES);
        let (done, ended) = sync_channel::<()>(1);
        let thread = std::thread::Builder::new().name("stdout".to_owned()).spawn(move || {
            let mut stdout = std::io::BufWriter::with_capacity(1 << 16, std::io::stdout());
            while let Ok(line) = inbox.recv() {
                let mut result = stdout.write_all(line.as_bytes());
                while let Ok(line) = inbox.try_recv() {
                    result = result.and_then(|()| stdout.write_all(line.as_bytes()));
                }
                if let Err(error) = result.and_then(|()| stdout.flush()) {
                    if journal {
                        tracing::error!(%error, "standard output is closed; the journal goes on");
                    }
                    return Err(error);
                }
            }
            drop(done);
            Ok(())
        })?;
        Ok(Self { lines: Some(lines), thread: Some(thread), ended: Some(ended), journal })
    }

    /// Waits until everything is written; where there is a journal, not for a reader that does not
    /// read.
    fn finish(&mut self) -> std::io::Result<()> {
        self.lines = None;
        let (Some(thread), Some(ended)) = (self.thread.take(), self.ended.take()) else {
            return Ok(());
        };
        if self.journal
            && let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(PATIENCE)
        {
            tracing::error!("standard output is not read; its last lines are dropped");
            return Ok(());
        }
        thread.join().unwrap_or_else(|_| {
            tracing::error!("the writer of standard output has panicked");
            Err(std::io::Error::other("its writer has panicked"))
        })
    }
}

/// What events are counted by.
type KindOfEvent = (Action, Option<Provider>, Outcome);

/// Numbers and writes events.
pub struct Output {
    journal: Option<Journal>,
    format: Format,
    color: bool,
    sinks: Sinks,
    host: Shared<Host>,
    agent: Shared<Agent>,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    ledger: Arc<Ledger>,
    /// Of the kinds of events that there were: a dozen.
    counters: Vec<(KindOfEvent, IntCounter)>,
    sequence: u64,
    ids: Ids,
    /// When the buffer was begun.
    dirty: Option<Instant>,
    /// Events that the journal has refused since it last took one.
    refused: u64,
    /// The time it is in what is replayed; `None`: it is now.
    pub(super) replayed: Option<Timestamp>,
    refused_since: Option<Timestamp>,
    /// Standard output was not read for too long.
    stalled: bool,
    heartbeat: Option<Duration>,
    /// When the last one was told.
    beaten: Instant,
    stopping: Stopping,
    written: tokio::sync::watch::Sender<()>,
    /// The journal's own events are being written.
    is_noticing: bool,
    /// The journal has no room.
    is_full: bool,
}

impl Output {
    /// Ready to write.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn new(options: OutputOptions) -> std::io::Result<Self> {
        Ok(Self {
            sinks: Sinks::new(options.format, options.journal.is_some())?,
            journal: options.journal,
            format: options.format,
            color: options.format == Format::Pretty
                && std::io::stdout().is_terminal()
                && std::env::var_os("NO_COLOR").is_none(),
            replayed: None,
            host: Shared::new((*options.host).clone()),
            agent: Shared::new((*options.agent).clone()),
            metrics: options.metrics,
            health: options.health,
            ledger: options.ledger,
            counters: Vec::new(),
            sequence: 0,
            ids: Ids::default(),
            dirty: None,
            refused: 0,
            refused_since: None,
            stalled: false,
            heartbeat: options.heartbeat,
            beaten: Instant::now(),
            stopping: options.stopping,
            written: options.written,
            is_noticing: false,
            is_full: false,
        })
    }

    /// See [`Health::beat`].
    pub(super) fn beat(&self) {
        self.health.beat();
    }

    /// Where this end counts.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Where the journal is.
    pub fn journal_path(&self) -> Option<&Path> {
        self.journal.as_ref().map(Journal::path)
    }

    /// Writes an event about an object; its id, number, host and agent are filled in here.
    pub(super) fn event(&mut self, mut event: Box<Event>) {
        self.sequence += 1;
        self.ledger.add(Stage::Events, 1);
        event.event.sequence = self.sequence;
        if event.event.id.is_empty() {
            event.event.id = self.ids.next();
        }
        event.host = self.host.clone();
        event.agent = self.agent.clone();
        self.count(event.event.action, event.event.provider, event.event.outcome);
        self.write(&mut event);
        if event.event.provider.is_some_and(|provider| provider != Provider::Scan) {
            let delay = Timestamp::now().since(event.timestamp);
            let nanos = u64::try_from(delay.max(0)).unwrap_or(u64::MAX);
            self.metrics.event_delay(Duration::from_nanos(nanos));
        }
    }

    fn count(&mut self, action: Action, provider: Option<Provider>, outcome: Outcome) {
        let key = (action, provider, outcome);
        match self.counters.iter().find(|(known, _)| *known == key) {
            Some((_, counter)) => counter.inc(),
            None => {
                let counter = self.metrics.events_of(action, provider, outcome);
                counter.inc();
                self.counters.push((key, counter));
            }
        }
    }

    /// An `event.id`, for an event whose id must be known before it is written.
    pub(super) fn new_id(&mut self) -> String {
        self.ids.next()
    }

    /// Writes that the agent watches, and since when nobody did.
    pub(super) fn started(&mut self, message: String, down: Option<Window>) {
        let journal = self.position();
        let fim = Fim { message: Some(message), window: down, journal, ..Fim::default() };
        self.own(Action::AgentStarted, fim);
    }

    /// Writes one of the agent's own events.
    pub(super) fn agent(&mut self, action: Action, message: String) {
        let fim = Fim { message: Some(message), ..Fim::default() };
        self.own(action, fim);
    }

    /// Where the journal stands: what an event carries away from this host.
    fn position(&self) -> Option<Box<event::Journal>> {
        let journal = self.journal.as_ref()?;
        let (segment, entries) = journal.position();
        Some(Box::new(event::Journal {
            segment,
            entries: Some(entries),
            head: Some(journal.head().to_string()),
            public_key: journal.key().map(|key| key.public().to_base64()),
            reason: None,
        }))
    }

    /// Tells what the journal has to say of itself.
    fn notices(&mut self) {
        // These events go to the journal too, which may have more to say then.
        if std::mem::replace(&mut self.is_noticing, true) {
            return;
        }
        for notice in self.journal.as_mut().map(Journal::take_notices).unwrap_or_default() {
            match notice {
                Notice::Dropped(dropped) => {
                    let journal = event::Journal {
                        segment: dropped.segment,
                        entries: dropped.entries,
                        head: dropped.chain,
                        public_key: None,
                        reason: Some(dropped.reason.as_str().to_owned()),
                    };
                    let fim = Fim { journal: Some(Box::new(journal)), ..Fim::default() };
                    self.own(Action::JournalDropped, fim);
                }
                Notice::Full { message } => self.agent(Action::JournalFull, message),
                Notice::Truncated { message } => self.agent(Action::JournalTruncated, message),
            }
        }
        self.is_noticing = false;
    }

    /// Writes the beginning or the end of a gap.
    pub(super) fn gap(&mut self, action: Action, gap: &collector::Gap) {
        let fim = Fim {
            gap: Some(Box::new(event::Gap {
                from: gap.from,
                to: gap.to,
                count: gap.count,
                hooks: gap.hooks.clone(),
                scope: gap.scope.iter().map(|path| path_text(path)).collect(),
            })),
            ..Fim::default()
        };
        self.own(action, fim);
    }

    /// Writes what was suppressed.
    pub(super) fn suppressed(&mut self, suppressed: Vec<event::Suppressed>) {
        let count: u64 = suppressed.iter().map(|entry| entry.count).sum();
        let rules = suppressed.len();
        let message = format!("{count} events suppressed by {rules} entries of rules");
        self.own(Action::Suppressed, Fim { message: Some(message), suppressed, ..Fim::default() });
    }

    /// Writes that the configuration was changed, or is wrong; `actor` changed the file.
    pub(super) fn configuration(
        &mut self,
        outcome: Outcome,
        configuration: event::Configuration,
        message: String,
        actor: &Actor,
    ) {
        let fim = Fim {
            message: Some(message),
            configuration: Some(Box::new(configuration)),
            ancestors: actor.ancestors.clone(),
            unknown: actor.unknown.clone(),
            ..Fim::default()
        };
        let mut event = self.own_event(Action::ConfigChanged, fim);
        event.event.outcome = outcome;
        self.by(event, actor);
    }

    /// Writes that somebody changed what belongs to the agent. A package manager that upgrades its
    /// program is no alert.
    pub(super) fn meddling(&mut self, message: String, actor: &Actor, is_upgrade: bool) {
        let fim = Fim {
            message: Some(message),
            ancestors: actor.ancestors.clone(),
            unknown: actor.unknown.clone(),
            ..Fim::default()
        };
        let mut event = self.own_event(Action::AgentTampered, fim);
        if is_upgrade {
            event.event.kind = Kind::State;
        }
        self.by(event, actor);
    }

    /// Writes an event of the agent's own that somebody has caused.
    fn by(&mut self, mut event: Box<Event>, actor: &Actor) {
        event.process = actor.process.clone();
        event.user = actor.user.clone();
        event.container = actor.container.clone();
        event.kubernetes = actor.kubernetes.clone();
        self.event(event);
        self.flush();
    }

    /// Writes what a run of a package manager came to.
    pub(super) fn package_run(&mut self, actor: Option<&Actor>, summary: Summary) {
        let mut event = self.own_event(Action::PackageRun, Fim::default());
        event.event.kind = if summary.alert { Kind::Alert } else { Kind::Event };
        event.event.category = vec![Category::Package];
        if let Some(actor) = actor {
            event.process.clone_from(&actor.process);
            event.user.clone_from(&actor.user);
            event.fim.ancestors.clone_from(&actor.ancestors);
            event.fim.unknown.clone_from(&actor.unknown);
        }
        event.fim.operations = summary.operations;
        event.fim.package_run = Some(Box::new(summary.run));
        self.event(event);
        self.flush();
    }

    fn own(&mut self, action: Action, fim: Fim) {
        let event = self.own_event(action, fim);
        self.event(event);
        self.flush();
    }

    fn own_event(&self, action: Action, fim: Fim) -> Box<Event> {
        let event = own_event(action, fim, self.host.clone(), self.agent.clone());
        let timestamp = self.replayed.unwrap_or(event.timestamp);
        Box::new(Event { timestamp, ..event })
    }

    /// The journal's answer, with its head then; where it has no room and the operator wants that,
    /// only once there is. `None`: there is no journal.
    fn append(&mut self, event: &Event) -> Option<Result<String, JournalError>> {
        loop {
            let journal = self.journal.as_mut()?;
            let error = match journal.append(event) {
                Err(error) if error.is_full() => error,
                result => return Some(result.map(|_| journal.head().to_string())),
            };
            let on_full = journal.on_full();
            self.full(on_full, &error);
            match on_full {
                OnFull::Block if !self.stopping.is_asked() => {
                    // To be started anew would not make room.
                    self.health.beat();
                    std::thread::sleep(ROOM);
                }
                _ => return Some(Err(error)),
            }
        }
    }

    fn write(&mut self, event: &mut Event) {
        match self.append(event) {
            None => {}
            Some(Ok(head)) => {
                event.fim.chain = Some(head);
                self.ledger.add(Stage::Journaled, 1);
                if self.refused > 0 {
                    self.journal_recovered();
                }
                self.dirty.get_or_insert_with(Instant::now);
            }
            Some(Err(error)) => {
                self.ledger.add(Stage::Refused, 1);
                self.journal_failed(&error);
            }
        }
        let printed = if self.print(event) { Stage::Printed } else { Stage::Unprinted };
        self.ledger.add(printed, 1);
    }

    /// Whether standard output took it.
    fn print(&mut self, event: &Event) -> bool {
        let line = match self.format {
            Format::None => return false,
            // People want to see what happens, not that nothing does.
            Format::Pretty if event.event.action == Action::Heartbeat => return false,
            Format::Pretty => format!("{}\n", pretty(event, self.color)),
            Format::Json => match serde_json::to_string(event) {
                Ok(mut json) => {
                    json.push('\n');
                    json
                }
                Err(error) => {
                    tracing::error!(%error, "an event cannot be written as JSON");
                    return false;
                }
            },
        };
        let Some(lines) = &self.sinks.lines else { return false };
        if self.journal.is_none() {
            // There is nothing else to keep going.
            let taken = lines.send(line).is_ok();
            if !taken {
                self.sinks.lines = None;
            }
            return taken;
        }
        // A program that reads this may be slow for a while; the queues in front of here hold what
        // comes meanwhile. One that does not read at all must not stop the journal.
        let patience = match self.format {
            Format::Json if !self.stalled => Instant::now() + PATIENCE,
            _ => Instant::now(),
        };
        let mut line = line;
        loop {
            match lines.try_send(line) {
                Ok(()) => {
                    self.stalled = false;
                    return true;
                }
                Err(TrySendError::Full(again)) if Instant::now() < patience => {
                    line = again;
                    std::thread::sleep(Duration::from_millis(1));
                    continue;
                }
                Err(TrySendError::Full(_)) => {
                    if !self.stalled && self.format == Format::Json {
                        tracing::error!("standard output is not read; lines are dropped");
                    }
                    self.stalled = true;
                    self.metrics.dropped("stdout", "slow_consumer", 1);
                }
                Err(TrySendError::Disconnected(_)) => self.sinks.lines = None,
            }
            return false;
        }
    }

    /// Says once that there is no room, and stops the agent if that is wanted.
    fn full(&mut self, on_full: OnFull, error: &JournalError) {
        if std::mem::replace(&mut self.is_full, true) {
            return;
        }
        tracing::error!(%error, on_full = on_full.as_str(), "the journal is full");
        self.health.failed("journal", error.to_string());
        if on_full == OnFull::Stop {
            self.stopping.wanted.notify_one();
        }
    }

    fn journal_failed(&mut self, error: &JournalError) {
        if self.refused == 0 {
            tracing::error!(%error, "the journal cannot be written; events are lost to it");
            self.health.failed("journal", error.to_string());
            self.refused_since = Some(Timestamp::now());
        }
        self.refused += 1;
        self.metrics.dropped("journal", "refused", 1);
    }

    /// The journal takes events again: it has to say what it lacks.
    fn journal_recovered(&mut self) {
        let now = Timestamp::now();
        let gap = collector::Gap {
            from: self.refused_since.take().unwrap_or(now),
            to: now,
            count: Some(std::mem::take(&mut self.refused)),
            hooks: vec!["journal".to_owned()],
            scope: Vec::new(),
        };
        self.health.recovered("journal");
        self.metrics.gap();
        self.gap(Action::Gap, &gap);
    }

    /// When there is something to do here: the journal's buffer has to be written, or the journal
    /// has to look at itself, or the agent has to say that it lives.
    pub(super) fn flush_due(&self) -> Option<Instant> {
        let flush = self.dirty.map(|since| since + FLUSH);
        let beat = self.heartbeat.map(|interval| self.beaten + interval);
        let tend = self.journal.as_ref().and_then(Journal::due);
        [flush, beat, tend].into_iter().flatten().min()
    }

    pub(super) fn flush_if_due(&mut self) {
        let now = Instant::now();
        if self.heartbeat.is_some_and(|interval| self.beaten + interval <= now) {
            self.beaten = now;
            let fim = Fim { journal: self.position(), ..Fim::default() };
            self.own(Action::Heartbeat, fim);
        }
        if self.dirty.is_some_and(|since| since + FLUSH <= now) {
            self.flush();
        }
        if let Some(journal) = &mut self.journal
            && journal.due().is_some_and(|due| due <= now)
            && let Err(error) = journal.tend()
        {
            self.unsynchronised(&error);
        }
        self.notices();
    }

    /// What was written may be lost in a power cut: nothing is, as long as there is none.
    fn unsynchronised(&mut self, error: &JournalError) {
        tracing::error!(%error, "the journal could not be synchronised");
        self.health.failed("journal", error.to_string());
    }

    pub(super) fn flush(&mut self) {
        self.dirty = None;
        let Some(journal) = &mut self.journal else { return };
        let on_full = journal.on_full();
        match journal.flush() {
            Ok(()) if std::mem::take(&mut self.is_full) => {
                tracing::info!("the journal has room again");
                self.health.recovered("journal");
            }
            Ok(()) => {}
            // Nothing is lost: what is gathered stays so, and is tried again soon.
            Err(error) if error.is_full() => {
                self.dirty = Some(Instant::now());
                self.full(on_full, &error);
            }
            Err(error) => self.journal_failed(&error),
        }
        self.written.send_replace(());
        self.notices();
    }

    /// Has the journal write what it has gathered; whether it has nothing left.
    pub(super) fn write_out(&mut self) -> bool {
        if self.dirty.is_some() {
            self.flush();
        }
        self.dirty.is_none()
    }

    /// Writes everything out and waits until standard output has it.
    ///
    /// # Errors
    /// When standard output has not taken all of it.
    pub(super) fn finish(mut self) -> std::io::Result<()> {
        self.flush();
        if let Some(Err(error)) = self.journal.as_mut().map(Journal::sync) {
            tracing::error!(%error, "the journal could not be synchronised");
        }
        self.sinks.finish()
    }
}

/// One of the agent's own events: about itself and what it keeps.
pub fn own_event(action: Action, fim: Fim, host: Shared<Host>, agent: Shared<Agent>) -> Event {
    let types = match action {
        Action::AgentStarted => vec![Type::Start],
        Action::AgentStopped => vec![Type::End],
        Action::ConfigChanged | Action::BaselineAccepted => vec![Type::Change],
        Action::BaselineCreated => vec![Type::Creation],
        Action::Gap
        | Action::CanaryMissed
        | Action::AgentKilled
        | Action::AgentTampered
        | Action::JournalFull
        | Action::JournalTruncated => vec![Type::Error],
        Action::ClockChanged => vec![Type::Change],
        Action::JournalDropped => vec![Type::Deletion],
        _ => vec![Type::Info],
    };
    let category = match action {
        Action::ConfigChanged | Action::BaselineAccepted | Action::BaselineCreated => {
            Category::Configuration
        }
        _ => Category::Host,
    };
    Event {
        timestamp: Timestamp::now(),
        event: Meta {
            id: uuid::Uuid::now_v7().to_string(),
            sequence: 0,
            kind: match action {
                Action::CanaryMissed
                | Action::AgentKilled
                | Action::AgentTampered
                | Action::ClockChanged
                | Action::JournalTruncated => Kind::Alert,
                _ => Kind::State,
            },
            category: vec![category],
            types,
            action,
            outcome: Outcome::Success,
            provider: None,
            severity: None,
        },
        rule: None,
        tags: Vec::new(),
        threat: None,
        file: None,
        registry: None,
        process: None,
        user: None,
        container: None,
        kubernetes: None,
        host,
        agent,
        fim,
    }
}
