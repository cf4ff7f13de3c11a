//! BOLT 2's limits on both sides: `can_send_x` refuses our own command, `can_receive_x` names the
//! rule the peer broke. Amounts below are msat of the balances before commitment fees.

use super::balance::{in_flight, Content, View};
use super::commitments::{Commitments, Offer};
use super::htlc::{Htlc, Presence, Stage};
use crate::amount::{FeeratePerKw, Msat};
use crate::error::{Refused, Violation};
use crate::params::Side;
use crate::transactions::commitment::{anchors_cost, commitment_fee, is_trimmed};

/// `cltv_expiry` from here on would be a time, not a height (BOLT 2, update_add_htlc).
pub const CLTV_LIMIT: u32 = 500_000_000;
/// The most HTLCs a side may accept (BOLT 2, open_channel).
pub const MAX_ACCEPTED_HTLCS: u16 = 483;
/// The highest commitment feerate taken from a peer: 1,000 sat/vB.
pub const MAX_FEERATE: FeeratePerKw = FeeratePerKw::new(250_000);

const ADD: &str = "BOLT 2 update_add_htlc";
const FEE: &str = "BOLT 2 update_fee";

impl Commitments {
    /// Whether we may offer this now.
    pub fn can_send_add(&self, offer: &Offer) -> Result<(), Refused> {
        let remote = &self.params.remote;
        if offer.amount == Msat::ZERO {
            return Err(Refused::ZeroAmount);
        }
        if offer.amount < remote.htlc_minimum {
            let (amount, minimum) = (offer.amount, remote.htlc_minimum);
            return Err(Refused::BelowMinimum { amount, minimum });
        }
        if offer.cltv_expiry.number() >= CLTV_LIMIT {
            return Err(Refused::BadExpiry(offer.cltv_expiry));
        }
        let next = self.content(Side::Remote, View::Next);
        let (value, count) = in_flight(&next, Side::Local);
        if count >= usize::from(remote.max_accepted_htlcs) {
            return Err(Refused::TooManyHtlcs { limit: remote.max_accepted_htlcs });
        }
        let (in_flight, limit) =
            (value.saturating_add(offer.amount), remote.max_htlc_value_in_flight);
        if in_flight > limit {
            return Err(Refused::TooMuchInFlight { in_flight, limit });
        }
        let spendable = self.spendable_in(&next);
        if offer.amount > spendable {
            return Err(Refused::InsufficientBalance { amount: offer.amount, spendable });
        }
        if self.params.funder == Side::Remote {
            let with_it = self.most_untrimmed(next.feerate, Some((Side::Local, offer.amount)));
            let needed = self.cost(next.feerate, with_it);
            if next.balances.remote < needed.saturating_add(self.reserve_of(Side::Remote)) {
                return Err(Refused::FunderCannotPay);
            }
        }
        let limit = self.bounds.limit;
        match self.exposure_with(Side::Local, offer.amount) {
            Some(exposure) if exposure > limit => Err(Refused::DustExposure { exposure, limit }),
            _ => Ok(()),
        }
    }

    /// What we can offer in one more HTLC, by balance alone: above our reserve and, as funder, with
    /// the fee at twice the feerate, one more HTLC and both anchors kept (rules 3.4).
    pub fn spendable(&self) -> Msat {
        self.spendable_in(&self.content(Side::Remote, View::Next))
    }

    /// What the peer can offer in one more HTLC, by balance alone.
    pub fn receivable(&self) -> Msat {
        let next = self.content(Side::Local, View::Next);
        let fee = match self.params.funder {
            Side::Remote => {
                let htlcs = self.untrimmed(Side::Local, next.feerate, next.amounts());
                self.cost(next.feerate, htlcs.saturating_add(1))
            }
            Side::Local => Msat::ZERO,
        };
        next.balances.remote.saturating_sub(self.reserve_of(Side::Remote)).saturating_sub(fee)
    }

    fn spendable_in(&self, next: &Content) -> Msat {
        let kept = match self.params.funder {
            Side::Local => {
                let htlcs = self.most_untrimmed(next.feerate, None);
                self.cost(next.feerate.doubled(), htlcs.saturating_add(2))
            }
            Side::Remote => Msat::ZERO,
        };
        next.balances.local.saturating_sub(self.reserve_of(Side::Local)).saturating_sub(kept)
    }

    /// Whether the peer may offer this now (BOLT 2, update_add_htlc, a receiving node).
    pub fn can_receive_add(&self, id: u64, htlc: &Htlc) -> Result<(), Violation> {
        let local = &self.params.local;
        let expected = self.expected_remote_id();
        if id != expected {
            return Err(Violation::fail(ADD, format!("id {id} where {expected} comes next")));
        }
        let amount = htlc.amount;
        if amount == Msat::ZERO || amount < local.htlc_minimum {
            let what = format!("{amount} is below the minimum of {}", local.htlc_minimum);
            return Err(Violation::warn(ADD, what));
        }
        if htlc.cltv_expiry.number() >= CLTV_LIMIT {
            return Err(Violation::warn(ADD, format!("expiry {} is a time", htlc.cltv_expiry)));
        }
        let next = self.content(Side::Local, View::Next);
        let (value, count) = in_flight(&next, Side::Remote);
        if count >= usize::from(local.max_accepted_htlcs) {
            let what = format!("more than {} HTLCs", local.max_accepted_htlcs);
            return Err(Violation::warn(ADD, what));
        }
        let value = value.saturating_add(amount);
        if value > local.max_htlc_value_in_flight {
            let what = format!("{value} in flight, above {}", local.max_htlc_value_in_flight);
            return Err(Violation::warn(ADD, what));
        }
        let mut needed = amount.saturating_add(self.reserve_of(Side::Remote));
        if self.params.funder == Side::Remote {
            let with_it = next.amounts().chain([(Side::Remote, amount)]);
            let htlcs = self.untrimmed(Side::Local, next.feerate, with_it);
            needed = needed.saturating_add(self.cost(next.feerate, htlcs));
        }
        if next.balances.remote < needed {
            let what = format!("{amount} cannot be paid from {}", next.balances.remote);
            return Err(Violation::warn(ADD, format!("{what} with reserve and fee kept")));
        }
        Ok(())
    }

