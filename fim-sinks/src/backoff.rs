//! How long to wait after a failure: exponential, with full jitter, so that ten thousand hosts do not
//! come back at once.

use std::time::Duration;

/// The longest wait after the first failure.
const FIRST: Duration = Duration::from_millis(500);

/// Failures in a row.
#[derive(Debug)]
pub(crate) struct Backoff {
    longest: Duration,
    failures: u32,
}

impl Backoff {
    /// Never longer than `longest`.
    pub(crate) fn new(longest: Duration) -> Self {
        Self { longest, failures: 0 }
    }

    /// It worked.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// It did not: how long to wait. A receiver that says how long it wants is given that, within an
    /// hour.
    pub(crate) fn failed(&mut self, asked: Option<Duration>) -> Duration {
        let wait = self.limit().mul_f64(fraction());
        self.failures = self.failures.saturating_add(1);
        match asked {
            Some(asked) => wait + asked.min(Duration::from_secs(3600)),
            None => wait,
        }
    }

    fn limit(&self) -> Duration {
        FIRST.saturating_mul(1 << self.failures.min(16)).min(self.longest)
    }
}

/// Between 0 and 1, by the system's random numbers.
fn fraction() -> f64 {
    let mut bytes = [0; 4];
    match getrandom::fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX),
        Err(_) => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_doubles_up_to_the_longest_and_all_of_it_is_used() {
        let mut backoff = Backoff::new(Duration::from_secs(10));
        for expected in [500, 1000, 2000, 4000, 8000, 10_000, 10_000] {
            assert_eq!(backoff.limit(), Duration::from_millis(expected));
            assert!(backoff.failed(None) <= Duration::from_millis(expected));
        }
        let waits: Vec<Duration> = (0..200).map(|_| backoff.failed(None)).collect();
        let below = waits.iter().filter(|wait| **wait < Duration::from_secs(5)).count();
        // Half of them, as a rule; what is refused here happens once in 10^20.
        assert!((30..170).contains(&below), "{below} of 200 in the lower half");
        backoff.reset();
        assert!(backoff.failed(None) <= FIRST);
    }

    #[test]
    fn a_receiver_is_given_the_time_it_asks_for() {
        let mut backoff = Backoff::new(Duration::from_secs(10));
        let wait = backoff.failed(Some(Duration::from_secs(40)));
        assert!((Duration::from_secs(40)..Duration::from_secs(41)).contains(&wait));
        let wait = backoff.failed(Some(Duration::from_secs(1_000_000)));
        assert!(wait <= Duration::from_secs(3601));
    }
}
