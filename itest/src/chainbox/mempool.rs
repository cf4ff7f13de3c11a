//! What waits for a block, and who descends from whom.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bitcoin::{Block, OutPoint, Transaction, Txid, Weight, Wtxid};
use fulmen_channel::amount::{Height, Sat};

use super::consensus::Coin;
use super::policy::{PerKvb, RELAY_MINIMUM};

/// Left free in a block for its header and coinbase, in weight units.
const RESERVED: u64 = 8_000;

/// A transaction that waits.
#[derive(Clone, Debug)]
pub struct Entry {
    /// It.
    pub tx: Arc<Transaction>,
    /// Its id.
    pub txid: Txid,
    /// Its id with its witness.
    pub wtxid: Wtxid,
    /// What it pays.
    pub fee: Sat,
    /// The size that its fee is counted by, in vbytes.
    pub vsize: u64,
    /// When it came, in seconds since 1970.
    pub time: u64,
    /// The best block's height then.
    pub height: Height,
    /// How many came before.
    pub order: u64,
}

/// Fee and size of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// How many.
    pub count: usize,
    /// Their vbytes.
    pub vsize: u64,
    /// What they pay.
    pub fee: Sat,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Mempool {
    entries: BTreeMap<Txid, Entry>,
    spenders: BTreeMap<OutPoint, Txid>,
    /// The least feerate that enters: rises above the relay minimum where a mempool is full.
    pub minimum: PerKvb,
    came: u64,
}

impl Default for Mempool {
    fn default() -> Self {
        let (entries, spenders) = Default::default();
        Mempool { entries, spenders, minimum: RELAY_MINIMUM, came: 0 }
    }
}

impl Mempool {
    /// One that waits.
    pub fn get(&self, txid: &Txid) -> Option<&Entry> {
        self.entries.get(txid)
    }

    /// All, in the order in which they came.
    pub fn entries(&self) -> Vec<&Entry> {
        let mut all: Vec<&Entry> = self.entries.values().collect();
        all.sort_by_key(|entry| entry.order);
        all
    }

    /// Who spends an output.
    pub fn spender(&self, outpoint: &OutPoint) -> Option<Txid> {
        self.spenders.get(outpoint).copied()
    }

    /// An output that waits; `next` is the height of the next block.
    pub fn coin(&self, outpoint: &OutPoint, next: Height) -> Option<Coin> {
        let tx = &self.get(&outpoint.txid)?.tx;
        let output = tx.output.get(usize::try_from(outpoint.vout).ok()?)?.clone();
        Some(Coin { output, height: next, coinbase: false })
    }

    /// Those that wait and that `tx` spends from.
    pub fn parents(&self, tx: &Transaction) -> BTreeSet<Txid> {
        let inputs = tx.input.iter().map(|input| input.previous_output.txid);
        inputs.filter(|txid| self.entries.contains_key(txid)).collect()
    }

    /// Those that wait and that `tx` descends from.
    pub fn ancestors(&self, tx: &Transaction) -> BTreeSet<Txid> {
        self.closure(self.parents(tx), |entry| self.parents(&entry.tx))
    }

    /// Those that spend from `txid` directly.
    pub fn children(&self, txid: &Txid) -> BTreeSet<Txid> {
        self.get(txid).map_or_else(BTreeSet::new, |entry| self.children_of(entry))
    }

    fn children_of(&self, entry: &Entry) -> BTreeSet<Txid> {
        let outputs = (0_u32..).zip(&entry.tx.output);
        let outpoints = outputs.map(|(vout, _)| OutPoint { txid: entry.txid, vout });
        outpoints.filter_map(|outpoint| self.spender(&outpoint)).collect()
    }

    /// These and all that descend from them.
    pub fn with_descendants(&self, from: BTreeSet<Txid>) -> BTreeSet<Txid> {
        self.closure(from, |entry| self.children_of(entry))
    }

    fn closure(
        &self,
        from: BTreeSet<Txid>,
        next: impl Fn(&Entry) -> BTreeSet<Txid>,
    ) -> BTreeSet<Txid> {
        let (mut found, mut open) = (from.clone(), from);
        while let Some(txid) = open.pop_first() {
            let further = self.get(&txid).map(&next).unwrap_or_default();
            open.extend(further.into_iter().filter(|txid| found.insert(*txid)));
        }
        found
    }

    /// Fee and size of these.
    pub fn sum<'a>(&self, txids: impl IntoIterator<Item = &'a Txid>) -> Sum {
        txids.into_iter().filter_map(|txid| self.get(txid)).fold(Sum::default(), |sum, entry| Sum {
            count: sum.count.saturating_add(1),
            vsize: sum.vsize.saturating_add(entry.vsize),
            fee: sum.fee.saturating_add(entry.fee),
        })
    }

    /// Puts one in.
    pub fn insert(&mut self, mut entry: Entry) {
        entry.order = self.came;
        self.came = self.came.saturating_add(1);
        for input in &entry.tx.input {
            self.spenders.insert(input.previous_output, entry.txid);
        }
        self.entries.insert(entry.txid, entry);
    }

    /// Takes these out; they must include their descendants.
    pub fn remove(&mut self, txids: &BTreeSet<Txid>) -> Vec<Entry> {
        let gone: Vec<Entry> = txids.iter().filter_map(|txid| self.entries.remove(txid)).collect();
        for input in gone.iter().flat_map(|entry| &entry.tx.input) {
            self.spenders.remove(&input.previous_output);
        }
        gone
    }

    /// Takes out what a block holds, and what can no longer be because of it; the latter.
    pub fn take_block(&mut self, block: &Block) -> Vec<Entry> {
        let mined: BTreeSet<Txid> = block.txdata.iter().map(Transaction::compute_txid).collect();
        self.remove(&mined);
        let inputs = block.txdata.iter().flat_map(|tx| &tx.input);
        let rivals = inputs.filter_map(|input| self.spender(&input.previous_output)).collect();
        self.remove(&self.with_descendants(rivals))
    }

    /// Takes out everything, in order.
    pub fn drain(&mut self) -> Vec<Entry> {
        self.spenders.clear();
        let mut all: Vec<Entry> = std::mem::take(&mut self.entries).into_values().collect();
        all.sort_by_key(|entry| entry.order);
        all
    }

    /// The transactions of the next block: what pays best first, ancestors before all.
    pub fn best(&self) -> Vec<Transaction> {
        let mut candidates: Vec<(PerKvb, BTreeSet<Txid>, u64)> = Vec::new();
        for entry in self.entries.values() {
            let mut with = self.ancestors(&entry.tx);
            with.insert(entry.txid);
            let sum = self.sum(&with);
            candidates.push((PerKvb::of(sum.fee, sum.vsize), with, entry.order));
        }
        candidates.sort_by_key(|(rate, _, order)| (std::cmp::Reverse(*rate), *order));
        let (mut chosen, mut weight) = (BTreeSet::new(), RESERVED);
        let mut block = Vec::new();
        for (_, with, _) in candidates {
            let new = with.difference(&chosen).filter_map(|txid| self.get(txid));
            let mut new: Vec<&Entry> = new.collect();
            new.sort_by_key(|entry| self.ancestors(&entry.tx).len());
            let more: u64 = new.iter().map(|entry| entry.tx.weight().to_wu()).sum();
            if weight.saturating_add(more) <= Weight::MAX_BLOCK.to_wu() {
                weight = weight.saturating_add(more);
                chosen.extend(new.iter().map(|entry| entry.txid));
                block.extend(new.iter().map(|entry| (*entry.tx).clone()));
            }
        }
        block
    }
}
