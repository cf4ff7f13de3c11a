//! Who may do how much: a tower for anyone must bear those who mean harm. Pure.

use std::time::Duration;

/// The bounds of a tower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sessions at once.
    pub max_sessions: u64,
    /// Records in a session.
    pub max_states: u64,
    /// Bytes of records in a session.
    pub max_bytes: u64,
    /// Bytes on disk from which on no more records are taken: what blocks and breaches need on
    /// top of them is little.
    pub max_disk: u64,
    /// Connections at once.
    pub max_connections: usize,
    /// Connections at once from one address.
    pub max_per_address: usize,
    /// Requests a second on a connection, on the average.
    pub requests_per_second: u32,
    /// How many may come at once.
    pub burst: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_sessions: 10_000,
            max_states: 100_000,
            max_bytes: 64 << 20,
            max_disk: 4 << 30,
            max_connections: 256,
            max_per_address: 32,
            requests_per_second: 50,
            burst: 200,
        }
    }
}

/// How fast requests may come on a connection: a bucket that fills with time.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    /// Thousandths of a request.
    left: u64,
    full: u64,
    per_second: u64,
    at: Duration,
}

impl Bucket {
    /// Full, at the beginning of time.
    pub fn new(limits: &Limits) -> Bucket {
        let full = u64::from(limits.burst).saturating_mul(1_000);
        let per_second = u64::from(limits.requests_per_second).saturating_mul(1_000);
        Bucket { left: full, full, per_second, at: Duration::ZERO }
    }

    /// Whether a request may be served at `now`, which only grows.
    pub fn take(&mut self, now: Duration) -> bool {
        let passed = now.saturating_sub(self.at).as_millis();
        let passed = u64::try_from(passed).unwrap_or(u64::MAX);
        let filled = self.per_second.saturating_mul(passed) / 1_000;
        self.left = self.left.saturating_add(filled).min(self.full);
        self.at = now;
        match self.left.checked_sub(1_000) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_a_burst_and_then_what_flows_in() {
        let limits = Limits { burst: 3, requests_per_second: 2, ..Limits::default() };
        let mut bucket = Bucket::new(&limits);
        let at = Duration::from_millis;
        let served = |bucket: &mut Bucket, now| (0..9).filter(|_| bucket.take(at(now))).count();
        assert_eq!(served(&mut bucket, 0), 3);
        assert_eq!(served(&mut bucket, 499), 0);
        assert_eq!(served(&mut bucket, 1_000), 2);
        assert_eq!(served(&mut bucket, 60_000), 3);
    }
}
