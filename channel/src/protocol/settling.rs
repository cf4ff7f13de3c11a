//! A commitment is in a block: what happens to its outputs is kept, what we may claim and how our
//! HTLCs ended is told (BOLT 5).
//!
//! ```text
//!   FundingSpent ─┐                 ┌─▶ WatchOutputs, Claims     what a sweeper takes
//!   OutputSpent ──┼─▶ OnChain row ──┤
//!   Unblock, Block┘                 ├─▶ Fulfilled, resolved      how our HTLCs ended
//!   Unconfirmed ────────────────────┘
//! ```

use super::open::{Open, Tools};
use crate::amount::{Height, Sat};
use crate::contract::htlc::{PenaltyRecord, Removal};
use crate::keys::signer::Signer;
use crate::onchain::claim::{Claim, Name};
use crate::onchain::deadline::CLAIM_WINDOW;
use crate::onchain::identify;
use crate::onchain::local_commitment;
use crate::onchain::published::{Published, Role, Whose};
use crate::onchain::resolution::{known_preimage, Fate, Resolution};
use crate::onchain::tree;
use crate::output::{Event, Output, Resolved, Spend};
use crate::params::Side;
use crate::transactions::anchor;
use crate::transactions::commitment::HtlcRef;
use bitcoin::Transaction;

/// How deep a block must be for what it holds to count for good (rules 3.7): only then an HTLC that
/// the chain returned to us is failed back.
pub const DEPTH: u32 = 6;

/// For so many blocks who published a commitment is left to pay for it
const PATIENCE: u32 = 6;
/// unless it must be in a block within so many.
const SOON: u32 = 12;

/// A commitment of the peer's in the mempool.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    commitment: Transaction,
    published: Published,
    /// The best block when it was first seen.
    since: Height,
}

/// A commitment waits to get into a block, and our anchor on it can pay for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bump {
    /// The commitment, signed by both.
    pub commitment: Transaction,
    /// What it pays by itself.
    pub fee: Sat,
    /// What it would be in a block: for [`Claim::sign`].
    pub published: Published,
    /// Our anchor.
    pub anchor: Claim,
    /// When it must be in a block so that preimages can be shown in time.
    pub deadline: Option<Height>,
    /// What those preimages bring.
    pub at_risk: Sat,
    /// What else of ours is on it, and is only late as long as it waits: HTLCs that we offered, and
    /// a fifth of our balance, which can wait longest.
    pub patient: Sat,
}

/// Blocks before an HTLC expires by which our commitment must be there to show the preimage on: HE
/// needs blocks of its own.
const COMMITTED: u32 = CLAIM_WINDOW / 2;

impl Open {
    /// Something in a block spends F.
    pub(super) fn funding_spent(
        &mut self,
        tx: &Transaction,
        (height, records): (Height, &[(HtlcRef, PenaltyRecord)]),
        tools: &mut Tools<'_>,
    ) {
        let txid = tx.compute_txid();
        self.waiting = None;
        if self.life.spent_by != Some(txid) {
            self.life.spent_by = Some(txid);
            self.dirty_life = true;
        }
        let read = || identify::published(&self.contract, tx, tools.signer, records);
        self.dirty_onchain |= self.onchain.see(txid, height, read);
        let spend = match &self.onchain.resolution {
            Some(resolution) => identify::spend_of(&resolution.published),
            None if self.is_agreed(tx) => Spend::Mutual,
            None => Spend::Unknown,
        };
        let later = |it: &Resolution| it.published.is_later(&self.contract);
        let is_old = spend == Spend::Unknown || self.onchain.resolution.as_ref().is_some_and(later);
        if is_old && !self.life.behind {
            // Ours is revoked, or may be, and stays so when a reorganisation takes this out again.
            (self.life.behind, self.dirty_life) = (true, true);
        }
        let why = match spend {
            Spend::Mutual => None,
            Spend::Unknown => Some("what spent its funding output is not known"),
            Spend::Local => Some("a commitment of ours was published"),
            _ => Some("the peer published a commitment"),
        };
        if let (Some(why), None) = (why, &self.life.failed) {
            self.fail(why.into(), tools);
        }
        tools.out.stage(Output::Event(Event::Spent { spend, txid }));
        self.watch_outputs(tools);
        self.tell_fates(tools);
    }

