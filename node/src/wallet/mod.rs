//! The wallet: BIP 49, 84 and 86 keychains under one coin selection. Pure: it is fed blocks and
//! mempool transactions, and writes what changed into the caller's unit of work.
//!
//! ```text
//!   blocks, mempool ──► graph of our transactions ──► coins ──► fund ──► reservation ──► sign
//!                             (bdk_chain)            (ours,      │
//!                                                   unspent)     └ the anchor reserve stays
//! ```
//!
//! Memory changes at once, the disk with the unit: commit it before anything that relies on it is
//! said. If that fails, the daemon stops (rules of the store), so the two cannot drift apart.

mod blocks;
mod coins;
mod fund;
mod history;
mod keychain;
mod recover;
mod rows;
mod select;
mod sign;

pub use coins::{anchor_reserve, Balance, Coin, Standing};
pub use fund::{FundError, FundRequest, Plan, Reservation, DUST};
pub use history::WalletTx;
pub use keychain::Keychain;
pub use recover::{ask_recovery, asked_recovery, Recovery, Span};
pub use select::Strategy;

use crate::chain::BlockRef;
use crate::keys::{KeyRing, Purpose};
use crate::store::{KeyRange, Row, Store, StoreError, Table, Unit};
use bdk_chain::keychain_txout::DEFAULT_LOOKAHEAD;
use bdk_chain::{keychain_txout, tx_graph, ConfirmationBlockTime, DescriptorExt, IndexedTxGraph};
use bitcoin::{Address, Block, Network, OutPoint, ScriptBuf, Transaction, Txid};
use blocks::Blocks;
use coins::View;
use keychain::Accounts;
use rows::{Changes, Index, Loaded};
use std::collections::{BTreeMap, BTreeSet};

/// Why the wallet cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum WalletError {
    /// A key could not be derived.
    #[error("the wallet's keys: {0}")]
    Keys(String),
    /// A row is not what was written.
    #[error("the wallet's row {0} is damaged")]
    Damaged(String),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Blocks come one after another.
    #[error("the wallet was given block {given}, but stands at {at}")]
    OutOfOrder {
        /// What came.
        given: BlockRef,
        /// Where we are.
        at: String,
    },
}

/// See the module.
pub struct Wallet {
    network: Network,
    accounts: Accounts,
    graph: IndexedTxGraph<ConfirmationBlockTime, Index>,
    blocks: Blocks,
    /// Transactions that hold inputs of ours, by their ids.
    reserved: BTreeMap<Txid, Transaction>,
    /// What whoever sent them calls them.
    labels: BTreeMap<Txid, String>,
    /// What appeared or confirmed since [`Wallet::take_news`].
    news: BTreeSet<Txid>,
    recovery: Option<Recovery>,
}

impl Wallet {
    /// The wallet in `store`; a new one if there is none.
    pub fn load(ring: &KeyRing, network: Network, store: &Store) -> Result<Wallet, WalletError> {
        let rows = |table| store.scan(table, &KeyRange::all(), usize::MAX, false);
        Wallet::from_rows(ring, network, rows(Table::Wallet)?, rows(Table::Reservation)?)
    }

    /// The wallet that these rows of `Table::Wallet` and `Table::Reservation` describe.
    pub fn from_rows(
        ring: &KeyRing,
        network: Network,
        wallet: Vec<Row>,
        reservations: Vec<Row>,
    ) -> Result<Wallet, WalletError> {
        let accounts = Accounts::new(ring)?;
        let loaded = Loaded::read(wallet)?;
        let window = loaded.recovery.map_or(0, |recovery| recovery.window);
        let index = accounts.index(window.max(DEFAULT_LOOKAHEAD))?;
        let mut last_revealed = BTreeMap::new();
        for (keychain, last) in loaded.revealed {
            let id = index.get_descriptor(keychain).map(|descriptor| descriptor.descriptor_id());
            last_revealed.extend(id.map(|id| (id, last)));
        }
        let indexer = keychain_txout::ChangeSet { last_revealed, ..Default::default() };
        let mut graph = IndexedTxGraph::new(index);
        // bdk takes the first time that it is told of as the one of the first sight.
        let first = tx_graph::ChangeSet {
            last_seen: loaded.graph.first_seen.clone(),
            ..Default::default()
        };
        graph.apply_changeset(Changes { tx_graph: first, ..Default::default() });
        graph.apply_changeset(Changes { tx_graph: loaded.graph, indexer });
        let mut reserved = BTreeMap::new();
        for row in reservations {
            let tx = rows::read_reservation(&row)?;
            reserved.insert(tx.compute_txid(), tx);
        }
        let (blocks, labels, recovery) =
            (Blocks::new(loaded.blocks), loaded.labels, loaded.recovery);
        let news = BTreeSet::new();
        Ok(Wallet { network, accounts, graph, blocks, reserved, labels, news, recovery })
    }

