//! Transactions of ours that must confirm: sent again at each block until they are deep. Pure,
//! but for reading bitcoind's refusals.
//!
//! The rows of `Table::Broadcast` (key txid, value the transaction) are written by whoever makes
//! the transaction, in the unit of work that makes it durable, before it is broadcast. On start
//! they are handed to the chain; a row goes when the chain reports its transaction as settled.

use super::rpc::RpcError;
use bitcoin::{Block, OutPoint, Transaction, Txid};
use fulmen_channel::amount::Height;
use std::collections::BTreeMap;

/// Why bitcoind does not take a transaction. It stays in the set and is tried again at each block,
/// until it or a conflict is deep, or it is abandoned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BroadcastError {
    /// Its feerate is too low for the mempool now, or to replace what is there.
    #[error("the transaction pays too little to enter the mempool: {0}")]
    FeeTooLow(String),
    /// An input is spent by another transaction, or not there (yet).
    #[error("an input of the transaction is missing or already spent: {0}")]
    Conflict(String),
    /// Its time or height has not come.
    #[error("the transaction is not yet final: {0}")]
    NotYet(String),
    /// Anything else: it will not be mined as it is.
    #[error("bitcoind rejects the transaction: {0}")]
    Rejected(String),
    /// bitcoind did not answer.
    #[error("{0}; the transaction is sent again when bitcoind is back")]
    Unreachable(String),
}

/// How bitcoind says that a fee is too low.
const TOO_LOW: [&str; 4] = ["min relay fee", "mempool min fee", "insufficient fee", "mempool full"];

/// Reads the outcome of `sendrawtransaction`; "already known" is success.
pub fn outcome(answer: Result<Txid, RpcError>) -> Result<(), BroadcastError> {
    const ALREADY_IN_CHAIN: i32 = -27;
    let (code, why) = match answer {
        Ok(_) => return Ok(()),
        Err(RpcError::Refused { code, message, .. }) => (code, message),
        Err(other) => return Err(BroadcastError::Unreachable(other.to_string())),
    };
    let says = |words: &[&str]| words.iter().any(|word| why.contains(word));
    if code == ALREADY_IN_CHAIN || says(&["txn-already-in-mempool", "txn-already-known"]) {
        Ok(())
    } else if says(&TOO_LOW) {
        Err(BroadcastError::FeeTooLow(why))
    } else if says(&["missingorspent", "missing-inputs", "txn-mempool-conflict"]) {
        Err(BroadcastError::Conflict(why))
    } else if says(&["non-final", "non-BIP68-final"]) {
        Err(BroadcastError::NotYet(why))
    } else {
        Err(BroadcastError::Rejected(why))
    }
}

impl BroadcastError {
    /// Whether a higher fee may help, by bitcoind's words.
    pub fn asks_for_more(&self) -> bool {
        let says = |why: &str| TOO_LOW.iter().any(|word| why.contains(word));
        match self {
            BroadcastError::FeeTooLow(_) => true,
            BroadcastError::Rejected(why) => says(why),
            _ => false,
        }
    }
}

/// Hands a parent and its child to the mempool: as a package where bitcoind knows how to, else one
/// after the other.
pub fn package(
    rpc: &super::rpc::Rpc,
    parent: &Transaction,
    child: &Transaction,
) -> Result<(), BroadcastError> {
    const NO_SUCH_METHOD: i32 = -32601;
    let together = rpc.send_package(parent, child).map(|()| child.compute_txid());
    let unknown = matches!(together, Err(RpcError::Refused { code: NO_SUCH_METHOD, .. }));
    let together = outcome(together);
    if together.is_ok() {
        return Ok(());
    }
    // The parent may be in a block meanwhile, or packages not built into this bitcoind.
    let _ = outcome(rpc.send(parent));
    match outcome(rpc.send(child)) {
        // Whether more would help is told by what is said of the child alone.
        alone if unknown => alone,
        alone => alone.or(together),
    }
}

/// The set.
#[derive(Debug, Clone, Default)]
pub struct Broadcasts {
    live: BTreeMap<Txid, Entry>,
    /// Which of ours spends an outpoint.
    inputs: BTreeMap<OutPoint, Vec<Txid>>,
}

#[derive(Debug, Clone)]
struct Entry {
    tx: Transaction,
    /// Where it, or a transaction that spends one of its inputs, is in the chain.
    decided_at: Option<Height>,
}

impl Broadcasts {
    /// Adds a transaction; one that is there already stays as it is.
    pub fn add(&mut self, tx: Transaction) {
        let txid = tx.compute_txid();
        if self.live.contains_key(&txid) {
            return;
        }
        for input in &tx.input {
            self.inputs.entry(input.previous_output).or_default().push(txid);
        }
        self.live.insert(txid, Entry { tx, decided_at: None });
    }

    /// Forgets a transaction.
    pub fn abandon(&mut self, txid: &Txid) {
        let Some(entry) = self.live.remove(txid) else { return };
        for input in &entry.tx.input {
            if let Some(txids) = self.inputs.get_mut(&input.previous_output) {
                txids.retain(|other| other != txid);
                if txids.is_empty() {
                    self.inputs.remove(&input.previous_output);
                }
            }
        }
    }

    /// Nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// Notes which transactions `block` decides on: it holds them, or conflicts of theirs.
    pub fn decided_in(&mut self, block: &Block, height: Height) {
        for input in block.txdata.iter().flat_map(|tx| &tx.input) {
            for txid in self.inputs.get(&input.previous_output).into_iter().flatten() {
                if let Some(entry) = self.live.get_mut(txid) {
                    entry.decided_at.get_or_insert(height);
                }
            }
        }
    }

    /// Notes a new block, and forgets and returns the transactions that are settled now: they, or
    /// conflicts of theirs, have `deep` confirmations.
    pub fn connected(&mut self, block: &Block, height: Height, deep: u32) -> Vec<Txid> {
        self.decided_in(block, height);
        let buried = |at: Height| at.plus(deep.saturating_sub(1)) <= height;
        let settled: Vec<Txid> = (self.live.iter())
            .filter(|(_, entry)| entry.decided_at.is_some_and(buried))
            .map(|(txid, _)| *txid)
            .collect();
        settled.iter().for_each(|txid| self.abandon(txid));
        settled
    }

    /// Undoes the block at `height`.
    pub fn disconnected(&mut self, height: Height) {
        for entry in self.live.values_mut() {
            entry.decided_at = entry.decided_at.filter(|at| *at < height);
        }
    }

    /// What is to be sent again: all that the chain has not decided on yet, parents first.
    pub fn due(&self) -> Vec<Transaction> {
        let mut due = Vec::new();
        let mut waiting: BTreeMap<&Txid, &Transaction> = (self.live.iter())
            .filter(|(_, entry)| entry.decided_at.is_none())
            .map(|(txid, entry)| (txid, &entry.tx))
            .collect();
        // Each round takes those whose parents are out; transactions cannot form a circle.
        while !waiting.is_empty() {
            let ready: Vec<&Txid> = (waiting.iter())
                .filter(|(_, tx)| !depends(tx, &waiting))
                .map(|(txid, _)| *txid)
                .collect();
            due.extend(ready.iter().filter_map(|txid| waiting.remove(txid).cloned()));
            if ready.is_empty() {
                break;
            }
        }
        due
    }
}

fn depends(tx: &Transaction, on: &BTreeMap<&Txid, &Transaction>) -> bool {
    tx.input.iter().any(|input| on.contains_key(&input.previous_output.txid))
}
