//! All sinks: begun, replaced, stopped.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fim_common::config::sink::{Sink as Config, SinkStart};
use fim_common::journal::cursor::{self, Cursor, Position};
use fim_common::journal::follow;
use fim_common::ledger::Ledger;
use fim_common::metrics::Metrics;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::parked::Parked;
use crate::progress::Progress;
use crate::reader::Reader;
use crate::targets;
use crate::worker::{Parts, Worker};

/// What stands before a sink's name in that of its cursor.
const PREFIX: &str = "sink-";
/// How long a sink that is replaced or removed may take for what it is at.
const REPLACE: Duration = Duration::from_secs(5);
/// How often the lag is published.
const PUBLISH_INTERVAL: Duration = Duration::from_secs(1);

/// The journal that sinks read, and where they count.
#[derive(Clone)]
pub struct Journaling {
    /// The state directory.
    pub state: PathBuf,
    /// The journal, in it.
    pub journal: PathBuf,
    /// Where the journal ended when it was opened: what is before is of earlier starts.
    pub opened_at: Position,
    /// Told when there is more.
    pub written: watch::Sender<()>,
    /// Counts what the journal takes.
    pub ledger: Arc<Ledger>,
    /// What sinks count.
    pub metrics: Arc<Metrics>,
}

/// The sinks of an agent. Dropped without [`Sinks::stop`], they end without sending the rest.
pub struct Sinks {
    wanted: Vec<Config>,
    commands: mpsc::UnboundedSender<Command>,
    task: JoinHandle<()>,
}

enum Command {
    Apply(Vec<Config>),
    Stop(Instant),
}

/// A sink that runs.
struct Running {
    config: Config,
    stop: watch::Sender<Option<Instant>>,
    task: JoinHandle<()>,
    progress: Arc<Progress>,
}

impl Sinks {
    /// Begins to send. Cursors are set before this returns, so that retention knows of them before
    /// the journal takes its first event. Those of sinks that are not there any more are removed.
    ///
    /// # Errors
    /// When a cursor cannot be read or written, or the journal's directory cannot be read.
    pub fn start(journaling: Journaling, wanted: Vec<Config>) -> io::Result<Self> {
        let mut all = All { journaling, running: HashMap::new() };
        all.remove_cursors(&wanted)?;
        for config in &wanted {
            all.begin(config)?;
        }
        let (commands, inbox) = mpsc::unbounded_channel();
        let task = tokio::spawn(all.run(inbox));
        Ok(Self { wanted, commands, task })
    }

    /// Has these in place of those that run. One that is the same goes on. Returns at once.
    pub fn apply(&mut self, wanted: &[Config]) {
        if self.wanted != wanted {
            self.wanted = wanted.to_vec();
            // If it is gone there is nothing to apply it to.
            let _ = self.commands.send(Command::Apply(wanted.to_vec()));
        }
    }

    /// Sends what the journal has, for at most `patience`; what is left is sent at the next start.
    pub async fn stop(self, patience: Duration) {
        let _ = self.commands.send(Command::Stop(Instant::now() + patience));
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the sinks have not stopped in order");
        }
    }
}

struct All {
    journaling: Journaling,
    running: HashMap<String, Running>,
}

