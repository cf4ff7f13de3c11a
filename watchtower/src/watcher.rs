//! Sees a breach: what of a block's transactions anybody asked us to look out for.
//!
//! ```text
//!   each transaction ─┬─ spends a watched F, or what a breach left ─▶ by outpoint and txid
//!                     └─ looks like a commitment (BOLT 3 marks sequence and lock time)
//!                          └─ first half of its txid is a hint ─────▶ a record may open with it
//! ```
//!
//! Only what looks like a commitment is hashed: that is what makes a block cheap.

use crate::record::{hint, Hint};
use bitcoin::{OutPoint, Transaction, Txid};
use std::collections::HashSet;

/// What is looked out for. Sets, since only membership matters; the order of nothing depends on
/// them.
#[derive(Debug, Default)]
pub struct Watcher {
    hints: HashSet<Hint>,
    fundings: HashSet<OutPoint>,
    breaches: HashSet<Txid>,
}

/// What a transaction is to us. It may be several things.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sighting {
    /// There is a record whose hint it matches.
    pub hint: Option<(Hint, Txid)>,
    /// The F of a private channel that it spends.
    pub funding: Option<OutPoint>,
    /// It spends an output of a breach, or of what a cheater made of one.
    pub of_breach: bool,
}

impl Watcher {
    /// Looks out for the transaction of this hint.
    pub fn add_hint(&mut self, hint: Hint) {
        self.hints.insert(hint);
    }
    /// No longer.
    pub fn remove_hint(&mut self, hint: &Hint) {
        self.hints.remove(hint);
    }
    /// Looks out for what spends this F.
    pub fn add_funding(&mut self, funding: OutPoint) {
        self.fundings.insert(funding);
    }
    /// No longer.
    pub fn remove_funding(&mut self, funding: &OutPoint) {
        self.fundings.remove(funding);
    }
    /// Looks out for what spends any output of this transaction.
    pub fn add_breach(&mut self, txid: Txid) {
        self.breaches.insert(txid);
    }
    /// No longer.
    pub fn remove_breach(&mut self, txid: &Txid) {
        self.breaches.remove(txid);
    }
    /// How many states are watched.
    pub fn states(&self) -> usize {
        self.hints.len()
    }

    /// What `tx` is to us; nothing for nearly every transaction there is.
    pub fn look(&self, tx: &Transaction) -> Option<Sighting> {
        let spent = || tx.input.iter().map(|input| &input.previous_output);
        let sighting = Sighting {
            hint: self.match_hint(tx),
            funding: spent().find(|outpoint| self.fundings.contains(outpoint)).copied(),
            of_breach: !self.breaches.is_empty()
                && spent().any(|outpoint| self.breaches.contains(&outpoint.txid)),
        };
        (sighting != Sighting::default()).then_some(sighting)
    }

    fn match_hint(&self, tx: &Transaction) -> Option<(Hint, Txid)> {
        if self.hints.is_empty() || !looks_like_commitment(tx) {
            return None;
        }
        let txid = tx.compute_txid();
        let hint = hint(&txid);
        self.hints.contains(&hint).then_some((hint, txid))
    }
}

/// Whether BOLT 3 could have made it: one input, its sequence and the lock time marked.
pub fn looks_like_commitment(tx: &Transaction) -> bool {
    let [input] = tx.input.as_slice() else { return false };
    input.sequence.0 >> 24 == 0x80 && tx.lock_time.to_consensus_u32() >> 24 == 0x20
}
