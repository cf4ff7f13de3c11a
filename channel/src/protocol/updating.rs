//! Normal operation (BOLT 2). Updates wait until a round can start and go out together with its
//! commitment_signed; rounds of both sides may overlap.
//!
//! ```text
//!   A                                   B
//!   ── update_add_htlc, … ───────────▶
//!   ── commitment_signed ────────────▶   B's commitment has them
//!   ◀──────────── revoke_and_ack ──────
//!   ◀──────── commitment_signed ───────   A's commitment has them
//!   ── revoke_and_ack ───────────────▶   irrevocable: B acts on them
//! ```

use super::open::{received, Link, Open, Tools};
use crate::amount::{FeeratePerKw, Height, Msat};
use crate::contract::commitments::Settled;
use crate::contract::htlc::{Htlc, Removal, Stage};
use crate::contract::sign::CommitmentSignatures;
use crate::error::Violation;
use crate::keys::curve::secp;
use crate::message::{Message, UpdateFailHtlc, UpdateFailMalformedHtlc};
use crate::output::{Event, Output, Resolved};
use crate::params::Side;
use crate::payment::{PaymentHash, Preimage};
use crate::transactions::funding;
use bitcoin::secp256k1::SecretKey;
use bitcoin::Transaction;
use lightning::ln::msgs;
use lightning::util::ser::Readable;

/// Why a channel ends whose F is in a block and is not F.
pub(crate) const BASELESS: &str = "the funding transaction does not pay what was agreed";

impl Open {
    /// F is in a block, and is not what was agreed: no commitment can ever spend it.
    pub(super) fn funding_found(&mut self, tx: &Transaction, tools: &mut Tools<'_>) {
        if self.is_baseless(tx) {
            self.fail(BASELESS.into(), tools);
        }
    }

    /// Whether this transaction is the one that the peer named, and does not pay what was agreed:
    /// then there is no channel.
    pub(crate) fn is_baseless(&self, tx: &Transaction) -> bool {
        let outpoint = self.contract.funding.outpoint;
        let params = &self.contract.params;
        let (ours, theirs) = (&params.local.basepoints.funding, &params.remote.basepoints.funding);
        let agreed = funding::output(ours, theirs, self.contract.funding.capacity);
        let index = usize::try_from(outpoint.vout).unwrap_or(usize::MAX);
        tx.compute_txid() == outpoint.txid && tx.output.get(index) != Some(&agreed)
    }

    /// channel_ready: once F is deep enough for us.
    pub(super) fn funding_depth(&mut self, depth: u32, scid: u64, tools: &mut Tools<'_>) {
        self.confirmations = depth;
        let seen = (depth > 0).then_some(scid);
        if self.life.short_channel_id != seen {
            self.life.short_channel_id = seen;
            self.dirty_life = true;
            if seen.is_none() {
                self.publish_funding(tools);
            }
        }
        self.ready_if_due(tools);
    }

    pub(crate) fn ready_if_due(&mut self, tools: &mut Tools<'_>) {
        let deep = self.confirmations >= self.contract.params.minimum_depth;
        if deep && !self.life.ready_sent && self.life.failed.is_none() {
            self.life.ready_sent = true;
            self.dirty_life = true;
            if self.link == Link::Up {
                self.send_ready(tools);
            }
            self.announce_usable(true, tools);
        }
    }

    pub(super) fn send_ready(&self, tools: &mut Tools<'_>) {
        let ready = msgs::ChannelReady {
            channel_id: self.channel_id,
            next_per_commitment_point: tools.signer.per_commitment_point(1),
            short_channel_id_alias: self.aliases.first().copied(),
        };
        tools.out.stage(Output::Send(Message::ChannelReady(Box::new(ready))));
    }

