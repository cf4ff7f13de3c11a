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
    /// Holds a peer's blob in place of its last, until that peer is known or gone.
    pub fn hold(&mut self, peer: PublicKey, blob: Vec<u8>) {
        self.waiting.insert(peer, blob);
    }

    /// Forgets what waits of peers that have no channel any more.
    pub fn keep_only(&mut self, has_channel: impl Fn(&PublicKey) -> bool) {
        self.waiting.retain(|peer, _| has_channel(peer));
    }

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

    /// What is to be written by now, of peers that are `known`: what others gave goes on waiting.
    pub fn due(
        &mut self,
        now: Instant,
        known: impl Fn(&PublicKey) -> bool,
    ) -> Vec<(PublicKey, Vec<u8>)> {
        self.written.retain(|_, at| now.saturating_duration_since(*at) < EVERY);
        let is_due = |peer: &&PublicKey| self.is_due(peer, now) && known(peer);
        let due: Vec<PublicKey> = self.waiting.keys().filter(is_due).copied().collect();
        let take = |peer| {
            let blob = self.waiting.remove(&peer)?;
            self.written.insert(peer, now);
            Some((peer, blob))
        };
        due.into_iter().filter_map(take).collect()
    }

    /// All that waits of peers that are `known`, as the daemon stops.
    pub fn all(&mut self, known: impl Fn(&PublicKey) -> bool) -> Vec<(PublicKey, Vec<u8>)> {
        std::mem::take(&mut self.waiting).into_iter().filter(|(peer, _)| known(peer)).collect()
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
