//! From the kernel's time since boot to the wall clock.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use fim_common::time::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// How long a measured offset is used, in nanoseconds: a clock that is stepped (NTP, an operator)
/// is followed after this long, and a slewed one is never wrong by more than 500 ppm of it.
const VALID: u64 = 1_000_000_000;

/// The offset between `CLOCK_BOOTTIME` (what `bpf_ktime_get_boot_ns` and `start_boottime` count:
/// suspend included) and `CLOCK_REALTIME`, measured again as time goes by.
#[derive(Debug)]
pub struct Boot {
    offset: AtomicI64,
    measured: AtomicU64,
}

impl Boot {
    /// Measures the offset.
    pub fn new() -> Self {
        let boot = Self { offset: AtomicI64::new(0), measured: AtomicU64::new(0) };
        boot.measure();
        boot
    }

    /// Nanoseconds since boot, suspend included.
    pub fn now() -> u64 {
        nanos(ClockId::Boottime) as u64
    }

    /// The wall clock at `ns` nanoseconds since boot, by the wall clock as it stands now.
    pub fn to_wall(&self, ns: u64) -> Timestamp {
        if Self::now().wrapping_sub(self.measured.load(Ordering::Relaxed)) > VALID {
            self.measure();
        }
        Timestamp::from_nanos(i128::from(ns) + i128::from(self.offset.load(Ordering::Relaxed)))
    }

    /// The narrowest of three brackets: being preempted between two clock reads would otherwise
    /// shift every event until the next measurement.
    fn measure(&self) {
        let (mut width, mut offset) = (i64::MAX, 0);
        for _ in 0..3 {
            let before = nanos(ClockId::Boottime);
            let wall = nanos(ClockId::Realtime);
            let after = nanos(ClockId::Boottime);
            if after - before < width {
                width = after - before;
                offset = wall - (before + (after - before) / 2);
            }
        }
        self.offset.store(offset, Ordering::Relaxed);
        self.measured.store(Self::now(), Ordering::Relaxed);
    }
}

impl Default for Boot {
    fn default() -> Self {
        Self::new()
    }
}

fn nanos(clock: ClockId) -> i64 {
    let time = clock_gettime(clock);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn now_is_now() {
        let boot = Boot::new();
        let apart = boot.to_wall(Boot::now()).since(Timestamp::now());
        assert!(apart.abs() < 50_000_000, "{apart} ns apart");
    }
}