    /// The last block taken in.
    pub fn tip(&self) -> Option<BlockRef> {
        self.blocks.tip()
    }

    /// The latest blocks taken in, newest last: where the chain is to go on after a restart.
    pub fn recent_blocks(&self) -> Vec<BlockRef> {
        self.blocks.recent()
    }

    /// Takes in the next block; the first one may have any height.
    pub fn connect(
        &mut self,
        at: BlockRef,
        block: &Block,
        unit: &mut Unit,
    ) -> Result<(), WalletError> {
        if let Some(tip) = self.blocks.tip() {
            let follows = block.header.prev_blockhash == tip.hash;
            if !follows || at.height != tip.height.plus(1) {
                return Err(WalletError::OutOfOrder { given: at, at: tip.to_string() });
            }
        }
        self.blocks.connect(at);
        rows::put_block(unit, at.height, at.hash);
        let changes = self.graph.apply_block_relevant(block, at.height.number());
        self.news.extend(changes.tx_graph.anchors.iter().map(|(_, txid)| *txid));
        rows::put_changes(unit, changes, &self.graph.index);
        self.free_decided(block, unit);
        let graph = self.graph.graph();
        let pruned = self.blocks.prune(|height| {
            let ours = |(anchored, _)| anchored == height.number();
            graph.txids_by_descending_anchor_height().any(ours)
        });
        if let Some(height) = pruned {
            rows::delete_block(unit, height);
        }
        Ok(())
    }

    /// Undoes the last block: what it confirmed is unconfirmed again. `below` is the block below
    /// it, which the wallet need not know: its first block may go, too.
    pub fn disconnect(
        &mut self,
        at: BlockRef,
        below: Option<BlockRef>,
        unit: &mut Unit,
    ) -> Result<(), WalletError> {
        if self.blocks.tip() != Some(at) {
            let tip = self.blocks.tip().map_or("no block".into(), |tip| tip.to_string());
            return Err(WalletError::OutOfOrder { given: at, at: tip });
        }
        self.blocks.disconnect(at);
        rows::delete_block(unit, at.height);
        if let Some(below) = below.filter(|below| self.blocks.at(below.height).is_none()) {
            self.blocks.connect(below);
            rows::put_block(unit, below.height, below.hash);
        }
        // The graph keeps the place where a transaction was; without its block it counts no more.
        Ok(())
    }

    /// Takes in a transaction that is, or was, in the mempool; `now` in unix seconds. Those of
    /// strangers are ignored.
    pub fn mempool(&mut self, tx: &Transaction, now: u64, unit: &mut Unit) {
        if tx.is_coinbase() {
            // bitcoind announces those of new blocks as well.
            return;
        }
        let txid = tx.compute_txid();
        let graph = self.graph.graph();
        let seen = graph.get_tx_node(txid).and_then(|node| node.last_seen);
        let evicted = graph.get_last_evicted(txid);
        let conflicts = graph.direct_conflicts(tx).next().is_some();
        // Hearing of it again tells nothing new, unless it had gone or something stood against it.
        if seen.is_some_and(|seen| evicted.is_none_or(|gone| gone < seen)) && !conflicts {
            return;
        }
        // What was gone is back only if it is seen later than that; what replaced others counts
        // only if it is seen later than they and what follows them. Seconds are too coarse.
        let rivals = graph.walk_conflicts(tx, |_, rival| graph.get_tx_node(rival)?.last_seen);
        let before = rivals.chain(evicted).max();
        let now = before.map_or(now, |before| now.max(before.saturating_add(1)));
        let changes = self.graph.batch_insert_relevant_unconfirmed([(tx.clone(), now)]);
        self.news.extend(changes.tx_graph.txs.iter().map(|tx| tx.compute_txid()));
        rows::put_changes(unit, changes, &self.graph.index);
    }

    /// The transactions that appeared or confirmed since this was last asked.
    pub fn take_news(&mut self) -> Vec<WalletTx> {
        if self.news.is_empty() {
            return Vec::new();
        }
        let news = std::mem::take(&mut self.news);
        self.transactions().into_iter().filter(|tx| news.contains(&tx.txid)).collect()
    }

    /// Keeps what its sender calls a transaction.
    pub fn label(&mut self, txid: Txid, label: &str, unit: &mut Unit) {
        rows::put_label(unit, txid, label);
        self.labels.insert(txid, label.to_owned());
    }

    /// The mempool holds `txid` no more, and no block does.
    pub fn evicted(&mut self, txid: Txid, now: u64, unit: &mut Unit) {
        let changes = self.graph.batch_insert_relevant_evicted_at([(txid, now)]);
        rows::put_changes(unit, changes, &self.graph.index);
    }

