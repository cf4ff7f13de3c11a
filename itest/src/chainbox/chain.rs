//! All blocks, which of them are the best chain, and the coins that it leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bitcoin::blockdata::constants::genesis_block;
use bitcoin::{Block, BlockHash, Network, OutPoint, Transaction, TxOut, Txid};
use fulmen_channel::amount::{Height, Sat};

use super::block;
use super::consensus::{self, Coin, MAX_BLOCK_SIGOPS};
use super::reject::Reject;
use super::script;

/// Blocks of which a median time is taken.
const MEDIAN_OF: usize = 11;

/// The best chain grew or shrank by a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A block is the tip now.
    Connected(Height, Arc<Block>),
    /// The tip is gone.
    Disconnected(Height, Arc<Block>),
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Chain {
    blocks: BTreeMap<BlockHash, Stored>,
    /// The best chain, from the genesis block on.
    active: Vec<BlockHash>,
    coins: BTreeMap<OutPoint, Coin>,
}

#[derive(Clone, Debug)]
struct Stored {
    block: Arc<Block>,
    height: Height,
    /// How many blocks were known before: of two as high the first one wins.
    order: usize,
    /// It is invalid, was called so, or comes after such a one.
    bad: bool,
    /// The coins that it spent; of a block of the best chain.
    spent: Vec<(OutPoint, Coin)>,
}

impl Default for Chain {
    fn default() -> Self {
        let block = Arc::new(genesis_block(Network::Regtest));
        let hash = block.block_hash();
        let spent = Vec::new();
        let genesis = Stored { block, height: Height::new(0), order: 0, bad: false, spent };
        let blocks = BTreeMap::from([(hash, genesis)]);
        // The genesis block's coinbase cannot be spent.
        Chain { blocks, active: vec![hash], coins: BTreeMap::new() }
    }
}

impl Chain {
    /// The height of the best block.
    pub fn height(&self) -> Height {
        let height = self.active.len().saturating_sub(1);
        Height::new(u32::try_from(height).unwrap_or(u32::MAX))
    }

    /// The best block.
    pub fn tip(&self) -> BlockHash {
        // The genesis block never goes.
        self.active.last().copied().unwrap_or_else(|| genesis_block(Network::Regtest).block_hash())
    }

    /// The best chain's block at a height.
    pub fn hash_at(&self, height: Height) -> Option<BlockHash> {
        self.active.get(usize::try_from(height.number()).ok()?).copied()
    }

    /// A block, of the best chain or not, and its height.
    pub fn block(&self, hash: &BlockHash) -> Option<(Height, &Arc<Block>)> {
        self.blocks.get(hash).map(|stored| (stored.height, &stored.block))
    }

    /// How many blocks are known, on whatever branch.
    pub fn known(&self) -> usize {
        self.blocks.len()
    }

    /// The confirmations of a block: 1 for the tip, nothing off the best chain.
    pub fn confirmations(&self, hash: &BlockHash) -> Option<u32> {
        let (height, _) = self.block(hash)?;
        let is_active = self.hash_at(height) == Some(*hash);
        is_active.then(|| self.height().plus(1).number().saturating_sub(height.number()))
    }

    /// The unspent output, as the best chain leaves it.
    pub fn coin(&self, outpoint: &OutPoint) -> Option<&Coin> {
        self.coins.get(outpoint)
    }

    /// All unspent outputs.
    pub fn coins(&self) -> impl Iterator<Item = (&OutPoint, &Coin)> {
        self.coins.iter()
    }

    /// A transaction of the best chain, and the block that holds it.
    pub fn find(&self, txid: &Txid) -> Option<(BlockHash, &Transaction)> {
        self.active.iter().rev().find_map(|hash| {
            let block = &self.blocks.get(hash)?.block;
            Some((*hash, block.txdata.iter().find(|tx| tx.compute_txid() == *txid)?))
        })
    }

    /// The median time past of the best chain at a height (BIP 113).
    pub fn median_at(&self, height: Height) -> u32 {
        self.hash_at(height).map_or(0, |hash| self.median(hash))
    }

    /// The median time past of the best block: a new one's must be greater.
    pub fn median_now(&self) -> u32 {
        self.median(self.tip())
    }

    /// The median of the times of a block and the ten before it.
    pub fn median(&self, hash: BlockHash) -> u32 {
        let mut times = Vec::new();
        let mut next = self.blocks.get(&hash);
        while let Some(stored) = next.filter(|_| times.len() < MEDIAN_OF) {
            times.push(stored.block.header.time);
            next = self.blocks.get(&stored.block.header.prev_blockhash);
        }
        times.sort_unstable();
        times.get(times.len() / 2).copied().unwrap_or(0)
    }

