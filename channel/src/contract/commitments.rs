//! The state of the contract and what moves it: each update, signature and revocation as a pair
//! `send_x` / `receive_x`. No messages are made here beyond what the state says, nothing is stored,
//! nothing is decided about turns: that is `protocol`.

use super::balance::{Balances, Movements, View};
use super::exposure::Bounds;
use super::htlc::{FeeUpdate, Htlc, PenaltyRecord, Presence, Removal, Stage, Step};
use crate::amount::{FeeratePerKw, Height, Msat, Sat};
use crate::changeset::Row;
use crate::error::{Refused, Violation};
use crate::keys::revocation_store::RevocationStore;
use crate::params::{ChannelParams, Side};
use crate::payment::{PaymentHash, Preimage};
use bitcoin::secp256k1::ecdsa::Signature;
use bitcoin::secp256k1::PublicKey;
use bitcoin::OutPoint;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Which of the two messages that end a half round was sent last (rules 2.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LastSent {
    /// commitment_signed.
    Commitment,
    /// revoke_and_ack.
    Revocation,
}

/// The small part of the state that changes with every step: one row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Balances with everything folded in that is settled for good.
    pub base: Balances,
    /// Feerates in the order proposed; the first is settled.
    pub fees: Vec<FeeUpdate>,
    /// Id of the next HTLC we offer.
    pub next_local_id: u64,
    /// Id of the next HTLC the peer offers, counting only those it has signed for.
    pub next_remote_id: u64,
    /// Number of our commitment that the peer signed last.
    pub local_number: u64,
    /// Number of the peer's commitment that we signed last.
    pub remote_number: u64,
    /// The peer has not yet revoked the one before.
    pub awaiting_revocation: bool,
    /// The peer's per-commitment point for `remote_number`.
    pub remote_point: PublicKey,
    /// The peer's per-commitment point for the one after, once it told us.
    pub next_remote_point: Option<PublicKey>,
    /// The peer's point for `remote_number - 1`, until it reveals the secret.
    pub revoking_point: Option<PublicKey>,
    /// Order of our last commitment_signed and revoke_and_ack.
    pub last_sent: LastSent,
}

/// A funding output and our signed commitment on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Funding {
    /// F's output.
    pub outpoint: OutPoint,
    /// What it holds.
    pub capacity: Sat,
    /// The peer's signature on our commitment `local_number`.
    pub commitment_signature: Signature,
    /// The peer's signatures on its HT and HE, in output order.
    pub htlc_signatures: Vec<Signature>,
}

/// The contract: common logs, and the funding output they move.
#[derive(Clone, Debug)]
pub struct Commitments {
    /// What was agreed at opening.
    pub params: ChannelParams,
    /// The row that changes with every step.
    pub state: State,
    /// The funding output (one today).
    pub funding: Funding,
    /// Live HTLCs by who offered them and id.
    pub htlcs: BTreeMap<(Side, u64), Htlc>,
    /// The peer's revoked secrets.
    pub revocations: RevocationStore,
    /// Onions of HTLCs we offered that the peer has not acknowledged (1,366 bytes each).
    pub onions: BTreeMap<u64, Vec<u8>>,
    /// What the node lets the channel lose to fees.
    pub bounds: Bounds,
    pub(super) penalties: BTreeMap<(Side, u64), PenaltyRecord>,
    pub(super) dirty: BTreeSet<Row>,
    newly_locked: Vec<u64>,
}

/// An HTLC that is over: its offer, what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Who had offered it.
    pub offerer: Side,
    /// Its id.
    pub id: u64,
    /// The HTLC as it was.
    pub htlc: Htlc,
}

/// What we offer with `update_add_htlc`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// What it is worth.
    pub amount: Msat,
    /// What it is locked to.
    pub payment_hash: PaymentHash,
    /// When we may take it back.
    pub cltv_expiry: Height,
    /// The onion for the peer, 1,366 bytes as on the wire.
    pub onion: Vec<u8>,
    /// What the node wants to find again with it.
    pub memo: Vec<u8>,
}

