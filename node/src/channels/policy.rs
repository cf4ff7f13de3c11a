//! What we propose and agree to when a channel is opened. Pure; lnd's defaults where it has one.

use bitcoin::constants::ChainHash;
use fulmen_channel::amount::{Msat, Sat};
use fulmen_channel::params::{Basepoints, SideParams};
use fulmen_channel::protocol::opening::{AcceptPolicy, MAX_FUNDING};

/// The smallest channel: lnd's.
pub const MIN_CHANNEL: Sat = Sat::new(20_000);
/// Blocks that the other side waits for its own balance after a forced close.
pub const TO_SELF_DELAY: u16 = 144;
/// Our dust limit: every segwit output relays above it (BOLT 3).
pub const DUST_LIMIT: Sat = Sat::new(354);

/// What the operator may set.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Confirmations that we ask of a channel opened to us; none scales with its size.
    pub confirmations: Option<u32>,
    /// The smallest channel we take.
    pub min_channel: Sat,
    /// The largest channel we take.
    pub max_channel: Sat,
}

impl Default for Limits {
    fn default() -> Self {
        let max_channel = MAX_FUNDING.saturating_sub(Sat::new(1));
        Limits { confirmations: None, min_channel: MIN_CHANNEL, max_channel }
    }
}

/// One percent of the channel, at least what the other's outputs need.
pub fn reserve(capacity: Sat) -> Sat {
    Sat::new(capacity.sat() / 100).max(DUST_LIMIT)
}

/// More money, more confirmations: 3 for a small channel, 6 for the largest, as lnd scales it.
pub fn confirmations(limits: &Limits, capacity: Sat) -> u32 {
    let scaled = capacity.sat().saturating_mul(6).checked_div(MAX_FUNDING.sat()).unwrap_or(6);
    limits.confirmations.unwrap_or(u32::try_from(scaled).unwrap_or(6).clamp(3, 6))
}

/// What we announce for a channel of this size.
pub fn ours(basepoints: Basepoints, capacity: Sat) -> SideParams {
    let reserve = reserve(capacity);
    SideParams {
        basepoints,
        dust_limit: DUST_LIMIT,
        max_htlc_value_in_flight: capacity.saturating_sub(reserve).saturating_msat(),
        htlc_minimum: Msat::new(1),
        max_accepted_htlcs: 483,
        to_self_delay: TO_SELF_DELAY,
        channel_reserve: reserve,
        upfront_shutdown_script: None,
    }
}

/// What we agree to.
pub fn accept(
    chain: ChainHash,
    limits: &Limits,
    basepoints: Basepoints,
    capacity: Sat,
) -> AcceptPolicy {
    AcceptPolicy {
        chain,
        local: ours(basepoints, capacity),
        minimum_depth: confirmations(limits, capacity),
        min_capacity: limits.min_channel,
        max_capacity: limits.max_channel,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn larger_channels_want_more_confirmations() {
        let rows = [(20_000, 3), (1_000_000, 3), (10_000_000, 3), (12_000_000, 4), (16_777_215, 5)];
        for (capacity, wanted) in rows {
            assert_eq!(confirmations(&Limits::default(), Sat::new(capacity)), wanted, "{capacity}");
        }
        let fixed = Limits { confirmations: Some(1), ..Limits::default() };
        assert_eq!(confirmations(&fixed, Sat::new(16_000_000)), 1);
    }
}
