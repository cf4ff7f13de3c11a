//! What is left to do about a commitment in a block. Only facts are kept (what stands in which
//! block); what we may claim and how each HTLC ended follow from them, so that a reorganisation
//! takes facts back and nothing else.
//!
//! ```text
//!   blocks ─▶ see, unsee ─▶ facts ─┬─▶ claims    what we may take, from when, until when
//!                                  └─▶ fates     how the HTLCs that we offered ended
//! ```

use super::claim::Claim;
use super::published::{Published, Role, Whose};
use super::{local_commitment, preimage, remote_commitment, revoked_commitment};
use crate::amount::{Height, Sat};
use crate::contract::htlc::Removal;
use crate::contract::Commitments;
use crate::params::Side;
use crate::payment::Preimage;
use crate::transactions::commitment::{CommitmentContext, HtlcRef};
use bitcoin::{OutPoint, Transaction, TxIn, Txid};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What took an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// The transaction.
    pub txid: Txid,
    /// The height of its block.
    pub height: Height,
    /// The preimage that it showed, if the output is an HTLC's and it showed one.
    pub preimage: Option<Preimage>,
}

/// An output of an HT or HE, or of whatever a cheater made of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecondStage {
    /// What it holds.
    pub value: Sat,
    /// The height of its block.
    pub height: Height,
    /// The HTLC it stands for, when that can be told.
    pub htlc: Option<HtlcRef>,
    /// By HE, not by HT.
    pub executed: bool,
}

/// How an HTLC that we offered ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The peer showed the preimage.
    Fulfilled(Preimage),
    /// It came back to us, or never was on what is in the block; deep enough to say so.
    Failed,
}

/// A commitment in a block, and what happened to its outputs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolution {
    /// The commitment.
    pub published: Published,
    /// The height of its block.
    pub height: Height,
    /// What took outputs: the commitment's, and of second stages.
    pub taken: BTreeMap<OutPoint, Taken>,
    /// Second stages' outputs.
    pub second: BTreeMap<OutPoint, SecondStage>,
}

/// What the chain did with F, and with the outputs of the commitment that spent it: one row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnChain {
    /// The height of the block in which F is spent.
    pub height: Option<Height>,
    /// What happened since, if by a commitment.
    pub resolution: Option<Resolution>,
    /// HTLCs of ours whose fate was told: it is told once, whatever a reorganisation brings.
    pub told: BTreeSet<u64>,
}

impl OnChain {
    /// In the block of this height `txid` spends F; `read` tells what it is, if it is a commitment.
    /// Said again after a restart, it changes nothing. Whether something changed.
    pub fn see(
        &mut self,
        txid: Txid,
        height: Height,
        read: impl FnOnce() -> Option<Published>,
    ) -> bool {
        let known = self.resolution.as_ref().is_some_and(|was| was.published.txid == txid);
        if known && self.height == Some(height) {
            return false;
        }
        self.resolution = read().map(|published| Resolution::new(published, height));
        self.height = Some(height);
        true
    }

    /// The block of this height and all after it are gone. Whether something went with them.
    pub fn unsee(&mut self, height: Height) -> bool {
        if self.height.is_some_and(|spent| spent >= height) {
            (self.height, self.resolution) = (None, None);
            return true;
        }
        let before = self.resolution.clone();
        if let Some(resolution) = &mut self.resolution {
            resolution.unsee(height);
        }
        self.resolution != before
    }
}

impl Resolution {
    /// Right after the block with the commitment.
    pub fn new(published: Published, height: Height) -> Self {
        Resolution { published, height, taken: BTreeMap::new(), second: BTreeMap::new() }
    }