    /// Whether we, the funder, may set this feerate and pay for it.
    pub fn can_send_fee(&self, feerate: FeeratePerKw) -> Result<(), Refused> {
        if self.params.funder != Side::Local {
            return Err(Refused::NotFunder);
        }
        let next = self.content(Side::Remote, View::Next);
        let needed = self.cost(feerate, self.most_untrimmed(feerate, None));
        let needed = needed.saturating_add(self.reserve_of(Side::Local));
        if feerate < FeeratePerKw::FLOOR || feerate > MAX_FEERATE || next.balances.local < needed {
            return Err(Refused::BadFeerate(feerate));
        }
        let (exposure, limit) = (self.exposure_at(feerate), self.bounds.limit);
        if feerate > next.feerate && exposure > limit {
            return Err(Refused::DustExposure { exposure, limit });
        }
        Ok(())
    }

    /// Whether we, the funder, can pay for all that our next commitment_signed would cover, as the
    /// peer will reckon when it hears of it.
    pub(super) fn affords_next_round(&self) -> bool {
        let next = self.content(Side::Remote, View::Next);
        let htlcs = self.untrimmed(Side::Remote, next.feerate, next.amounts());
        let needed = self.cost(next.feerate, htlcs).saturating_add(self.reserve_of(Side::Local));
        self.params.funder != Side::Local || next.balances.local >= needed
    }

    /// Whether the peer may set this feerate (BOLT 2, update_fee, a receiving node).
    pub fn can_receive_fee(&self, feerate: FeeratePerKw) -> Result<(), Violation> {
        if self.params.funder != Side::Remote {
            return Err(Violation::fail(FEE, "the sender is not the funder"));
        }
        if feerate < FeeratePerKw::FLOOR || feerate > MAX_FEERATE {
            return Err(Violation::warn(FEE, format!("{feerate} is too low or too high")));
        }
        let next = self.content(Side::Local, View::Next);
        if feerate <= next.feerate {
            return Ok(()); // It only gets better, or our estimate is another than the funder's.
        }
        let needed = self.cost(feerate, self.untrimmed(Side::Local, feerate, next.amounts()));
        let needed = needed.saturating_add(self.reserve_of(Side::Remote));
        if next.balances.remote < needed {
            return Err(Violation::warn(FEE, format!("the funder cannot pay {feerate}")));
        }
        let exposure = self.exposure_at(feerate);
        if exposure > self.bounds.limit {
            let what = format!("{feerate} would put {exposure} into trimmed HTLCs and fees");
            return Err(Violation::warn(FEE, what));
        }
        Ok(())
    }

    /// Offerer and amount of every HTLC that is on `holder`'s commitment or may come to be.
    pub(super) fn live(&self, holder: Side) -> impl Iterator<Item = (Side, Msat)> + '_ {
        let on_it = move |by: Side, htlc: &Htlc| htlc.stage.on_commitment(holder, by);
        self.htlcs
            .iter()
            .filter(move |((by, _), htlc)| on_it(*by, htlc) != Presence::Removed)
            .map(|((by, _), htlc)| (*by, htlc.amount))
    }

    /// Whether `holder`'s commitment has no output for an HTLC of `offerer` (BOLT 3, trimming).
    pub fn trims(&self, holder: Side, rate: FeeratePerKw, offerer: Side, amount: Msat) -> bool {
        let dust_limit = self.params.side(holder).dust_limit;
        is_trimmed(self.params.format, rate, dust_limit, offerer == holder, amount)
    }

    /// What `side` must always keep: what the other demanded.
    pub fn reserve_of(&self, side: Side) -> Msat {
        self.params.side(side.other()).channel_reserve.saturating_msat()
    }

    /// What the funder pays for a commitment with so many HTLC outputs: its fee and both anchors.
    fn cost(&self, rate: FeeratePerKw, untrimmed: usize) -> Msat {
        let format = self.params.format;
        let fee = commitment_fee(format, rate, untrimmed);
        fee.saturating_add(anchors_cost(format)).saturating_msat()
    }

    /// How many of `htlcs` have an output on `holder`'s commitment.
    fn untrimmed(
        &self,
        holder: Side,
        rate: FeeratePerKw,
        htlcs: impl Iterator<Item = (Side, Msat)>,
    ) -> usize {
        htlcs.filter(|(by, amount)| !self.trims(holder, rate, *by, *amount)).count()
    }

    /// The same with all that is or may come to be on either commitment, and `more`.
    fn most_untrimmed(&self, rate: FeeratePerKw, more: Option<(Side, Msat)>) -> usize {
        let on = |holder| self.untrimmed(holder, rate, self.live(holder).chain(more));
        on(Side::Local).max(on(Side::Remote))
    }

    fn expected_remote_id(&self) -> u64 {
        let unsigned = self
            .htlcs
            .iter()
            .filter(|((by, _), htlc)| *by == Side::Remote && htlc.stage == Stage::Proposed);
        let after_last = unsigned.map(|((_, id), _)| id.saturating_add(1)).max();
        after_last.unwrap_or(self.state.next_remote_id)
    }
}
