//! Closing together (BOLT 2, shutdown and closing_signed): both say where their share goes, the
//! HTLCs run out, and ES is signed by both.
//!
//! ```text
//!   A (funder)                               B
//!   ── shutdown ───────────────────────▶
//!   ◀──────────────────────── shutdown ──
//!      (HTLCs are settled or failed; no update is pending)
//!   ── closing_signed (fee, range) ────▶
//!   ◀───────── closing_signed (a fee in the range) ──
//!   ── closing_signed (the same fee) ──▶   ES is published
//! ```

use super::open::{Link, Open, Tools};
use crate::amount::{FeeratePerKw, Sat};
use crate::contract::balance::View;
use crate::error::{Refused, Violation};
use crate::keys::curve::VerifyJob;
use crate::message::Message;
use crate::output::{Event, Output};
use crate::params::Side;
use crate::transactions::closing::{
    build_closing, closing_weight, ClosingSpec, ClosingTx, Method, Share,
};
use bitcoin::ScriptBuf;
use lightning::ln::msgs;

const RULE: &str = "BOLT 2 closing_signed";

/// What has been offered since the connection is up (negotiation restarts with it).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Negotiation {
    /// The last fee we signed for.
    ours: Option<Sat>,
    /// The last fee the peer signed for.
    theirs: Option<Sat>,
    /// The fees we take.
    range: (Sat, Sat),
}

/// The forms of `shutdown`'s scriptpubkey (BOLT 2): witness programs of any version.
pub fn is_shutdown_script(script: &ScriptBuf) -> bool {
    script.is_p2wpkh() || script.is_p2wsh() || {
        let version = script.witness_version().map(|version| version.to_num());
        version.is_some_and(|version| version >= 1)
    }
}

impl Open {
    pub(super) fn want_close(
        &mut self,
        script: ScriptBuf,
        feerate: Option<FeeratePerKw>,
    ) -> Result<(), Refused> {
        if self.life.failed.is_some() {
            return Err(Refused::NotUsable("failed"));
        }
        if self.life.close_wanted.is_some() || self.life.shutdown_sent.is_some() {
            return Err(Refused::AlreadyClosing);
        }
        let fixed = &self.contract.params.local.upfront_shutdown_script;
        if fixed.as_ref().is_some_and(|fixed| *fixed != script) || !is_shutdown_script(&script) {
            return Err(Refused::WrongShutdownScript);
        }
        self.life.close_wanted = Some(script);
        self.life.close_feerate = feerate;
        self.dirty_life = true;
        Ok(())
    }

    pub(super) fn receive_shutdown(&mut self, said: &msgs::Shutdown) -> Result<(), Violation> {
        const RULE: &str = "BOLT 2 shutdown";
        let script = &said.scriptpubkey;
        let fixed = &self.contract.params.remote.upfront_shutdown_script;
        if fixed.as_ref().is_some_and(|fixed| fixed != script) {
            let what = "the script is not the one fixed at opening";
            return Err(Violation::warn(RULE, what));
        }
        if !is_shutdown_script(script) {
            return Err(Violation::warn(RULE, "the script is of no known form"));
        }
        let heard = std::mem::replace(&mut self.shutdown_heard, true);
        if heard && self.life.shutdown_received.as_ref() != Some(script) {
            return Err(Violation::warn(RULE, "a second shutdown, with another script"));
        }
        if self.contract.has_unsigned_updates_of(Side::Remote) {
            return Err(Violation::warn(RULE, "updates are pending on our commitment"));
        }
        if self.life.shutdown_received.as_ref() != Some(script) {
            self.life.shutdown_received = Some(script.clone());
            self.dirty_life = true;
        }
        Ok(())
    }

    /// Says shutdown once it is wanted, or owed, and none of our updates is pending.
    pub(super) fn shutdown_if_due(&mut self, tools: &mut Tools<'_>) {
        let wanted = self.life.close_wanted.is_some() || self.life.shutdown_received.is_some();
        let pending = self.contract.has_unsigned_updates_of(Side::Local);
        let due = wanted && self.life.shutdown_sent.is_none() && !pending;
        if !due || self.link != Link::Up {
            return;
        }
        let fixed = self.contract.params.local.upfront_shutdown_script.clone();
        let script = self.life.close_wanted.clone().or(fixed);
        // The node hands in a script when the peer asks first: until then the answer waits.
        let Some(script) = script else { return };
        self.life.shutdown_sent = Some(script);
        self.dirty_life = true;
        self.repeat_shutdown(tools);
    }