    /// Outputs whose spends must be watched for, and since when they are there.
    pub fn watched(&self) -> impl Iterator<Item = (OutPoint, Height)> + '_ {
        let places = self.published.outputs.keys();
        let first = places.map(|place| (self.published.outpoint(*place), self.height));
        first.chain(self.second.iter().map(|(outpoint, second)| (*outpoint, second.height)))
    }

    /// Preimages that a transaction, in a block or not, shows of HTLCs that we offered: their ids.
    pub fn preimages(&self, tx: &Transaction) -> Vec<(u64, Preimage)> {
        let shown = tx.input.iter().filter_map(|input| self.shown(input));
        let ours = shown.filter(|((by, _), _)| *by == Side::Local);
        ours.filter_map(|((_, id), preimage)| Some((id, preimage?))).collect()
    }

    /// The HTLC on the commitment that an input spends, and its preimage if that is shown.
    fn shown(&self, input: &TxIn) -> Option<(HtlcRef, Option<Preimage>)> {
        let OutPoint { txid, vout } = input.previous_output;
        let (tag, htlc) = self.published.htlc(vout).filter(|_| txid == self.published.txid)?;
        Some((tag, preimage::in_witness(&input.witness, &htlc.payment_hash)))
    }

    /// A transaction in the block of this height spends some of these outputs.
    pub fn see(&mut self, tx: &Transaction, height: Height, contract: &Commitments) {
        let keys = self.published.keys(contract);
        let context = contract.context(self.published.broadcaster(), &keys);
        let revocable = context.to_local_script().to_p2wsh();
        let mut by_input = Vec::new();
        for input in &tx.input {
            let (htlc, shown) = match self.shown(input) {
                Some((tag, shown)) => (Some(tag), shown),
                None => (None, None),
            };
            by_input.push((htlc, shown.is_some()));
        }
        self.take(tx, height);
        if by_input.iter().any(|(htlc, _)| htlc.is_some()) {
            self.note_second_stage(tx, height, &revocable, &by_input);
        }
    }

    /// The same as far as the outputs themselves go: which of them it takes.
    pub fn take(&mut self, tx: &Transaction, height: Height) {
        let txid = tx.compute_txid();
        for input in &tx.input {
            let outpoint = input.previous_output;
            if self.watched().any(|(watched, _)| watched == outpoint) {
                let preimage = self.shown(input).and_then(|(_, preimage)| preimage);
                self.taken.insert(outpoint, Taken { txid, height, preimage });
            }
        }
    }

    /// HT and HE pay to to_local's script, at the place of their input (SINGLE, BOLT 3).
    fn note_second_stage(
        &mut self,
        tx: &Transaction,
        height: Height,
        revocable: &bitcoin::Script,
        by_input: &[(Option<HtlcRef>, bool)],
    ) {
        let txid = tx.compute_txid();
        for (place, output) in (0u32..).zip(&tx.output) {
            if *output.script_pubkey == *revocable {
                let input = usize::try_from(place).ok().and_then(|place| by_input.get(place));
                let (htlc, executed) = input.copied().unwrap_or((None, false));
                let value = output.value.into();
                let stage = SecondStage { value, height, htlc, executed };
                self.second.insert(OutPoint { txid, vout: place }, stage);
            }
        }
    }

    /// The block of this height and all after it are gone. Whether the commitment itself is.
    pub fn unsee(&mut self, height: Height) -> bool {
        self.taken.retain(|_, taken| taken.height < height);
        self.second.retain(|_, stage| stage.height < height);
        self.height >= height
    }

    /// What we may take of what nobody took yet, now or later. Preimages are those that the
    /// contract's HTLCs were settled with.
    pub fn claims(&self, contract: &Commitments) -> Vec<Claim> {
        let keys = self.published.keys(contract);
        let context = contract.context(self.published.broadcaster(), &keys);
        let first = self.published.outputs.iter().filter_map(|(place, (value, role))| {
            let outpoint = self.published.outpoint(*place);
            let claim = self.claim(contract, &context, outpoint, *value, role)?;
            Some(claim.confirmed_at(self.height))
        });
        let second = self.second.iter().filter_map(|(outpoint, stage)| {
            let claim = self.second_claim(&context, *outpoint, stage)?;
            let claim = Claim { htlc: stage.htlc, ..claim };
            Some(claim.confirmed_at(stage.height))
        });
        let free = |claim: &Claim| !self.taken.contains_key(&claim.spend.outpoint);
        first.chain(second).filter(free).collect()
    }

    fn claim(
        &self,
        contract: &Commitments,
        context: &CommitmentContext,
        outpoint: OutPoint,
        value: Sat,
        role: &Role,
    ) -> Option<Claim> {
        let height = self.height;
        match (role, self.published.whose) {
            (Role::ToLocal, Whose::Local(_)) => {
                Some(local_commitment::balance(context, outpoint, value))
            }
            (Role::ToLocal, Whose::Revoked(_)) => {
                Some(revoked_commitment::balance(context, outpoint, value, height))
            }
            (Role::ToRemote, Whose::Remote | Whose::Revoked(_) | Whose::Newer) => {
                Some(remote_commitment::balance(contract, outpoint, value))
            }
            (Role::Htlc(tag, htlc, Some(signature)), Whose::Local(feerate)) => {
                let known = (feerate, known_preimage(contract, tag));
                local_commitment::htlc(context, outpoint, (*tag, htlc), signature, known)
            }
            (Role::Htlc(tag, htlc, _), Whose::Remote) => {
                let preimage = known_preimage(contract, tag);
                remote_commitment::htlc(context, outpoint, (*tag, htlc), preimage)
            }
            (Role::Htlc(tag, htlc, _), Whose::Revoked(_)) => {
                Some(revoked_commitment::htlc(context, outpoint, (*tag, htlc), height))
            }
            _ => None,
        }
    }

    fn second_claim(
        &self,
        context: &CommitmentContext,
        outpoint: OutPoint,
        stage: &SecondStage,
    ) -> Option<Claim> {
        let (value, executed) = (stage.value, stage.executed);
        match self.published.whose {
            Whose::Local(_) => {
                Some(local_commitment::second_stage(context, outpoint, value, executed))
            }
            Whose::Revoked(_) => {
                let stage = (executed, stage.height);
                Some(revoked_commitment::second_stage(context, outpoint, value, stage))
            }
            // Their HT and HE of a commitment that stands are theirs.
            Whose::Remote | Whose::Newer => None,
        }
    }

    /// How HTLCs that we offered ended, those of which it can be said at this height. A preimage
    /// counts at once; that one failed only when what says so is `depth` blocks deep (rules 3.7).
    pub fn fates(&self, contract: &Commitments, height: Height, depth: u32) -> Vec<(u64, Fate)> {
        let is_deep = |at| has_depth(at, height, depth);
        let ours = contract.htlcs.iter().filter(|((by, _), _)| *by == Side::Local);
        let fate = |(tag, htlc): (&HtlcRef, &crate::contract::htlc::Htlc)| {
            if let Some(Removal::Fulfilled(preimage)) = &htlc.removal {
                return Some(Fate::Fulfilled(*preimage));
            }
            if self.published.is_later(contract) {
                return None; // It may be on it, or not.
            }
            let Some(place) = self.place_of(*tag) else {
                // Trimmed, or not on this commitment: what is in the block pays nothing for it.
                return is_deep(self.height).then_some(Fate::Failed);
            };
            let taken = self.taken.get(&self.published.outpoint(place))?;
            match taken.preimage {
                Some(preimage) => Some(Fate::Fulfilled(preimage)),
                None => is_deep(taken.height).then_some(Fate::Failed),
            }
        };
        ours.filter_map(|(tag, htlc)| Some((tag.1, fate((tag, htlc))?))).collect()
    }

    fn place_of(&self, htlc: HtlcRef) -> Option<u32> {
        let is_it = |role: &Role| matches!(role, Role::Htlc(tag, _, _) if *tag == htlc);
        self.published.outputs.iter().find(|(_, (_, role))| is_it(role)).map(|(place, _)| *place)
    }

    /// Whether nothing is left to claim or to wait for: every output that could be ours is taken,
    /// `depth` blocks deep, and so is the commitment itself.
    pub fn is_over(&self, contract: &Commitments, height: Height, depth: u32) -> bool {
        let is_deep = |at| has_depth(at, height, depth);
        // Once expired, an HTLC of the peer's is no longer ours to take: no preimage comes so late.
        let waits = |role: &Role| match role {
            Role::Htlc((Side::Local, _), _, _) => true,
            Role::Htlc((Side::Remote, _), htlc, _) => !is_deep(htlc.cltv_expiry),
            _ => false,
        };
        let open_htlc = self.published.outputs.iter().any(|(place, (_, role))| {
            waits(role) && !self.taken.contains_key(&self.published.outpoint(*place))
        });
        let all_deep = self.taken.values().all(|taken| is_deep(taken.height));
        is_deep(self.height) && !open_htlc && all_deep && self.claims(contract).is_empty()
    }
}

/// Whether what is in the block `at` has `depth` confirmations once the best block is `height`.
fn has_depth(at: Height, height: Height, depth: u32) -> bool {
    at.plus(depth) <= height.plus(1)
}

/// The preimage that we settled, or want to settle, an HTLC of the peer's with.
pub(crate) fn known_preimage(contract: &Commitments, tag: &HtlcRef) -> Option<Preimage> {
    match contract.htlcs.get(tag)?.removal {
        Some(Removal::Fulfilled(preimage)) => Some(preimage),
        _ => None,
    }
}
