//! Publishes the remedy: one breach from the block it is in until nothing of it is left to take.
//! Pure: transactions and heights go in, transactions come out.
//!
//! ```text
//!   revoked C ─┬─ output ── remedy (ours) ── deep: done
//!              ├─ output ── spent by another: lost, or a second stage that is taken instead
//!              └─ …
//! ```
//!
//! Each output is taken by a transaction of its own, so that a cheater who races for one holds up
//! none of the others. What a reorganisation takes back is open again.
//!
//! There may be several means against one breach, and each gives what it can: nothing that somebody
//! else hands in takes the place of ours.

use crate::private::Punisher;
use crate::record::{Record, Remedy};
use bitcoin::secp256k1::{Message, Secp256k1};
use bitcoin::sighash::EcdsaSighashType;
use bitcoin::{OutPoint, Transaction, Txid};
use fulmen_channel::amount::{FeeratePerKw, Height, Sat};
use fulmen_channel::transactions::breach_remedy;
use fulmen_channel::transactions::spend::{sweep, sweep_weight};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A spend this deep is for good: reorganisations of up to 100 blocks are followed.
pub const DEEP: u32 = 100;
/// A breach of which nothing more is heard is given up after so many blocks: four weeks.
const FORGOTTEN_AFTER: u32 = 4_032;

/// With what a breach is punished.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
// A breach is rare and its row is one of few.
#[allow(clippy::large_enum_variant)]
pub enum Means {
    /// With signatures made beforehand, at a feerate that is fixed.
    Altruist(Record),
    /// With a key, at any feerate.
    Private(Punisher),
}

/// A breach under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breach {
    /// The revoked commitment.
    pub commitment: Transaction,
    /// With what it is punished, at first: `more` has the rest.
    means: Means,
    /// The block that it was seen in first.
    pub seen: Height,
    /// The block that it is in; none while a reorganisation has taken it out.
    pub confirmed: Option<Height>,
    /// What there is to take.
    pub takings: BTreeMap<OutPoint, Taking>,
    // From here on older rows have nothing, and read as zeros.
    /// With what it is punished as well.
    more: Vec<Means>,
    /// Remedies that were signed beforehand, several of one output if several are valid.
    signed: BTreeMap<OutPoint, Vec<Transaction>>,
}

/// An output to take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taking {
    /// What it holds.
    pub value: Sat,
    /// The block that it is in.
    pub since: Height,
    /// What takes it by a private tower's key, in its latest version.
    pub remedy: Option<Transaction>,
    /// The feerate of that version, and the block it was made at.
    pub version: Option<(FeeratePerKw, Height)>,
    /// What took it, and in which block.
    pub spent: Option<(Txid, Height)>,
}

impl Taking {
    fn new(value: Sat, since: Height) -> Self {
        Taking { value, since, remedy: None, version: None, spent: None }
    }
}

impl Breach {
    /// The commitment `tx` is in a block of height `at` and was revoked, as any of `means` proves.
    /// Nothing if there are none.
    pub fn new(tx: &Transaction, at: Height, means: Vec<Means>) -> Option<Breach> {
        let mut means = means.into_iter();
        let mut breach = Breach {
            commitment: tx.clone(),
            means: means.next()?,
            seen: at,
            confirmed: Some(at),
            takings: BTreeMap::new(),
            more: means.collect(),
            signed: BTreeMap::new(),
        };
        breach.take_from(tx, at);
        Some(breach)
    }

    /// With what it is punished.
    fn means(&self) -> impl Iterator<Item = &Means> {
        std::iter::once(&self.means).chain(&self.more)
    }

    fn records(&self) -> impl Iterator<Item = &Record> {
        self.means().filter_map(|means| match means {
            Means::Altruist(record) => Some(record),
            Means::Private(_) => None,
        })
    }

    fn punisher(&self) -> Option<&Punisher> {
        self.means().find_map(|means| match means {
            Means::Altruist(_) => None,
            Means::Private(punisher) => Some(punisher),
        })
    }

    /// What takes this output, what pays the highest fee first.
    fn remedies_of(&self, outpoint: &OutPoint) -> Vec<&Transaction> {
        let versions = self.takings.get(outpoint).and_then(|taking| taking.remedy.as_ref());
        let mut all: Vec<_> =
            versions.into_iter().chain(self.signed.get(outpoint).into_iter().flatten()).collect();
        all.sort_by_key(|tx| tx.output.first().map(|output| output.value));
        all
    }

    /// Whether a remedy of ours took this output.
    pub fn is_ours(&self, outpoint: &OutPoint) -> bool {
        let spent = self.takings.get(outpoint).and_then(|taking| taking.spent);
        let remedies = self.remedies_of(outpoint);
        spent.is_some_and(|(by, _)| remedies.iter().any(|tx| tx.compute_txid() == by))
    }

