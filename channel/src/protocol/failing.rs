//! When the other side is gone, wrong, or a deadline is near: our commitment goes on chain. What
//! comes of it there is the matter of [`super::settling`].

use super::open::{Life, Link, Open, Tools};
use crate::amount::Height;
use crate::contract::balance::View;
use crate::error::Refused;
use crate::keys::Signer;
use crate::message::Message;
use crate::onchain::deadline::{Case, Deed, Doubt, Downstream, Terms, NOTICE};
use crate::output::{Event, Output};
use crate::params::Side;
use crate::transactions::commitment::HtlcRef;
use bitcoin::Transaction;
use lightning::ln::msgs;

impl Open {
    /// Fails the channel: durable first, then our commitment is published and the error said. As
    /// long as our state may be old it waits: a peer that knows it to be would only have to say an
    /// error.
    pub(super) fn fail(&mut self, reason: String, tools: &mut Tools<'_>) {
        self.fail_with(reason, self.doubt.is_open(self.height), tools);
    }

    fn fail_with(&mut self, reason: String, held: bool, tools: &mut Tools<'_>) {
        if self.life.failed.is_some() {
            return;
        }
        // What was said to be sent and is not yet must not leave after the commitment does.
        tools.out.drop_messages();
        let unheard = self.contract.withdraw_offers();
        self.report(unheard, tools);
        (self.life.failed, self.life.held) = (Some(reason.clone()), held);
        self.dirty_life = true;
        // In this order: told of it, the peer publishes its own, and the two would compete.
        self.republish(tools);
        self.send_error(&reason, tools);
        tools.out.stage(Output::Event(Event::Failed(reason)));
    }

    /// Our state is the latest as far as anybody told: what was held is published.
    fn release(&mut self, tools: &mut Tools<'_>) {
        if std::mem::take(&mut self.life.held) {
            self.dirty_life = true;
            self.republish(tools);
            self.tell_claims(tools);
        }
    }

    /// By command of the node, which is not held back.
    pub(super) fn force_close(
        &mut self,
        why: String,
        tools: &mut Tools<'_>,
    ) -> Result<(), Refused> {
        if self.life.behind {
            return Err(Refused::Behind);
        }
        match (&self.life.failed, self.life.held) {
            (None, _) => self.fail_with(why, false, tools),
            (Some(reason), true) => {
                let reason = reason.clone();
                self.release(tools);
                tools.out.stage(Output::Event(Event::Failed(reason)));
            }
            (Some(_), false) => return Err(Refused::AlreadyClosing),
        }
        Ok(())
    }

    /// The peer's error fails the channel (BOLT 1), unless ES is already on its way.
    pub(super) fn peer_error(&mut self, error: &msgs::ErrorMessage, tools: &mut Tools<'_>) {
        if self.is_settled() {
            self.republish(tools);
            return;
        }
        self.fail(format!("the peer said: {}", readable(error)), tools);
    }

    /// A failed channel says its error again when the peer goes on. It takes no message any more
    /// but for what tells whether our state is old.
    pub(super) fn receive_when_failed(&mut self, message: Message, tools: &mut Tools<'_>) {
        let Message::ChannelReestablish(said) = message else { return };
        if !self.life.behind && self.proves_us_behind(&said, tools) {
            return self.fall_behind(tools);
        }
        if self.missed_by(&said, tools).is_ok() {
            self.doubt = Doubt::None;
            self.release(tools);
        }
        if let Some(reason) = &self.life.failed {
            self.send_error(reason, tools);
        }
    }

    /// What we had written down elsewhere shows whether our state is old: what was revoked since
    /// would lose all funds.
    pub(super) fn witnessed(&mut self, number: u64, tools: &mut Tools<'_>) {
        let revoked = number > self.contract.state.local_number;
        if revoked && !self.life.behind && !self.is_settled() && self.life.spent_by.is_none() {
            self.fall_behind(tools);
        }
        // What knows of less than we do says nothing of what came after.
        if number == self.contract.state.local_number {
            self.doubt = Doubt::None;
            self.release(tools);
        }
    }

