//! What a channel would lose to fees if it were closed now (BOLT 2, bounding exposure to trimmed
//! in-flight HTLCs): HTLCs too small for an output, and what the commitment and its second stages
//! pay beyond the price of a quick confirmation. Both commitments count, with all that is or may
//! come to be on them, at the highest feerate that is under way.
//!
//! ```text
//!   our add     would pass the limit   refused
//!   their add   passes it              taken, and failed back once it is irrevocable
//!   update_fee  would pass it          ours: not said; theirs: a warning, and the connection ends
//! ```

use super::commitments::Commitments;
use crate::amount::{FeeratePerKw, Msat, Sat};
use crate::params::{CommitmentFormat, Side};
use crate::transactions::weight::{commitment_fee, htlc_fee};

/// What may be lost to fees at most: lnd's default.
pub const MAX_FEE_EXPOSURE: Sat = Sat::new(500_000);

/// What the node sets; not stored with the channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// What may be lost to fees at most.
    pub limit: Msat,
    /// Feerates up to this one are what a quick confirmation costs: no loss. Before an estimate is
    /// known, any is.
    pub urgent: Option<FeeratePerKw>,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds { limit: MAX_FEE_EXPOSURE.saturating_msat(), urgent: None }
    }
}

/// Whether a commitment of this feerate is too slow to act in time (BOLT 2, open_channel): without
/// anchors nothing can raise it later. What confirms soon is an estimate, and each side has its
/// own, so that a later update_fee is not judged by ours.
pub fn is_too_slow(
    format: CommitmentFormat,
    rate: FeeratePerKw,
    urgent: Option<FeeratePerKw>,
) -> bool {
    const FAR: u32 = 20;
    let wanted = urgent.map_or(0, |urgent| urgent.per_kw() / FAR);
    format == CommitmentFormat::StaticRemoteKey && rate.per_kw() < wanted
}

impl Commitments {
    /// Whether one more HTLC of `offerer` would put too much into fees.
    pub fn exceeds_exposure(&self, offerer: Side, amount: Msat) -> bool {
        self.exposure_with(offerer, amount).is_some_and(|exposure| exposure > self.bounds.limit)
    }

    /// What would be lost now, on the worse commitment.
    pub fn exposure(&self) -> Msat {
        self.exposure_at(self.highest_feerate())
    }

    /// The same at another feerate.
    pub(super) fn exposure_at(&self, rate: FeeratePerKw) -> Msat {
        let on = |holder| self.exposure_on(holder, rate, None);
        on(Side::Local).max(on(Side::Remote))
    }

    /// The same if an HTLC were added; none if that raises it on neither commitment.
    pub(super) fn exposure_with(&self, offerer: Side, amount: Msat) -> Option<Msat> {
        let rate = self.highest_feerate();
        let raises =
            |holder| self.excess(rate).per_kw() > 0 || self.trims(holder, rate, offerer, amount);
        let on = |holder: Side| {
            raises(holder).then(|| self.exposure_on(holder, rate, Some((offerer, amount))))
        };
        on(Side::Local).max(on(Side::Remote))
    }

    fn exposure_on(&self, holder: Side, rate: FeeratePerKw, more: Option<(Side, Msat)>) -> Msat {
        let (excess, format) = (self.excess(rate), self.params.format);
        let (mut lost, mut outputs, mut stages) = (Msat::ZERO, 0_usize, Sat::ZERO);
        for (by, amount) in self.live(holder).chain(more) {
            if self.trims(holder, rate, by, amount) {
                lost = lost.saturating_add(amount);
            } else {
                outputs = outputs.saturating_add(1);
                stages = stages.saturating_add(htlc_fee(format, excess, by == holder));
            }
        }
        let fee = commitment_fee(format, excess, outputs).saturating_add(stages);
        // Without excess there is no fee to count.
        lost.saturating_add(fee.saturating_msat())
    }

    /// How far a feerate is above what a quick confirmation costs.
    fn excess(&self, rate: FeeratePerKw) -> FeeratePerKw {
        let urgent = self.bounds.urgent.unwrap_or(rate);
        FeeratePerKw::new(rate.per_kw().saturating_sub(urgent.per_kw()))
    }

    fn highest_feerate(&self) -> FeeratePerKw {
        self.state.fees.iter().map(|fee| fee.feerate).max().unwrap_or(FeeratePerKw::FLOOR)
    }
}