impl Commitments {
    /// The state right after both sides signed their first commitments.
    pub fn new(params: ChannelParams, state: State, funding: Funding) -> Self {
        Commitments {
            params,
            state,
            funding,
            htlcs: BTreeMap::new(),
            revocations: RevocationStore::default(),
            onions: BTreeMap::new(),
            bounds: Bounds::default(),
            penalties: BTreeMap::new(),
            dirty: BTreeSet::from([Row::Params, Row::State, Row::Funding(0)]),
            newly_locked: Vec::new(),
        }
    }

    /// We offer an HTLC; it goes out with our next commitment_signed. Its id.
    pub fn send_add(&mut self, offer: Offer) -> Result<u64, Refused> {
        self.can_send_add(&offer)?;
        let id = self.state.next_local_id;
        self.state.next_local_id = id.saturating_add(1);
        self.onions.insert(id, offer.onion);
        let htlc = Htlc {
            stage: Stage::Proposed,
            amount: offer.amount,
            payment_hash: offer.payment_hash,
            cltv_expiry: offer.cltv_expiry,
            removal: None,
            first_remote: None,
            memo: offer.memo,
            over_dust_exposure: false,
        };
        self.htlcs.insert((Side::Local, id), htlc);
        Ok(id)
    }

    /// The peer offers an HTLC.
    pub fn receive_add(&mut self, id: u64, mut htlc: Htlc) -> Result<(), Violation> {
        self.can_receive_add(id, &htlc)?;
        htlc.over_dust_exposure = self.exceeds_exposure(Side::Remote, htlc.amount);
        self.htlcs.insert((Side::Remote, id), htlc);
        Ok(())
    }

    /// Takes back all offers that nobody has heard of yet.
    pub fn withdraw_offers(&mut self) -> Vec<Settled> {
        std::iter::from_fn(|| self.withdraw_last_offer()).collect()
    }

    /// As funder, takes back a feerate and offers that nobody has heard of yet and that we can no
    /// longer pay for: the peer's HTLCs, acknowledged since, have made our commitment dearer.
    pub fn withdraw_unaffordable(&mut self) -> Vec<Settled> {
        let mut withdrawn = Vec::new();
        while !self.affords_next_round() {
            let fees = self.state.fees.len();
            self.state.fees.retain(|fee| fee.stage != Stage::Proposed);
            if self.state.fees.len() == fees {
                match self.withdraw_last_offer() {
                    Some(offer) => withdrawn.push(offer),
                    None => break,
                }
            }
        }
        withdrawn
    }

    /// Takes back offers that nobody has heard of yet, until none of them expires by then: the peer
    /// was away for so long that it would have to be closed on for them.
    pub fn withdraw_expired(&mut self, by: Height) -> Vec<Settled> {
        let mut withdrawn = Vec::new();
        let expires = |((side, _), htlc): (&(Side, u64), &Htlc)| {
            *side == Side::Local && htlc.stage == Stage::Proposed && htlc.cltv_expiry <= by
        };
        while self.htlcs.iter().any(expires) {
            withdrawn.extend(self.withdraw_last_offer());
        }
        withdrawn
    }

    fn withdraw_last_offer(&mut self) -> Option<Settled> {
        let mut offers = self
            .htlcs
            .iter()
            .filter(|((by, _), htlc)| *by == Side::Local && htlc.stage == Stage::Proposed);
        let key = *offers.next_back()?.0;
        let (offerer, id) = key;
        let mut htlc = self.htlcs.remove(&key)?;
        htlc.removal = Some(Removal::Failed(Vec::new()));
        self.onions.remove(&id);
        self.state.next_local_id = id;
        Some(Settled { offerer, id, htlc })
    }

    /// We settle or fail an HTLC of the peer's. It goes out with our next commitment_signed.
    pub fn send_removal(&mut self, id: u64, removal: Removal) -> Result<(), Refused> {
        let htlc = self.removable(id, &removal)?;
        htlc.stage = Stage::RemoveProposed;
        htlc.removal = Some(removal);
        Ok(())
    }

