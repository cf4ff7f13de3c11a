//! When to try again to reach a peer that we want to stay connected to. Pure: the delay doubles
//! with each failure, and jitter keeps many nodes from trying in step.

use std::time::Duration;

/// A connection that lasted this long was a good one: the next delay starts from the shortest.
const GOOD: Duration = Duration::from_secs(60);

/// The delays between attempts for one peer.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    /// Delays from about `first`, doubling up to `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, failures: 0 }
    }

    /// An attempt failed, or a connection broke after `lasted`: how long to wait before the next
    /// attempt. `jitter` in 0..=1000 picks from half the delay to all of it.
    pub fn next(&mut self, lasted: Option<Duration>, jitter: u32) -> Duration {
        if lasted.is_some_and(|lasted| lasted >= GOOD) {
            self.failures = 0;
        }
        let factor = 2u32.saturating_pow(self.failures.min(30));
        self.failures = self.failures.saturating_add(1);
        let delay = self.first.saturating_mul(factor).min(self.longest);
        let share = jitter.min(1000).saturating_add(1000);
        delay.saturating_mul(share).checked_div(2000).unwrap_or(delay)
    }
}
