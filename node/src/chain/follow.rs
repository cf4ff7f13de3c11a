//! Following the best chain, one block at a time: pure, over a trait that answers two questions.
//!
//! ```text
//!   our chain      … ── 100 ── 101 ── 102            what the daemon has processed
//!   bitcoind's     … ── 100 ── 101'── 102'── 103'    its active chain
//!
//!   steps: Disconnect 102, Disconnect 101, Connect 101', Connect 102', Connect 103', AtTip
//! ```

use bitcoin::{Block, BlockHash};
use fulmen_channel::amount::Height;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

/// A block by height and hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BlockRef {
    /// Its height.
    pub height: Height,
    /// Its hash.
    pub hash: BlockHash,
}

impl fmt::Display for BlockRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.height, self.hash)
    }
}

/// What a follower asks of a node.
pub trait BlockSource {
    /// Why the node did not answer.
    type Error;
    /// The active chain's best block.
    fn best(&self) -> Result<BlockRef, Self::Error>;
    /// The active chain's block at `height`, or nothing beyond its tip.
    fn hash_at(&self, height: Height) -> Result<Option<BlockHash>, Self::Error>;
    /// The block before `hash`, in the active chain or not; nothing if `hash` is not known.
    fn parent(&self, hash: BlockHash) -> Result<Option<BlockHash>, Self::Error>;
    /// The whole block, in the active chain or not.
    fn block(&self, hash: BlockHash) -> Result<Block, Self::Error>;
}

/// What happened to our chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// This block is our new tip.
    Connect(BlockRef, Arc<Block>),
    /// This block, our tip until now, is no longer in the chain.
    Disconnect(BlockRef),
    /// There is nothing to do.
    AtTip,
}

/// Why the chain cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum FollowError<E> {
    /// bitcoind shares no block with us that we still know of.
    #[error(
        "bitcoind does not know block {0}, which we have processed: it follows another chain \
         than before; give us the bitcoind (or its data directory) that we used until now"
    )]
    Stranger(BlockRef),
    /// bitcoind did not answer.
    #[error(transparent)]
    Source(#[from] E),
}

/// How many blocks we remember ourselves. Deeper ones are asked for, so this bounds no reorg.
pub const RECENT: usize = 144;

/// Our view of the best chain.
#[derive(Debug, Clone, Default)]
pub struct Follower {
    /// Newest last, without gaps.
    recent: VecDeque<BlockRef>,
}

impl Follower {
    /// Goes on after `recent`, the last processed blocks (newest last, without gaps; one is enough
    /// where bitcoind never forgets a block, more help when it lost its newest in a crash). With
    /// none, the first step connects bitcoind's best block.
    pub fn new(recent: impl IntoIterator<Item = BlockRef>) -> Follower {
        Follower { recent: recent.into_iter().collect() }
    }

    /// The last block processed.
    pub fn tip(&self) -> Option<BlockRef> {
        self.recent.back().copied()
    }

    /// Our chain's block at `height`, if it is recent.
    pub fn recent_at(&self, height: Height) -> Option<BlockRef> {
        self.recent.iter().rev().find(|block| block.height == height).copied()
    }

    /// Takes one step towards the source's best chain.
    pub fn step<S: BlockSource>(&mut self, source: &S) -> Result<Step, FollowError<S::Error>> {
        let Some(tip) = self.tip() else {
            let best = source.best()?;
            let block = source.block(best.hash)?;
            return Ok(self.connect(best, block));
        };
        if source.hash_at(tip.height)? != Some(tip.hash) {
            return self.disconnect(tip, source);
        }
        let height = tip.height.plus(1);
        let Some(hash) = source.hash_at(height)? else { return Ok(Step::AtTip) };
        let block = source.block(hash)?;
        if block.header.prev_blockhash != tip.hash {
            // A reorg between the two questions: our tip is stale.
            return self.disconnect(tip, source);
        }
        Ok(self.connect(BlockRef { height, hash }, block))
    }

    fn connect(&mut self, at: BlockRef, block: Block) -> Step {
        self.recent.push_back(at);
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
        Step::Connect(at, Arc::new(block))
    }

    fn disconnect<S: BlockSource>(
        &mut self,
        tip: BlockRef,
        source: &S,
    ) -> Result<Step, FollowError<S::Error>> {
        if self.recent.len() == 1 {
            // The last that we remember: it may only go when we know what stands below it.
            let parent = match tip.height {
                height if height.number() == 0 => None,
                _ => source.parent(tip.hash)?,
            };
            let hash = parent.ok_or(FollowError::Stranger(tip))?;
            self.recent.push_front(BlockRef { height: tip.height.minus(1), hash });
        }
        self.recent.pop_back();
        Ok(Step::Disconnect(tip))
    }
}
