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
    /// Within so many blocks: somebody asked for it.
    Within(u16),
}

impl Target {
    /// The number of blocks that bitcoind is asked for.
    pub fn blocks(self) -> u16 {
        match self {
            Target::Background => 144,
            Target::Normal => 6,
            Target::HighPriority => 2,
            // bitcoind estimates for no other numbers.
            Target::Within(blocks) => blocks.clamp(2, 1_008),
        }
    }

    /// The rate while bitcoind has no estimate: a young chain, or regtest. 10 to 2 sat/vB.
    fn fallback(self) -> FeeratePerKw {
        FeeratePerKw::new(match self.blocks() {
            0..=2 => 2_500,
            3..=6 => 1_250,
            7..=143 => 750,
            _ => 500,
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
    wanted.max(entering(mempool_min))
}

/// What enters a mempool with this minimum.
pub fn entering(mempool_min: FeeratePerKw) -> FeeratePerKw {
    // bitcoind counts whole vbytes: as with the floor of 253 for 250, a hundredth more is enough.
    let min = mempool_min.per_kw();
    let entering = FeeratePerKw::new(min.saturating_add(min.saturating_mul(3).div_ceil(250)));
    entering.max(FeeratePerKw::FLOOR)
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
            (Target::Normal, Some(kw(4_000)), kw(9_000), 9_108),
            (Target::Normal, Some(kw(u32::MAX)), kw(250), 250_000),
            (Target::Background, None, kw(250), 500),
            (Target::HighPriority, None, kw(3_000), 3_036),
            (Target::Within(1), None, kw(250), 2_500),
            (Target::Within(6), None, kw(250), 1_250),
            (Target::Within(7), None, kw(250), 750),
            (Target::Within(u16::MAX), None, kw(250), 500),
            (Target::Within(30), Some(kw(300)), kw(250), 300),
        ] {
            let rate = feerate(target, estimate, min).per_kw();
            assert_eq!(rate, feerate_is, "{target:?} {estimate:?} {min}");
        }
    }

    #[test]
    fn bitcoind_is_asked_for_what_it_can_answer() {
        for (asked, blocks) in [(0, 2), (1, 2), (2, 2), (144, 144), (1_008, 1_008), (5_000, 1_008)]
        {
            assert_eq!(Target::Within(asked).blocks(), blocks);
        }
    }

    #[test]
    fn anchors_pay_the_mempool_minimum_with_a_margin() {
        for (min, rate) in [(0, 253), (250, 253), (253, 253), (1_000, 1_100), (5_000, 2_500)] {
            assert_eq!(anchors_feerate(kw(min)).per_kw(), rate, "{min}");
        }
    }
}