    /// The ids whose outputs must be watched: the commitment's and those of what was taken off it.
    pub fn watched(&self) -> impl Iterator<Item = Txid> + '_ {
        let second = self.takings.keys().map(|outpoint| outpoint.txid);
        std::iter::once(self.commitment.compute_txid()).chain(second)
    }

    /// `tx` is in a block of height `at`. Whether it has to do with this breach.
    pub fn see(&mut self, tx: &Transaction, at: Height) -> bool {
        let (txid, breach) = (tx.compute_txid(), self.commitment.compute_txid());
        if txid == breach {
            self.confirmed = Some(at);
            // Second stages went when it did.
            self.takings.values_mut().for_each(|taking| taking.since = at);
            return true;
        }
        let mut concerned = false;
        for input in &tx.input {
            let spent = input.previous_output;
            if let Some(taking) = self.takings.get_mut(&spent) {
                taking.spent = Some((txid, at));
                concerned = true;
            }
            if spent.txid == breach {
                concerned = true;
                self.take_second_stage(spent.vout, tx, at);
            }
        }
        concerned
    }

    /// The blocks from `height` on are gone. Whether that changes anything here.
    pub fn unsee(&mut self, height: Height) -> bool {
        let before = self.clone();
        self.confirmed = self.confirmed.filter(|at| *at < height);
        let commitment = self.commitment.compute_txid();
        self.takings
            .retain(|outpoint, taking| outpoint.txid == commitment || taking.since < height);
        self.signed.retain(|outpoint, _| self.takings.contains_key(outpoint));
        for taking in self.takings.values_mut() {
            taking.spent = taking.spent.filter(|(_, at)| *at < height);
            // Or it would pay no more until the chain is as long as it was.
            let last = height.minus(1);
            taking.version = taking.version.map(|(feerate, at)| (feerate, at.min(last)));
        }
        *self != before
    }

    /// Whether nothing is left to do at a tip of this height.
    pub fn is_over(&self, tip: Height) -> bool {
        let deep = |at: Height| at.plus(DEEP) <= tip;
        let taken = |taking: &Taking| taking.spent.is_some_and(|(_, at)| deep(at));
        let commitment = self.commitment.compute_txid();
        let gone = self.takings.values().filter(|taking| taken(taking)).count();
        let all_taken = match self.punisher() {
            None => gone == self.takings.len() && self.confirmed.is_some_and(deep),
            // What HTLC outputs become is not known before they move.
            Some(_) => {
                let own = self.takings.keys().filter(|out| out.txid == commitment).count();
                own == self.commitment.output.len() && gone == self.takings.len()
            }
        };
        all_taken || self.seen.plus(FORGOTTEN_AFTER) <= tip
    }

    /// What is to be in the mempool at a tip of this height: the remedies of whatever is still
    /// there, in a version for `estimate`; of each output the one that bitcoind takes first.
    /// Whether any version is new.
    pub fn remedies(&mut self, tip: Height, estimate: FeeratePerKw) -> (Vec<Transaction>, bool) {
        let mut changed = false;
        if self.confirmed.is_none() {
            return (Vec::new(), false);
        }
        if let Some(punisher) = self.punisher().cloned() {
            for (outpoint, taking) in &mut self.takings {
                if taking.spent.is_none() && punisher.takes(outpoint, &self.commitment) {
                    changed |= punisher.bump((*outpoint, taking), tip, estimate);
                }
            }
        }
        let open = self.takings.iter().filter(|(_, taking)| taking.spent.is_none());
        let all = open.flat_map(|(outpoint, _)| self.remedies_of(outpoint));
        (all.cloned().collect(), changed)
    }

    /// What of the commitment itself is to take.
    fn take_from(&mut self, tx: &Transaction, at: Height) {
        self.add(self.records().flat_map(|record| record.remedies(tx)).collect(), at);
        self.add_paid(tx, at);
    }

    /// `tx` spends the commitment's output at `place`: HT or HE, alone or with others.
    fn take_second_stage(&mut self, place: u32, tx: &Transaction, at: Height) {
        self.add(self.records().filter_map(|record| record.second_stage(place, tx)).collect(), at);
        self.add_paid(tx, at);
    }

    fn add(&mut self, remedies: Vec<Remedy>, at: Height) {
        for Remedy { outpoint, value, tx } in remedies {
            self.takings.entry(outpoint).or_insert_with(|| Taking::new(value, at));
            let signed = self.signed.entry(outpoint).or_default();
            // Another signature over the same makes no other transaction.
            if signed.iter().all(|known| known.compute_txid() != tx.compute_txid()) {
                signed.push(tx);
            }
        }
    }

    fn add_paid(&mut self, tx: &Transaction, at: Height) {
        let Some(script) = self.punisher().map(|punisher| punisher.script.to_p2wsh()) else {
            return;
        };
        let txid = tx.compute_txid();
        for (vout, output) in (0..).zip(&tx.output) {
            if output.script_pubkey == script {
                let taking = || Taking::new(output.value.into(), at);
                self.takings.entry(OutPoint { txid, vout }).or_insert_with(taking);
            }
        }
    }
}

