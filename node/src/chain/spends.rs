//! Finding what we watch in blocks: spends of outpoints and confirmations of transactions. Pure.

use bitcoin::{Block, OutPoint, Transaction, Txid};
use fulmen_channel::amount::Height;
use std::collections::BTreeSet;

/// A watched transaction in a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmed {
    /// Its id.
    pub txid: Txid,
    /// All of it.
    pub tx: Transaction,
    /// The block's height.
    pub height: Height,
    /// Its place in the block, which is the middle part of a short channel id.
    pub tx_index: u32,
}

/// A watched outpoint spent in a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spent {
    /// What was spent.
    pub outpoint: OutPoint,
    /// The transaction that spends it.
    pub by: Transaction,
    /// The block's height.
    pub height: Height,
    /// The transaction's place in the block.
    pub tx_index: u32,
}

/// What a block holds of what we watch, in the block's order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Confirmations of watched transactions.
    pub confirmed: Vec<Confirmed>,
    /// Spends of watched outpoints.
    pub spent: Vec<Spent>,
}

impl Found {
    /// Nothing was found.
    pub fn is_empty(&self) -> bool {
        self.confirmed.is_empty() && self.spent.is_empty()
    }
    /// `later` after `self`.
    pub fn append(&mut self, later: Found) {
        self.confirmed.extend(later.confirmed);
        self.spent.extend(later.spent);
    }
}

/// What we watch. Watches stay when they have been met, since a reorg may undo that.
#[derive(Debug, Clone, Default)]
pub struct Spends {
    outpoints: BTreeSet<OutPoint>,
    txids: BTreeSet<Txid>,
}

impl Spends {
    /// Watches for a spend of `outpoint`.
    pub fn watch_spend(&mut self, outpoint: OutPoint) {
        self.outpoints.insert(outpoint);
    }
    /// Watches for a confirmation of `txid`.
    pub fn watch_tx(&mut self, txid: Txid) {
        self.txids.insert(txid);
    }
    /// Watches no longer for a spend of `outpoint`.
    pub fn unwatch_spend(&mut self, outpoint: &OutPoint) {
        self.outpoints.remove(outpoint);
    }
    /// Watches no longer for a confirmation of `txid`.
    pub fn unwatch_tx(&mut self, txid: &Txid) {
        self.txids.remove(txid);
    }
    /// Watches nothing.
    pub fn is_empty(&self) -> bool {
        self.outpoints.is_empty() && self.txids.is_empty()
    }
    /// Keeps only the outpoints for which `keep` says so.
    pub fn retain_spends<E>(
        &mut self,
        mut keep: impl FnMut(&OutPoint) -> Result<bool, E>,
    ) -> Result<(), E> {
        for outpoint in self.outpoints.clone() {
            if !keep(&outpoint)? {
                self.outpoints.remove(&outpoint);
            }
        }
        Ok(())
    }

    /// What `block` at `height` holds of it.
    pub fn scan(&self, block: &Block, height: Height) -> Found {
        let mut found = Found::default();
        for (tx_index, tx) in (0u32..).zip(&block.txdata) {
            // Hashing every transaction is the dear part: only while we wait for one.
            if !self.txids.is_empty() {
                let txid = tx.compute_txid();
                if self.txids.contains(&txid) {
                    found.confirmed.push(Confirmed { txid, tx: tx.clone(), height, tx_index });
                }
            }
            let spent = tx.input.iter().map(|input| input.previous_output);
            for outpoint in spent.filter(|outpoint| self.outpoints.contains(outpoint)) {
                found.spent.push(Spent { outpoint, by: tx.clone(), height, tx_index });
            }
        }
        found
    }
}
