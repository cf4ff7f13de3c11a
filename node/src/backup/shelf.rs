//! What peers have us keep (BOLT 1, peer storage): the latest of each, written once a minute at
//! most. Pure.

use bitcoin::secp256k1::PublicKey;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A peer's writes are this far apart on disk.
pub const EVERY: Duration = Duration::from_secs(60);

/// What is not on disk yet, and when what was written last.
#[derive(Debug, Default)]
pub struct Shelf {
    waiting: BTreeMap<PublicKey, Vec<u8>>,
    written: BTreeMap<PublicKey, Instant>,
}

impl Shelf {
    /// Takes a peer's blob in place of its last; returns it if it is to be written at once.
    pub fn take(&mut self, peer: PublicKey, blob: Vec<u8>, now: Instant) -> Option<Vec<u8>> {
        if self.is_due(&peer, now) {
            self.waiting.remove(&peer);
            self.written.insert(peer, now);
            return Some(blob);
        }
        self.waiting.insert(peer, blob);
        None
    }

    /// What is to be written by now.
    pub fn due(&mut self, now: Instant) -> Vec<(PublicKey, Vec<u8>)> {
        self.written.retain(|_, at| now.saturating_duration_since(*at) < EVERY);
        let due: Vec<PublicKey> =
            self.waiting.keys().filter(|peer| self.is_due(peer, now)).copied().collect();
        let take = |peer| {
            let blob = self.waiting.remove(&peer)?;
            self.written.insert(peer, now);
            Some((peer, blob))
        };
        due.into_iter().filter_map(take).collect()
    }

    /// All that waits, as the daemon stops.
    pub fn all(&mut self) -> Vec<(PublicKey, Vec<u8>)> {
        std::mem::take(&mut self.waiting).into_iter().collect()
    }

    /// A peer's blob that is not on disk yet.
    pub fn waiting(&self, peer: &PublicKey) -> Option<&[u8]> {
        self.waiting.get(peer).map(Vec::as_slice)
    }

    fn is_due(&self, peer: &PublicKey, now: Instant) -> bool {
        let since = self.written.get(peer).map(|at| now.saturating_duration_since(*at));
        since.is_none_or(|since| since >= EVERY)
    }
}
