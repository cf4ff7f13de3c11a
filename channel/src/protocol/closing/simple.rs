//! ES by closing_complete and closing_sig (BOLT 2, `option_simple_close`): each side makes a
//! version of its own, pays for it, and may replace it by a dearer one.
//!
//! ```text
//!   A                                                    B
//!   ── closing_complete (scripts, fee, signatures) ▶
//!   ◀ closing_complete (scripts, fee, signatures) ──
//!   ◀────────────── closing_sig (one of A's kind) ──    A's ES is published by both
//!   ── closing_sig (one of B's kind) ──────────────▶    B's ES is published by both
//!      (A wants a higher fee, or another script)
//!   ── closing_complete ───────────────────────────▶
//!   ◀────────────────────────────────── closing_sig ──  it replaces A's ES
//! ```

use crate::amount::{FeeratePerKw, Sat};
use crate::error::{Refused, Violation};
use crate::message::Message;
use crate::output::Output;
use crate::params::Side;
use crate::protocol::open::{Link, Open, Tools};
use crate::transactions::closing::{
    build_closing, closing_weight, ClosingError, ClosingSpec, ClosingTx, Method, Share,
};
use crate::transactions::weight::dust_threshold;
use bitcoin::secp256k1::ecdsa::Signature;
use bitcoin::{Script, ScriptBuf};
use lightning::ln::msgs;

const COMPLETE: &str = "BOLT 2 closing_complete";
const SIG: &str = "BOLT 2 closing_sig";

/// What our ES pays at least when we began the close and no feerate was asked for: enough to
/// replace the version of a peer that only answers, which pays the floor (BIP 125, rule 4).
const BEGINNER: FeeratePerKw = FeeratePerKw::new(506);

/// What we want of our own ES.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    script: ScriptBuf,
    feerate: Option<FeeratePerKw>,
}

/// Whose outputs an ES has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outputs {
    Closer,
    Closee,
    Both,
}

/// What both sides must agree on for one ES.
struct Terms<'a> {
    closer: Side,
    closer_script: &'a Script,
    closee_script: &'a Script,
    fee: Sat,
    lock_time: u32,
}

impl Open {
    /// The feerate of another closing_complete. It must be able to replace what is published
    /// (BIP 125): it pays for its own relay on top of the dearest version so far.
    pub(super) fn bumped(
        &self,
        script: &Script,
        feerate: Option<FeeratePerKw>,
        max_feerate: Option<FeeratePerKw>,
    ) -> Result<FeeratePerKw, Refused> {
        let (true, None, Some(theirs)) =
            (self.negotiated.simple_close, self.life.spent_by, &self.life.shutdown_received)
        else {
            return Err(Refused::AlreadyClosing);
        };
        if self.link != Link::Up {
            return Err(Refused::Offline);
        }
        let feerate = feerate.unwrap_or_else(|| self.estimate(max_feerate));
        let fee = self.fee_at(script, feerate).ok_or(Refused::BadFeerate(feerate))?;
        let published = self.settlements().into_iter().map(|tx| {
            let paid = tx.output.iter().map(|out| Sat::from(out.value));
            let paid = paid.fold(Sat::ZERO, Sat::saturating_add);
            self.contract.funding.capacity.saturating_sub(paid)
        });
        let Some(before) = published.chain(self.closing.fee).max() else { return Ok(feerate) };
        let relay = FeeratePerKw::FLOOR.fee(closing_weight([script, theirs]));
        let least = before.saturating_add(relay);
        match fee >= least {
            true => Ok(feerate),
            false => Err(Refused::ClosingFeeTooLow { fee, least }),
        }
    }

    fn estimate(&self, max_feerate: Option<FeeratePerKw>) -> FeeratePerKw {
        let feerate = self.close_feerate.max(BEGINNER);
        feerate.min(max_feerate.unwrap_or(feerate))
    }

