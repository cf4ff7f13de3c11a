//! What may be paid for a claim, and how soon: a budget, and a curve from the estimate up to it.
//!
//! ```text
//!   feerate
//!   budget ┤                      ▄   the last block that is surely ours
//!          │                     ▄█
//!          │                   ▄███
//!          │               ▄▄██████
//!   start  ┤▄▄▄▄▄▄▄▄▄▄█████████████
//!          └┬─────────────────────┬─▶ height
//!         since              deadline
//! ```
//!
//! The rise goes with the cube of the time gone: cheap for long, and everything at the end. An
//! estimate above the curve counts more than the curve.

use crate::chain::fees::CEILING;
use fulmen_channel::amount::{FeeratePerKw, Height, Sat};

/// What may be paid to save `at_risk`: half of it.
pub fn budget(at_risk: Sat) -> Sat {
    Sat::new(at_risk.sat() / 2)
}

/// The feerate that spends `fee` on so much weight, rounded down; at most 1,000 sat/vB.
pub fn rate_of(fee: Sat, weight: u64) -> FeeratePerKw {
    let per_kw = fee.sat().saturating_mul(1_000).checked_div(weight).unwrap_or(0);
    u32::try_from(per_kw).map_or(CEILING, FeeratePerKw::new).min(CEILING)
}

/// How a feerate rises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Curve {
    /// Where it begins.
    pub start: FeeratePerKw,
    /// Where it ends: the whole budget.
    pub top: FeeratePerKw,
    /// The best block when it began.
    pub since: Height,
    /// The first block in which somebody else may take what is claimed.
    pub deadline: Height,
}

impl Curve {
    /// The feerate once the best block is `height`. What is published then is in the block after
    /// it, so the whole budget is offered two blocks before the deadline.
    pub fn at(&self, height: Height) -> FeeratePerKw {
        let last = self.deadline.minus(2);
        let width = u128::from(last.number().saturating_sub(self.since.number()));
        let gone = u128::from(height.number().saturating_sub(self.since.number()));
        if gone >= width || self.start >= self.top {
            return self.top;
        }
        let rise = u128::from(self.top.per_kw().saturating_sub(self.start.per_kw()));
        let cube = |number: u128| number.saturating_pow(3);
        let risen = rise.saturating_mul(cube(gone)).checked_div(cube(width)).unwrap_or(rise);
        let risen = u32::try_from(risen).unwrap_or(u32::MAX);
        FeeratePerKw::new(self.start.per_kw().saturating_add(risen))
    }
}

/// Blocks that a claim may still be in, the best one being `height`, before `deadline`.
pub fn left(height: Height, deadline: Height) -> u32 {
    deadline.minus(1).number().saturating_sub(height.number())
}
