//! A funded channel: the contract, where the connection and the channel's life stand, and which
//! file takes which input.

use super::closing::{Closing, Talk};
use super::settling::Waiting;
use crate::amount::{FeeratePerKw, Height, Msat, Sat};
use crate::changeset::{encode, ChangeSet, Row, Rows};
use crate::contract::htlc::{Removal, Stage};
use crate::contract::Commitments;
use crate::error::{Answer, BadRow, Refused, Violation};
use crate::input::{Command, Handled, Input};
use crate::keys::curve::Curve;
use crate::keys::signer::Signer;
use crate::message::Message;
use crate::onchain::deadline::Doubt;
use crate::onchain::resolution::OnChain;
use crate::outbox::Outbox;
use crate::output::{Event, Output, Received};
use crate::params::{Negotiated, Side};
use crate::transactions::commitment::HtlcRef;
use crate::transactions::funding::funding_script;
use bitcoin::{ScriptBuf, Transaction};
use lightning::ln::msgs;
use lightning::ln::types::ChannelId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Where the connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// No connection.
    Down,
    /// Connected; the peer's channel_reestablish has not come yet.
    Reestablishing,
    /// In step with the peer.
    Up,
}

/// Where the channel is in its life: a row, written rarely.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    /// We said channel_ready.
    pub ready_sent: bool,
    /// The peer said channel_ready.
    pub ready_received: bool,
    /// Where F is in the chain (BOLT 7), once it was seen in a block.
    pub short_channel_id: Option<u64>,
    /// The peer's name for the channel, for invoices' r fields.
    pub remote_alias: Option<u64>,
    /// We want to close; the script for our share.
    pub close_wanted: Option<ScriptBuf>,
    /// The script we said in shutdown.
    pub shutdown_sent: Option<ScriptBuf>,
    /// The script the peer said in shutdown.
    pub shutdown_received: Option<ScriptBuf>,
    /// The feerate we were asked to close at.
    pub close_feerate: Option<FeeratePerKw>,
    /// ES of closing_signed, signed by both.
    pub mutual_close: Option<Transaction>,
    /// Why the channel failed. From then on nothing is signed or revoked (rules 2.4).
    pub failed: Option<String>,
    /// The peer proved that our state is old: our commitment must never be published.
    pub behind: bool,
    /// Not used any more; rows of earlier versions have it.
    pub delivery: Option<(bitcoin::OutPoint, Sat, bool, u64)>,
    /// The transaction in a block that spent F.
    pub spent_by: Option<bitcoin::Txid>,
    /// It failed while our state could be an old copy: our commitment waits until somebody told, or
    /// nobody did in time.
    pub held: bool,
}

/// A funded channel.
#[derive(Debug)]
pub struct Open {
    /// Who owns what.
    pub contract: Commitments,
    /// Where it is in its life.
    pub life: Life,
    /// What closing together has come to.
    pub closing: Closing,
    /// Where the connection stands.
    pub link: Link,
    /// F itself, when we funded it.
    pub funding_tx: Option<Transaction>,
    /// Every name that we gave the peer for the channel (BOLT 2, channel_ready), the first of them
    /// in use.
    pub aliases: Vec<u64>,
    /// What the chain did with F and after.
    pub onchain: OnChain,
    pub(super) channel_id: ChannelId,
    pub(crate) negotiated: Negotiated,
    pub(super) talk: Talk,
    pub(super) close_feerate: FeeratePerKw,
    pub(super) height: Height,
    /// Whether our state may be old, since it was read back.
    pub(super) doubt: Doubt,
    pub(super) dirty_life: bool,
    pub(super) dirty_closing: bool,
    pub(super) dirty_funding_tx: bool,
    dirty_aliases: bool,
    pub(super) dirty_onchain: bool,
    /// HTLCs whose peer was warned that they are late; once each until the next start.
    pub(super) warned_of: BTreeSet<HtlcRef>,
    /// The commitment of the peer's that was seen in the mempool last, if that was no other spend
    /// of F.
    pub(super) waiting: Option<Waiting>,
    /// What we know of F's depth; watched anew after each start.
    pub(super) confirmations: u32,
    /// The next_commitment_number that we said in our last channel_reestablish.
    pub(super) said_next: u64,
}