    /// Something in a block spends outputs of the commitment, or of HT and HE.
    pub(super) fn output_spent(&mut self, tx: &Transaction, height: Height, tools: &mut Tools<'_>) {
        let Some(resolution) = &mut self.onchain.resolution else { return };
        let before = resolution.clone();
        resolution.see(tx, height, &self.contract);
        let more = resolution.second.len() > before.second.len();
        if *resolution == before {
            return;
        }
        self.dirty_onchain = true;
        match more {
            true => self.watch_outputs(tools),
            false => self.tell_claims(tools),
        }
        self.tell_fates(tools);
    }

    /// A transaction in the mempool concerns us. Of what it does nothing counts before it is in a
    /// block; what it shows does: preimages, and which commitment waits for a block.
    pub(super) fn seen_unconfirmed(&mut self, tx: Transaction, tools: &mut Tools<'_>) {
        if let Some(resolution) = &self.onchain.resolution {
            for (id, preimage) in resolution.preimages(&tx) {
                self.tell_fate(id, Fate::Fulfilled(preimage), tools);
            }
            return;
        }
        let funding = self.contract.funding.outpoint;
        let spends = tx.input.iter().any(|input| input.previous_output == funding);
        if spends && self.life.spent_by.is_none() {
            let published = identify::published(&self.contract, &tx, tools.signer, &[]);
            let newer = published.as_ref().is_some_and(|it| it.whose == Whose::Newer);
            if newer && !self.life.behind {
                self.fall_behind(tools);
            }
            let theirs = published.filter(|published| published.whose == Whose::Remote);
            self.waiting = theirs.map(|published| {
                let known = self.waiting.as_ref().filter(|it| it.published.txid == published.txid);
                let since = known.map_or(self.height, |waiting| waiting.since);
                Waiting { commitment: tx, published, since }
            });
            self.tell_claims(tools);
        }
    }

    /// The block of this height and all after it are gone: with them, maybe, what spent F. Then
    /// what we have to publish is published again.
    pub(super) fn unblock(&mut self, height: Height, tools: &mut Tools<'_>) {
        self.height = self.height.min(height.minus(1));
        let was_spent = self.onchain.height.is_some();
        if !self.onchain.unsee(height) {
            return;
        }
        self.dirty_onchain = true;
        if was_spent && self.onchain.height.is_none() {
            (self.life.spent_by, self.dirty_life) = (None, true);
            self.republish(tools);
        }
        self.tell_claims(tools);
    }

    /// Asks for what spends the outputs that are left; again after a restart.
    pub(super) fn watch_outputs(&self, tools: &mut Tools<'_>) {
        let Some(resolution) = &self.onchain.resolution else { return };
        tools.out.stage(Output::WatchOutputs(resolution.watched().collect()));
        self.tell_claims(tools);
    }

    pub(super) fn tell_claims(&self, tools: &mut Tools<'_>) {
        tools.out.stage(Output::Event(Event::Claims));
    }

    /// Tells how HTLCs of ours ended, each once.
    pub(super) fn tell_fates(&mut self, tools: &mut Tools<'_>) {
        let Some(resolution) = &self.onchain.resolution else { return };
        let fates = resolution.fates(&self.contract, self.height, DEPTH);
        for (id, fate) in fates {
            self.tell_fate(id, fate, tools);
        }
    }

    fn tell_fate(&mut self, id: u64, fate: Fate, tools: &mut Tools<'_>) {
        let Some(htlc) = self.contract.htlcs.get(&(Side::Local, id)) else { return };
        if !self.onchain.told.insert(id) {
            return;
        }
        self.dirty_onchain = true;
        let (amount, payment_hash, memo) = (htlc.amount, htlc.payment_hash, htlc.memo.clone());
        let removal = match fate {
            Fate::Fulfilled(preimage) => {
                let memo = memo.clone();
                let event = Event::Fulfilled { id, preimage, memo };
                tools.out.at_once(Output::Event(event));
                Removal::Fulfilled(preimage)
            }
            Fate::Failed => Removal::Failed(Vec::new()),
        };
        tools.out.resolve(Resolved { id, amount, payment_hash, removal, memo });
    }

    /// Whether it is still to be told how some HTLC of ours ended.
    pub fn owes_fates(&self) -> bool {
        let mut ours = self.contract.htlcs.keys().filter(|(by, _)| *by == Side::Local);
        ours.any(|(_, id)| !self.onchain.told.contains(id))
    }

    /// What we may take on chain, now or later, of the commitment that is there.
    pub fn claims(&self) -> Option<(&Published, Vec<Claim>)> {
        let resolution = self.onchain.resolution.as_ref()?;
        Some((&resolution.published, resolution.claims(&self.contract)))
    }

