//! Peers that keep our blob (BOLT 1, peer storage), and which of them is to get a new one now:
//! pure.

use super::blob::{Content, Numbers, LARGE};
use bitcoin::secp256k1::PublicKey;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How far apart blobs are that differ only in how far channels are.
pub const EVERY: Duration = Duration::from_secs(60);

/// A connected peer that offers `option_provide_storage`.
#[derive(Debug, Default)]
struct Keeper {
    /// What it kept for us has come back, if it kept anything: a new blob covers up none.
    ready: bool,
    /// What it got on this connection, and when.
    sent: Option<(Content, Instant)>,
    /// It got a large blob on this connection.
    large: bool,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Keepers {
    connected: BTreeMap<PublicKey, Keeper>,
    /// Those that complained of a large blob.
    small: Vec<PublicKey>,
    /// The highest numbers that came back: an old copy of the database must not make peers forget
    /// them.
    witnessed: Numbers,
}

impl Keepers {
    /// A peer is connected that keeps blobs.
    pub fn connected(&mut self, peer: PublicKey) {
        self.connected.insert(peer, Keeper::default());
    }

    /// A peer is gone.
    pub fn disconnected(&mut self, peer: &PublicKey) {
        self.connected.remove(peer);
    }

    /// A peer speaks of channels, which it does after it gave back what it keeps. Whether that is
    /// new.
    pub fn ready(&mut self, peer: &PublicKey) -> bool {
        let keeper = self.connected.get_mut(peer);
        keeper.is_some_and(|keeper| !std::mem::replace(&mut keeper.ready, true))
    }

    /// A peer warned of something: maybe of a blob that was too large for it.
    pub fn warned(&mut self, peer: &PublicKey) {
        let Some(keeper) = self.connected.get_mut(peer).filter(|keeper| keeper.large) else {
            return;
        };
        keeper.large = false;
        keeper.sent = None;
        self.small.push(*peer);
    }

    /// Numbers came back.
    pub fn witnessed(&mut self, numbers: &Numbers) {
        for (index, number) in numbers {
            let known = self.witnessed.entry(*index).or_default();
            *known = (*known).max(*number);
        }
    }

    /// `content` with the highest numbers known of its channels.
    pub fn with_witnessed(&self, mut content: Content) -> Content {
        for (index, number) in &mut content.numbers {
            *number = (*number).max(self.witnessed.get(index).copied().unwrap_or_default());
        }
        content
    }

    /// Who is to get `content` now, and whether it takes small blobs only. At the `end` all get
    /// what is new.
    pub fn due(&self, content: &Content, now: Instant, end: bool) -> Vec<(PublicKey, bool)> {
        let is_due = |keeper: &Keeper| match &keeper.sent {
            None => true,
            Some((sent, _)) if sent == content => false,
            Some((sent, at)) => {
                let pause_is_over = now.saturating_duration_since(*at) >= EVERY;
                end || pause_is_over || sent.backups != content.backups
            }
        };
        let ready = self.connected.iter().filter(|(_, keeper)| keeper.ready && is_due(keeper));
        ready.map(|(peer, _)| (*peer, self.small.contains(peer))).collect()
    }

    /// A peer gets a blob of `size` bytes now.
    pub fn sent(&mut self, peer: &PublicKey, content: &Content, size: usize, now: Instant) {
        if let Some(keeper) = self.connected.get_mut(peer) {
            keeper.sent = Some((content.clone(), now));
            keeper.large = size >= LARGE;
        }
    }
}