    /// Whether a version of ours is on its way: offered, or about to be.
    pub(super) fn awaits_own_version(&self) -> bool {
        let script = self.life.close_wanted.as_ref().or(self.life.shutdown_sent.as_ref());
        let can_pay = |script: &ScriptBuf| self.fee_at(script, FeeratePerKw::FLOOR).is_some();
        self.talk.offered.is_some() || self.closing.ours.is_none() && script.is_some_and(can_pay)
    }

    /// Our closing_complete, when there is something new to offer and nothing is unanswered.
    pub(in crate::protocol) fn offer_if_due(&mut self, tools: &mut Tools<'_>) {
        let ready = self.both_shut() && self.talk.shutdown_heard && self.contract.is_quiet();
        if !ready || self.link != Link::Up || self.talk.offered.is_some() {
            return;
        }
        let said = self.life.shutdown_sent.clone();
        let Some(script) = self.life.close_wanted.clone().or(said) else { return };
        let plan = Plan { script, feerate: self.life.close_feerate };
        if self.talk.plan.as_ref() == Some(&plan) {
            return;
        }
        let fee = match (plan.feerate, self.closing.fee) {
            (Some(feerate), _) => self.fee_at(&plan.script, feerate),
            // After a reconnection: what was offered before, so that nothing is paid twice.
            (None, Some(fee)) => Some(fee),
            // The peer is in a hurry, not we: what it pays for comes first.
            (None, None) if self.closing.begun_by == Some(Side::Remote) => {
                self.fee_at(&plan.script, FeeratePerKw::FLOOR)
            }
            (None, None) => self.fee_at(&plan.script, self.estimate(self.closing.max_feerate)),
        };
        self.talk.plan = Some(plan.clone());
        // Who cannot pay for an ES of its own is paid by the peer's.
        let Some(fee) = fee else { return };
        let Some(offer) = self.closing_complete(&plan.script, fee, tools) else { return };
        (self.closing.fee, self.dirty_closing) = (Some(fee), true);
        self.pay_us_to(plan.script);
        (self.talk.offered, self.talk.waited) = (Some(Box::new(offer.clone())), 0);
        tools.out.stage(Output::Send(Message::ClosingComplete(Box::new(offer))));
    }

    /// The fee of an ES of ours at a feerate, as far as our balance goes. None: there is no ES that
    /// we could pay for, or it would cost us what the peer's pays us.
    fn fee_at(&self, script: &Script, feerate: FeeratePerKw) -> Option<Sat> {
        let theirs = self.life.shutdown_received.as_deref()?;
        let (balances, dust) = (self.closing_balances(), dust_threshold(script));
        let ours = balances.local.floor();
        let weight = match balances.remote.floor() < dust_threshold(theirs) {
            true => closing_weight([script]),
            false => closing_weight([script, theirs]),
        };
        let most = ours.saturating_sub(dust);
        if most >= FeeratePerKw::FLOOR.fee(weight) {
            return Some(feerate.max(FeeratePerKw::FLOOR).fee(weight).min(most));
        }
        // A balance that is dust goes to the fee whoever makes ES.
        let spare = ours < dust && balances.local < balances.remote;
        let relays = ours >= FeeratePerKw::FLOOR.fee(closing_weight([theirs]));
        (spare && relays).then_some(ours)
    }