    pub(super) fn receive_ready(
        &mut self,
        ready: &msgs::ChannelReady,
        tools: &mut Tools<'_>,
    ) -> Result<(), Violation> {
        let first = !self.life.ready_received;
        if ready.short_channel_id_alias.is_some() {
            self.life.remote_alias = ready.short_channel_id_alias;
            self.dirty_life = true;
        }
        if first {
            self.life.ready_received = true;
            self.dirty_life = true;
            self.contract.set_next_remote_point(ready.next_per_commitment_point);
            self.announce_usable(true, tools);
        }
        Ok(())
    }

    pub(super) fn announce_usable(&self, newly_ready: bool, tools: &mut Tools<'_>) {
        if self.life.ready_sent && self.life.ready_received {
            if newly_ready {
                tools.out.stage(Output::Event(Event::Ready));
            }
            if self.is_usable() {
                tools.out.stage(Output::Event(Event::Usable));
            }
        }
    }

    fn must_be_ready(&self) -> Result<(), Violation> {
        if self.life.ready_sent && self.life.ready_received {
            return Ok(());
        }
        Err(Violation::warn("BOLT 2 channel_ready", "an update before both said channel_ready"))
    }

    pub(super) fn receive_add(
        &mut self,
        add: msgs::UpdateAddHTLC,
        memo: Vec<u8>,
    ) -> Result<(), Violation> {
        self.must_be_ready()?;
        if self.life.shutdown_received.is_some() {
            let what = "an HTLC was added after shutdown";
            return Err(Violation::fail("BOLT 2 shutdown", what));
        }
        let htlc = Htlc {
            stage: Stage::Proposed,
            amount: Msat::new(add.amount_msat),
            payment_hash: PaymentHash(add.payment_hash.0),
            cltv_expiry: Height::new(add.cltv_expiry),
            removal: None,
            first_remote: None,
            memo,
            over_dust_exposure: false,
        };
        self.contract.receive_add(add.htlc_id, htlc)
    }

    pub(super) fn receive_fulfill(
        &mut self,
        fulfill: &msgs::UpdateFulfillHTLC,
        tools: &mut Tools<'_>,
    ) -> Result<(), Violation> {
        let (id, preimage) = (fulfill.htlc_id, Preimage(fulfill.payment_preimage.0));
        self.contract.receive_removal(id, Removal::Fulfilled(preimage))?;
        let memo = self.contract.htlcs.get(&(Side::Local, id)).map(|htlc| htlc.memo.clone());
        let event = Event::Fulfilled { id, preimage, memo: memo.unwrap_or_default() };
        tools.out.at_once(Output::Event(event));
        Ok(())
    }

    pub(super) fn receive_fail(&mut self, fail: UpdateFailHtlc) -> Result<(), Violation> {
        self.contract.receive_removal(fail.htlc_id, Removal::Failed(fail.reason)).map(drop)
    }

    pub(super) fn receive_malformed(
        &mut self,
        fail: &UpdateFailMalformedHtlc,
    ) -> Result<(), Violation> {
        let (sha256_of_onion, code) = (fail.sha256_of_onion, fail.failure_code);
        let removal = Removal::Malformed { sha256_of_onion, code };
        self.contract.receive_removal(fail.htlc_id, removal).map(drop)
    }

    pub(super) fn receive_fee(&mut self, fee: &msgs::UpdateFee) -> Result<(), Violation> {
        self.must_be_ready()?;
        self.contract.receive_fee(FeeratePerKw::new(fee.feerate_per_kw))
    }

    /// As funder, keeps the commitment's feerate near the estimate: a change of a quarter counts.
    pub(super) fn follow_feerate(&mut self, wanted: FeeratePerKw) {
        if !self.is_usable() || self.contract.params.funder != Side::Local {
            return;
        }
        let Some(now) = self.contract.state.fees.last().map(|fee| fee.feerate.per_kw()) else {
            return;
        };
        let difference = u64::from(now.abs_diff(wanted.per_kw()));
        if difference.saturating_mul(4) > u64::from(now) {
            // Refused when we could not pay for it: the old feerate stays (never a close for it).
            let _ = self.contract.send_fee(wanted);
        }
    }

