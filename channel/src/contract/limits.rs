//! BOLT 2's limits on both sides: `can_send_x` refuses our own command, `can_receive_x` names the
//! rule the peer broke. Amounts below are msat of the balances before commitment fees.

use super::balance::{in_flight, Content, View};
use super::commitments::{Commitments, Offer};
use super::htlc::{Htlc, Stage};
use crate::amount::{FeeratePerKw, Msat, Sat};
use crate::error::{Refused, Violation};
use crate::params::Side;
use crate::transactions::commitment::{anchors_cost, commitment_fee, is_trimmed};

/// `cltv_expiry` from here on would be a time, not a height (BOLT 2, update_add_htlc).
pub const CLTV_LIMIT: u32 = 500_000_000;
/// The most HTLCs a side may accept (BOLT 2, open_channel).
pub const MAX_ACCEPTED_HTLCS: u16 = 483;
/// What may be lost to trimmed HTLCs at most (BOLT 2, dust exposure); lnd's default.
pub const MAX_DUST_EXPOSURE: Sat = Sat::new(500_000);
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
            let needed = self.fee_and_anchors(&next, next.feerate, 1);
            let needed = needed.saturating_add(self.reserve_of(Side::Remote));
            if next.balances.remote < needed {
                return Err(Refused::FunderCannotPay);
            }
        }
        match self.dust_exposure_with(Side::Local, offer.amount) {
            Some(exposure) if exposure > MAX_DUST_EXPOSURE.saturating_msat() => {
                let limit = MAX_DUST_EXPOSURE.saturating_msat();
                Err(Refused::DustExposure { exposure, limit })
            }
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
            Side::Remote => self.fee_and_anchors(&next, next.feerate, 1),
            Side::Local => Msat::ZERO,
        };
        next.balances.remote.saturating_sub(self.reserve_of(Side::Remote)).saturating_sub(fee)
    }

    fn spendable_in(&self, next: &Content) -> Msat {
        let kept = match self.params.funder {
            Side::Local => self.fee_and_anchors(next, next.feerate.doubled(), 2),
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
            needed = needed.saturating_add(self.fee_and_anchors(&next, next.feerate, 1));
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
        let needed = self.fee_and_anchors(&next, feerate, 0);
        let needed = needed.saturating_add(self.reserve_of(Side::Local));
        if feerate < FeeratePerKw::FLOOR || feerate > MAX_FEERATE || next.balances.local < needed {
            return Err(Refused::BadFeerate(feerate));
        }
        Ok(())
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
        let needed = self.fee_and_anchors(&next, feerate, 0);
        let needed = needed.saturating_add(self.reserve_of(Side::Remote));
        if next.balances.remote < needed {
            return Err(Violation::warn(FEE, format!("the funder cannot pay {feerate}")));
        }
        Ok(())
    }

    /// Whether one more HTLC of `offerer` would put too much into trimmed outputs.
    pub fn exceeds_dust_exposure(&self, offerer: Side, amount: Msat) -> bool {
        let limit = MAX_DUST_EXPOSURE.saturating_msat();
        self.dust_exposure_with(offerer, amount).is_some_and(|exposure| exposure > limit)
    }

    /// The larger dust exposure of both commitments if an HTLC were added; none if it is not dust
    /// on either.
    fn dust_exposure_with(&self, offerer: Side, amount: Msat) -> Option<Msat> {
        let exposure = |holder: Side| {
            let content = self.content(holder, View::Next);
            let trimmed = |by: Side, amount: Msat| self.trims(holder, content.feerate, by, amount);
            let sum = |sum: Msat, (by, _, htlc): &(Side, u64, Htlc)| {
                if trimmed(*by, htlc.amount) {
                    sum.saturating_add(htlc.amount)
                } else {
                    sum
                }
            };
            trimmed(offerer, amount).then(|| content.htlcs.iter().fold(amount, sum))
        };
        exposure(Side::Local).max(exposure(Side::Remote))
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

    /// The funder's costs with `more` HTLCs: the larger fee of both commitments, and both anchors.
    fn fee_and_anchors(&self, content: &Content, rate: FeeratePerKw, more: usize) -> Msat {
        let format = self.params.format;
        let untrimmed = |holder| {
            let keeps = |(by, _, htlc): &&(Side, u64, Htlc)| {
                !self.trims(holder, content.feerate, *by, htlc.amount)
            };
            content.htlcs.iter().filter(keeps).count()
        };
        let most = untrimmed(Side::Local).max(untrimmed(Side::Remote)).saturating_add(more);
        let fee = commitment_fee(format, rate, most);
        fee.saturating_add(anchors_cost(format)).saturating_msat()
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