    /// The unconfirmed transactions that count: those whose presence in the mempool matters.
    pub fn unconfirmed(&self) -> Vec<Txid> {
        let view = self.view();
        let unconfirmed = view.txs.iter().filter(|(_, known)| known.position.is_unconfirmed());
        unconfirmed.map(|(txid, _)| *txid).collect()
    }

    /// How deep the transaction is that makes it impossible for `tx` to confirm: it spends what
    /// `tx`, or an unconfirmed one that it descends from, would spend. 0 if there is none.
    pub fn conflict_depth(&self, tx: &Transaction) -> u32 {
        self.conflict(&self.view(), tx).unwrap_or(0)
    }

    fn conflict(&self, view: &View, tx: &Transaction) -> Option<u32> {
        let graph = self.graph.graph();
        let mut seen = BTreeSet::new();
        let mut open = vec![tx.clone()];
        while let Some(tx) = open.pop() {
            let txid = tx.compute_txid();
            let depth = |txid: Txid| {
                let known = view.txs.get(&txid).filter(|known| known.position.is_confirmed());
                known.map(|known| self.confirmations(&known.position))
            };
            if depth(txid).is_some() || !seen.insert(txid) {
                continue;
            }
            let mut rivals = graph.direct_conflicts(&tx);
            if let Some(found) = rivals.find_map(|(_, rival)| depth(rival)) {
                return Some(found);
            }
            let parents = tx.input.iter().map(|input| input.previous_output.txid);
            open.extend(parents.filter_map(|parent| graph.get_tx(parent)).map(|tx| (*tx).clone()));
        }
        None
    }

    /// A receiving address that was never given away.
    pub fn new_address(
        &mut self,
        purpose: Purpose,
        unit: &mut Unit,
    ) -> Result<Address, WalletError> {
        let script = self.reveal(Keychain { purpose, change: false }, unit)?;
        self.address(&script)
    }

    /// The first receiving address that nothing was paid to yet; a new one if there is none.
    pub fn unused_address(
        &mut self,
        purpose: Purpose,
        unit: &mut Unit,
    ) -> Result<Address, WalletError> {
        let keychain = Keychain { purpose, change: false };
        let next = self.graph.index.next_unused_spk(keychain).ok_or_else(exhausted)?;
        let ((_, script), indexer) = next;
        rows::put_changes(unit, Changes { indexer, ..Default::default() }, &self.graph.index);
        self.address(&script)
    }

    /// A fresh p2wkh script for money that comes back from channels.
    pub fn sweep_script(&mut self, unit: &mut Unit) -> Result<ScriptBuf, WalletError> {
        self.reveal(Keychain { purpose: Purpose::WitnessKeyHash, change: false }, unit)
    }

    /// Whether `script` is ours.
    pub fn is_ours(&self, script: &ScriptBuf) -> bool {
        self.graph.index.index_of_spk(script.clone()).is_some()
    }

    fn reveal(&mut self, keychain: Keychain, unit: &mut Unit) -> Result<ScriptBuf, WalletError> {
        let next = self.graph.index.reveal_next_spk(keychain).ok_or_else(exhausted)?;
        let ((_, script), indexer) = next;
        rows::put_changes(unit, Changes { indexer, ..Default::default() }, &self.graph.index);
        Ok(script)
    }

    fn address(&self, script: &ScriptBuf) -> Result<Address, WalletError> {
        Address::from_script(script, self.network).map_err(|e| WalletError::Keys(e.to_string()))
    }

    /// Every outpoint that a reservation holds.
    fn locked(&self) -> BTreeSet<OutPoint> {
        let inputs = self.reserved.values().flat_map(|tx| &tx.input);
        inputs.map(|input| input.previous_output).collect()
    }

    /// Frees the reservations that `block` decided: confirmed as they are, or by a conflict of
    /// theirs or of what they descend from.
    fn free_decided(&mut self, block: &Block, unit: &mut Unit) {
        if self.reserved.is_empty() {
            return;
        }
        let inputs = block.txdata.iter().flat_map(|tx| &tx.input);
        let spent: BTreeSet<OutPoint> = inputs.map(|input| input.previous_output).collect();
        let view = self.view();
        let decided = |tx: &Transaction| {
            tx.input.iter().any(|input| spent.contains(&input.previous_output))
                || self.conflict(&view, tx).is_some()
        };
        let over: Vec<Txid> =
            self.reserved.iter().filter(|(_, tx)| decided(tx)).map(|(txid, _)| *txid).collect();
        for txid in over {
            self.reserved.remove(&txid);
            rows::delete_reservation(unit, txid);
        }
    }
}

fn exhausted() -> WalletError {
    WalletError::Keys("no address is left".into())
}