    pub(super) fn receive_commitment(
        &mut self,
        signed: msgs::CommitmentSigned,
        tools: &mut Tools<'_>,
    ) -> Result<(), Violation> {
        const RULE: &str = "BOLT 2 commitment_signed";
        self.must_be_ready()?;
        match signed.funding_txid {
            Some(txid) if txid != self.contract.funding.outpoint.txid => {
                return Err(Violation::fail(RULE, "it is for another funding transaction"));
            }
            _ => {}
        }
        let signatures =
            CommitmentSignatures { commitment: signed.signature, htlcs: signed.htlc_signatures };
        self.contract.receive_commitment(signatures, tools.signer, tools.curve)?;
        let settled = self.contract.send_revocation();
        self.report(settled, tools);
        self.send_revocation(tools);
        Ok(())
    }

    pub(super) fn send_revocation(&self, tools: &mut Tools<'_>) {
        let current = self.contract.state.local_number;
        let revoked = current.saturating_sub(1);
        let message = msgs::RevokeAndACK {
            channel_id: self.channel_id,
            per_commitment_secret: tools.signer.per_commitment_secret(revoked),
            next_per_commitment_point: tools.signer.per_commitment_point(current.saturating_add(1)),
            release_htlc_message_paths: Vec::new(),
        };
        tools.out.stage(Output::Send(Message::RevokeAndAck(Box::new(message))));
    }

    pub(super) fn receive_revocation(
        &mut self,
        revoke: &msgs::RevokeAndACK,
        tools: &mut Tools<'_>,
    ) -> Result<(), Violation> {
        const RULE: &str = "BOLT 2 revoke_and_ack";
        if !self.contract.state.awaiting_revocation {
            return Err(Violation::fail(RULE, "nothing is to be revoked"));
        }
        let secret = SecretKey::from_slice(&revoke.per_commitment_secret)
            .map_err(|_| Violation::fail(RULE, "the secret is not a valid key"))?;
        let point = secret.public_key(secp());
        if Some(point) != self.contract.state.revoking_point {
            return Err(Violation::fail(RULE, "the secret is not that of the revoked commitment"));
        }
        let (secret, next) = (revoke.per_commitment_secret, revoke.next_per_commitment_point);
        let settled = self.contract.receive_revocation(secret, next)?;
        self.report(settled, tools);
        self.report_locked(tools);
        Ok(())
    }

    /// HTLCs of ours that are over for good travel with the change set that says so.
    pub(super) fn report(&self, settled: Vec<Settled>, tools: &mut Tools<'_>) {
        for Settled { offerer, id, htlc } in settled {
            if let (Side::Local, Some(removal)) = (offerer, htlc.removal) {
                let Htlc { amount, payment_hash, memo, .. } = htlc;
                tools.out.resolve(Resolved { id, amount, payment_hash, removal, memo });
            }
        }
    }

    /// HTLCs of the peer's that this revocation made irrevocable.
    fn report_locked(&mut self, tools: &mut Tools<'_>) {
        for id in self.contract.take_newly_locked() {
            if let Some(htlc) = self.contract.htlcs.get(&(Side::Remote, id)) {
                tools.out.stage(Output::Event(Event::Received(received(id, htlc))));
            }
        }
    }

    /// Starts a round if there is something to sign for and the peer can take it.
    pub(super) fn commit_if_due(&mut self, tools: &mut Tools<'_>) {
        let ready = self.life.ready_sent && self.life.ready_received;
        let state = &self.contract.state;
        let free = !state.awaiting_revocation && state.next_remote_point.is_some();
        let due = self.link == Link::Up
            && ready
            && free
            && !self.is_settled()
            && self.contract.has_changes_for(Side::Remote);
        if !due {
            return;
        }
        let unaffordable = self.contract.withdraw_unaffordable();
        self.report(unaffordable, tools);
        if !self.contract.has_changes_for(Side::Remote) {
            return;
        }
        self.send_updates(tools, |by, stage| match by {
            Side::Local => stage == Stage::Proposed,
            Side::Remote => stage == Stage::RemoveProposed,
        });
        let signatures = self.contract.send_commitment(tools.signer, tools.curve);
        if let Some(signatures) = signatures {
            self.send_commitment_signed(signatures, tools);
        }
    }