    /// Our state is known to be old: say so, so that the peer publishes its own, and wait. What was
    /// published of ours before is no longer paid for.
    pub(super) fn fall_behind(&mut self, tools: &mut Tools<'_>) {
        (self.life.behind, self.dirty_life) = (true, true);
        tools.out.drop_broadcast(self.contract.local_draft(tools.signer).tx.txid);
        let why = "our state is older than the peer's: please close the channel".to_owned();
        match self.life.failed {
            None => self.fail(why, tools),
            Some(_) => {
                self.life.failed = Some(why.clone());
                self.send_error(&why, tools);
                self.tell_claims(tools);
            }
        }
        self.link = Link::Down;
    }

    pub(super) fn send_error(&self, reason: &str, tools: &mut Tools<'_>) {
        let (channel_id, data) = (self.channel_id, reason.to_owned());
        let error = msgs::ErrorMessage { channel_id, data };
        tools.out.stage(Output::Send(Message::Error(error)));
    }

    /// Publishes what must be on chain: ES, and our commitment of a failed channel. Where both
    /// exist they pay the same, and either may confirm.
    pub(super) fn republish(&self, tools: &mut Tools<'_>) {
        if self.life.spent_by.is_some() {
            return;
        }
        for tx in self.settlements().into_iter().cloned().chain(self.forced(tools.signer)) {
            tools.out.stage(Output::Broadcast(Box::new(tx)));
        }
    }

    /// Our commitment, signed, when it is to be published: the channel failed, our state is not old
    /// as far as anybody could tell, and nothing that spends F is in a block.
    pub fn forced(&self, signer: &dyn Signer) -> Option<Transaction> {
        let Life { failed, behind, held, spent_by, .. } = &self.life;
        let forced = failed.is_some() && !behind && !held && spent_by.is_none();
        forced.then(|| self.contract.signed_local(signer))
    }

    /// A block: some HTLC may have come too near to its end.
    pub(super) fn block(&mut self, height: Height, tools: &mut Tools<'_>) {
        self.height = height;
        self.tell_fates(tools);
        if self.waiting.is_some() {
            self.tell_claims(tools);
        }
        if !self.life.held && (self.is_settled() || self.life.failed.is_some()) {
            return;
        }
        let expired = self.contract.withdraw_expired(height.plus(NOTICE));
        self.report(expired, tools);
        let deeds: Vec<_> = self.cases().map(|(tag, case)| (case.decide(height), tag)).collect();
        let closes = deeds.iter().find(|(deed, tag)| match (deed, self.contract.htlcs.get(tag)) {
            (Deed::Close(why), Some(htlc)) => {
                !self.doubt.holds_back(*why, htlc.cltv_expiry, height)
            }
            _ => false,
        });
        let closes = closes.map(|(_, (_, id))| format!("HTLC {id} was not settled in time"));
        match (closes, self.life.held) {
            (None, true) if self.doubt.is_open(height) => return,
            (_, true) => return self.release(tools),
            (Some(why), false) => return self.fail_with(why, false, tools),
            (None, false) => {}
        }
        let mut late = deeds.iter().filter(|(deed, _)| *deed == Deed::Warn).map(|(_, tag)| *tag);
        let unwarned = late.find(|tag| self.link == Link::Up && !self.warned_of.contains(tag));
        if let Some(tag) = unwarned {
            self.warned_of.insert(tag);
            self.warn(format!("HTLC {} is late: it soon must be settled on chain", tag.1), tools);
        }
    }

    /// Each HTLC with all that decides when it forces us on chain. What becomes of it further on is
    /// not known here: as long as it matters it is said by what the node settles and fails.
    pub fn cases(&self) -> impl Iterator<Item = (HtlcRef, Case<'_>)> {
        let contract = &self.contract;
        let commitment = contract.content(Side::Local, View::Signed).feerate;
        let terms = Terms {
            format: contract.params.format,
            dust_limit: contract.params.local.dust_limit,
            commitment,
            urgent: contract.bounds.urgent.unwrap_or(commitment),
        };
        contract.htlcs.iter().map(move |(tag, htlc)| {
            let (offerer, downstream) = (tag.0, Downstream::None);
            (*tag, Case { offerer, htlc, terms, downstream })
        })
    }

    /// The height by which the next HTLC wants us on chain.
    pub(crate) fn act_by(&self) -> Option<Height> {
        if self.life.failed.is_some() {
            return None;
        }
        self.cases().filter_map(|(_, case)| Some(case.close_at()?.0)).min()
    }
}

/// What a peer's error says, fit to be shown: no control characters, not endless.
pub(crate) fn readable(error: &msgs::ErrorMessage) -> String {
    error.data.chars().filter(|c| !c.is_control()).take(400).collect()
}
