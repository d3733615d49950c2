//! The order of time: each processor fills buffers of its own, and each session hands over its own,
//! so that records come in about the order in which things happened.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::etl::Record;

/// Records of one time stamp among which one that came twice is looked for.
const SAME_TIME_MAX: usize = 64;

/// A record that waits for others with an earlier time.
#[derive(Clone, Debug)]
pub struct Held {
    filetime: u64,
    /// In which it came: of one time stamp the earlier one comes first.
    number: u64,
    batch: u64,
    records: Arc<Vec<u8>>,
    begin: u32,
    end: u32,
}

impl Held {
    fn bytes(&self) -> &[u8] {
        self.records.get(self.begin as usize..self.end as usize).unwrap_or_default()
    }

    /// The record.
    pub fn record(&self) -> Option<Record<'_>> {
        Record::parse(self.bytes()).map(|(record, _)| record)
    }
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Held {}

impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Held {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.filetime, self.number).cmp(&(other.filetime, other.number))
    }
}

/// What came together.
#[derive(Debug)]
struct Arrival {
    at: Instant,
    /// Of its records, those that wait.
    left: usize,
    bytes: usize,
}

/// Records that wait.
#[derive(Debug)]
pub struct Order {
    heap: BinaryHeap<Reverse<Held>>,
    arrivals: VecDeque<Arrival>,
    /// The number of the first arrival.
    first: u64,
    next: u64,
    hold: Duration,
    bytes: usize,
    bytes_max: usize,
    latest: u64,
    /// Those that were used last and have the same time.
    same_time: Vec<Held>,
    duplicates: u64,
    late: u64,
}

impl Order {
    /// A record waits `hold` for those with an earlier time, unless that takes more memory than
    /// `bytes_max`.
    pub fn new(hold: Duration, bytes_max: usize) -> Self {
        Self {
            heap: BinaryHeap::new(),
            arrivals: VecDeque::new(),
            first: 0,
            next: 0,
            hold,
            bytes: 0,
            bytes_max,
            latest: 0,
            same_time: Vec::new(),
            duplicates: 0,
            late: 0,
        }
    }

    /// Takes in records, one behind the other, that came at `at`. Returns how often there was none
    /// where one should be.
    pub fn push(&mut self, records: Arc<Vec<u8>>, at: Instant) -> u64 {
        let batch = self.first + self.arrivals.len() as u64;
        let (mut begin, mut left) = (0, 0);
        while let Some(rest) = records.get(begin..).filter(|rest| !rest.is_empty()) {
            let Some((record, length)) = Record::parse(rest) else { break };
            let end = begin + length;
            let held = Held {
                filetime: record.filetime,
                number: self.next,
                batch,
                records: Arc::clone(&records),
                begin: begin as u32,
                end: end as u32,
            };
            self.heap.push(Reverse(held));
            self.next += 1;
            left += 1;
            begin = end;
        }
        let bytes = if left == 0 { 0 } else { records.len() };
        self.bytes += bytes;
        self.arrivals.push_back(Arrival { at, left, bytes });
        self.forget();
        u64::from(begin < records.len())
    }

    fn forget(&mut self) {
        while self.arrivals.front().is_some_and(|arrival| arrival.left == 0) {
            self.arrivals.pop_front();
            self.first += 1;
        }
    }

    /// When the next one is due; `None`: nothing waits.
    pub fn due(&self) -> Option<Instant> {
        self.arrivals.front().map(|arrival| arrival.at + self.hold)
    }

    /// The next record, when one has waited long enough at `now`: then all with an earlier time
    /// come before it. With `None`, whatever waits.
    pub fn pop(&mut self, now: Option<Instant>) -> Option<Held> {
        loop {
            let due = now.is_none_or(|now| self.due().is_some_and(|due| due <= now));
            if !due && self.bytes <= self.bytes_max {
                return None;
            }
            let Reverse(held) = self.heap.pop()?;
            let arrival = usize::try_from(held.batch - self.first).ok();
            if let Some(arrival) = arrival.and_then(|place| self.arrivals.get_mut(place)) {
                arrival.left -= 1;
                if arrival.left == 0 {
                    self.bytes -= arrival.bytes;
                }
            }
            self.forget();
            if held.filetime < self.latest {
                self.late += 1;
            }
            if self.is_duplicate(&held) {
                self.duplicates += 1;
                continue;
            }
            self.latest = self.latest.max(held.filetime);
            return Some(held);
        }
    }

    /// Whether the same record was used just now. Two things that happen differ at least in the
    /// address of the request, of the key, or in the thread.
    fn is_duplicate(&mut self, held: &Held) -> bool {
        let same = self.same_time.first().is_some_and(|first| first.filetime == held.filetime);
        if !same {
            self.same_time.clear();
        }
        if self.same_time.iter().any(|known| known.bytes() == held.bytes()) {
            return true;
        }
        if self.same_time.len() < SAME_TIME_MAX {
            self.same_time.push(held.clone());
        }
        false
    }

    /// Records that came twice.
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Records that came too late to be brought into order.
    pub fn late(&self) -> u64 {
        self.late
    }
}