impl All {
    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Command>) {
        let mut every = tokio::time::interval(PUBLISH_INTERVAL);
        loop {
            let command = tokio::select! {
                command = inbox.recv() => command,
                _ = every.tick() => {
                    for running in self.running.values() {
                        running.progress.publish(&self.journaling.ledger);
                    }
                    continue;
                }
            };
            match command {
                Some(Command::Apply(wanted)) => self.apply(wanted).await,
                Some(Command::Stop(until)) => return self.stop(until).await,
                None => return,
            }
        }
    }

    async fn apply(&mut self, wanted: Vec<Config>) {
        let until = Instant::now() + REPLACE;
        let is_wanted = |running: &Running| wanted.contains(&running.config);
        let names: Vec<String> = self.running.keys().cloned().collect();
        let mut ending = Vec::new();
        for name in names {
            if self.running.get(&name).is_some_and(|running| !is_wanted(running))
                && let Some(running) = self.running.remove(&name)
            {
                running.stop.send_replace(Some(until));
                ending.push((name, running.task));
            }
        }
        for (name, task) in ending {
            let _ = task.await;
            if !wanted.iter().any(|config| config.name == name) {
                tracing::info!(sink = name, "the sink is removed");
                self.journaling.metrics.remove_sink(&name);
            }
        }
        if let Err(error) = self.remove_cursors(&wanted) {
            tracing::error!(%error, "cursors of sinks that were removed hold the journal");
        }
        for config in &wanted {
            if !self.running.contains_key(&config.name)
                && let Err(error) = self.begin(config)
            {
                tracing::error!(sink = config.name, %error, "the sink cannot begin");
            }
        }
    }

    async fn stop(self, until: Instant) {
        for running in self.running.values() {
            running.stop.send_replace(Some(until));
        }
        for (name, running) in self.running {
            // Those that wait for a disk or a terminal do not see the time.
            let grace = until + Duration::from_secs(1);
            if tokio::time::timeout_at(grace, running.task).await.is_err() {
                tracing::warn!(sink = name, "the sink does not stop; what is left is sent later");
            }
            running.progress.publish(&self.journaling.ledger);
        }
    }

    /// A cursor that nobody moves would hold the journal for ever.
    fn remove_cursors(&self, wanted: &[Config]) -> io::Result<()> {
        let journal = &self.journaling.journal;
        for name in cursor::names(journal)? {
            let Some(sink) = name.strip_prefix(PREFIX) else { continue };
            if !wanted.iter().any(|config| config.name == sink) {
                tracing::info!(sink, "its cursor is removed: there is no such sink any more");
                cursor::remove(journal, &name)?;
            }
        }
        Ok(())
    }

    fn begin(&mut self, config: &Config) -> io::Result<()> {
        let Journaling { state, journal, opened_at, written, metrics, .. } = &self.journaling;
        let mut cursor = Cursor::open(journal, &format!("{PREFIX}{}", config.name))?;
        let end = follow::end(journal).map_err(io::Error::other)?;
        let at = match cursor.position() {
            // What a power cut has taken from the journal had been sent.
            Some(at) => at.min(end),
            None if config.start == SinkStart::Newest => end,
            None => follow::beginning(journal).map_err(io::Error::other)?,
        };
        if cursor.position() != Some(at) {
            cursor.advance(at)?;
        }
        let metrics = metrics.sink(&config.name);
        let progress = Progress::new(metrics.clone());
        let (stop, stopping) = watch::channel(None);
        let worker = Worker::new(Parts {
            config: config.clone(),
            sink: targets::open(config),
            reader: Reader::new(journal, at, config),
            cursor: Arc::new(Mutex::new(cursor)),
            parked: Parked::new(state, &config.name, config.max_parked_bytes),
            metrics,
            progress: Arc::clone(&progress),
            written: written.subscribe(),
            stop: stopping,
        });
        let before = {
            let (journal, opened_at, progress) =
                (journal.clone(), *opened_at, Arc::clone(&progress));
            tokio::task::spawn_blocking(move || {
                match at <= opened_at {
                    true => follow::count(&journal, at, opened_at).map(|count| count as i64),
                    false => follow::count(&journal, opened_at, at).map(|count| -(count as i64)),
                }
                .map_or_else(
                    |error| tracing::warn!(%error, "the lag is not known"),
                    |before| {
                        progress.begin(before);
                    },
                )
            })
        };
        let task = tokio::spawn(async move {
            worker.run().await;
            let _ = before.await;
        });
        let running = Running { config: config.clone(), stop, task, progress };
        self.running.insert(config.name.clone(), running);
        Ok(())
    }
}