    /// Whether the peer wants to close and waits for our script.
    pub fn owes_shutdown_script(&self) -> bool {
        self.life.shutdown_received.is_some()
            && self.life.shutdown_sent.is_none()
            && self.life.close_wanted.is_none()
            && self.contract.params.local.upfront_shutdown_script.is_none()
    }

    pub(super) fn repeat_shutdown(&self, tools: &mut Tools<'_>) {
        if let Some(script) = &self.life.shutdown_sent {
            let (channel_id, scriptpubkey) = (self.channel_id, script.clone());
            let message = msgs::Shutdown { channel_id, scriptpubkey };
            tools.out.stage(Output::Send(Message::Shutdown(Box::new(message))));
        }
    }

    /// The funder's first closing_signed, once the commitments are bare.
    pub(super) fn negotiate_if_due(&mut self, tools: &mut Tools<'_>) {
        let both = self.life.shutdown_sent.is_some() && self.life.shutdown_received.is_some();
        let funder = self.contract.params.funder == Side::Local;
        let started = self.negotiation.is_some();
        if !both || !funder || started || self.link != Link::Up || !self.contract.is_quiet() {
            return;
        }
        let range = self.closing_range();
        let ideal = self.ideal_closing_fee().clamp(range.0, range.1);
        self.negotiation = Some(Negotiation { ours: Some(ideal), theirs: None, range });
        self.send_closing_signed(ideal, range, tools);
    }

    fn ideal_closing_fee(&self) -> Sat {
        let feerate = self.life.close_feerate.unwrap_or(self.close_feerate);
        feerate.max(FeeratePerKw::FLOOR).fee(self.closing_weight())
    }

    fn closing_weight(&self) -> u64 {
        let script = |said: &Option<ScriptBuf>| said.clone().unwrap_or_default();
        let (ours, theirs) =
            (script(&self.life.shutdown_sent), script(&self.life.shutdown_received));
        closing_weight([&ours, &theirs])
    }

    /// From the relay floor to a generous top: a dispute about a mutual close's fee is worth
    /// nothing. The funder never pays more than it has, or three times what it aims at (or the
    /// price of 10 sat/vB, if that is more).
    fn closing_range(&self) -> (Sat, Sat) {
        let floor = FeeratePerKw::FLOOR.fee(self.closing_weight());
        let funder = self.contract.params.funder;
        let balance = self.contract.content(Side::Local, View::Signed).balances.of(funder).floor();
        if funder == Side::Remote {
            return (floor.min(balance), balance);
        }
        let generous = Sat::new(self.ideal_closing_fee().sat().saturating_mul(3));
        let top = generous.max(FeeratePerKw::new(2_500).fee(self.closing_weight())).min(balance);
        (floor.min(top), top)
    }

    /// ES at this fee, as `signer` makes it: outputs below its dust limit are left out. With
    /// `frugal`, the signer leaves its own output out too (BOLT 3, closing transaction).
    fn closing_tx(&self, fee: Sat, signer: Side, frugal: bool) -> Option<ClosingTx> {
        let balances = self.contract.content(Side::Local, View::Signed).balances;
        let share = |side: Side, script: &Option<ScriptBuf>| {
            let omitted = frugal && side == signer;
            Some(Share { balance: balances.of(side), script: script.clone()?, omitted })
        };
        let spec = ClosingSpec {
            method: Method::Legacy,
            funding: self.contract.funding.outpoint,
            capacity: self.contract.funding.capacity,
            local: share(Side::Local, &self.life.shutdown_sent)?,
            remote: share(Side::Remote, &self.life.shutdown_received)?,
            fee,
            payer: self.contract.params.funder,
            dust_limit: self.contract.params.side(signer).dust_limit,
        };
        build_closing(&spec).ok()
    }

    fn closing_sighash(&self, tx: &ClosingTx) -> [u8; 32] {
        let params = &self.contract.params;
        tx.sighash(&params.local.basepoints.funding, &params.remote.basepoints.funding)
    }

    fn send_closing_signed(&self, fee: Sat, range: (Sat, Sat), tools: &mut Tools<'_>) {
        let Some(tx) = self.closing_tx(fee, Side::Local, false) else { return };
        let message = msgs::ClosingSigned {
            channel_id: self.channel_id,
            fee_satoshis: fee.sat(),
            signature: tools.signer.sign_funding(self.closing_sighash(&tx)),
            fee_range: Some(msgs::ClosingSignedFeeRange {
                min_fee_satoshis: range.0.sat(),
                max_fee_satoshis: range.1.sat(),
            }),
        };
        tools.out.stage(Output::Send(Message::ClosingSigned(Box::new(message))));
    }