    /// Takes a block by a clock that shows `now`; what the best chain did then.
    ///
    /// # Errors
    /// Why it is invalid: it is not kept then, or never tried again.
    pub fn add(&mut self, block: Block, now: u64) -> Result<Vec<Step>, Reject> {
        let (hash, parent) = (block.block_hash(), block.header.prev_blockhash);
        if let Some(known) = self.blocks.get(&hash) {
            return Err(Reject::new(if known.bad { "duplicate-invalid" } else { "duplicate" }));
        }
        let before = self.blocks.get(&parent).ok_or_else(|| Reject::new("prev-blk-not-found"))?;
        if before.bad {
            return Err(Reject::new("bad-prevblk"));
        }
        let (height, median) = (before.height.plus(1), self.median(parent));
        block::check_header(&block.header, median, now)?;
        block::check(&block, height, median)?;
        let (block, order) = (Arc::new(block), self.blocks.len());
        self.blocks.insert(hash, Stored { block, height, order, bad: false, spent: Vec::new() });
        let (steps, failed) = self.follow_best();
        match failed.into_iter().find(|(bad, _)| *bad == hash) {
            Some((_, why)) if steps.is_empty() => Err(why),
            _ => Ok(steps),
        }
    }

    /// Calls a block and all after it invalid; nothing if it is not known or the first.
    pub fn invalidate(&mut self, hash: BlockHash) -> Option<Vec<Step>> {
        self.blocks.get(&hash).filter(|stored| stored.height.number() > 0)?;
        let bad = self.descendants(hash);
        let mut steps = Vec::new();
        while bad.contains(&self.tip()) {
            steps.extend(self.disconnect());
        }
        self.set_bad(&bad, true);
        steps.extend(self.follow_best().0);
        Some(steps)
    }

    /// Gives a block, those before and those after it another chance; nothing if it is not known.
    pub fn reconsider(&mut self, hash: BlockHash) -> Option<Vec<Step>> {
        self.blocks.get(&hash)?;
        let mut again = self.descendants(hash);
        let mut next = self.blocks.get(&hash);
        while let Some(stored) = next {
            again.insert(stored.block.block_hash());
            next = self.blocks.get(&stored.block.header.prev_blockhash);
        }
        self.set_bad(&again, false);
        Some(self.follow_best().0)
    }

    fn set_bad(&mut self, hashes: &BTreeSet<BlockHash>, bad: bool) {
        for hash in hashes {
            if let Some(stored) = self.blocks.get_mut(hash) {
                stored.bad = bad;
            }
        }
    }

    /// A block and all that build on it.
    fn descendants(&self, hash: BlockHash) -> BTreeSet<BlockHash> {
        let mut found = BTreeSet::from([hash]);
        let mut by_height: Vec<(&BlockHash, &Stored)> = self.blocks.iter().collect();
        by_height.sort_by_key(|(_, stored)| stored.height);
        for (hash, stored) in by_height {
            if found.contains(&stored.block.header.prev_blockhash) {
                found.insert(*hash);
            }
        }
        found
    }

    /// Makes the best branch the active one; the steps, and blocks that turned out invalid.
    fn follow_best(&mut self) -> (Vec<Step>, Vec<(BlockHash, Reject)>) {
        let (mut steps, mut failed) = (Vec::new(), Vec::new());
        loop {
            let good = self.blocks.iter().filter(|(_, stored)| !stored.bad);
            // All blocks have the same work: the highest has the most.
            let best = good.max_by_key(|(hash, stored)| {
                let first = std::cmp::Reverse(stored.order);
                (stored.height, **hash == self.tip(), first)
            });
            let Some((best, _)) = best.filter(|(hash, _)| **hash != self.tip()) else { break };
            let mut branch = vec![*best];
            while let Some(parent) = self.branch_parent(branch.last()) {
                branch.push(parent);
            }
            let fork = branch.last().and_then(|hash| self.blocks.get(hash));
            let fork = fork.map_or(Height::new(0), |first| first.height.minus(1));
            while self.height() > fork {
                steps.extend(self.disconnect());
            }
            for hash in branch.into_iter().rev() {
                match self.connect(hash) {
                    Ok(step) => steps.extend(step),
                    Err(why) => {
                        let bad = self.descendants(hash);
                        self.set_bad(&bad, true);
                        failed.push((hash, why));
                        break;
                    }
                }
            }
        }
        (without_detours(steps), failed)
    }

    /// The block before `hash`, unless that is in the active chain.
    fn branch_parent(&self, hash: Option<&BlockHash>) -> Option<BlockHash> {
        let parent = self.blocks.get(hash?)?.block.header.prev_blockhash;
        self.confirmations(&parent).is_none().then_some(parent)
    }

