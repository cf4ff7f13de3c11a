//! The terms of a channel: what open_channel and accept_channel must hold to (BOLT 2), and what we
//! ask ourselves.

use super::opening::{AcceptPolicy, OpenRequest};
use crate::amount::{FeeratePerKw, Msat, Sat};
use crate::contract::balance::Balances;
use crate::contract::exposure::is_too_slow;
use crate::contract::limits::{MAX_ACCEPTED_HTLCS, MAX_FEERATE};
use crate::error::{Refused, Violation};
use crate::params::{ChannelParams, CommitmentFormat, Negotiated, SideParams};
use crate::protocol::closing::is_shutdown_script;
use crate::transactions::commitment::{anchors_cost, commitment_fee};
use lightning::ln::msgs;
use lightning::types::features::ChannelTypeFeatures;

pub(super) const OPEN: &str = "BOLT 2 open_channel";
pub(super) const ACCEPT: &str = "BOLT 2 accept_channel";

/// The smallest dust limit that lets every segwit output through (BOLT 3, dust limits).
pub const MIN_DUST_LIMIT: Sat = Sat::new(354);
/// The largest dust limit taken from a peer: more would be griefing.
pub const MAX_DUST_LIMIT: Sat = Sat::new(1_092);
/// The longest delay taken on our own balance: two weeks.
pub const MAX_TO_SELF_DELAY: u16 = 2_016;
/// From here on option_support_large_channel would be needed.
pub const MAX_FUNDING: Sat = Sat::new(1 << 24);

/// A channel type: a basic type and its variations (BOLT 2, defined channel types).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelType {
    /// Shape of the transactions.
    pub format: CommitmentFormat,
    /// `option_scid_alias`: the real scid is never given away.
    pub scid_alias: bool,
    /// `option_zeroconf`: the channel is used before F is in a block.
    pub zero_conf: bool,
}

impl From<CommitmentFormat> for ChannelType {
    fn from(format: CommitmentFormat) -> Self {
        ChannelType { format, scid_alias: false, zero_conf: false }
    }
}

impl ChannelType {
    /// As it stands in the messages.
    pub(super) fn features(self) -> ChannelTypeFeatures {
        let mut features = match self.format {
            CommitmentFormat::StaticRemoteKey => ChannelTypeFeatures::only_static_remote_key(),
            CommitmentFormat::Anchors => {
                ChannelTypeFeatures::anchors_zero_htlc_fee_and_dependencies()
            }
        };
        if self.scid_alias {
            features.set_scid_privacy_required();
        }
        if self.zero_conf {
            features.set_zero_conf_required();
        }
        features
    }

    /// The type that these bits are, if it is one that we know.
    fn of(features: &ChannelTypeFeatures) -> Option<ChannelType> {
        let formats = [CommitmentFormat::Anchors, CommitmentFormat::StaticRemoteKey];
        let (scid_alias, zero_conf) =
            (features.requires_scid_privacy(), features.requires_zero_conf());
        let types = formats.map(|format| ChannelType { format, scid_alias, zero_conf });
        types.into_iter().find(|known| known.features() == *features)
    }
}

/// What we want to propose, before it is said.
pub(super) fn check_request(request: &OpenRequest) -> Result<(), Refused> {
    let local = &request.local;
    let refuse = |what: String| Err(Refused::BadOpen(what));
    if request.capacity >= MAX_FUNDING {
        return refuse(format!("a channel holds at most {} here", MAX_FUNDING));
    }
    if request.push.floor() >= request.capacity {
        return refuse("the pushed amount must be below the channel's capacity".into());
    }
    if local.dust_limit < MIN_DUST_LIMIT || local.channel_reserve < local.dust_limit {
        return refuse("the dust limit is below 354 sat or above the reserve".into());
    }
    if request.channel_type.scid_alias && request.announce {
        return refuse("option-scid-alias chantype for public channel".into());
    }
    if request.channel_type.zero_conf && request.alias.is_none() {
        return refuse("a zero-conf channel needs option_scid_alias on both sides".into());
    }
    if local.max_accepted_htlcs > MAX_ACCEPTED_HTLCS {
        return refuse(format!("at most {MAX_ACCEPTED_HTLCS} HTLCs can be accepted"));
    }
    if request.feerate < FeeratePerKw::FLOOR || request.feerate > MAX_FEERATE {
        return refuse(format!("a feerate of {} is too low or too high", request.feerate));
    }
    let costs = opening_costs(request.channel_type.format, request.feerate);
    let ours = request.capacity.saturating_msat().saturating_sub(request.push);
    if ours.floor() < costs.saturating_add(local.channel_reserve) {
        return refuse(format!(
            "{} is too little: fee and anchors cost {costs}, the reserve is {}",
            ours.floor(),
            local.channel_reserve
        ));
    }
    Ok(())
}

