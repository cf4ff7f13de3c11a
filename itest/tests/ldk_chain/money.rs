//! What each side took of a channel, and what that cost it: read off bitcoind's blocks, from F on.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::{OutPoint, Transaction, Txid};
use bitcoincore_rpc::RpcApi;
use fulmen_itest::bitcoind::Bitcoind;
use fulmen_itest::failure::{Context, Result};
use fulmen_itest::regtest::Daemon;
use fulmen_proto::lnrpc::GetTransactionsRequest;
use serde_json::Value;

/// The value of an anchor, in satoshi (BOLT 3).
pub const ANCHOR: i64 = 330;

/// What one side took of the outputs of a commitment and of the other side's second stages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Without anchors, in satoshi.
    pub taken: i64,
    /// In anchors.
    pub anchors: i64,
    /// What its transactions left to miners, in satoshi.
    pub fees: i64,
}

impl Account {
    /// What comes to its wallet.
    pub fn gain(&self) -> i64 {
        self.taken + self.anchors - self.fees
    }
}

/// A commitment in a block, and all that descends from it, with fees.
pub struct Descent {
    commitment: Transaction,
    txs: BTreeMap<Txid, (Transaction, i64)>,
}

impl Descent {
    /// Walks from F through all blocks from `since` on.
    pub fn of(bitcoind: &Bitcoind, funding: OutPoint, since: u64) -> Result<Self> {
        let rpc = bitcoind.rpc();
        let (mut commitment, mut txs) = (None, BTreeMap::<Txid, (Transaction, i64)>::new());
        for height in since..=bitcoind.height()? {
            let hash = rpc.get_block_hash(height)?;
            let told: Value = rpc.call("getblock", &[hash.to_string().into(), 2.into()])?;
            for (place, tx) in rpc.get_block(&hash)?.txdata.into_iter().enumerate() {
                let descends = |point: &OutPoint| {
                    let of = commitment.as_ref().map(Transaction::compute_txid);
                    of == Some(point.txid) || txs.contains_key(&point.txid)
                };
                if tx.input.iter().any(|input| input.previous_output == funding) {
                    commitment = Some(tx);
                } else if tx.input.iter().any(|input| descends(&input.previous_output)) {
                    let fee = told["tx"][place]["fee"].as_f64().context("a fee")? * 1e8;
                    txs.insert(tx.compute_txid(), (tx, fee.round() as i64));
                }
            }
        }
        Ok(Descent { commitment: commitment.context("F is not spent")?, txs })
    }

    /// What Alice took, whose transactions her wallet lists, and what the other side did.
    pub async fn accounts(&self, alice: &Daemon) -> Result<(Account, Account)> {
        let (ours, theirs) = self.whose(alice).await?;
        Ok((self.account(&ours), self.account(&theirs)))
    }

    /// What each of Alice's transactions cost: one may take outputs of several channels.
    pub async fn fees(&self, alice: &Daemon) -> Result<BTreeMap<Txid, i64>> {
        let (ours, _) = self.whose(alice).await?;
        Ok(ours.into_iter().map(|txid| (txid, self.txs[&txid].1)).collect())
    }

    async fn whose(&self, alice: &Daemon) -> Result<(BTreeSet<Txid>, BTreeSet<Txid>)> {
        let request = GetTransactionsRequest::default();
        let listed = alice.lightning().await?.get_transactions(request).await?.into_inner();
        let listed: BTreeSet<String> =
            listed.transactions.into_iter().map(|tx| tx.tx_hash).collect();
        let is_listed = |txid: &Txid| listed.contains(&txid.to_string());
        // HT and HE without anchors are nothing of a wallet's. They are whose delivery follows.
        let delivers = |txid: &Txid| {
            let after = self.txs.iter().filter(|(after, _)| is_listed(after));
            let mut inputs = after.flat_map(|(_, (tx, _))| &tx.input);
            inputs.any(|input| {
                let delayed = input.sequence.is_relative_lock_time() && input.sequence.0 > 1;
                input.previous_output.txid == *txid && delayed
            })
        };
        Ok(self.txs.keys().partition(|txid| is_listed(txid) || delivers(txid)))
    }

    fn account(&self, side: &BTreeSet<Txid>) -> Account {
        let mut account = Account::default();
        for (tx, fee) in side.iter().filter_map(|txid| self.txs.get(txid)) {
            account.fees += fee;
            // Its own second stages are a step only, and its coins come back as change.
            let points = tx.input.iter().map(|input| input.previous_output);
            for point in points.filter(|point| !side.contains(&point.txid)) {
                match self.value(&point) {
                    Some(ANCHOR) if point.txid == self.commitment.compute_txid() => {
                        account.anchors += ANCHOR;
                    }
                    value => account.taken += value.unwrap_or_default(),
                }
            }
        }
        account
    }

    fn value(&self, point: &OutPoint) -> Option<i64> {
        let tx = match point.txid == self.commitment.compute_txid() {
            true => &self.commitment,
            false => &self.txs.get(&point.txid)?.0,
        };
        let output = tx.output.get(point.vout as usize)?;
        i64::try_from(output.value.to_sat()).ok()
    }

    /// The output that a second stage has for what this output held.
    pub fn moved_to(&self, htlc: &OutPoint) -> Option<OutPoint> {
        let inputs = |tx: &Transaction| {
            tx.input
                .iter()
                .zip(0..)
                .find(|(input, _)| input.previous_output == *htlc)
                .map(|(_, place)| place)
        };
        let moved = |(txid, (tx, _)): (&Txid, &(Transaction, i64))| {
            Some(OutPoint { txid: *txid, vout: inputs(tx)? })
        };
        self.txs.iter().find_map(moved)
    }

    /// The outputs of the commitment with these values.
    pub fn outputs(&self, values: &[u64]) -> Vec<OutPoint> {
        let txid = self.commitment.compute_txid();
        let outputs = self.commitment.output.iter().zip(0..);
        let of = outputs.filter(|(output, _)| values.contains(&output.value.to_sat()));
        of.map(|(_, vout)| OutPoint { txid, vout }).collect()
    }
}