    /// The channel is failed, and the preimage of an HTLC of the peer's becomes known: it is kept
    /// for HE or HED, and not sent.
    pub fn learn_preimage(&mut self, id: u64, preimage: Preimage) -> Result<(), Refused> {
        let removal = Removal::Fulfilled(preimage);
        let htlc = self.removable(id, &removal)?;
        htlc.removal = Some(removal);
        Ok(())
    }

    /// An HTLC of the peer's that may be removed so; about to be written.
    fn removable(&mut self, id: u64, removal: &Removal) -> Result<&mut Htlc, Refused> {
        let htlc = self.htlcs.get_mut(&(Side::Remote, id)).ok_or(Refused::UnknownHtlc(id))?;
        if htlc.stage != Stage::Locked {
            return Err(Refused::UnknownHtlc(id));
        }
        if matches!(removal, Removal::Fulfilled(r) if r.hash() != htlc.payment_hash) {
            return Err(Refused::WrongPreimage(id));
        }
        self.dirty.insert(Row::Htlc(Side::Remote, id));
        Ok(htlc)
    }

    /// The peer settles or fails an HTLC of ours. The preimage, if it is one.
    pub fn receive_removal(
        &mut self,
        id: u64,
        removal: Removal,
    ) -> Result<Option<Preimage>, Violation> {
        const RULE: &str = "BOLT 2 removing an HTLC";
        let htlc = match self.htlcs.get_mut(&(Side::Local, id)) {
            Some(htlc) if htlc.stage == Stage::Locked => htlc,
            Some(htlc) => {
                let what = format!("HTLC {id} cannot be removed at stage {:?}", htlc.stage);
                return Err(Violation::fail(RULE, what));
            }
            None => return Err(Violation::fail(RULE, format!("there is no HTLC {id}"))),
        };
        let preimage = match &removal {
            Removal::Fulfilled(r) if r.hash() != htlc.payment_hash => {
                let what = format!("the preimage does not open HTLC {id}");
                return Err(Violation::fail(RULE, what));
            }
            Removal::Fulfilled(r) => Some(*r),
            Removal::Malformed { code, .. } if code & 0x8000 == 0 => {
                let what = format!("failure code {code:#06x} lacks the BADONION bit");
                return Err(Violation::fail(RULE, what));
            }
            _ => None,
        };
        htlc.stage = Stage::RemoveProposed;
        htlc.removal = Some(removal);
        Ok(preimage)
    }

    /// We, the funder, set a new feerate.
    pub fn send_fee(&mut self, feerate: FeeratePerKw) -> Result<(), Refused> {
        self.can_send_fee(feerate)?;
        self.propose_fee(feerate);
        Ok(())
    }

    /// The peer, the funder, sets a new feerate.
    pub fn receive_fee(&mut self, feerate: FeeratePerKw) -> Result<(), Violation> {
        self.can_receive_fee(feerate)?;
        self.propose_fee(feerate);
        Ok(())
    }

    /// A feerate that nobody signed yet is simply replaced.
    fn propose_fee(&mut self, feerate: FeeratePerKw) {
        self.state.fees.retain(|fee| fee.stage != Stage::Proposed);
        self.state.fees.push(FeeUpdate { feerate, stage: Stage::Proposed });
    }

    /// Whether the peer's next commitment would differ from its last: something to sign for.
    pub fn has_changes_for(&self, holder: Side) -> bool {
        let step = Step::Signs(holder.other());
        let funder = self.params.funder;
        self.htlcs.iter().any(|((by, _), htlc)| htlc.stage.after(step, *by) != htlc.stage)
            || self.state.fees.iter().any(|fee| fee.stage.after(step, funder) != fee.stage)
    }

    /// Whether `side` has proposed an update that it has not signed for yet.
    pub fn has_unsigned_updates_of(&self, side: Side) -> bool {
        self.htlcs.iter().any(|((by, _), htlc)| match htlc.stage {
            Stage::Proposed => *by == side,
            Stage::RemoveProposed => *by != side,
            _ => false,
        }) || (self.params.funder == side
            && self.state.fees.iter().any(|fee| fee.stage == Stage::Proposed))
    }

