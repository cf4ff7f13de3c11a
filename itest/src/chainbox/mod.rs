//! A regtest chain in a box: blocks, mempool and consensus as bitcoind has them, as a value.
//!
//! ```text
//!   submit, mine, reorg, pay ─┐   ┌─────────────┐
//!                             ├──▶│  ChainBox   │──▶ events: blocks came and went,
//!   JSON-RPC (rpc::answer) ───┘   └─────────────┘    transactions entered and left
//!         ▲
//!   shell: HTTP, ZMQ, a file of blocks (the program `chainbox`)
//! ```
//!
//! The core knows no socket, file, clock or chance: the same calls give the same chain. Scripts
//! are run by Bitcoin's own interpreter; relay follows Bitcoin Core 29.1 (see [`policy`]).

pub mod accept;
pub mod block;
pub mod chain;
pub mod consensus;
pub mod mempool;
pub mod package;
pub mod policy;
pub mod reject;
pub mod replace;
pub mod rpc;
pub mod script;
pub mod shell;
pub mod truc;
pub mod wallet;

use std::collections::BTreeSet;
use std::sync::Arc;

use bitcoin::{Block, BlockHash, OutPoint, ScriptBuf, Transaction, TxOut, Txid};
use fulmen_channel::amount::{FeeratePerKw, Height, Sat};

use accept::{Candidate, Mode, World};
use block::Template;
use chain::{Chain, Step};
use mempool::{Entry, Mempool};
use package::Judged;
use policy::PerKvb;
pub use reject::Reject;
use wallet::Wallet;

/// When a box begins unless it is told otherwise: a day after the regtest genesis block.
const BEGINNING: u64 = 1_296_775_002;
const A_DAY: u64 = 24 * 60 * 60;

/// What happened, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A block is the tip now.
    Connected(Height, Arc<Block>),
    /// The tip is gone.
    Disconnected(Height, Arc<Block>),
    /// The chain stays at this block for now.
    Tip(BlockHash),
    /// A transaction entered the mempool.
    Entered(Arc<Transaction>),
    /// A transaction left the mempool, and not for a block.
    Left(Txid),
    /// A valid block came, on whatever branch: what a file of blocks must keep.
    Stored(Arc<Block>),
    /// A block was called invalid, or no longer so.
    Marked(BlockHash, bool),
}

/// See the module.
#[derive(Clone, Debug)]
pub struct ChainBox {
    chain: Chain,
    pool: Mempool,
    wallet: Wallet,
    now: u64,
    /// What a fee estimate says, if anything.
    estimate: Option<FeeratePerKw>,
    /// The best block was once less than a day old.
    caught_up: bool,
    events: Vec<Event>,
}

impl Default for ChainBox {
    fn default() -> Self {
        let (chain, pool, wallet, estimate, caught_up, events) = Default::default();
        ChainBox { chain, pool, wallet, now: BEGINNING, estimate, caught_up, events }
    }
}

impl ChainBox {
    /// A chain of the genesis block only.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the clock, in seconds since 1970; it may also go back.
    pub fn set_time(&mut self, now: u64) {
        self.now = now;
    }

    /// The clock.
    pub fn time(&self) -> u64 {
        self.now
    }

    /// What `estimatesmartfee` answers from now on; nothing as long as this is not called.
    pub fn set_estimate(&mut self, rate: Option<FeeratePerKw>) {
        self.estimate = rate;
    }

    /// The least feerate that enters the mempool from now on, as if it were full of better ones.
    pub fn set_minimum(&mut self, rate: PerKvb) {
        self.pool.minimum = rate.max(policy::RELAY_MINIMUM);
    }

    /// The chain.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// The mempool.
    pub fn mempool(&self) -> &Mempool {
        &self.pool
    }

    /// What happened since this was last called.
    pub fn events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Whether the mempool would take a transaction, and what it would replace.
    ///
    /// # Errors
    /// bitcoind's reason why not.
    pub fn would_accept(&self, tx: &Transaction) -> Result<Candidate, Reject> {
        self.world().judge(tx, Mode::Alone)
    }

