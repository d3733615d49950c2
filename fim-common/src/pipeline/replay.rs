//! The pipeline over what was recorded: operations of another host, or of another time.
//!
//! The same folding, policy and events as live, with two differences: time is that of the
//! operations, so that a replay gives the same events each time; and nothing is looked at on disk
//! ([`NotObservable`]): what lies at the same path here is something else. There is no journal.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Format, Names, Options, Output, OutputOptions, Pipeline, Scanner, Stopping};
use smol_str::SmolStr;

use crate::baseline::{Baseline, BaselineError};
use crate::collector::Gap;
use crate::event::{Action, Agent, Host};
use crate::hash::{HashPool, PoolOptions};
use crate::ignored::Ignored;
use crate::ledger::{Ledger, Stage};
use crate::loss::Losses;
use crate::metrics::{Health, Metrics};
use crate::object::NotObservable;
use crate::operation::Operation;
use crate::policy::Policy;
use crate::scan::Limits;
use crate::time::Timestamp;

/// What a replay is made of.
pub struct ReplayOptions {
    /// Which operations become events.
    pub policy: Policy,
    /// Of standard output.
    pub format: Format,
    /// `host.*`: where it was recorded.
    pub host: Host,
    /// `agent.*`.
    pub agent: Agent,
    /// Operations on one object within this time become one event.
    pub fold: Duration,
    /// A file still open is reported again when it has been quiet for this long.
    pub settle: Duration,
    /// From this severity on, an event is an alert.
    pub alert_severity: u8,
}

/// Why there is no replay.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The system refuses a thread.
    #[error("a thread cannot be started: {0}")]
    Thread(#[from] std::io::Error),
    /// SQLite does not work.
    #[error(transparent)]
    Baseline(#[from] BaselineError),
    /// Metrics cannot be registered.
    #[error("metrics: {0}")]
    Metrics(String),
}

/// When everything that waits is due.
const AFTERWARDS: Duration = Duration::from_secs(3600);

/// Of a host whose users nobody knows.
pub(super) struct NoNames;

impl Names for NoNames {
    fn user(&mut self, _: u32) -> Option<SmolStr> {
        None
    }

    fn group(&mut self, _: u32) -> Option<SmolStr> {
        None
    }
}

/// A pipeline that is handed operations in the order of their time.
pub struct Replay {
    pipeline: Pipeline,
    /// The time of the first operation, and what stands for it.
    start: Option<(Timestamp, Instant)>,
    ledger: Arc<Ledger>,
}

impl Replay {
    /// Ready to take operations.
    ///
    /// # Errors
    /// [`ReplayError`].
    pub fn new(options: ReplayOptions) -> Result<Self, ReplayError> {
        let baseline = Arc::new(Baseline::in_memory()?);
        let ledger = Arc::new(Ledger::default());
        let output = Output::new(OutputOptions {
            journal: None,
            format: options.format,
            host: Arc::new(options.host),
            agent: Arc::new(options.agent),
            metrics: Arc::new(
                Metrics::new().map_err(|error| ReplayError::Metrics(error.to_string()))?,
            ),
            health: Arc::new(Health::starting()),
            ledger: Arc::clone(&ledger),
            heartbeat: None,
            stopping: Stopping::default(),
            written: tokio::sync::watch::Sender::new(()),
        })?;
        let pipeline = Pipeline::new(Options {
            scanner: Scanner::new(Arc::clone(&baseline), Policy::default(), Limits::default())?,
            policy: options.policy,
            baseline,
            output,
            hashes: HashPool::new(PoolOptions { threads: 1, ..PoolOptions::default() })?,
            observer: Arc::new(NotObservable),
            names: Box::new(NoNames),
            fold: options.fold,
            settle: options.settle,
            alert_severity: options.alert_severity,
            ignore: Ignored::default(),
            losses: Losses::default(),
            fences: Arc::new(|_| {}),
            ledger: Arc::clone(&ledger),
            packages: None,
            verify: None,
            compared: Arc::default(),
            contents: None,
            large: u64::MAX,
        })?;
        Ok(Self { pipeline, start: None, ledger })
    }

    /// Takes in the next operation; one with an earlier time counts as of the time it is.
    pub fn operation(&mut self, operation: Operation) {
        self.advance(operation.time);
        self.pipeline.operation(Box::new(operation));
    }

    fn advance(&mut self, time: Timestamp) {
        let (first, begin) = *self.start.get_or_insert_with(|| (time, Instant::now()));
        let passed = u64::try_from(time.since(first).max(0)).unwrap_or(u64::MAX);
        // A time stamp may be absurd: then the clock stands still.
        let Some(now) = begin.checked_add(Duration::from_nanos(passed)) else { return };
        let now = self.pipeline.replayed.map_or(now, |before| before.max(now));
        self.pipeline.replayed = Some(now);
        self.pipeline.flush_due(now);
    }

    /// Nothing more comes: tells what is left, in the order in which it would have been told.
    pub fn settle(&mut self) {
        if let Some(end) = self.pipeline.replayed.and_then(|now| now.checked_add(AFTERWARDS)) {
            self.pipeline.replayed = Some(end);
            self.pipeline.flush_due(end);
        }
        self.pipeline.flush_all();
    }

    /// Says that something is missing in what was recorded.
    pub fn gap(&mut self, gap: &Gap) {
        self.pipeline.output.replayed = Some(gap.to);
        self.pipeline.output.gap(Action::Gap, gap);
        self.pipeline.output.replayed = None;
    }

    /// Events so far.
    pub fn events(&self) -> u64 {
        self.ledger.counts().get(Stage::Events)
    }

    /// Tells what is left, and waits until it is printed, however slow the reader is. Returns how
    /// many events there were, and whether they were printed.
    pub fn finish(mut self) -> (u64, std::io::Result<()>) {
        self.settle();
        self.pipeline.scanner.stop();
        let events = self.events();
        (events, self.pipeline.output.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Provider;
    use crate::event::actor::Actor;
    use crate::operation::OperationKind;
    use crate::policy::{Pattern, Rule};
    use crate::state::ObjectState;

    /// A file of this host that has the same path is not looked at, nor taken into the event.
    #[test]
    fn nothing_of_this_host_is_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x");
        std::fs::write(&file, "x").unwrap();
        let mut replay = Replay::new(ReplayOptions {
            policy: Policy::new(vec![Rule::new("all", vec![Pattern::everything()])]),
            format: Format::None,
            host: Host::default(),
            agent: Agent::default(),
            fold: Duration::from_millis(50),
            settle: Duration::from_secs(1),
            alert_severity: 70,
        })
        .unwrap();
        let operation = |kind, seconds| Operation {
            time: Timestamp::from_unix(seconds, 0),
            provider: Provider::Etw,
            kind,
            path: Some(file.clone()),
            path_in_process: None,
            object: None,
            before: ObjectState::default(),
            after: ObjectState::default(),
            failure: None,
            actor: Arc::new(Actor::default()),
            details: None,
        };
        replay.operation(operation(OperationKind::Create, 1));
        assert_eq!(replay.events(), 0, "it is folded");
        replay.operation(operation(OperationKind::Modify, 2));
        assert_eq!(replay.events(), 1, "by the time of the operations");
        replay.operation(operation(OperationKind::Delete, 3));
        let known = replay.pipeline.baseline.count().unwrap();
        assert_eq!((replay.finish().0, known), (3, 0));
    }
}