    pub(super) fn receive_closing_signed(
        &mut self,
        said: &msgs::ClosingSigned,
        tools: &mut Tools<'_>,
    ) -> Result<(), Violation> {
        if self.life.mutual_close.is_some() && self.negotiation.is_some() {
            return Ok(()); // The last word of a negotiation that is over.
        }
        let shut = self.life.shutdown_sent.is_some() && self.life.shutdown_received.is_some();
        if !shut || !self.contract.is_quiet() {
            return Err(Violation::warn(RULE, "the channel is not ready to close"));
        }
        let fee = Sat::new(said.fee_satoshis);
        let tx = self.checked_closing(fee, said, tools)?;
        let funder = self.contract.params.funder == Side::Local;
        let known = self.negotiation.unwrap_or(Negotiation {
            ours: None,
            theirs: None,
            range: self.closing_range(),
        });
        let range = known.range;
        let acceptable = fee >= range.0 && fee <= range.1;
        if known.ours == Some(fee) || acceptable {
            if known.ours != Some(fee) || (!funder && known.ours.is_none()) {
                self.send_closing_signed(fee, range, tools);
            }
            self.negotiation = Some(Negotiation { ours: Some(fee), theirs: Some(fee), range });
            self.publish_mutual(tx, said, tools);
            return Ok(());
        }
        let ours = self.counter_offer(fee, said, &known)?;
        self.negotiation = Some(Negotiation { ours: Some(ours), theirs: Some(fee), range });
        self.send_closing_signed(ours, range, tools);
        Ok(())
    }

    /// The fee is outside our range: the nearest we take that theirs allows, or between the two.
    fn counter_offer(
        &self,
        fee: Sat,
        said: &msgs::ClosingSigned,
        known: &Negotiation,
    ) -> Result<Sat, Violation> {
        let (min, max) = known.range;
        let what = || format!("{fee} is outside of {min} to {max}");
        if let Some(range) = &said.fee_range {
            let low = min.max(Sat::new(range.min_fee_satoshis));
            let high = max.min(Sat::new(range.max_fee_satoshis));
            if low > high {
                return Err(Violation::warn(RULE, format!("{}, and so is its range", what())));
            }
            if known.ours.is_some() {
                return Err(Violation::fail(RULE, format!("{} though the ranges meet", what())));
            }
            return Ok(self.ideal_closing_fee().clamp(low, high));
        }
        let between = |fee: Sat, a: Sat, b: Sat| fee > a.min(b) && fee < a.max(b);
        if let (Some(ours), Some(theirs)) = (known.ours, known.theirs) {
            if !between(fee, ours, theirs) {
                let what = format!("{fee} is not between {ours} and {theirs}");
                return Err(Violation::warn(RULE, what));
            }
        }
        let ours = known.ours.unwrap_or(self.ideal_closing_fee().clamp(min, max));
        let middle = Sat::new(ours.sat().saturating_add(fee.sat()) / 2).clamp(min, max);
        if known.ours.is_some() && !between(middle, fee, ours) {
            return Err(Violation::warn(RULE, format!("no agreement: {}", what())));
        }
        Ok(middle)
    }

    fn checked_closing(
        &self,
        fee: Sat,
        said: &msgs::ClosingSigned,
        tools: &mut Tools<'_>,
    ) -> Result<ClosingTx, Violation> {
        let key = self.contract.params.remote.basepoints.funding;
        let signed = |tx: &ClosingTx| {
            let (sighash, signature) = (self.closing_sighash(tx), said.signature);
            tools.curve.verify(&[VerifyJob { key, sighash, signature }]).is_ok()
        };
        let variants = [(Side::Remote, false), (Side::Remote, true), (Side::Local, false)];
        let candidates: Vec<ClosingTx> = variants
            .into_iter()
            .filter_map(|(signer, frugal)| self.closing_tx(fee, signer, frugal))
            .collect();
        if candidates.is_empty() {
            return Err(Violation::fail(RULE, format!("a fee of {fee} cannot be paid")));
        }
        candidates.into_iter().find(signed).ok_or_else(|| {
            Violation::fail(RULE, "the signature on the closing transaction is wrong")
        })
    }

    fn publish_mutual(&mut self, tx: ClosingTx, said: &msgs::ClosingSigned, tools: &mut Tools<'_>) {
        let ours = tools.signer.sign_funding(self.closing_sighash(&tx));
        let params = &self.contract.params;
        let signed = tx.signed(
            (&params.local.basepoints.funding, &ours),
            (&params.remote.basepoints.funding, &said.signature),
        );
        let txid = signed.compute_txid();
        self.life.mutual_close = Some(signed.clone());
        self.dirty_life = true;
        tools.out.stage(Output::Broadcast(Box::new(signed)));
        tools.out.stage(Output::Event(Event::Closing(txid)));
    }
}