    /// The message for an ES of ours at this fee, signed for each way it may look.
    fn closing_complete(
        &self,
        script: &Script,
        fee: Sat,
        tools: &Tools<'_>,
    ) -> Option<msgs::ClosingComplete> {
        let closee_script = self.life.shutdown_received.as_deref()?;
        let terms =
            Terms { closer: Side::Local, closer_script: script, closee_script, fee, lock_time: 0 };
        let mut message = msgs::ClosingComplete {
            channel_id: self.channel_id,
            closer_scriptpubkey: script.to_owned(),
            closee_scriptpubkey: closee_script.to_owned(),
            fee_satoshis: fee.sat(),
            locktime: terms.lock_time,
            closer_output_only: None,
            closee_output_only: None,
            closer_and_closee_outputs: None,
        };
        for outputs in self.ways(&terms) {
            let tx = self.simple_tx(&terms, *outputs).ok()?;
            let signature = Some(tools.signer.sign_funding(self.closing_sighash(&tx)));
            match outputs {
                Outputs::Closer => message.closer_output_only = signature,
                Outputs::Closee => message.closee_output_only = signature,
                Outputs::Both => message.closer_and_closee_outputs = signature,
            }
        }
        Some(message)
    }

    /// The ways our ES may look (BOLT 2, the sender of closing_complete): only who has less than
    /// the peer may leave its own output out, and must when it is dust.
    fn ways(&self, terms: &Terms<'_>) -> &'static [Outputs] {
        let balances = self.closing_balances();
        let closer_is_dust = is_dust(terms.closer_script, balances.local.floor(), terms.fee);
        let closee_is_dust = is_dust(terms.closee_script, balances.remote.floor(), Sat::ZERO);
        match (balances.local < balances.remote, closer_is_dust, closee_is_dust) {
            (_, true, true) | (false, true, _) => &[],
            (true, true, false) => &[Outputs::Closee],
            (true, false, _) => &[Outputs::Both],
            (false, false, true) => &[Outputs::Closer],
            (false, false, false) => &[Outputs::Closer, Outputs::Both],
        }
    }

    fn simple_tx(&self, terms: &Terms<'_>, outputs: Outputs) -> Result<ClosingTx, ClosingError> {
        let balances = self.closing_balances();
        let share = |side: Side| {
            let (script, left_out) = match side == terms.closer {
                true => (terms.closer_script, Outputs::Closee),
                false => (terms.closee_script, Outputs::Closer),
            };
            let omitted = outputs == left_out;
            Share { balance: balances.of(side), script: script.to_owned(), omitted }
        };
        build_closing(&ClosingSpec {
            method: Method::Simple { lock_time: terms.lock_time },
            funding: self.contract.funding.outpoint,
            capacity: self.contract.funding.capacity,
            local: share(Side::Local),
            remote: share(Side::Remote),
            fee: terms.fee,
            payer: terms.closer,
            dust_limit: Sat::ZERO,
        })
    }

    pub(in crate::protocol) fn receive_closing_complete(
        &mut self,
        said: &msgs::ClosingComplete,
        tools: &mut Tools<'_>,
    ) -> Result<(), Violation> {
        self.check_simple(COMPLETE)?;
        let warn = |what: &str| Err(Violation::warn(COMPLETE, what));
        if self.life.shutdown_sent.as_ref() != Some(&said.closee_scriptpubkey) {
            return warn("our share does not go to the script that we said last");
        }
        self.check_peers_script(COMPLETE, &said.closer_scriptpubkey)?;
        let terms = Terms {
            closer: Side::Remote,
            closer_script: &said.closer_scriptpubkey,
            closee_script: &said.closee_scriptpubkey,
            fee: Sat::new(said.fee_satoshis),
            lock_time: said.locktime,
        };
        let ours = self.closing_balances().local.floor();
        let (outputs, signature) = match said.closer_and_closee_outputs {
            _ if is_dust(terms.closee_script, ours, Sat::ZERO) => {
                (Outputs::Closer, said.closer_output_only)
            }
            Some(signature) => (Outputs::Both, Some(signature)),
            None => (Outputs::Closee, said.closee_output_only),
        };
        let Some(signature) = signature else {
            return warn("no signature for an ES with the outputs that it must have");
        };
        let tx = self.simple_tx(&terms, outputs);
        let tx = tx.map_err(|error| Violation::warn(COMPLETE, error.to_string()))?;
        if !self.is_signed_by_peer(&tx, signature, tools) {
            return warn("the signature on the closing transaction is wrong");
        }
        self.pay_peer_to(&said.closer_scriptpubkey);
        let answer = tools.signer.sign_funding(self.closing_sighash(&tx));
        let answer = closing_sig(said, outputs, answer);
        tools.out.stage(Output::Send(Message::ClosingSig(Box::new(answer))));
        let signed = self.publish_es(&tx, &signature, false, tools);
        (self.closing.theirs, self.dirty_closing) = (Some(signed), true);
        Ok(())
    }

    pub(in crate::protocol) fn receive_closing_sig(
        &mut self,
        said: &msgs::ClosingSig,
        tools: &mut Tools<'_>,
    ) -> Result<(), Violation> {
        self.check_simple(SIG)?;
        let warn = |what: &str| Err(Violation::warn(SIG, what));
        let Some(offer) = self.talk.offered.take() else {
            return warn("no closing_complete of ours waits for one");
        };
        let same = said.closer_scriptpubkey == offer.closer_scriptpubkey
            && said.closee_scriptpubkey == offer.closee_scriptpubkey
            && said.fee_satoshis == offer.fee_satoshis
            && said.locktime == offer.locktime;
        if !same {
            return warn("scripts, fee or locktime are not those of our closing_complete");
        }
        let kinds = [
            (Outputs::Closer, said.closer_output_only, offer.closer_output_only),
            (Outputs::Closee, said.closee_output_only, offer.closee_output_only),
            (Outputs::Both, said.closer_and_closee_outputs, offer.closer_and_closee_outputs),
        ];
        let mut answered = kinds.into_iter().filter_map(|(outputs, theirs, ours)| {
            theirs.map(|signature| (outputs, signature, ours.is_some()))
        });
        let (Some((outputs, signature, true)), None) = (answered.next(), answered.next()) else {
            return warn("not exactly one signature of those that we sent");
        };
        let terms = Terms {
            closer: Side::Local,
            closer_script: &offer.closer_scriptpubkey,
            closee_script: &offer.closee_scriptpubkey,
            fee: Sat::new(offer.fee_satoshis),
            lock_time: offer.locktime,
        };
        let tx = self.simple_tx(&terms, outputs);
        let tx = tx.map_err(|error| Violation::warn(SIG, error.to_string()))?;
        if !self.is_signed_by_peer(&tx, signature, tools) {
            return warn("the signature on the closing transaction is wrong");
        }
        let signed = self.publish_es(&tx, &signature, true, tools);
        (self.closing.ours, self.dirty_closing) = (Some(signed), true);
        Ok(())
    }

    fn check_simple(&self, rule: &'static str) -> Result<(), Violation> {
        if !self.negotiated.simple_close {
            return Err(Violation::warn(rule, "option_simple_close is not negotiated"));
        }
        if !self.both_shut() || !self.contract.is_quiet() {
            return Err(Violation::warn(rule, "the channel is not ready to close"));
        }
        Ok(())
    }
}

/// Whether what is left of a balance is too little for an output; a message never is.
fn is_dust(script: &Script, balance: Sat, fee: Sat) -> bool {
    balance.saturating_sub(fee) < dust_threshold(script)
}

fn closing_sig(
    said: &msgs::ClosingComplete,
    outputs: Outputs,
    signature: Signature,
) -> msgs::ClosingSig {
    let when = |wanted: Outputs| (outputs == wanted).then_some(signature);
    msgs::ClosingSig {
        channel_id: said.channel_id,
        closer_scriptpubkey: said.closer_scriptpubkey.clone(),
        closee_scriptpubkey: said.closee_scriptpubkey.clone(),
        fee_satoshis: said.fee_satoshis,
        locktime: said.locktime,
        closer_output_only: when(Outputs::Closer),
        closee_output_only: when(Outputs::Closee),
        closer_and_closee_outputs: when(Outputs::Both),
    }
}