/// What a step may use besides the state.
pub struct Tools<'a> {
    /// Our secrets.
    pub signer: &'a dyn Signer,
    /// Batches of curve operations.
    pub curve: &'a dyn Curve,
    pub(crate) out: &'a mut Outbox,
}

impl Open {
    /// Right after funding_signed was made or taken. `alias` is what channel_ready will call the
    /// channel, if anything.
    pub fn new(contract: Commitments, funding_tx: Option<Transaction>, alias: Option<u64>) -> Self {
        let channel_id = super::opening::channel_id(&contract.funding.outpoint);
        Open {
            contract,
            life: Life::default(),
            closing: Closing::default(),
            link: Link::Up,
            dirty_funding_tx: funding_tx.is_some(),
            funding_tx,
            dirty_aliases: alias.is_some(),
            aliases: alias.into_iter().collect(),
            onchain: OnChain::default(),
            dirty_onchain: false,
            waiting: None,
            channel_id,
            negotiated: Negotiated::default(),
            talk: Talk::default(),
            close_feerate: FeeratePerKw::FLOOR,
            height: Height::new(0),
            doubt: Doubt::None,
            dirty_life: true,
            dirty_closing: false,
            warned_of: BTreeSet::new(),
            confirmations: 0,
            said_next: 0,
        }
    }

    /// As it was when `rows` were written; the connection is down.
    pub fn restore(rows: &Rows) -> Result<Self, BadRow> {
        let mut open = Open::new(Commitments::restore(rows)?, rows.read(Row::FundingTx)?, None);
        open.aliases = rows.read(Row::Aliases)?.unwrap_or_default();
        open.life = rows.require(Row::Life)?;
        open.closing = rows.read(Row::Closing)?.unwrap_or_default();
        open.onchain = rows.read(Row::OnChain)?.unwrap_or_default();
        (open.link, open.doubt) = (Link::Down, Doubt::Unasked);
        (open.dirty_life, open.dirty_funding_tx) = (false, false);
        Ok(open)
    }

    /// What to say and do first after a start: publish what must be on chain, watch F, and repeat
    /// the news about HTLCs that are not over.
    pub fn resume(&mut self, tools: &mut Tools<'_>) {
        self.watch(tools);
        if self.life.short_channel_id.is_none() {
            self.publish_funding(tools);
        }
        self.republish(tools);
        self.watch_outputs(tools);
        for ((by, id), htlc) in &self.contract.htlcs {
            match (by, htlc.stage, &htlc.removal) {
                (Side::Remote, Stage::Locked, None) => {
                    tools.out.stage(Output::Event(Event::Received(received(*id, htlc))));
                }
                (Side::Local, _, Some(Removal::Fulfilled(preimage))) => {
                    let memo = htlc.memo.clone();
                    let event = Event::Fulfilled { id: *id, preimage: *preimage, memo };
                    tools.out.at_once(Output::Event(event));
                }
                _ => {}
            }
        }
    }

    /// F is in no block: whoever funded it publishes it, at a start and also when a reorganisation
    /// took it out, deeper maybe than anybody else repeats it for.
    pub(super) fn publish_funding(&self, tools: &mut Tools<'_>) {
        if let Some(tx) = self.funding_tx.as_ref().filter(|_| self.life.spent_by.is_none()) {
            tools.out.stage(Output::Broadcast(Box::new(tx.clone())));
        }
    }