/// BOLT 2, open_channel, "the receiving node MUST fail the channel if".
pub(super) fn check_open(
    open: &msgs::OpenChannel,
    policy: &AcceptPolicy,
) -> Result<ChannelType, Violation> {
    let fields = &open.common_fields;
    let fail = |what: String| Err(Violation::fail(OPEN, what));
    if fields.chain_hash != policy.chain {
        return fail("unknown chain".into());
    }
    let capacity = Sat::new(fields.funding_satoshis);
    if capacity < policy.min_capacity || capacity > policy.max_capacity || capacity >= MAX_FUNDING {
        let (min, max) = (policy.min_capacity, policy.max_capacity);
        return fail(format!("{capacity} is not between {min} and {max}"));
    }
    if Msat::new(open.push_msat) > capacity.saturating_msat() {
        return fail(format!("push_msat {} is above the capacity", open.push_msat));
    }
    let feerate = FeeratePerKw::new(fields.commitment_feerate_sat_per_1000_weight);
    if feerate < FeeratePerKw::FLOOR || feerate > MAX_FEERATE {
        return fail(format!("{feerate} is too low or too high"));
    }
    let Some(wanted) = &fields.channel_type else {
        return fail("channel_type is missing".into());
    };
    let announced = fields.channel_flags & 1 == 1;
    match ChannelType::of(wanted) {
        Some(kind) if is_too_slow(kind.format, feerate, policy.urgent) => {
            fail(format!("{feerate} would confirm too late"))
        }
        Some(kind) if kind.scid_alias && announced => {
            fail("option-scid-alias chantype for public channel".into())
        }
        Some(kind) if kind.zero_conf && !policy.zero_conf => {
            fail("zero-conf channels are not taken from this peer".into())
        }
        Some(kind) if kind.scid_alias && policy.alias.is_none() => {
            fail("option_scid_alias was not negotiated".into())
        }
        Some(kind) if kind.format == CommitmentFormat::Anchors && !policy.anchors => {
            fail("channels with anchors are not taken here".into())
        }
        Some(kind) => Ok(kind),
        None => fail(format!("channel_type {wanted} is not known here")),
    }
}

/// What both open_channel and accept_channel must hold to.
pub(super) fn check_side(
    rule: &'static str,
    theirs: &SideParams,
    ours: &SideParams,
    capacity: Sat,
) -> Result<(), Violation> {
    let fail = |what: String| Err(Violation::fail(rule, what));
    if theirs.dust_limit < MIN_DUST_LIMIT || theirs.dust_limit > MAX_DUST_LIMIT {
        return fail(format!("dust limit {} is not between 354 and 1092 sat", theirs.dust_limit));
    }
    if theirs.dust_limit > theirs.channel_reserve {
        return fail("the dust limit is above the channel reserve".into());
    }
    if theirs.channel_reserve < ours.dust_limit || ours.channel_reserve < theirs.dust_limit {
        return fail("a channel reserve is below the other's dust limit".into());
    }
    if theirs.channel_reserve.sat() > capacity.sat() / 5 {
        return fail(format!("a reserve of {} is more than a fifth", theirs.channel_reserve));
    }
    if theirs.to_self_delay > MAX_TO_SELF_DELAY {
        return fail(format!("a delay of {} blocks is too long", theirs.to_self_delay));
    }
    if theirs.max_accepted_htlcs == 0 || theirs.max_accepted_htlcs > MAX_ACCEPTED_HTLCS {
        return fail(format!("max_accepted_htlcs is {}", theirs.max_accepted_htlcs));
    }
    if theirs.htlc_minimum.floor().sat() > capacity.sat() / 10 {
        return fail(format!("an HTLC minimum of {} is too large", theirs.htlc_minimum));
    }
    match &theirs.upfront_shutdown_script {
        Some(script) if !is_shutdown_script(script, Negotiated::ALL) => {
            fail("the upfront shutdown script is of no known form".into())
        }
        _ => Ok(()),
    }
}

/// The funder pays the first fee, and one side at least is above its reserve (BOLT 2).
pub(super) fn check_first_balances(
    rule: &'static str,
    params: &ChannelParams,
    base: Balances,
    feerate: FeeratePerKw,
) -> Result<(), Violation> {
    let costs = opening_costs(params.format, feerate);
    let funder = base.of(params.funder).floor();
    let Some(left) = funder.checked_sub(costs) else {
        return Err(Violation::fail(
            rule,
            format!("{funder} does not pay fee and anchors {costs}"),
        ));
    };
    let other = base.of(params.funder.other()).floor();
    let reserves = (
        params.side(params.funder.other()).channel_reserve,
        params.side(params.funder).channel_reserve,
    );
    if left <= reserves.0 && other <= reserves.1 {
        return Err(Violation::fail(rule, "neither side would be above its reserve"));
    }
    Ok(())
}

fn opening_costs(format: CommitmentFormat, feerate: FeeratePerKw) -> Sat {
    commitment_fee(format, feerate, 0).saturating_add(anchors_cost(format))
}
