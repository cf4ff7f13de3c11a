//! How long a channel was looked at since the start, and for how much of that its peer was there.
//! Pure: the clock is handed in.

use std::time::Duration;
use tokio::time::Instant;

/// A channel's and its peer's time together.
#[derive(Debug)]
pub struct Presence {
    began: Instant,
    /// The peer is here, since then.
    here: Option<Instant>,
    /// How long it was here before.
    before: Duration,
}

impl Presence {
    /// Looks at a channel from `now` on, whose peer is not there.
    pub fn since(now: Instant) -> Self {
        Presence { began: now, here: None, before: Duration::ZERO }
    }

    /// The peer is connected.
    pub fn comes(&mut self, now: Instant) {
        self.here.get_or_insert(now);
    }

    /// It is no longer.
    pub fn goes(&mut self, now: Instant) {
        self.before = self.with_peer(now);
        self.here = None;
    }

    /// How long the channel was looked at.
    pub fn looked_at(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.began)
    }

    /// How long the peer was there meanwhile.
    pub fn with_peer(&self, now: Instant) -> Duration {
        let here = self.here.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        self.before.saturating_add(here)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_time_with_the_peer_counts_as_such() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let mut presence = Presence::since(began);
        let seen = |presence: &Presence, second| {
            (presence.looked_at(at(second)).as_secs(), presence.with_peer(at(second)).as_secs())
        };
        assert_eq!(seen(&presence, 5), (5, 0));
        presence.comes(at(10));
        assert_eq!(seen(&presence, 25), (25, 15));
        presence.comes(at(30));
        presence.goes(at(40));
        assert_eq!(seen(&presence, 50), (50, 30));
        presence.goes(at(55));
        presence.comes(at(60));
        assert_eq!(seen(&presence, 61), (61, 31));
    }
}