    /// Whether both commitments are bare: no HTLC, one feerate, nobody owes a revocation. Then the
    /// channel can be closed together (BOLT 2, closing).
    pub fn is_quiet(&self) -> bool {
        let settled = self.state.fees.iter().all(|fee| fee.stage == Stage::Locked);
        self.htlcs.is_empty() && settled && !self.state.awaiting_revocation
    }

    /// Moves the stages for our commitment_signed number `remote_number + 1`.
    pub(super) fn step_signed_by_us(&mut self, next_point: PublicKey) {
        let number = self.state.remote_number.saturating_add(1);
        self.record_penalties(number);
        self.step(Step::Signs(Side::Local));
        self.state.remote_number = number;
        self.state.revoking_point = Some(self.state.remote_point);
        self.state.remote_point = next_point;
        self.state.next_remote_point = None;
        self.state.awaiting_revocation = true;
        self.state.last_sent = LastSent::Commitment;
    }

    /// The peer's revoke_and_ack for its commitment `remote_number - 1`, already checked against
    /// its point. What is settled for good with it.
    pub fn receive_revocation(
        &mut self,
        secret: [u8; 32],
        next_point: PublicKey,
    ) -> Result<Vec<Settled>, Violation> {
        let revoked = self.state.remote_number.saturating_sub(1);
        let slot = self.revocations.insert(revoked, secret).map_err(|_| {
            let what = format!("the secret of commitment {revoked} does not fit those before it");
            Violation::fail("BOLT 3 per-commitment secrets", what)
        })?;
        self.dirty.insert(Row::Revocation(u8::try_from(slot).unwrap_or(u8::MAX)));
        self.state.awaiting_revocation = false;
        self.state.revoking_point = None;
        self.state.next_remote_point = Some(next_point);
        self.step(Step::Revokes(Side::Remote));
        Ok(self.fold())
    }

    /// The peer's commitment_signed was valid, and we answer with revoke_and_ack at once.
    pub(super) fn step_signed_by_peer(&mut self, signature: Signature, htlcs: Vec<Signature>) {
        self.step(Step::Signs(Side::Remote));
        self.state.local_number = self.state.local_number.saturating_add(1);
        self.funding.commitment_signature = signature;
        self.funding.htlc_signatures = htlcs;
        self.dirty.insert(Row::Funding(0));
        let signed = self.htlcs.keys().filter(|(by, _)| *by == Side::Remote).map(|(_, id)| *id);
        let after_last = signed.max().map_or(0, |id| id.saturating_add(1));
        self.state.next_remote_id = self.state.next_remote_id.max(after_last);
    }

    /// We revoke our commitment `local_number - 1`. What is settled for good with it.
    pub fn send_revocation(&mut self) -> Vec<Settled> {
        self.step(Step::Revokes(Side::Local));
        self.state.last_sent = LastSent::Revocation;
        self.fold()
    }

    /// The connection is gone: updates of the peer's that it did not sign for are forgotten (BOLT
    /// 2, message retransmission). Ours stay and go out again with the same ids.
    pub fn forget_unsigned_of_peer(&mut self) {
        self.htlcs.retain(|(by, _), htlc| *by == Side::Local || htlc.stage != Stage::Proposed);
        for ((by, _), htlc) in &mut self.htlcs {
            if *by == Side::Local && htlc.stage == Stage::RemoveProposed {
                htlc.stage = Stage::Locked;
                htlc.removal = None;
            }
        }
        if self.params.funder == Side::Remote {
            self.state.fees.retain(|fee| fee.stage != Stage::Proposed);
        }
    }

