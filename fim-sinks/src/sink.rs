//! What all sinks have in common, seen from the worker.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::item::Item;

/// A future of a sink.
pub(crate) type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What became of a batch that was sent.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// Refused for good: index in the batch, and why.
    pub(crate) rejected: Vec<(usize, String)>,
    /// Refused for now: index in the batch.
    pub(crate) again: Vec<usize>,
    /// Why, of one of the latter.
    pub(crate) reason: String,
}

/// Why a batch did not arrive.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It is to be sent again, `after` that long where the receiver says so. What was sent and not
    /// confirmed may be lost.
    Retry {
        /// For people.
        reason: String,
        /// What the receiver asks for.
        after: Option<Duration>,
    },
    /// It is still on its way, and the sink takes care of that: the same batch is to be delivered
    /// again, which waits for it.
    #[cfg_attr(not(feature = "kafka"), expect(dead_code, reason = "only Kafka's producer does"))]
    Waiting {
        /// For people: why it takes so long.
        reason: String,
    },
    /// The receiver does not want it as a whole: some event in it is at fault.
    Refused {
        /// For people.
        reason: String,
    },
}

impl Failure {
    /// To be sent again.
    pub(crate) fn retry(reason: impl ToString) -> Self {
        Self::Retry { reason: reason.to_string(), after: None }
    }
}

/// Where batches are delivered to.
pub(crate) trait Sink: Send {
    /// Delivers a batch, which is not empty, in order.
    fn deliver<'a>(&'a mut self, items: &'a [Item]) -> Pending<'a, Result<Answer, Failure>>;

    /// Forgets the connection: it has failed, or an answer is overdue.
    fn reset(&mut self) {}

    /// Whether the configured timeout applies. What writes on this host is waited for.
    fn has_timeout(&self) -> bool {
        true
    }

    /// `None`: what was delivered has arrived. Else the receiver does not say so, and what was
    /// delivered this long ago over a connection that still stands is taken to have arrived.
    fn confirmation(&self) -> Option<Duration> {
        None
    }

    /// Returns when the connection is broken, with the reason.
    fn broken(&mut self) -> Pending<'_, String> {
        Box::pin(std::future::pending())
    }

    /// Whether the connection still stands.
    fn check(&mut self) -> Result<(), String> {
        Ok(())
    }

    /// Ends the connection in order; whether everything delivered has arrived.
    fn close(&mut self) -> Pending<'_, bool> {
        Box::pin(std::future::ready(self.confirmation().is_none()))
    }
}
