//! What we own: the outputs that are ours and unspent, and which of them may be spent.

use super::keychain::Keychain;
use super::Wallet;
use bdk_chain::{CanonicalizationParams, ChainPosition, ConfirmationBlockTime};
use bitcoin::{OutPoint, Transaction, TxOut, Txid};
use fulmen_channel::amount::Sat;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How firmly a coin is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// In a block.
    Confirmed,
    /// Unconfirmed change of transactions that nobody but we can replace.
    OwnChange,
    /// Unconfirmed, and others could undo it: received, or a claim that races somebody.
    Foreign,
    /// A coinbase that is less than 100 blocks old.
    Immature,
}

/// An unspent output of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coin {
    /// Where it is.
    pub outpoint: OutPoint,
    /// What it is.
    pub output: TxOut,
    /// Which keys it pays to.
    pub keychain: Keychain,
    /// The key's number.
    pub index: u32,
    /// Whether it may be spent.
    pub standing: Standing,
    /// Blocks since it confirmed, its own included; 0 if it has not.
    pub confirmations: u32,
    /// A reservation holds it.
    pub locked: bool,
}

impl Coin {
    /// Its value.
    pub fn value(&self) -> Sat {
        self.output.value.into()
    }

    /// The weight of the signed input that spends it.
    pub fn input_weight(&self) -> u64 {
        const BARE: u64 = 4 * (32 + 4 + 4 + 1);
        self.keychain.satisfaction_weight().saturating_add(BARE)
    }

    /// Whether fees of closes may be counted on to come from it: nothing holds it, and nobody else
    /// can undo it.
    pub fn pays_for_closes(&self) -> bool {
        matches!(self.standing, Standing::Confirmed | Standing::OwnChange) && !self.locked
    }
}

/// The wallet's money. Immature coins are left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Balance {
    /// Confirmed, and not locked.
    pub confirmed: Sat,
    /// Unconfirmed, and not locked: own change and what was received.
    pub unconfirmed: Sat,
    /// Held by reservations.
    pub locked: Sat,
    /// What must be kept to pay the fees of force closes with anchors.
    pub anchor_reserve: Sat,
}

impl Balance {
    /// What is not locked, confirmed or not.
    pub fn total(&self) -> Sat {
        self.confirmed.saturating_add(self.unconfirmed)
    }
}

/// What the wallet must keep for `channels` channels with anchors: 10,000 sat for each, up to
/// 100,000.
pub fn anchor_reserve(channels: u32) -> Sat {
    const EACH: u64 = 10_000;
    const MOST: u64 = 100_000;
    Sat::new(u64::from(channels).saturating_mul(EACH).min(MOST))
}

/// A transaction of the graph that the chain or the mempool holds.
pub(super) struct Standard {
    pub tx: Arc<Transaction>,
    pub position: ChainPosition<ConfirmationBlockTime>,
}

/// The transactions that count, conflicts resolved, and what they spend.
pub(super) struct View {
    pub txs: BTreeMap<Txid, Standard>,
    spent: BTreeSet<OutPoint>,
}

impl Wallet {
    pub(super) fn view(&self) -> View {
        let mut view = View { txs: BTreeMap::new(), spent: BTreeSet::new() };
        let tip = self.blocks.tip_id();
        let params = CanonicalizationParams::default();
        for known in self.graph.graph().list_canonical_txs(&self.blocks, tip, params) {
            let standard = Standard { tx: known.tx_node.tx, position: known.chain_position };
            view.spent.extend(standard.tx.input.iter().map(|input| input.previous_output));
            view.txs.insert(known.tx_node.txid, standard);
        }
        view
    }

    /// Every unspent output of ours, in the order of outpoints.
    pub fn coins(&self) -> Vec<Coin> {
        self.coins_of(&self.view())
    }

    pub(super) fn coins_of(&self, view: &View) -> Vec<Coin> {
        let locked = self.locked();
        let mut coins = Vec::new();
        for ((keychain, index), (outpoint, output)) in self.graph.index.txouts() {
            let Some(known) = view.txs.get(&outpoint.txid) else { continue };
            if view.spent.contains(&outpoint) {
                continue;
            }
            let confirmations = self.confirmations(&known.position);
            coins.push(Coin {
                outpoint,
                output: output.clone(),
                keychain,
                index,
                standing: self.standing(view, outpoint.txid, known, confirmations),
                confirmations,
                locked: locked.contains(&outpoint),
            });
        }
        coins.sort_by_key(|coin| coin.outpoint);
        coins
    }

    pub(super) fn confirmations(&self, position: &ChainPosition<ConfirmationBlockTime>) -> u32 {
        let height = position.confirmation_height_upper_bound();
        match (height, self.blocks.tip()) {
            (Some(height), Some(tip)) => tip.height.plus(1).minus(height).number(),
            _ => 0,
        }
    }

    fn standing(&self, view: &View, txid: Txid, known: &Standard, confirmations: u32) -> Standing {
        const COINBASE_MATURITY: u32 = 100;
        if known.tx.is_coinbase() && confirmations < COINBASE_MATURITY {
            Standing::Immature
        } else if confirmations > 0 {
            Standing::Confirmed
        } else if self.ancestry(view, [txid]).only_ours {
            Standing::OwnChange
        } else {
            Standing::Foreign
        }
    }

    /// The unconfirmed transactions that `txids` and their parents are.
    pub(super) fn ancestry(&self, view: &View, txids: impl IntoIterator<Item = Txid>) -> Ancestry {
        let mut ancestry = Ancestry { unconfirmed: BTreeSet::new(), only_ours: true };
        let mut open: Vec<Txid> = txids.into_iter().collect();
        while let Some(txid) = open.pop() {
            let Some(known) = view.txs.get(&txid) else { continue };
            if known.position.is_confirmed() || !ancestry.unconfirmed.insert(txid) {
                continue;
            }
            for input in &known.tx.input {
                let spent = input.previous_output;
                ancestry.only_ours &= self.graph.index.txout(spent).is_some();
                open.push(spent.txid);
            }
        }
        ancestry
    }

    /// The money, with the reserve for `channels` channels with anchors.
    pub fn balance(&self, channels: u32) -> Balance {
        let mut balance =
            Balance { anchor_reserve: anchor_reserve(channels), ..Balance::default() };
        for coin in self.coins() {
            let sum = match coin.standing {
                Standing::Immature => continue,
                _ if coin.locked => &mut balance.locked,
                Standing::Confirmed => &mut balance.confirmed,
                Standing::OwnChange | Standing::Foreign => &mut balance.unconfirmed,
            };
            *sum = sum.saturating_add(coin.value());
        }
        balance
    }
}

pub(super) struct Ancestry {
    pub unconfirmed: BTreeSet<Txid>,
    /// All of them spend nothing but outputs of ours.
    pub only_ours: bool,
}
