//! One sink: reads, delivers, and keeps its place.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fim_common::config::sink::Sink as Config;
use fim_common::journal::cursor::{Cursor, Position};
use fim_common::metrics::SinkMetrics;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::backoff::Backoff;
use crate::item::Item;
use crate::parked::Parked;
use crate::progress::Progress;
use crate::rate::Rate;
use crate::reader::{Batch, Reader};
use crate::sink::{Answer, Failure, Sink};

/// How often a cursor is written while events flow: what a killed agent sends again.
const CURSOR_INTERVAL: Duration = Duration::from_secs(1);
/// How often a sink that fails says so.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);
/// How often it looks for events although nobody said that there are any.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// What a worker is made of.
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) sink: Box<dyn Sink>,
    pub(crate) reader: Reader,
    pub(crate) cursor: Arc<Mutex<Cursor>>,
    pub(crate) parked: Parked,
    pub(crate) metrics: SinkMetrics,
    pub(crate) progress: Arc<Progress>,
    /// The journal has something new.
    pub(crate) written: watch::Receiver<()>,
    /// When it has to be done.
    pub(crate) stop: watch::Receiver<Option<Instant>>,
}

/// Delivered, and not known to have arrived.
struct InFlight {
    delivered: Instant,
    end: Position,
    /// Lines dealt with up to there.
    done: u64,
    sent: Sent,
    filtered: u64,
}

/// What a receiver took.
#[derive(Clone, Copy, Default)]
struct Sent {
    events: u64,
    bytes: u64,
}

/// What became of a batch.
enum Outcome {
    Dealt,
    /// What was not confirmed has to be sent again.
    Rewind,
    /// The time for stopping is over.
    Stopped,
}

pub(crate) struct Worker {
    parts: Parts,
    name: String,
    backoff: Backoff,
    rate: Option<Rate>,
    in_flight: VecDeque<InFlight>,
    /// Of the batch at hand: what was sent, and is not known to have arrived.
    sent: Sent,
    /// Everything before has arrived, or needs not to.
    confirmed: Position,
    confirmed_done: u64,
    /// When the cursor was written, and whether it lags behind `confirmed`.
    saved: Instant,
    is_unsaved: bool,
    /// Lines dealt with.
    done: u64,
    /// What was parked and is not confirmed: it may come again.
    parked: BTreeSet<Position>,
    complained: Option<Instant>,
    is_down: bool,
}

impl Worker {
    pub(crate) fn new(parts: Parts) -> Self {
        let confirmed = parts.reader.position();
        Self {
            name: parts.config.name.clone(),
            backoff: Backoff::new(parts.config.max_retry_wait),
            rate: parts.config.rate.map(Rate::new),
            in_flight: VecDeque::new(),
            sent: Sent::default(),
            confirmed,
            confirmed_done: 0,
            saved: Instant::now(),
            is_unsaved: false,
            done: 0,
            parked: BTreeSet::new(),
            complained: None,
            is_down: false,
            parts,
        }
    }

    /// Works until it is told to stop, and then until all is sent or the time is over.
    pub(crate) async fn run(mut self) {
        loop {
            self.parts.written.mark_unchanged();
            // Seen before the journal is read: then all that was to be sent is in it.
            let is_last = self.is_stopping();
            let batch = match self.read().await {
                Ok(batch) => batch,
                Err(error) => {
                    self.failed(&format!("the journal cannot be read: {error}"));
                    if !self.wait_after_failure(None).await {
                        break;
                    }
                    continue;
                }
            };
            let is_end = batch.is_end;
            let outcome = self.deal_with(batch).await;
            self.confirm();
            match outcome {
                Outcome::Stopped => break,
                Outcome::Rewind => continue,
                Outcome::Dealt => {}
            }
            if self.is_unsaved && (is_end || self.saved.elapsed() >= CURSOR_INTERVAL) {
                self.save().await;
            }
            if is_end {
                if is_last {
                    break;
                }
                self.wait_for_more().await;
            }
        }
        self.finish().await;
    }