impl Punisher {
    /// Whether this output of the breach is to_local's. Second stages are watched only if they pay
    /// to its script; of the commitment there may be other outputs, that only records take.
    fn takes(&self, outpoint: &OutPoint, commitment: &Transaction) -> bool {
        let place = usize::try_from(outpoint.vout).unwrap_or(usize::MAX);
        let output = commitment.output.get(place);
        outpoint.txid != commitment.compute_txid()
            || output.is_some_and(|output| output.script_pubkey == self.script.to_p2wsh())
    }

    /// Makes the first version of a remedy, or in a later block a dearer one. Whether it did.
    fn bump(
        &self,
        (outpoint, taking): (OutPoint, &mut Taking),
        tip: Height,
        estimate: FeeratePerKw,
    ) -> bool {
        if taking.version.is_some_and(|(_, at)| at >= tip) {
            return false;
        }
        let delay = self.to_self_delay.into();
        let left = taking.since.plus(delay).number().saturating_sub(tip.number());
        let urgency = Urgency { estimate, delay, left };
        let spend = breach_remedy::by_script(self.script.clone(), outpoint, taking.value);
        let weight = sweep_weight(std::slice::from_ref(&spend), &self.destination);
        let last = taking.version.map(|(feerate, _)| feerate);
        let Some(feerate) = urgency.next(last, taking.value, weight) else { return false };
        let Some(mut tx) = sweep(std::slice::from_ref(&spend), &self.destination, feerate) else {
            return false;
        };
        let kind = EcdsaSighashType::All;
        let Some(sighash) = spend.sighash(&tx, 0, kind) else { return false };
        let signature =
            Secp256k1::signing_only().sign_ecdsa(&Message::from_digest(sighash), &self.key);
        if let Some(input) = tx.input.first_mut() {
            input.witness = spend.witness(&signature, kind);
        }
        taking.remedy = Some(tx);
        taking.version = Some((feerate, tip));
        true
    }
}

/// What the fee of a remedy depends on.
#[derive(Clone, Copy, Debug)]
pub struct Urgency {
    /// What bitcoind thinks a transaction must pay to be in one of the next blocks.
    pub estimate: FeeratePerKw,
    /// Blocks that the cheater has to wait in all.
    pub delay: u32,
    /// Blocks until the cheater may take the output too.
    pub left: u32,
}

impl Urgency {
    /// The feerate of the next version, after one of `last`; none if there is no use in another.
    /// It rises from the estimate of the day with the cube of the blocks gone: to half of the
    /// value, in the last 12 blocks to nearly all of it, as what is not taken now is the cheater's.
    pub fn next(self, last: Option<FeeratePerKw>, value: Sat, weight: u64) -> Option<FeeratePerKw> {
        const LAST_BLOCKS: u32 = 12;
        /// The dust limit of any destination.
        const DUST: Sat = Sat::new(546);
        let most = match self.left {
            0..=LAST_BLOCKS => value.saturating_sub(DUST),
            _ => Sat::new(value.sat() / 2),
        };
        let most = most.sat().saturating_mul(1_000).checked_div(weight)?;
        let most = FeeratePerKw::new(u32::try_from(most).unwrap_or(u32::MAX));
        let feerate = self.rise(self.estimate.max(FeeratePerKw::FLOOR), most);
        // BIP 125 rule 4: a version that pays too little more is none.
        let least =
            last.map_or(0, |last| last.per_kw().saturating_add(FeeratePerKw::FLOOR.per_kw()));
        (feerate.per_kw() >= least.max(1)).then_some(feerate)
    }

    /// From `start` to `top`, which is reached two blocks before the end: what is published then is
    /// in the last block that is surely ours.
    fn rise(self, start: FeeratePerKw, top: FeeratePerKw) -> FeeratePerKw {
        let cube = |blocks: u32| u128::from(blocks).saturating_pow(3);
        let (gone, width) = (self.delay.saturating_sub(self.left), self.delay.saturating_sub(2));
        let height = u128::from(top.per_kw().saturating_sub(start.per_kw()));
        match height.saturating_mul(cube(gone)).checked_div(cube(width)) {
            Some(risen) if gone < width => {
                let risen = u32::try_from(risen).unwrap_or(u32::MAX);
                FeeratePerKw::new(start.per_kw().saturating_add(risen)).min(top)
            }
            _ => top,
        }
    }
}
