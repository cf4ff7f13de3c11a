//! ListChannels: the open ones.

use super::{channel_point, commitment_type, floor, sat};
use crate::channels::{FundedSnapshot, HtlcSnapshot, Snapshot};
use crate::node::Node;
use bitcoin::Address;
use fulmen_channel::amount::Msat;
use fulmen_channel::params::{CommitmentFormat, Side, SideParams};
use fulmen_proto::lnrpc;
use std::time::Duration;
use tonic::Status;

/// Channels that both sides called ready, by the request's filters.
pub async fn list_channels(
    node: &Node,
    request: lnrpc::ListChannelsRequest,
) -> Result<lnrpc::ListChannelsResponse, Status> {
    let mut channels = Vec::new();
    for handle in node.services.registry.all() {
        let wanted = request.peer.is_empty() || request.peer == handle.peer.serialize();
        let Some(snapshot) = handle.describe().await.filter(|_| wanted) else { continue };
        let Some(funded) = snapshot.funded.as_ref().filter(|_| snapshot.phase == "open") else {
            continue;
        };
        let hidden = (request.active_only && !snapshot.active)
            || (request.inactive_only && snapshot.active)
            || (request.public_only && !funded.params.announce)
            || (request.private_only && funded.params.announce);
        if !hidden {
            let close_address = close_address(node, funded);
            channels.push(lnrpc::Channel { close_address, ..channel(&snapshot, funded) });
        }
    }
    Ok(lnrpc::ListChannelsResponse { channels })
}

/// The address that was fixed at opening for our share of a close; empty when none was.
fn close_address(node: &Node, funded: &FundedSnapshot) -> String {
    let fixed = funded.params.local.upfront_shutdown_script.as_ref();
    let address = fixed.and_then(|script| Address::from_script(script, node.config.network).ok());
    address.map(|address| address.to_string()).unwrap_or_default()
}

fn channel(snapshot: &Snapshot, funded: &FundedSnapshot) -> lnrpc::Channel {
    let params = &funded.params;
    let confirmed = funded.short_channel_id.filter(|_| params.zero_conf());
    let unsettled = funded.htlcs.iter().fold(Msat::ZERO, |sum, h| sum.saturating_add(h.amount));
    lnrpc::Channel {
        active: snapshot.active,
        remote_pubkey: snapshot.peer.to_string(),
        channel_point: channel_point(funded.outpoint),
        chan_id: funded.listed_as.unwrap_or(0),
        capacity: sat(funded.capacity),
        local_balance: floor(own_share(funded, Side::Local)),
        remote_balance: floor(own_share(funded, Side::Remote)),
        commit_fee: sat(funded.commit_fee),
        commit_weight: i64::try_from(funded.commit_weight).unwrap_or(i64::MAX),
        fee_per_kw: i64::from(funded.feerate.per_kw()),
        unsettled_balance: floor(unsettled),
        total_satoshis_sent: floor(funded.totals.sent),
        total_satoshis_received: floor(funded.totals.received),
        num_updates: funded.updates,
        pending_htlcs: funded.htlcs.iter().map(htlc).collect(),
        csv_delay: u32::from(params.remote.to_self_delay),
        private: !params.announce,
        initiator: params.funder == Side::Local,
        chan_status_flags: "ChanStatusDefault".into(),
        local_chan_reserve_sat: sat(params.remote.channel_reserve),
        remote_chan_reserve_sat: sat(params.local.channel_reserve),
        static_remote_key: params.format == CommitmentFormat::StaticRemoteKey,
        commitment_type: commitment_type(params.format),
        lifetime: seconds(funded.looked_at),
        uptime: seconds(funded.with_peer),
        push_amount_sat: funded.note.pushed.floor().sat(),
        memo: funded.note.memo.clone(),
        local_constraints: Some(constraints(&params.local, &params.remote)),
        remote_constraints: Some(constraints(&params.remote, &params.local)),
        alias_scids: funded.aliases.clone(),
        zero_conf: params.zero_conf(),
        zero_conf_confirmed_scid: confirmed.unwrap_or(0),
        peer_scid_alias: funded.remote_alias.unwrap_or(0),
        ..Default::default()
    }
}

/// A side's balance as its commitment shows it: the funder's without fee and anchors.
pub(super) fn own_share(funded: &FundedSnapshot, side: Side) -> Msat {
    let balance = if side == Side::Local { funded.local } else { funded.remote };
    if funded.params.funder != side {
        return balance;
    }
    let anchors = fulmen_channel::transactions::weight::anchors_cost(funded.params.format);
    balance.saturating_sub(funded.commit_fee.saturating_add(anchors).saturating_msat())
}

fn seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

fn htlc(htlc: &HtlcSnapshot) -> lnrpc::Htlc {
    lnrpc::Htlc {
        incoming: htlc.by == Side::Remote,
        amount: floor(htlc.amount),
        hash_lock: htlc.payment_hash.0.to_vec(),
        expiration_height: htlc.cltv_expiry.number(),
        htlc_index: htlc.id,
        locked_in: htlc.locked_in,
        ..Default::default()
    }
}

/// What binds `side`, as lnd means it: its own dust limit; all else is what the other side demands
/// of it, so also the limits of what it may offer.
fn constraints(side: &SideParams, other: &SideParams) -> lnrpc::ChannelConstraints {
    lnrpc::ChannelConstraints {
        csv_delay: u32::from(other.to_self_delay),
        chan_reserve_sat: other.channel_reserve.sat(),
        dust_limit_sat: side.dust_limit.sat(),
        max_pending_amt_msat: other.max_htlc_value_in_flight.msat(),
        min_htlc_msat: other.htlc_minimum.msat(),
        max_accepted_htlcs: u32::from(other.max_accepted_htlcs),
    }
}