    /// Says the updates of ours that stand at a stage of a round. Each must be affordable when the
    /// peer hears it: first what gives balance back, then the feerate, then what takes balance.
    pub(super) fn send_updates(
        &self,
        tools: &mut Tools<'_>,
        of_round: impl Fn(Side, Stage) -> bool + Copy,
    ) {
        let of_side = |side: Side| {
            let htlcs = self.contract.htlcs.iter();
            htlcs.filter(move |((by, _), htlc)| *by == side && of_round(side, htlc.stage))
        };
        let removals = of_side(Side::Remote).filter_map(|((_, id), htlc)| {
            htlc.removal.as_ref().map(|removal| self.removal_message(*id, removal))
        });
        let ours = self.contract.params.funder == Side::Local;
        let fees = self.contract.state.fees.iter();
        let fees = fees.filter(|fee| ours && of_round(Side::Local, fee.stage)).map(|fee| {
            let (channel_id, feerate_per_kw) = (self.channel_id, fee.feerate.per_kw());
            Message::UpdateFee(msgs::UpdateFee { channel_id, feerate_per_kw })
        });
        let adds = of_side(Side::Local).filter_map(|((_, id), htlc)| self.add_message(*id, htlc));
        for message in removals.chain(fees).chain(adds) {
            tools.out.stage(Output::Send(message));
        }
    }

    fn add_message(&self, id: u64, htlc: &Htlc) -> Option<Message> {
        let onion = self.contract.onions.get(&id)?;
        let packet = msgs::OnionPacket::read(&mut onion.as_slice()).ok()?;
        Some(Message::UpdateAddHtlc(Box::new(msgs::UpdateAddHTLC {
            channel_id: self.channel_id,
            htlc_id: id,
            amount_msat: htlc.amount.msat(),
            payment_hash: lightning::types::payment::PaymentHash(htlc.payment_hash.0),
            cltv_expiry: htlc.cltv_expiry.number(),
            skimmed_fee_msat: None,
            onion_routing_packet: packet,
            blinding_point: None,
            hold_htlc: None,
        })))
    }

    fn removal_message(&self, htlc_id: u64, removal: &Removal) -> Message {
        let channel_id = self.channel_id;
        match removal {
            Removal::Fulfilled(preimage) => {
                Message::UpdateFulfillHtlc(Box::new(msgs::UpdateFulfillHTLC {
                    channel_id,
                    htlc_id,
                    payment_preimage: lightning::types::payment::PaymentPreimage(preimage.0),
                    attribution_data: None,
                }))
            }
            Removal::Failed(reason) => {
                let reason = reason.clone();
                Message::UpdateFailHtlc(Box::new(UpdateFailHtlc { channel_id, htlc_id, reason }))
            }
            Removal::Malformed { sha256_of_onion, code } => {
                let (sha256_of_onion, failure_code) = (*sha256_of_onion, *code);
                let fail =
                    UpdateFailMalformedHtlc { channel_id, htlc_id, sha256_of_onion, failure_code };
                Message::UpdateFailMalformedHtlc(Box::new(fail))
            }
        }
    }

    pub(super) fn send_commitment_signed(
        &self,
        signatures: CommitmentSignatures,
        tools: &mut Tools<'_>,
    ) {
        let message = msgs::CommitmentSigned {
            channel_id: self.channel_id,
            signature: signatures.commitment,
            htlc_signatures: signatures.htlcs,
            funding_txid: Some(self.contract.funding.outpoint.txid),
        };
        tools.out.stage(Output::Send(Message::CommitmentSigned(Box::new(message))));
    }
}
