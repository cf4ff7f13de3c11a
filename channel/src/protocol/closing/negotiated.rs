//! ES by closing_signed (BOLT 2, legacy closing negotiation): one for both, and the funder pays.
//!
//! ```text
//!   A (funder)                               B
//!   ── closing_signed (fee, range) ────▶
//!   ◀───────── closing_signed (a fee in the range) ──
//!   ── closing_signed (the same fee) ──▶   ES is published
//! ```

use crate::amount::{FeeratePerKw, Sat};
use crate::contract::balance::View;
use crate::error::Violation;
use crate::message::Message;
use crate::output::Output;
use crate::params::Side;
use crate::protocol::open::{Link, Open, Tools};
use crate::transactions::closing::{
    build_closing, closing_weight, ClosingSpec, ClosingTx, Method, Share,
};
use bitcoin::ScriptBuf;
use lightning::ln::msgs;

const RULE: &str = "BOLT 2 closing_signed";

/// What has been offered since the connection is up (negotiation restarts with it).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Negotiation {
    /// The last fee we signed for.
    ours: Option<Sat>,
    /// The last fee the peer signed for.
    theirs: Option<Sat>,
    /// The fees we take.
    range: (Sat, Sat),
}

impl Open {
    /// The funder's first closing_signed, once the commitments are bare.
    pub(in crate::protocol) fn negotiate_if_due(&mut self, tools: &mut Tools<'_>) {
        let funder = self.contract.params.funder == Side::Local;
        let started = self.talk.negotiation.is_some();
        if !self.both_shut()
            || !funder
            || started
            || self.link != Link::Up
            || !self.contract.is_quiet()
        {
            return;
        }
        let range = self.closing_range();
        let ideal = self.ideal_closing_fee().clamp(range.0, range.1);
        self.talk.negotiation = Some(Negotiation { ours: Some(ideal), theirs: None, range });
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
    /// price of 10 sat/vB, if that is more), or what it was told to pay at most.
    fn closing_range(&self) -> (Sat, Sat) {
        let floor = FeeratePerKw::FLOOR.fee(self.closing_weight());
        let funder = self.contract.params.funder;
        let balance = self.contract.content(Side::Local, View::Signed).balances.of(funder).floor();
        if funder == Side::Remote {
            return (floor.min(balance), balance);
        }
        let generous = Sat::new(self.ideal_closing_fee().sat().saturating_mul(3));
        let top = match self.closing.max_feerate {
            Some(most) => most.max(FeeratePerKw::FLOOR).fee(self.closing_weight()),
            None => generous.max(FeeratePerKw::new(2_500).fee(self.closing_weight())),
        };
        let top = top.min(balance);
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

    pub(in crate::protocol) fn receive_closing_signed(
        &mut self,
        said: &msgs::ClosingSigned,
        tools: &mut Tools<'_>,
    ) -> Result<(), Violation> {
        if self.life.mutual_close.is_some() && self.talk.negotiation.is_some() {
            return Ok(()); // The last word of a negotiation that is over.
        }
        if self.negotiated.simple_close {
            return Err(Violation::warn(RULE, "option_simple_close is negotiated"));
        }
        if !self.both_shut() || !self.contract.is_quiet() {
            return Err(Violation::warn(RULE, "the channel is not ready to close"));
        }
        let fee = Sat::new(said.fee_satoshis);
        let tx = self.checked_closing(fee, said, tools)?;
        let funder = self.contract.params.funder == Side::Local;
        let known = self.talk.negotiation.unwrap_or(Negotiation {
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
            self.talk.negotiation = Some(Negotiation { ours: Some(fee), theirs: Some(fee), range });
            self.life.mutual_close = Some(self.publish_es(&tx, &said.signature, true, tools));
            self.dirty_life = true;
            return Ok(());
        }
        let ours = self.counter_offer(fee, said, &known)?;
        self.talk.negotiation = Some(Negotiation { ours: Some(ours), theirs: Some(fee), range });
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
        tools: &Tools<'_>,
    ) -> Result<ClosingTx, Violation> {
        let signed = |tx: &ClosingTx| self.is_signed_by_peer(tx, said.signature, tools);
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
}