    /// The tree of the channel's transactions, for people to look at.
    pub fn tree(&self, signer: &dyn Signer) -> tree::Node {
        let settlement = |es: &&Transaction| {
            let [ours, _] = self.shares_in(es);
            let whose = |out| if Some(out) == ours { Side::Local } else { Side::Remote };
            let outputs = (0u32..).zip(&es.output);
            let shares = outputs.map(|(at, out)| (at, out.value.into(), whose(out))).collect();
            tree::Settlement { txid: es.compute_txid(), shares }
        };
        let settlements: Vec<_> = self.settlements().iter().map(settlement).collect();
        let facts = tree::Facts {
            contract: &self.contract,
            onchain: &self.onchain,
            height: self.height,
            // BOLT 7: the height of its block is the first part of a channel's place in the chain.
            funded_at: self
                .life
                .short_channel_id
                .and_then(|scid| u32::try_from(scid >> 40).ok().map(Height::new)),
            spent_by: self.life.spent_by,
            settlements: &settlements,
            failed: self.life.failed.is_some(),
            behind: self.life.behind,
        };
        tree::of(&facts, signer)
    }

    /// Our own balance on chain, not taken yet: D or RD.
    pub fn delivery(&self) -> Option<Claim> {
        let (_, claims) = self.claims()?;
        claims.into_iter().find(|claim| matches!(claim.name, Name::D | Name::RD))
    }

    /// Whether nothing of the commitment that spent F is left to claim or to wait for, all of it
    /// `depth` blocks deep. None when no commitment spent F.
    pub fn is_resolved(&self, depth: u32) -> Option<bool> {
        let resolution = self.onchain.resolution.as_ref();
        resolution.map(|it| it.is_over(&self.contract, self.height, depth))
    }

    /// A commitment that is published and in no block, and what raises its fee: the peer's if the
    /// mempool had that last and nobody else gets it mined, else our own. Nothing when there is
    /// none, or it has no anchor of ours.
    pub fn bump(&self, signer: &dyn Signer) -> Option<Bump> {
        if self.life.spent_by.is_some() {
            return None;
        }
        if let Some(Waiting { commitment, published, since }) = &self.waiting {
            let bump = self.bump_of(commitment.clone(), published.clone())?;
            let soon = bump.deadline.is_some_and(|by| by <= self.height.plus(SOON));
            return Some(bump).filter(|_| soon || self.height >= since.plus(PATIENCE));
        }
        let commitment = self.forced(signer)?;
        self.bump_of(commitment, local_commitment::read(&self.contract, signer))
    }

    fn bump_of(&self, commitment: Transaction, published: Published) -> Option<Bump> {
        let ours = published.outputs.iter();
        let (place, _) = ours.clone().find(|(_, (_, role))| *role == Role::Anchor(Side::Local))?;
        let funding = &self.contract.params.local.basepoints.funding;
        let spend = anchor::spend(funding, published.outpoint(*place));
        let (mut deadline, mut at_risk, mut patient) = (None::<Height>, Sat::ZERO, Sat::ZERO);
        let is_ours = matches!(published.whose, Whose::Local(_));
        let fifth = |value: Sat| Sat::new(value.sat() / 5);
        for (_, (value, role)) in ours {
            match role {
                Role::Htlc(tag @ (Side::Remote, _), htlc, _)
                    if known_preimage(&self.contract, tag).is_some() =>
                {
                    let by = htlc.cltv_expiry.minus(COMMITTED);
                    deadline = Some(deadline.map_or(by, |first| first.min(by)));
                    at_risk = at_risk.saturating_add(*value);
                }
                Role::Htlc((Side::Local, _), ..) => patient = patient.saturating_add(*value),
                Role::ToLocal if is_ours => patient = patient.saturating_add(fifth(*value)),
                Role::ToRemote if !is_ours => patient = patient.saturating_add(fifth(*value)),
                _ => {}
            }
        }
        let paid: Vec<Sat> = commitment.output.iter().map(|out| out.value.into()).collect();
        let paid = paid.into_iter().fold(Sat::ZERO, Sat::saturating_add);
        let fee = self.contract.funding.capacity.saturating_sub(paid);
        let anchor = Claim::new(Name::Anchor, spend);
        Some(Bump { commitment, fee, published, anchor, deadline, at_risk, patient })
    }
}
