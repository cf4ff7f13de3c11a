//! What happened to our money: the wallet's transactions.

use super::coins::Standard;
use super::Wallet;
use bdk_chain::ChainPosition;
use bitcoin::{BlockHash, Transaction, Txid};
use fulmen_channel::amount::{Height, Sat};
use std::sync::Arc;

/// A transaction that pays to us or from us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalletTx {
    /// Its id.
    pub txid: Txid,
    /// All of it.
    pub tx: Arc<Transaction>,
    /// What it pays to us.
    pub received: Sat,
    /// What of ours it spends.
    pub sent: Sat,
    /// Its fee, if we paid it: all its inputs are ours.
    pub fee: Option<Sat>,
    /// The block it is in.
    pub block: Option<(Height, BlockHash)>,
    /// Blocks since then, its own included; 0 if it is unconfirmed.
    pub confirmations: u32,
    /// When that block was made, or when we first heard of it, in unix seconds.
    pub time: u64,
    /// Which of its inputs spend outputs of ours, in their order.
    pub our_inputs: Vec<bool>,
    /// Which of its outputs are ours, in their order.
    pub our_outputs: Vec<bool>,
    /// What its sender calls it; empty if there was no such.
    pub label: String,
}

impl WalletTx {
    /// What the wallet gained, in satoshi; less than 0 if it paid.
    pub fn net_sat(&self) -> i64 {
        let signed = |sat: Sat| i64::try_from(sat.sat()).unwrap_or(i64::MAX);
        signed(self.received).saturating_sub(signed(self.sent))
    }
}

impl Wallet {
    /// All transactions that count, by height, the unconfirmed ones last.
    pub fn transactions(&self) -> Vec<WalletTx> {
        let view = self.view();
        let mut all: Vec<WalletTx> = (view.txs.into_iter())
            .map(|(txid, known)| self.describe(txid, known))
            // The graph also knows strangers' transactions that displaced one of ours.
            .filter(|tx| tx.our_inputs.iter().chain(&tx.our_outputs).any(|ours| *ours))
            .collect();
        let place =
            |tx: &WalletTx| (tx.block.map_or(u32::MAX, |(height, _)| height.number()), tx.time);
        all.sort_by_key(place);
        all
    }

    /// Whether a transaction spends coins of ours.
    pub fn has_paid_for(&self, txid: Txid) -> bool {
        let tx = self.graph.graph().get_tx(txid);
        tx.is_some_and(|tx| {
            let mut inputs = tx.input.iter().map(|input| input.previous_output);
            inputs.any(|spent| self.graph.index.txout(spent).is_some())
        })
    }

    fn describe(&self, txid: Txid, known: Standard) -> WalletTx {
        let (sent, received) = self.graph.index.sent_and_received(&known.tx, ..);
        let inputs = known.tx.input.iter().map(|input| input.previous_output);
        let our_inputs: Vec<bool> =
            inputs.map(|spent| self.graph.index.txout(spent).is_some()).collect();
        let scripts = known.tx.output.iter().map(|output| &output.script_pubkey);
        let fee = if our_inputs.iter().all(|ours| *ours) {
            self.graph.graph().calculate_fee(&known.tx).ok().map(Sat::from)
        } else {
            None
        };
        let (block, time) = match known.position {
            ChainPosition::Confirmed { anchor, .. } => {
                let block = anchor.block_id;
                (Some((Height::new(block.height), block.hash)), anchor.confirmation_time)
            }
            ChainPosition::Unconfirmed { first_seen, .. } => (None, first_seen.unwrap_or(0)),
        };
        WalletTx {
            txid,
            received: received.into(),
            sent: sent.into(),
            fee,
            block,
            confirmations: self.confirmations(&known.position),
            time,
            our_inputs,
            our_outputs: scripts.map(|script| self.is_ours(script)).collect(),
            label: self.labels.get(&txid).cloned().unwrap_or_default(),
            tx: known.tx.clone(),
        }
    }
}