    async fn read(&mut self) -> Result<Batch, String> {
        // The disk may take its time. The reader is lent to the thread that waits for it.
        let stand_in = Reader::new("".as_ref(), self.confirmed, &self.parts.config);
        let mut reader = std::mem::replace(&mut self.parts.reader, stand_in);
        let at = reader.position();
        let done = tokio::task::spawn_blocking(move || {
            let batch = reader.next();
            (reader, batch)
        });
        match done.await {
            Ok((reader, batch)) => {
                self.parts.reader = reader;
                batch.map_err(|error| error.to_string())
            }
            Err(error) => {
                self.parts.reader.seek(at);
                Err(error.to_string())
            }
        }
    }

    async fn deal_with(&mut self, batch: Batch) -> Outcome {
        let Batch { items, bad, lines, filtered, end, is_end, missing } = batch;
        if missing > 0 {
            tracing::error!(
                sink = self.name,
                segments = missing,
                "retention has removed events that were not sent; journal_dropped events say which"
            );
            self.parts.metrics.missed(missing);
        }
        let Some(end) = end else { return Outcome::Dealt };
        for (line, reason) in bad {
            if !self.park(&line, end, &reason).await {
                return Outcome::Stopped;
            }
        }
        if let Some(first) = items.first() {
            self.parts.progress.set_oldest(Some(first.brief.timestamp));
            let last = items.last().map(|last| last.brief.timestamp);
            if let Some(rate) = &mut self.rate {
                let wait = rate.take(items.len());
                if !wait.is_zero() && !self.rest(wait).await {
                    return Outcome::Stopped;
                }
            }
            match self.deliver(items).await {
                Outcome::Dealt => self.parts.progress.set_oldest(last),
                Outcome::Rewind => {
                    self.rewind();
                    return Outcome::Rewind;
                }
                Outcome::Stopped => return Outcome::Stopped,
            }
        }
        self.done += lines;
        self.parts.progress.set_done(self.done);
        if is_end {
            self.parts.progress.set_oldest(None);
        }
        let (delivered, sent) = (Instant::now(), std::mem::take(&mut self.sent));
        self.in_flight.push_back(InFlight { delivered, end, done: self.done, sent, filtered });
        Outcome::Dealt
    }

    /// Sends until each of these has arrived or is parked.
    async fn deliver(&mut self, items: Vec<Item>) -> Outcome {
        let mut queue = VecDeque::from([items]);
        while let Some(mut part) = queue.pop_front() {
            match self.attempt(&part).await {
                None => return Outcome::Stopped,
                Some(Ok(answer)) => {
                    let Answer { rejected, again, reason } = answer;
                    self.arrived(&part, &rejected, &again);
                    for (index, reason) in &rejected {
                        let Some(item) = part.get(*index) else { continue };
                        if !self.park(&item.line, item.end, reason).await {
                            return Outcome::Stopped;
                        }
                    }
                    if again.is_empty() {
                        // One that confirms nothing takes anything, and may refuse it a moment later.
                        if self.parts.sink.confirmation().is_none() || !self.is_down {
                            self.worked();
                        }
                        continue;
                    }
                    self.parts.metrics.retried(again.len() as u64);
                    let mut index = 0;
                    part.retain(|_| {
                        index += 1;
                        again.contains(&(index - 1))
                    });
                    queue.push_front(part);
                    self.failed(&reason);
                    if !self.wait_after_failure(None).await {
                        return Outcome::Stopped;
                    }
                }
                Some(Err(Failure::Refused { reason })) => {
                    if let [item] = part.as_slice() {
                        let (line, end) = (item.line.clone(), item.end);
                        if !self.park(&line, end, &reason).await {
                            return Outcome::Stopped;
                        }
                        continue;
                    }
                    // Which of them is at fault: one half of them after the other.
                    tracing::info!(sink = self.name, reason, events = part.len(), "refused");
                    let second = part.split_off(part.len() / 2);
                    queue.push_front(second);
                    queue.push_front(part);
                }
                Some(Err(Failure::Waiting { reason })) => {
                    self.failed(&reason);
                    queue.push_front(part);
                }
                Some(Err(Failure::Retry { reason, after })) => {
                    self.parts.sink.reset();
                    self.failed(&reason);
                    self.parts.metrics.retried(part.len() as u64);
                    if !self.wait_after_failure(after).await {
                        return Outcome::Stopped;
                    }
                    if self.parts.sink.confirmation().is_some() {
                        return Outcome::Rewind;
                    }
                    queue.push_front(part);
                }
            }
        }
        Outcome::Dealt
    }