    /// Hands a transaction to the mempool.
    ///
    /// # Errors
    /// bitcoind's reason why it does not take it.
    pub fn submit(&mut self, tx: &Transaction) -> Result<Txid, Reject> {
        let candidate = self.would_accept(tx)?;
        Ok(self.enter(candidate))
    }

    /// Hands in a parent and a child together; what may enter does.
    ///
    /// # Errors
    /// When they are no such package.
    pub fn submit_package(&mut self, package: &[Transaction]) -> Result<Judged, Reject> {
        let (parent, child) = package::check_form(package)?;
        let judged = package::judge(&self.world(), parent, child);
        for candidate in &judged.accepted {
            self.enter(candidate.clone());
        }
        Ok(judged)
    }

    /// Mines so many blocks to the miner's wallet, with what waits in the mempool.
    pub fn mine(&mut self, blocks: u32) -> Vec<BlockHash> {
        let to = self.wallet.new_address().script_pubkey();
        (0..blocks).filter_map(|_| self.mine_to(to.clone()).ok()).collect()
    }

    /// Mines a block that pays `to`, with what waits in the mempool.
    ///
    /// # Errors
    /// When the clock is hours behind the chain.
    pub fn mine_to(&mut self, to: ScriptBuf) -> Result<BlockHash, Reject> {
        let transactions = self.pool.best();
        let entries = transactions.iter().filter_map(|tx| self.pool.get(&tx.compute_txid()));
        let fees = entries.fold(Sat::ZERO, |sum, entry| sum.saturating_add(entry.fee));
        self.mine_block(transactions, fees, to)
    }

    /// Mines a block of these transactions, whatever the mempool thinks of them, which pays
    /// `fees` beside the subsidy.
    ///
    /// # Errors
    /// When the block is invalid.
    pub fn mine_block(
        &mut self,
        transactions: Vec<Transaction>,
        fees: Sat,
        to: ScriptBuf,
    ) -> Result<BlockHash, Reject> {
        let block = self.template(fees, to).mine(transactions);
        let hash = block.block_hash();
        self.accept_block(block).map(|()| hash)
    }

    /// What the next block starts from.
    pub fn template(&self, fees: Sat, to: ScriptBuf) -> Template {
        let height = self.chain.height().plus(1);
        let after = u64::from(self.chain.median_now()).saturating_add(1);
        Template {
            parent: self.chain.tip(),
            height,
            time: u32::try_from(self.now.max(after)).unwrap_or(u32::MAX),
            to,
            reward: fees.saturating_add(consensus::subsidy(height)),
            extra: u32::try_from(self.chain.known()).unwrap_or(u32::MAX),
        }
    }

    /// Takes a block of whoever made it.
    ///
    /// # Errors
    /// bitcoind's reason why it is invalid.
    pub fn accept_block(&mut self, block: Block) -> Result<(), Reject> {
        let hash = block.block_hash();
        let steps = self.chain.add(block, self.now)?;
        let stored = self.chain.block(&hash).map(|(_, block)| Event::Stored(Arc::clone(block)));
        self.events.extend(stored);
        self.followed(steps);
        Ok(())
    }

    /// Replaces the last `depth` blocks by empty ones and one more; what they held waits again.
    pub fn reorg(&mut self, depth: u32) {
        let first = self.chain.hash_at(self.chain.height().minus(depth).plus(1));
        if first.is_some_and(|first| self.invalidate(first)) {
            let to = self.wallet.new_address().script_pubkey();
            for _ in 0..=depth {
                // Empty blocks on the tip are valid.
                let _ = self.mine_block(Vec::new(), Sat::ZERO, to.clone());
            }
        }
    }

    /// Calls a block invalid; false if it is not known.
    pub fn invalidate(&mut self, hash: BlockHash) -> bool {
        let steps = self.chain.invalidate(hash);
        self.marked(hash, true, steps)
    }

    /// Takes [`ChainBox::invalidate`] back; false if the block is not known.
    pub fn reconsider(&mut self, hash: BlockHash) -> bool {
        let steps = self.chain.reconsider(hash);
        self.marked(hash, false, steps)
    }

