//! How fast a backlog is sent.

use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::Instant;

/// A token bucket that holds a second's worth.
#[derive(Debug)]
pub(crate) struct Rate {
    per_second: f64,
    tokens: f64,
    filled: Instant,
}

impl Rate {
    /// Full.
    pub(crate) fn new(per_second: NonZeroU32) -> Self {
        let per_second = f64::from(per_second.get());
        Self { per_second, tokens: per_second, filled: Instant::now() }
    }

    /// Takes `count`, and says how long to wait before they may be sent. More than the bucket holds
    /// is taken in advance.
    pub(crate) fn take(&mut self, count: usize) -> Duration {
        let now = Instant::now();
        let fresh = now.duration_since(self.filled).as_secs_f64() * self.per_second;
        self.filled = now;
        self.tokens = (self.tokens + fresh).min(self.per_second) - count as f64;
        Duration::from_secs_f64((-self.tokens).max(0.0) / self.per_second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_more_than_the_rate_over_any_long_time() {
        let mut rate = Rate::new(NonZeroU32::new(1000).unwrap());
        let started = Instant::now();
        for _ in 0..100 {
            tokio::time::sleep(rate.take(300)).await;
        }
        // A second's worth was there at the beginning.
        let took = started.elapsed().as_secs_f64();
        assert!((28.9..29.2).contains(&took), "30,000 events at 1,000 a second took {took} s");
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(rate.take(1000), Duration::ZERO);
        assert!(rate.take(1) > Duration::ZERO, "an idle minute was saved up");
    }
}
