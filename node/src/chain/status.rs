//! What is known of the chain at any moment, for whoever asks.

use super::follow::BlockRef;
use super::watcher::Watcher;
use crate::clock::unix_time;
use fulmen_channel::amount::Height;

/// For so many seconds after all blocks were here the last of them still tells how near an HTLC is
/// to its end: a few more may have come, far fewer than an HTLC for us must be away from it.
const FRESH: u64 = 600;
/// So many blocks that bitcoind knows may be on their way here.
const FEW: u32 = 2;

/// See the module.
#[derive(Debug, Clone, Copy)]
pub struct Status {
    /// The last block that was delivered; before that, the last that was processed.
    pub tip: BlockRef,
    /// The best header that bitcoind knows.
    pub best_height: Height,
    /// Unix time of the block that was bitcoind's best when it first answered; 0 before.
    pub best_time: u32,
    /// bitcoind is up and has caught up, and all its blocks are delivered.
    pub synced: bool,
    /// bitcoind answered when last asked.
    pub up: bool,
    /// When bitcoind last said that there is no further block, in unix time; 0 before it ever did.
    tip_at: u64,
}

impl Status {
    /// Before bitcoind was asked anything.
    pub fn at(tip: BlockRef) -> Status {
        let best_height = tip.height;
        Status { tip, best_height, best_time: 0, synced: false, up: false, tip_at: 0 }
    }

    /// After a turn, which is `idle` when there was nothing to do.
    pub fn after(&mut self, watcher: &Watcher, idle: bool) {
        self.tip = watcher.tip().unwrap_or(self.tip);
        self.best_height = watcher.best_height();
        (self.synced, self.up) = (watcher.synced(), watcher.up());
        if idle && self.synced {
            self.tip_at = unix_time();
        }
    }

    /// Whether the last block tells how near an HTLC is to its end: bitcoind may be away for a
    /// while, in which few blocks come.
    pub fn is_fresh(&self) -> bool {
        let since = unix_time().saturating_sub(self.tip_at);
        since < FRESH && self.best_height <= self.tip.height.plus(FEW)
    }
}