    pub(crate) fn watch(&self, tools: &mut Tools<'_>) {
        let (a, b) = (&self.contract.params.local, &self.contract.params.remote);
        let script = funding_script(&a.basepoints.funding, &b.basepoints.funding).to_p2wsh();
        let outpoint = self.contract.funding.outpoint;
        tools.out.stage(Output::Watch { outpoint, script });
    }

    /// How deep F is, as last told.
    pub fn confirmations(&self) -> u32 {
        self.confirmations
    }

    /// The id of the channel.
    pub fn channel_id(&self) -> ChannelId {
        self.channel_id
    }

    /// The name that the channel is listed under: the real scid, but for a zero-conf channel our
    /// first alias, which is there from the start and stays.
    pub fn listed_as(&self) -> Option<u64> {
        let alias = self.aliases.first().filter(|_| self.contract.params.zero_conf());
        alias.copied().or(self.life.short_channel_id)
    }

    /// Whether an HTLC to be sent on may name this channel so (BOLT 2, channel_ready): by any alias
    /// that we ever gave the peer, and by the real scid unless that is a secret.
    pub fn answers_to(&self, scid: u64) -> bool {
        let real = self.life.short_channel_id.filter(|_| !self.contract.params.scid_alias);
        self.aliases.contains(&scid) || real == Some(scid)
    }

    /// What the peer's peers may call the channel, in r fields and to the peer itself: its alias,
    /// else the real scid unless that is a secret.
    pub fn told_as(&self) -> Option<u64> {
        let real = self.life.short_channel_id.filter(|_| !self.contract.params.scid_alias);
        self.life.remote_alias.or(real)
    }

    /// Whether nothing is at stake for us yet: the peer opened the channel, F was never deep
    /// enough, and no zero-conf channel was used meanwhile (BOLT 2: the fundee forgets).
    pub fn may_be_forgotten(&self) -> bool {
        let unused = !self.life.ready_sent
            || (self.contract.params.zero_conf()
                && self.contract.state.local_number == 0
                && self.contract.state.base.local == Msat::ZERO);
        self.contract.params.funder == Side::Remote
            && unused
            && self.life.short_channel_id.is_none()
            && self.life.spent_by.is_none()
    }

    /// Whether HTLCs may be offered: in step with the peer, ready on both sides, not ending.
    pub fn is_usable(&self) -> bool {
        self.link == Link::Up && self.phase_name() == "open"
    }