    /// One attempt. `None`: the time for stopping was over before it ended.
    async fn attempt(&mut self, items: &[Item]) -> Option<Result<Answer, Failure>> {
        let limit = self.parts.config.timeout;
        let has_timeout = self.parts.sink.has_timeout();
        let mut stop = self.parts.stop.clone();
        let delivery = self.parts.sink.deliver(items);
        let delivery = async {
            match has_timeout {
                false => delivery.await,
                true => timeout(limit, delivery).await.unwrap_or_else(|_| {
                    let seconds = limit.as_secs();
                    Err(Failure::retry(format!("no answer within {seconds} s (timeout)")))
                }),
            }
        };
        tokio::select! {
            result = delivery => Some(result),
            () = over(&mut stop) => None,
        }
    }

    fn arrived(&mut self, part: &[Item], rejected: &[(usize, String)], again: &[usize]) {
        let missing = |index: &usize| {
            again.contains(index) || rejected.iter().any(|(rejected, _)| rejected == index)
        };
        let items = part.iter().enumerate().filter(|(index, _)| !missing(index));
        let sent = items.fold(Sent::default(), |sent, (_, item)| Sent {
            events: sent.events + 1,
            bytes: sent.bytes + item.payload().len() as u64,
        });
        if self.parts.sink.confirmation().is_none() {
            self.parts.metrics.sent(sent.events, sent.bytes);
        } else {
            self.sent.events += sent.events;
            self.sent.bytes += sent.bytes;
        }
    }

    /// Sets an event aside; where that is not possible, tries until it is. `false`: stopped.
    async fn park(&mut self, line: &[u8], end: Position, reason: &str) -> bool {
        if self.parked.contains(&end) {
            return true;
        }
        loop {
            match self.parts.parked.keep(line, reason) {
                Ok(()) => {
                    tracing::error!(
                        sink = self.name,
                        reason,
                        "an event was refused, and is parked"
                    );
                    self.parts.metrics.parked();
                    self.parked.insert(end);
                    return true;
                }
                Err(error) => {
                    self.failed(&format!("a refused event ({reason}) cannot be parked: {error}"));
                    if !self.wait_after_failure(None).await {
                        return false;
                    }
                }
            }
        }
    }

    fn worked(&mut self) {
        self.backoff.reset();
        self.parts.metrics.attempt(true);
        if std::mem::replace(&mut self.is_down, false) {
            tracing::info!(sink = self.name, "the sink takes events again");
            self.complained = None;
        }
    }

    fn failed(&mut self, reason: &str) {
        self.is_down = true;
        self.parts.metrics.attempt(false);
        if self.complained.is_none_or(|last| last.elapsed() >= COMPLAINT_INTERVAL) {
            self.complained = Some(Instant::now());
            tracing::warn!(sink = self.name, reason, "the sink takes no events; they wait");
        }
    }

    /// `false`: stopped, with one last attempt behind it.
    async fn wait_after_failure(&mut self, asked: Option<Duration>) -> bool {
        if self.is_stopping() {
            return false;
        }
        let wait = self.backoff.failed(asked);
        tokio::select! {
            () = sleep(wait) => {}
            // The end of the agent is an occasion to try once more.
            _ = self.parts.stop.changed() => {}
        }
        true
    }

    /// Waits. `false`: the time for stopping was over before.
    async fn rest(&mut self, time: Duration) -> bool {
        let mut stop = self.parts.stop.clone();
        tokio::select! {
            () = sleep(time) => true,
            () = over(&mut stop) => false,
        }
    }

    /// It was told to stop, or whoever could say so is gone.
    fn is_stopping(&self) -> bool {
        self.parts.stop.has_changed().is_err() || self.parts.stop.borrow().is_some()
    }