    fn connect(&mut self, hash: BlockHash) -> Result<Option<Step>, Reject> {
        let Some(stored) = self.blocks.get(&hash) else { return Ok(None) };
        let (block, height) = (Arc::clone(&stored.block), stored.height);
        let mut spent = Vec::new();
        if let Err(why) = self.apply(&block, height, &mut spent) {
            self.revert(&block, spent);
            return Err(why);
        }
        if let Some(stored) = self.blocks.get_mut(&hash) {
            stored.spent = spent;
        }
        self.active.push(hash);
        Ok(Some(Step::Connected(height, block)))
    }

    /// Spends and makes the block's coins, with every rule that needs them.
    fn apply(
        &mut self,
        block: &Block,
        height: Height,
        undo: &mut Vec<(OutPoint, Coin)>,
    ) -> Result<(), Reject> {
        let median = self.median_now();
        let (mut fees, mut sigops) = (Sat::ZERO, 0_usize);
        for tx in &block.txdata {
            if !tx.is_coinbase() {
                let spent: Option<Vec<Coin>> = tx
                    .input
                    .iter()
                    .map(|input| self.coin(&input.previous_output).cloned())
                    .collect();
                let spent = spent.ok_or_else(Reject::missing)?;
                fees = fees.saturating_add(consensus::fee(tx, &spent, height)?);
                if !consensus::is_ripe(tx, &spent, height, median, |at| self.median_at(at)) {
                    return Err(Reject::new("bad-txns-nonfinal"));
                }
                let outputs: Vec<TxOut> = spent.into_iter().map(|coin| coin.output).collect();
                script::verify(tx, &outputs)?;
            }
            let spent = |outpoint: &OutPoint| Some(self.coin(outpoint)?.output.clone());
            sigops = sigops.saturating_add(tx.total_sigop_cost(spent));
            for input in &tx.input {
                let taken = self.coins.remove(&input.previous_output);
                undo.extend(taken.map(|coin| (input.previous_output, coin)));
            }
            self.make(tx, height);
        }
        if sigops > MAX_BLOCK_SIGOPS {
            return Err(Reject::detailed("bad-blk-sigops", "too many sigops"));
        }
        let pays = block.txdata.first().map_or(Sat::ZERO, paid);
        let most = fees.saturating_add(consensus::subsidy(height));
        if pays > most {
            let details =
                format!("coinbase pays too much (actual={} vs limit={})", pays.sat(), most.sat());
            return Err(Reject::detailed("bad-cb-amount", details));
        }
        Ok(())
    }

    fn make(&mut self, tx: &Transaction, height: Height) {
        let (txid, coinbase) = (tx.compute_txid(), tx.is_coinbase());
        for (vout, output) in (0_u32..).zip(&tx.output) {
            if !output.script_pubkey.is_op_return() {
                let coin = Coin { output: output.clone(), height, coinbase };
                self.coins.insert(OutPoint { txid, vout }, coin);
            }
        }
    }

    /// Undoes a block: first what it spent comes back, then what it made goes.
    fn revert(&mut self, block: &Block, spent: Vec<(OutPoint, Coin)>) {
        self.coins.extend(spent);
        for tx in &block.txdata {
            let txid = tx.compute_txid();
            for (vout, _) in (0_u32..).zip(&tx.output) {
                self.coins.remove(&OutPoint { txid, vout });
            }
        }
    }

    fn disconnect(&mut self) -> Option<Step> {
        let stored = self.blocks.get_mut(self.active.last()?)?;
        let (spent, block) = (std::mem::take(&mut stored.spent), Arc::clone(&stored.block));
        let height = stored.height;
        self.active.pop();
        self.revert(&block, spent);
        Some(Step::Disconnected(height, block))
    }
}

fn paid(tx: &Transaction) -> Sat {
    tx.output.iter().map(|output| output.value).sum::<bitcoin::Amount>().into()
}

/// The steps without blocks that came and went at once, for a branch that proved invalid.
fn without_detours(steps: Vec<Step>) -> Vec<Step> {
    let mut straight: Vec<Step> = Vec::new();
    for step in steps {
        let undoes = match (straight.last(), &step) {
            (Some(Step::Connected(_, a)), Step::Disconnected(_, b)) => Arc::ptr_eq(a, b),
            (Some(Step::Disconnected(_, a)), Step::Connected(_, b)) => Arc::ptr_eq(a, b),
            _ => false,
        };
        if undoes {
            straight.pop();
        } else {
            straight.push(step);
        }
    }
    straight
}
