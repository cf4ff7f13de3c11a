//! What we propose and agree to when a channel is opened. Pure; lnd's defaults where it has one.

use super::opening::OpenParams;
use super::record::ChannelRecord;
use crate::peer::features::Protocol;
use bitcoin::constants::ChainHash;
use fulmen_channel::amount::{Height, Msat, Sat};
use fulmen_channel::params::{Basepoints, CommitmentFormat, Negotiated, SideParams};
use fulmen_channel::protocol::opening::{AcceptPolicy, ChannelType, MAX_FUNDING};
use lightning::types::features::InitFeatures;

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
        anchors: true,
        urgent: None,
        zero_conf: false,
        alias: None,
        negotiated: Negotiated::default(),
    }
}

/// The type for a channel of ours: as asked, else the best that both know. None when either side
/// lacks a feature of it.
pub fn channel_type(
    protocol: &Protocol,
    theirs: &InitFeatures,
    asked: &OpenParams,
) -> Option<ChannelType> {
    let anchors = protocol.anchors && theirs.supports_anchors_zero_fee_htlc_tx();
    let alias = protocol.scid_alias && theirs.supports_scid_privacy();
    let zero_conf = protocol.zero_conf && alias && theirs.supports_zero_conf();
    let best = if anchors { CommitmentFormat::Anchors } else { CommitmentFormat::StaticRemoteKey };
    let format = asked.format.unwrap_or(best);
    let known = (format != CommitmentFormat::Anchors || anchors)
        && (!asked.scid_alias || alias)
        && (!asked.zero_conf || zero_conf);
    let (scid_alias, zero_conf) = (asked.scid_alias, asked.zero_conf);
    known.then_some(ChannelType { format, scid_alias, zero_conf })
}

/// The fundee waits so many blocks for F (BOLT 2, channel_ready).
pub const FUNDING_WITHIN: u32 = 2_016;

/// Whether a channel that a peer opened to us waits for F for too long.
pub fn is_overdue(record: &ChannelRecord, tip: Height) -> bool {
    let waits = !record.initiator && record.funding_block.is_none() && record.spent.is_none();
    waits && tip >= record.opened_height.plus(FUNDING_WITHIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::features::features;
    use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};

    fn key() -> PublicKey {
        let key = SecretKey::from_slice(&[1; 32]).unwrap();
        PublicKey::from_secret_key(&Secp256k1::signing_only(), &key)
    }

    #[test]
    fn the_channel_type_is_what_both_know() {
        use CommitmentFormat::{Anchors, StaticRemoteKey};
        let all = Protocol { anchors: true, scid_alias: true, zero_conf: true };
        let plain = Protocol::default();
        let bare = Protocol { anchors: false, ..plain };
        let kind =
            |format, scid_alias, zero_conf| Some(ChannelType { format, scid_alias, zero_conf });
        // Ours, theirs, asked: format, alias, zero-conf.
        let table = [
            (all, all, (None, false, false), kind(Anchors, false, false)),
            (all, bare, (None, false, false), kind(StaticRemoteKey, false, false)),
            (bare, all, (None, false, false), kind(StaticRemoteKey, false, false)),
            (all, bare, (Some(Anchors), false, false), None),
            (all, all, (Some(StaticRemoteKey), true, false), kind(StaticRemoteKey, true, false)),
            (all, plain, (None, true, false), None),
            (plain, all, (None, true, false), None),
            (all, all, (Some(Anchors), false, true), kind(Anchors, false, true)),
            (all, plain, (Some(Anchors), false, true), None),
            (plain, all, (Some(Anchors), false, true), None),
        ];
        for (row, (ours, theirs, (format, scid_alias, zero_conf), expected)) in
            table.into_iter().enumerate()
        {
            let asked = OpenParams {
                peer: key(),
                capacity: Sat::new(1_000_000),
                push: Msat::ZERO,
                feerate: fulmen_channel::amount::FeeratePerKw::FLOOR,
                private: true,
                htlc_minimum: None,
                to_self_delay: None,
                close_script: None,
                format,
                scid_alias,
                zero_conf,
                memo: String::new(),
            };
            assert_eq!(channel_type(&ours, &features(&theirs), &asked), expected, "row {row}");
        }
    }

    #[test]
    fn a_fundee_waits_2016_blocks() {
        let waiting = ChannelRecord {
            index: 0,
            peer: key(),
            outpoint: bitcoin::OutPoint::null(),
            capacity: Sat::new(10),
            initiator: false,
            opened_at: 0,
            opened_height: Height::new(100),
            funding_block: None,
            spent: None,
            totals: Default::default(),
            closed: false,
            close_initiator: None,
            history: false,
        };
        assert!(!is_overdue(&waiting, Height::new(2_115)));
        assert!(is_overdue(&waiting, Height::new(2_116)));
        let ours = ChannelRecord { initiator: true, ..waiting.clone() };
        assert!(!is_overdue(&ours, Height::new(9_999)), "our own money is in it");
        let seen = ChannelRecord { funding_block: Some((Height::new(101), 1)), ..waiting };
        assert!(!is_overdue(&seen, Height::new(9_999)));
    }

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
