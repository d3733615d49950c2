//! What a scan may take of the machine: bytes a second of all its threads together, and processor
//! time of each.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::platform::thread_time;

/// What a scan may take; the default is all there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Threads that walk and hash; 0: one for each core.
    pub threads: usize,
    /// Bytes of content read a second, by all threads together; `None`: no limit.
    pub bytes_per_second: Option<NonZeroU64>,
    /// Percentage of a core that each thread may use, 1 to 100.
    pub cpu_percent: u8,
    /// Nice value of the threads, 0 to 19: nice(2).
    pub nice: u8,
}

impl Default for Limits {
    fn default() -> Self {
        Self { threads: 0, bytes_per_second: None, cpu_percent: 100, nice: 0 }
    }
}

impl Limits {
    /// As many threads as there are to be.
    pub(super) fn threads(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            threads => threads,
        }
    }
}

/// How long a thread sleeps at most before it looks whether the scan was cancelled.
const NAP: Duration = Duration::from_millis(50);
/// What may be read at once after a pause: a tenth of a second's worth, lest a limit of bytes
/// becomes one of files.
const BURST: Duration = Duration::from_millis(100);
/// How often a thread looks at its processor time: a system call of 0.3 µs.
const SLICE: u32 = 32;

/// The byte limit, shared by all threads of a scan.
pub(crate) struct Throttle {
    /// Nanoseconds for one byte, and when what was taken will have been paid for.
    rate: Option<(f64, Mutex<Instant>)>,
}

impl Throttle {
    pub(crate) fn new(bytes_per_second: Option<NonZeroU64>) -> Self {
        let rate =
            bytes_per_second.map(|rate| (1e9 / rate.get() as f64, Mutex::new(Instant::now())));
        Self { rate }
    }

    /// Waits until the bytes that were read are paid for, unless `cancel` is true.
    pub(crate) fn take(&self, bytes: usize, cancel: &AtomicBool) {
        let Some((nanoseconds, paid)) = &self.rate else { return };
        let cost = Duration::from_nanos((nanoseconds * bytes as f64) as u64);
        let until = {
            let mut paid = paid.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            // What was not used is not saved up, but for a short while.
            *paid = (*paid).max(now.checked_sub(BURST).unwrap_or(now)) + cost;
            *paid
        };
        sleep_until(until, cancel);
    }
}

/// The share of a core that one thread may use.
pub(super) struct Duty {
    /// Wall time for one unit of processor time; 1.0 is no limit.
    stretch: f64,
    began: Instant,
    used: Duration,
    calls: u32,
}

impl Duty {
    pub(super) fn new(percent: u8) -> Self {
        let stretch = 100.0 / f64::from(percent.clamp(1, 100));
        Self { stretch, began: Instant::now(), used: thread_time(), calls: 0 }
    }

    /// To be called after each object.
    pub(super) fn rest(&mut self, cancel: &AtomicBool) {
        self.calls += 1;
        if self.stretch <= 1.0 || !self.calls.is_multiple_of(SLICE) {
            return;
        }
        let used = thread_time();
        let due = self.began + (used.saturating_sub(self.used)).mul_f64(self.stretch);
        if due > Instant::now() {
            sleep_until(due, cancel);
        }
        // Time spent waiting for the disk is not saved up.
        self.began = Instant::now();
        self.used = used;
    }
}

fn sleep_until(until: Instant, cancel: &AtomicBool) {
    while !cancel.load(Ordering::Relaxed) {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(NAP));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static NEVER: AtomicBool = AtomicBool::new(false);

    #[test]
    fn bytes_take_their_time() {
        let throttle = Throttle::new(NonZeroU64::new(1_000_000));
        let began = Instant::now();
        for _ in 0..4 {
            throttle.take(100_000, &NEVER);
        }
        // 0.4 s worth, of which 0.1 s may come at once.
        assert!(began.elapsed() >= Duration::from_millis(300));
    }

    #[test]
    fn without_a_limit_and_when_cancelled_nobody_waits() {
        // A day's worth: a test that waits for it does not end.
        Throttle::new(None).take(usize::MAX, &NEVER);
        Throttle::new(NonZeroU64::new(1)).take(86_400, &AtomicBool::new(true));
    }

    #[test]
    fn a_share_of_a_core() {
        let mut duty = Duty::new(25);
        let (began, used) = (Instant::now(), thread_time());
        while thread_time() - used < Duration::from_millis(50) {
            duty.rest(&NEVER);
        }
        // Three quarters of the time were slept, but for the last slice.
        assert!(began.elapsed() >= Duration::from_millis(150), "{:?}", began.elapsed());
    }
}