    /// Ids of the peer's HTLCs that became irrevocable since the last call.
    pub fn take_newly_locked(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.newly_locked)
    }

    /// The point for the peer's commitment 1, which channel_ready tells.
    pub fn set_next_remote_point(&mut self, point: PublicKey) {
        if self.state.remote_number == 0 {
            self.state.next_remote_point = Some(point);
            self.dirty.insert(Row::State);
        }
    }

    fn step(&mut self, step: Step) {
        for ((by, id), htlc) in &mut self.htlcs {
            let next = htlc.stage.after(step, *by);
            if next != htlc.stage {
                if htlc.stage == Stage::Proposed {
                    self.dirty.insert(Row::Memo(*by, *id));
                    if *by == Side::Local {
                        self.dirty.insert(Row::Onion(*id));
                    }
                }
                if next == Stage::AddRevoked && *by == Side::Local {
                    self.onions.remove(id);
                    self.dirty.insert(Row::Onion(*id));
                }
                if next == Stage::Locked && *by == Side::Remote {
                    self.newly_locked.push(*id);
                }
                htlc.stage = next;
                self.dirty.insert(Row::Htlc(*by, *id));
            }
        }
        for fee in &mut self.state.fees {
            fee.stage = fee.stage.after(step, self.params.funder);
        }
        self.dirty.insert(Row::State);
    }

    /// Folds what is settled for good into the base balances and forgets it.
    fn fold(&mut self) -> Vec<Settled> {
        let gone = self.htlcs.extract_if_gone();
        let mut movements = Movements::default();
        for settled in &gone {
            movements.settle(settled.offerer, &settled.htlc);
            self.dirty.insert(Row::Htlc(settled.offerer, settled.id));
            self.dirty.insert(Row::Memo(settled.offerer, settled.id));
        }
        self.state.base = movements.applied_to(self.state.base);
        let last_locked = self.state.fees.iter().rposition(|fee| fee.stage == Stage::Locked);
        self.state.fees.drain(..last_locked.unwrap_or(0));
        gone
    }

    /// Writes down, with the signature that first or last commits it, which of the peer's
    /// commitments hold each HTLC (rules 1.3).
    fn record_penalties(&mut self, number: u64) {
        let step = Step::Signs(Side::Local);
        for ((by, id), htlc) in &mut self.htlcs {
            let seen = |stage: Stage| stage.on_commitment(Side::Remote, *by);
            let (before, after) = (seen(htlc.stage), seen(htlc.stage.after(step, *by)));
            let last = match (before, after) {
                (Presence::NotYet, Presence::Present) => {
                    htlc.first_remote = Some(number);
                    None
                }
                (Presence::Present, Presence::Removed) => Some(number.saturating_sub(1)),
                _ => continue,
            };
            let record = PenaltyRecord {
                payment_hash: htlc.payment_hash,
                amount: htlc.amount,
                cltv_expiry: htlc.cltv_expiry,
                first: htlc.first_remote.unwrap_or(number),
                last,
            };
            self.penalties.insert((*by, *id), record);
            self.dirty.insert(Row::Penalty(*by, *id));
        }
    }

    /// Everything that is anywhere: balances of both sides and live HTLCs make up the capacity.
    pub fn conserves_capacity(&self) -> bool {
        [Side::Local, Side::Remote].into_iter().all(|holder| {
            let content = self.content(holder, View::Signed);
            let htlcs = content.htlcs.iter().map(|(_, _, htlc)| htlc.amount);
            let parts = htlcs.chain([content.balances.local, content.balances.remote]);
            Msat::checked_sum(parts) == self.funding.capacity.to_msat()
        })
    }
}

/// Takes what is over out of the map, in order.
trait ExtractGone {
    fn extract_if_gone(&mut self) -> Vec<Settled>;
}

impl ExtractGone for BTreeMap<(Side, u64), Htlc> {
    fn extract_if_gone(&mut self) -> Vec<Settled> {
        let gone: Vec<_> = self
            .iter()
            .filter(|(_, htlc)| htlc.stage == Stage::Gone)
            .map(|(key, _)| *key)
            .collect();
        let take = |key: (Side, u64)| {
            let htlc = self.remove(&key)?;
            Some(Settled { offerer: key.0, id: key.1, htlc })
        };
        gone.into_iter().filter_map(take).collect()
    }
}