    fn marked(&mut self, hash: BlockHash, bad: bool, steps: Option<Vec<Step>>) -> bool {
        let Some(steps) = steps else { return false };
        self.events.push(Event::Marked(hash, bad));
        self.followed(steps);
        true
    }

    /// Pays from the miner's coins into the mempool; nothing if those are not enough: mine first,
    /// 101 blocks for the first coin.
    pub fn pay(&mut self, script_pubkey: ScriptBuf, amount: Sat) -> Option<OutPoint> {
        let coins = self.wallet.coins(&self.chain, &self.pool);
        let to = TxOut { value: amount.to_amount(), script_pubkey };
        let tx = self.wallet.pay(coins, to)?;
        let txid = self.submit(&tx).ok()?;
        Some(OutPoint { txid, vout: 0 })
    }

    /// An unspent output as the chain leaves it, or with `pool` the mempool.
    pub fn unspent(&self, outpoint: &OutPoint, pool: bool) -> Option<consensus::Coin> {
        if pool && self.pool.spender(outpoint).is_some() {
            return None;
        }
        let waits = || self.pool.coin(outpoint, self.chain.height().plus(1)).filter(|_| pool);
        self.chain.coin(outpoint).cloned().or_else(waits)
    }

    fn world(&self) -> World<'_> {
        World { chain: &self.chain, pool: &self.pool, now: self.now }
    }

    fn enter(&mut self, candidate: Candidate) -> Txid {
        let Candidate { entry, replaces } = candidate;
        let gone = self.pool.remove(&replaces);
        self.left(&gone);
        self.wallet.saw(&entry.tx);
        let txid = entry.txid;
        self.events.push(Event::Entered(Arc::clone(&entry.tx)));
        self.pool.insert(entry);
        txid
    }

    fn left(&mut self, gone: &[Entry]) {
        self.events.extend(gone.iter().map(|entry| Event::Left(entry.txid)));
    }

    /// Brings mempool and wallet after what the chain did.
    fn followed(&mut self, steps: Vec<Step>) {
        let mut returning = Vec::new();
        for step in &steps {
            match step {
                Step::Connected(height, block) => {
                    let gone = self.pool.take_block(block);
                    self.left(&gone);
                    block.txdata.iter().for_each(|tx| self.wallet.saw(tx));
                    self.events.push(Event::Connected(*height, Arc::clone(block)));
                }
                Step::Disconnected(height, block) => {
                    returning.splice(0..0, block.txdata.iter().skip(1).cloned());
                    self.events.push(Event::Disconnected(*height, Arc::clone(block)));
                }
            }
        }
        if steps.iter().any(|step| matches!(step, Step::Disconnected(..))) {
            self.refill(returning);
        }
        // As bitcoind has it: a chain that only became shorter is not news.
        if matches!(steps.last(), Some(Step::Connected(..))) {
            self.events.push(Event::Tip(self.chain.tip()));
            let time = self.chain.block(&self.chain.tip()).map_or(0, |(_, tip)| tip.header.time);
            self.caught_up |= u64::from(time).saturating_add(A_DAY) >= self.now;
        }
    }

    /// After a reorganisation: what was in blocks comes back, and what waited is judged anew.
    fn refill(&mut self, returning: Vec<Transaction>) {
        let waited = self.pool.drain();
        let mut lost: BTreeSet<Txid> = waited.iter().map(|entry| entry.txid).collect();
        for tx in &returning {
            if let Ok(Candidate { entry, .. }) = self.world().judge(tx, Mode::Returning) {
                self.events.push(Event::Entered(Arc::clone(&entry.tx)));
                self.pool.insert(entry);
            }
        }
        for old in waited {
            if let Ok(Candidate { entry, .. }) = self.world().judge(&old.tx, Mode::Returning) {
                lost.remove(&old.txid);
                self.pool.insert(Entry { time: old.time, height: old.height, ..entry });
            }
        }
        self.events.extend(lost.into_iter().map(Event::Left));
    }
}
