//! The wallet's view of the chain: the latest blocks, and those that hold our transactions.

use crate::chain::BlockRef;
use bdk_chain::{BlockId, ChainOracle};
use bitcoin::BlockHash;
use fulmen_channel::amount::Height;
use std::collections::BTreeMap;
use std::convert::Infallible;

/// How many of the latest blocks are kept, for a restart after bitcoind lost some.
const LATEST: u32 = 144;

#[derive(Default)]
pub(super) struct Blocks {
    by_height: BTreeMap<Height, BlockHash>,
}

impl Blocks {
    pub fn new(by_height: BTreeMap<Height, BlockHash>) -> Blocks {
        Blocks { by_height }
    }

    pub fn tip(&self) -> Option<BlockRef> {
        let (height, hash) = self.by_height.last_key_value()?;
        Some(BlockRef { height: *height, hash: *hash })
    }

    /// As bdk names it; the zero block before the first.
    pub fn tip_id(&self) -> BlockId {
        let id = |at: BlockRef| BlockId { height: at.height.number(), hash: at.hash };
        self.tip().map_or(BlockId::default(), id)
    }

    /// Our chain's block at `height`, if it is still known.
    pub fn at(&self, height: Height) -> Option<BlockHash> {
        self.by_height.get(&height).copied()
    }

    /// Whether `height` is, or will be, among the latest.
    pub fn is_latest(&self, height: Height) -> bool {
        self.tip().is_none_or(|tip| height > tip.height.minus(LATEST))
    }

    pub fn connect(&mut self, at: BlockRef) {
        self.by_height.insert(at.height, at.hash);
    }

    pub fn disconnect(&mut self, at: BlockRef) {
        self.by_height.remove(&at.height);
    }

    /// Forgets the block that is no longer among the latest, unless `needed`, and returns it.
    pub fn prune(&mut self, needed: impl Fn(Height) -> bool) -> Option<Height> {
        let old = self.tip()?.height.minus(LATEST);
        if needed(old) {
            return None;
        }
        self.by_height.remove(&old).map(|_| old)
    }

    /// The latest blocks without a gap, newest last.
    pub fn recent(&self) -> Vec<BlockRef> {
        let mut recent: Vec<BlockRef> = Vec::new();
        for (height, hash) in self.by_height.iter().rev() {
            if recent.last().is_some_and(|above| above.height != height.plus(1)) {
                break;
            }
            recent.push(BlockRef { height: *height, hash: *hash });
        }
        recent.reverse();
        recent
    }
}

impl ChainOracle for Blocks {
    type Error = Infallible;

    /// Asked only for blocks that hold, or once held, a transaction of ours: those in our chain
    /// are all here.
    fn is_block_in_chain(&self, block: BlockId, _: BlockId) -> Result<Option<bool>, Infallible> {
        Ok(Some(self.by_height.get(&Height::new(block.height)) == Some(&block.hash)))
    }

    fn get_chain_tip(&self) -> Result<BlockId, Infallible> {
        Ok(self.tip_id())
    }
}
