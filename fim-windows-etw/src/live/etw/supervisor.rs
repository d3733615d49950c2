//! The thread that owns the sessions: has them hand over what they have, asks what they lost, starts
//! again what has ended, and stops them.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use fim_common::time::Timestamp;
use fim_win32::etw::{Losses, Session, SessionOptions, Sink, flush, losses};

use super::worker::{Counters, Message, Setback};
use crate::stream::Queue;

/// How often the session of processes is asked for what it has: a process that runs for a moment
/// can be looked at no later.
const FLUSH_PROCESSES: Duration = Duration::from_millis(5);
/// The same for the other one, whose events may be late.
const FLUSH_CHANGES: Duration = Duration::from_millis(100);
/// How often it is asked what was lost.
const ASK: Duration = Duration::from_secs(1);
/// How often a session that has ended is started again.
const RESTART: Duration = Duration::from_secs(5);
/// While it cannot be, nothing is seen: that is told this often, so that what is watched is compared.
const BLIND: Duration = Duration::from_secs(300);
/// What a session holds is handed over within this time when it is stopped.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// One of the sessions.
pub(super) struct Watched {
    /// Its name in gaps.
    hook: &'static str,
    options: SessionOptions,
    sink: Sink,
    session: Option<Session>,
    lost: Losses,
    /// Up to then, all is known to have come.
    sound: Timestamp,
    tried: Instant,
    /// When it was told last that nothing is seen.
    told: Option<Instant>,
    flush: Duration,
    flushed: Instant,
}

impl Watched {
    pub(super) fn new(
        hook: &'static str,
        options: SessionOptions,
        sink: Sink,
        session: Session,
    ) -> Self {
        let now = Instant::now();
        let flush = if hook == PROCESSES { FLUSH_PROCESSES } else { FLUSH_CHANGES };
        Self {
            hook,
            options,
            sink,
            session: Some(session),
            lost: Losses::default(),
            sound: Timestamp::now(),
            tried: now,
            told: None,
            flush,
            flushed: now,
        }
    }

    fn flush(&mut self) {
        if self.session.is_some() && self.flushed.elapsed() >= self.flush {
            self.flushed = Instant::now();
            // One that has ended is found when it is asked what was lost.
            let _ = flush(&self.options.name);
        }
    }

    /// What was lost since this was asked last.
    fn ask(&mut self) -> Option<Setback> {
        let name = self.hook;
        let now = Timestamp::now();
        let from = self.sound;
        let ended = self.session.as_mut().is_none_or(Session::has_ended);
        let answer = losses(&self.options.name);
        if ended || answer.is_err() {
            return self.restart(answer.err());
        }
        let lost = answer.unwrap_or_default();
        let before = std::mem::replace(&mut self.lost, lost);
        self.sound = now;
        if lost == before {
            return None;
        }
        // How many events a lost buffer had is not known.
        let count = (lost.buffers == before.buffers)
            .then(|| u64::from(lost.events.wrapping_sub(before.events)));
        tracing::warn!(
            session = self.options.name,
            events = lost.events.wrapping_sub(before.events),
            buffers = lost.buffers.wrapping_sub(before.buffers),
            "the session has lost events"
        );
        Some(Setback::Session { name, from, count })
    }

    /// A session that is there no more, or that nobody reads.
    fn restart(&mut self, error: Option<io::Error>) -> Option<Setback> {
        if let Some(session) = self.session.take() {
            tracing::error!(
                session = self.options.name,
                ?error,
                "the session has ended: somebody has stopped it"
            );
            drop(session);
        } else if self.tried.elapsed() < RESTART {
            return None;
        }
        self.tried = Instant::now();
        match Session::start(&self.options, &self.sink) {
            Ok(session) => {
                tracing::info!(session = self.options.name, "the session was started again");
                self.session = Some(session);
                self.lost = Losses::default();
                self.told = None;
                Some(self.blind())
            }
            Err(error) => {
                // It may never be: whoever keeps it stopped must not keep that to themselves.
                if self.told.is_some_and(|told| told.elapsed() < BLIND) {
                    return None;
                }
                tracing::error!(
                    session = self.options.name, %error,
                    "nothing is seen until the session can be started again"
                );
                self.told = Some(Instant::now());
                Some(self.blind())
            }
        }
    }

    /// Nothing was seen since all was known to have come.
    fn blind(&mut self) -> Setback {
        let from = std::mem::replace(&mut self.sound, Timestamp::now());
        Setback::Session { name: self.hook, from, count: None }
    }

    /// What was lost last is a loss, too; so is what a session that is there no more did not tell.
    fn ask_at_the_end(&mut self) -> Option<Setback> {
        match self.session.as_mut().is_none_or(Session::has_ended) {
            true => Some(self.blind()),
            false => self.ask(),
        }
    }
}

/// The hooks that sessions are in gaps.
pub(super) const CHANGES: &str = "etw_changes";
pub(super) const PROCESSES: &str = "etw_processes";
/// Of keys for which there was no rule at the start.
pub(super) const KEYS: &str = "etw_registry";

/// Until nobody sends `more` of them. Answers how stopping went. What was lost is told from here: the
/// thread that empties the queue may be waiting for the pipeline.
pub(super) fn supervise(
    mut sessions: Vec<Watched>,
    queue: &Arc<Queue<Message>>,
    losses: &fim_common::loss::Losses,
    counters: &Counters,
    more: &Receiver<Watched>,
) -> io::Result<()> {
    let tell = |setback: Setback| {
        setback.report(losses, counters);
        queue.post(Message::Look);
    };
    let mut asked = Instant::now();
    loop {
        match more.try_recv() {
            Ok(another) => sessions.push(another),
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => break,
        }
        // As the system's clock ticks every 16 ms only, a channel would wait that long.
        std::thread::sleep(FLUSH_PROCESSES);
        for watched in &mut sessions {
            watched.flush();
        }
        if asked.elapsed() >= ASK {
            asked = Instant::now();
            sessions.iter_mut().filter_map(Watched::ask).for_each(tell);
            if let Some(lost) = queue.take_lost() {
                tell(Setback::Queue(lost));
            }
        }
    }
    let mut result = Ok(());
    for watched in &mut sessions {
        if let Some(setback) = watched.ask_at_the_end() {
            tell(setback);
        }
        if let Some(session) = watched.session.take() {
            result = result.and(session.stop(PATIENCE));
        }
    }
    result
}
