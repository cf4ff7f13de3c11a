//! Feerates: bitcoind's estimates between sane bounds. Pure.

use fulmen_channel::amount::FeeratePerKw;

/// How soon a transaction should confirm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// Within a day: our own money that nobody else can take.
    Background,
    /// Within an hour: openings, closings, sends.
    Normal,
    /// Within two blocks: there is a deadline.
    HighPriority,
}

impl Target {
    /// The number of blocks that bitcoind is asked for.
    pub fn blocks(self) -> u16 {
        match self {
            Target::Background => 144,
            Target::Normal => 6,
            Target::HighPriority => 2,
        }
    }

    /// The rate while bitcoind has no estimate: a young chain, or regtest. 2, 5 and 10 sat/vB.
    fn fallback(self) -> FeeratePerKw {
        FeeratePerKw::new(match self {
            Target::Background => 500,
            Target::Normal => 1_250,
            Target::HighPriority => 2_500,
        })
    }
}

/// No estimate is believed beyond 1,000 sat/vB.
pub const CEILING: FeeratePerKw = FeeratePerKw::new(250_000);

/// The most that we pay on an anchors commitment, 10 sat/vB as lnd; its anchor pays the rest.
pub const ANCHORS_CAP: FeeratePerKw = FeeratePerKw::new(2_500);

/// The feerate for `target`, from bitcoind's estimate (if it has one) and mempool minimum: at
/// least 253 sat/kw and the minimum.
pub fn feerate(
    target: Target,
    estimate: Option<FeeratePerKw>,
    mempool_min: FeeratePerKw,
) -> FeeratePerKw {
    let wanted = estimate.unwrap_or(target.fallback()).min(CEILING);
    wanted.max(mempool_min).max(FeeratePerKw::FLOOR)
}

/// The feerate for commitments with anchors: enough for the mempool now, with a tenth to spare,
/// from 253 sat/kw to 10 sat/vB.
pub fn anchors_feerate(mempool_min: FeeratePerKw) -> FeeratePerKw {
    let min = mempool_min.per_kw();
    let with_margin = FeeratePerKw::new(min.saturating_add(min.div_ceil(10)));
    // bitcoind's usual minimum of 250 rounds to the floor of 253 and needs no margin.
    let wanted = if mempool_min <= FeeratePerKw::FLOOR { FeeratePerKw::FLOOR } else { with_margin };
    wanted.clamp(FeeratePerKw::FLOOR, ANCHORS_CAP)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn kw(rate: u32) -> FeeratePerKw {
        FeeratePerKw::new(rate)
    }

    #[test]
    fn estimates_stay_between_floor_and_ceiling() {
        for (target, estimate, min, feerate_is) in [
            (Target::Normal, Some(kw(4_000)), kw(250), 4_000),
            (Target::Normal, Some(kw(100)), kw(250), 253),
            (Target::Normal, Some(kw(4_000)), kw(9_000), 9_000),
            (Target::Normal, Some(kw(u32::MAX)), kw(250), 250_000),
            (Target::Background, None, kw(250), 500),
            (Target::HighPriority, None, kw(3_000), 3_000),
        ] {
            let rate = feerate(target, estimate, min).per_kw();
            assert_eq!(rate, feerate_is, "{target:?} {estimate:?} {min}");
        }
    }

    #[test]
    fn anchors_pay_the_mempool_minimum_with_a_margin() {
        for (min, rate) in [(0, 253), (250, 253), (253, 253), (1_000, 1_100), (5_000, 2_500)] {
            assert_eq!(anchors_feerate(kw(min)).per_kw(), rate, "{min}");
        }
    }
}