    /// One word for where the channel is.
    pub fn phase_name(&self) -> &'static str {
        let life = &self.life;
        if life.failed.is_some() {
            "failed"
        } else if self.is_settled() || life.spent_by.is_some() {
            "closing"
        } else if life.is_shutting_down() {
            "shutting down"
        } else if life.ready_sent && life.ready_received {
            "open"
        } else {
            "waiting for confirmations"
        }
    }

    pub(crate) fn handle(
        &mut self,
        input: Input,
        tools: &mut Tools<'_>,
    ) -> Result<Handled, Refused> {
        match input {
            Input::Message(message) => {
                let done = self.receive(message, Vec::new(), tools);
                self.answer(done, tools);
            }
            Input::PeerAdd { message, memo } => {
                let done = self.receive(Message::UpdateAddHtlc(message), memo, tools);
                self.answer(done, tools);
            }
            Input::Connected(negotiated) => self.connected(negotiated, tools),
            Input::Disconnected => self.disconnected(tools),
            Input::Witnessed(number) => self.witnessed(number, tools),
            Input::PeersMayTell(height) if self.doubt == Doubt::Unasked => {
                self.doubt = Doubt::Since(height);
            }
            Input::PeersMayTell(_) | Input::Persisted(_) => {}
            Input::Minute => {
                let done = self.minute();
                self.answer(done, tools);
            }
            Input::Command(command) => return self.command(command, tools),
            Input::Block(height) => self.block(height, tools),
            Input::FundingFound(tx) => self.funding_found(&tx, tools),
            Input::FundingDepth { confirmations, short_channel_id } => {
                self.funding_depth(confirmations, short_channel_id, tools);
            }
            Input::FundingSpent { tx, height, records } => {
                self.funding_spent(&tx, (height, &records), tools);
            }
            Input::OutputSpent { tx, height } => self.output_spent(&tx, height, tools),
            Input::Unconfirmed(tx) => self.seen_unconfirmed(*tx, tools),
            Input::Unblock(height) => self.unblock(height, tools),
            Input::Feerates(feerates) => {
                self.close_feerate = feerates.close;
                self.contract.bounds.urgent = Some(feerates.urgent);
                self.follow_feerate(feerates.commitment(self.contract.params.format));
            }
            Input::MaxFeeExposure(limit) => {
                self.contract.bounds.limit = limit.saturating_msat();
            }
        }
        Ok(Handled::Done)
    }

    fn command(&mut self, command: Command, tools: &mut Tools<'_>) -> Result<Handled, Refused> {
        match command {
            Command::Offer(offer) => {
                if !self.is_usable() {
                    let offline = self.link != Link::Up && self.phase_name() == "open";
                    let phase = self.phase_name();
                    return Err(if offline { Refused::Offline } else { Refused::NotUsable(phase) });
                }
                return self.contract.send_add(offer).map(Handled::Offered);
            }
            Command::Remove { id, removal } => {
                match (&self.life.failed, removal) {
                    (None, removal) => self.contract.send_removal(id, removal)?,
                    // Nothing is said any more, but the preimage claims the HTLC on chain.
                    (Some(_), Removal::Fulfilled(preimage)) => {
                        self.contract.learn_preimage(id, preimage)?;
                        self.tell_claims(tools);
                    }
                    (Some(_), _) => return Err(Refused::NotUsable("failed")),
                }
            }
            Command::Close { script, feerate, max_feerate } => {
                self.want_close(script, feerate, max_feerate)?;
            }
            Command::ForceClose(why) => self.force_close(why, tools)?,
            Command::Fund(_) | Command::Abandon(_) => {
                return Err(Refused::NotUsable(self.phase_name()))
            }
        }
        Ok(Handled::Done)
    }

    fn receive(
        &mut self,
        message: Message,
        memo: Vec<u8>,
        tools: &mut Tools<'_>,
    ) -> Result<(), Violation> {
        if self.life.failed.is_some() {
            self.receive_when_failed(message, tools);
            return Ok(());
        }
        match (message, self.link) {
            (Message::Error(error), _) => self.peer_error(&error, tools),
            // What the peer says after a warning, until the connection is closed, does not count.
            (Message::Warning(_), _) | (_, Link::Down) => {}
            (Message::ChannelReestablish(said), _) => self.reestablish(&said, tools)?,
            (_, Link::Reestablishing) => {
                let what = "a message before channel_reestablish";
                return Err(Violation::warn("BOLT 2 message retransmission", what));
            }
            (message, Link::Up) => self.receive_in_step(message, memo, tools)?,
        }
        Ok(())
    }

    fn receive_in_step(
        &mut self,
        message: Message,
        memo: Vec<u8>,
        tools: &mut Tools<'_>,
    ) -> Result<(), Violation> {
        match message {
            Message::ChannelReady(ready) => self.receive_ready(&ready, tools),
            Message::UpdateAddHtlc(add) => self.receive_add(*add, memo),
            Message::UpdateFulfillHtlc(fulfill) => self.receive_fulfill(&fulfill, tools),
            Message::UpdateFailHtlc(fail) => self.receive_fail(*fail),
            Message::UpdateFailMalformedHtlc(fail) => self.receive_malformed(&fail),
            Message::UpdateFee(fee) => self.receive_fee(&fee),
            Message::CommitmentSigned(signed) => self.receive_commitment(*signed, tools),
            Message::RevokeAndAck(revoke) => self.receive_revocation(&revoke, tools),
            Message::Shutdown(shutdown) => self.receive_shutdown(&shutdown),
            Message::ClosingSigned(closing) => self.receive_closing_signed(&closing, tools),
            // What is in a block needs no other version.
            Message::ClosingComplete(_) | Message::ClosingSig(_)
                if self.life.spent_by.is_some() =>
            {
                Ok(())
            }
            Message::ClosingComplete(said) => self.receive_closing_complete(&said, tools),
            Message::ClosingSig(said) => self.receive_closing_sig(&said, tools),
            Message::AnnouncementSignatures(signatures) => {
                tools.out.stage(Output::Event(Event::AnnouncementSignatures(signatures)));
                Ok(())
            }
            _ => Err(Violation::warn("BOLT 2", "an opening message for a funded channel")),
        }
    }

    /// Answers a broken rule as the BOLTs ask.
    fn answer(&mut self, done: Result<(), Violation>, tools: &mut Tools<'_>) {
        let Err(violation) = done else { return };
        match violation.answer {
            Answer::Warn => self.warn(violation.to_string(), tools),
            Answer::Fail => self.fail(violation.to_string(), tools),
        }
    }

    /// Says a warning and closes the connection: what the peer says until it is closed no longer
    /// counts.
    pub(super) fn warn(&mut self, data: String, tools: &mut Tools<'_>) {
        let warning = msgs::WarningMessage { channel_id: self.channel_id, data };
        tools.out.stage(Output::Send(Message::Warning(warning)));
        tools.out.stage(Output::Disconnect);
        self.link = Link::Down;
        self.contract.forget_unsigned_of_peer();
    }

    /// Ends a batch of inputs: what can be said now is said, and what changed goes to disk first.
    pub(crate) fn settle(&mut self, tools: &mut Tools<'_>) {
        if self.life.failed.is_none() && self.life.spent_by.is_none() {
            self.commit_if_due(tools);
            self.shutdown_if_due(tools);
            match self.negotiated.simple_close {
                true => self.offer_if_due(tools),
                false => self.negotiate_if_due(tools),
            }
        }
        let changes = self.take_changes();
        tools.out.seal(changes);
    }

    fn take_changes(&mut self) -> ChangeSet {
        let mut changes = self.contract.take_changes();
        if std::mem::take(&mut self.dirty_life) {
            changes.0.insert(Row::Life, Some(encode(&self.life)));
        }
        if std::mem::take(&mut self.dirty_aliases) {
            changes.0.insert(Row::Aliases, Some(encode(&self.aliases)));
        }
        if std::mem::take(&mut self.dirty_closing) {
            changes.0.insert(Row::Closing, Some(encode(&self.closing)));
        }
        if std::mem::take(&mut self.dirty_onchain) {
            changes.0.insert(Row::OnChain, Some(encode(&self.onchain)));
        }
        if std::mem::take(&mut self.dirty_funding_tx) {
            changes.0.insert(Row::FundingTx, self.funding_tx.as_ref().map(encode));
        }
        changes
    }

    pub(super) fn disconnected(&mut self, tools: &mut Tools<'_>) {
        tools.out.drop_messages();
        self.link = Link::Down;
        self.talk = Talk::default();
        self.contract.forget_unsigned_of_peer();
    }
}

impl Life {
    /// Somebody wants to close together.
    pub fn is_shutting_down(&self) -> bool {
        let scripts = [&self.close_wanted, &self.shutdown_sent, &self.shutdown_received];
        scripts.into_iter().any(Option::is_some)
    }
}

pub(super) fn received(id: u64, htlc: &crate::contract::htlc::Htlc) -> Received {
    Received {
        id,
        amount: htlc.amount,
        payment_hash: htlc.payment_hash,
        cltv_expiry: htlc.cltv_expiry,
        memo: htlc.memo.clone(),
        over_dust_exposure: htlc.over_dust_exposure,
    }
}
