//! Requests that wait for their outcome (event 24), by the address of the request.

use super::bounded::{Bounded, Weight};
use super::{MAP_BYTES, REQUESTS_MAX};
use crate::process::Who;

/// What was asked for.
#[derive(Clone, Debug)]
pub(super) enum Asked {
    /// To open a file, perhaps to create it.
    Open { object: u64, name: String, options: u32 },
    /// To do something to an open file.
    Do { event: u16, object: u64, key: u64, extra: u64, class: u32, bytes: Option<u64> },
    /// To name it: 26, 27, 28.
    Name { event: u16, object: u64, key: u64, extra: u64, class: u32, name: String },
}

/// A request.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) asked: Asked,
    pub(super) who: Who,
}

impl Weight for Request {
    fn weight(&self) -> usize {
        match &self.asked {
            Asked::Open { name, .. } | Asked::Name { name, .. } => name.len(),
            Asked::Do { .. } => 0,
        }
    }
}

impl Weight for Vec<Request> {
    fn weight(&self) -> usize {
        self.iter().map(Weight::weight).sum()
    }
}

/// One request may be told by two events: 18 and 26, 19 and 27.
const EVENTS_MAX: usize = 4;

/// Those under way.
pub(super) struct Requests {
    waiting: Bounded<u64, Vec<Request>>,
}

impl Requests {
    pub(super) fn new() -> Self {
        Self { waiting: Bounded::new(REQUESTS_MAX, MAP_BYTES) }
    }

    /// Notes a request; returns those whose outcome can no longer come, since the address is used
    /// for this one.
    pub(super) fn begin(&mut self, irp: u64, request: Request) -> Vec<Request> {
        if let Some(waiting) = self.waiting.get(&irp) {
            let same = waiting.first().is_some_and(|first| {
                belongs(&first.asked, &request.asked) && first.who.tid == request.who.tid
            });
            if same && waiting.len() < EVENTS_MAX {
                waiting.push(request);
                return Vec::new();
            }
        }
        let stale = self.waiting.remove(&irp).unwrap_or_default();
        self.waiting.insert(irp, vec![request]);
        stale
    }

    pub(super) fn end(&mut self, irp: u64) -> Vec<Request> {
        self.waiting.remove(&irp).unwrap_or_default()
    }

    pub(super) fn drain(&mut self) -> Vec<Request> {
        let mut all: Vec<Request> =
            self.waiting.drain().into_iter().flat_map(|(_, requests)| requests).collect();
        all.sort_by_key(|request| request.who.filetime);
        all
    }

    pub(super) fn evicted(&self) -> u64 {
        self.waiting.evicted()
    }
}

/// Whether two events tell of one request.
fn belongs(first: &Asked, second: &Asked) -> bool {
    let of = |asked: &Asked| match asked {
        Asked::Open { .. } => (12, 0),
        Asked::Do { event, object, .. } | Asked::Name { event, object, .. } => {
            let kind = match event {
                18 | 26 => 26,
                19 | 27 => 27,
                28 | 29 => 28,
                other => *other,
            };
            (kind, *object)
        }
    };
    let (first, second) = (of(first), of(second));
    first == second && matches!(first.0, 26..=28)
}