    /// At the end of the journal: waits until there is more, and then for others to go with it; or
    /// until something else is to be done.
    async fn wait_for_more(&mut self) {
        if self.is_stopping() {
            return;
        }
        let due = self.confirmation_due();
        let Parts { written, stop, sink, .. } = &mut self.parts;
        let confirmation = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        let is_waiting = !self.in_flight.is_empty();
        tokio::select! {
            _ = stop.changed() => return,
            _ = written.changed() => {}
            () = sleep(LOOK_INTERVAL) => return,
            () = confirmation => {
                self.confirm();
                if self.is_unsaved {
                    self.save().await;
                }
                return;
            }
            reason = sink.broken() => {
                sink.reset();
                if is_waiting {
                    self.failed(&reason);
                    self.wait_after_failure(None).await;
                    self.rewind();
                }
                return;
            }
        }
        tokio::select! {
            () = sleep(self.parts.config.batch.wait) => {}
            _ = self.parts.stop.changed() => {}
        }
    }

    fn confirmation_due(&self) -> Option<Instant> {
        let window = self.parts.sink.confirmation().unwrap_or_default();
        // Of what is not for this sink there is nothing to wait for.
        let first = self.in_flight.front()?;
        Some(if first.sent.events > 0 { first.delivered + window } else { first.delivered })
    }

    /// Takes note of what has arrived.
    fn confirm(&mut self) {
        while self.confirmation_due().is_some_and(|due| due <= Instant::now()) {
            let was_sent = self.in_flight.front().is_some_and(|first| first.sent.events > 0);
            if was_sent && let Err(reason) = self.parts.sink.check() {
                self.parts.sink.reset();
                self.failed(&reason);
                self.rewind();
                return;
            }
            let Some(first) = self.in_flight.pop_front() else { return };
            self.count(&first);
            self.confirmed_done = first.done;
            self.parked.retain(|end| *end > first.end);
            if was_sent {
                self.worked();
            }
        }
    }

    /// This has arrived, with all before it.
    fn count(&mut self, arrived: &InFlight) {
        self.parts.metrics.sent(arrived.sent.events, arrived.sent.bytes);
        self.parts.metrics.filtered(arrived.filtered);
        self.confirmed = arrived.end;
        self.is_unsaved = true;
    }

    /// Goes back to where everything before has arrived.
    fn rewind(&mut self) {
        let count = self.done.saturating_sub(self.confirmed_done);
        if count > 0 {
            tracing::info!(
                sink = self.name,
                lines = count,
                "what may not have arrived is sent again"
            );
            self.parts.metrics.retried(count);
        }
        self.in_flight.clear();
        self.sent = Sent::default();
        self.parts.reader.seek(self.confirmed);
        self.done = self.confirmed_done;
        self.parts.progress.set_done(self.done);
    }

    async fn save(&mut self) {
        let position = self.confirmed;
        self.saved = Instant::now();
        // It is synchronised: some milliseconds, in which others may run.
        let cursor = Arc::clone(&self.parts.cursor);
        let saved = tokio::task::spawn_blocking(move || {
            cursor.lock().unwrap_or_else(PoisonError::into_inner).advance(position)
        });
        if let Err(error) = saved.await.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
            let message = "the cursor cannot be written: what is sent now may be sent again";
            tracing::error!(sink = self.name, %error, "{message}");
            return;
        }
        self.is_unsaved = false;
    }

    async fn finish(mut self) {
        let until = (*self.parts.stop.borrow()).unwrap_or_else(Instant::now);
        let closed = tokio::time::timeout_at(until, self.parts.sink.close()).await;
        if closed.unwrap_or(false) {
            for arrived in std::mem::take(&mut self.in_flight) {
                self.count(&arrived);
            }
        }
        if self.is_unsaved {
            self.save().await;
        }
    }
}

/// Returns when it is to be done.
async fn over(stop: &mut watch::Receiver<Option<Instant>>) {
    // Unless whoever could say so is gone.
    if let Ok(Some(until)) = stop.wait_for(Option::is_some).await.map(|until| *until) {
        sleep_until(until).await;
    }
}
