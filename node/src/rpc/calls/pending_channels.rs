//! PendingChannels: opening, waiting for their close, or waiting for a delay.

use super::list_channels::own_share;
use super::{channel_point, commitment_type, floor, sat};
use crate::channels::record::SpentRecord;
use crate::channels::{FundedSnapshot, RestoredSnapshot, Snapshot};
use crate::node::Node;
use crate::sweeper::Pending;
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::Txid;
use fulmen_channel::onchain::claim::Name;
use fulmen_channel::params::Side;
use fulmen_proto::lnrpc::{self, pending_channels_response as pending};
use pending::force_closed_channel::AnchorState;
use tonic::Status;

/// Everything that is neither open nor history.
pub async fn pending_channels(
    node: &Node,
    request: lnrpc::PendingChannelsRequest,
) -> Result<lnrpc::PendingChannelsResponse, Status> {
    let mut answer = lnrpc::PendingChannelsResponse::default();
    let height = node.services.chain.tip().height.number();
    let claims = node.services.sweeper.pending();
    for handle in node.services.registry.all() {
        let Some(snapshot) = handle.describe().await else { continue };
        if let Some(restored) = snapshot.restored.as_ref().filter(|_| snapshot.phase != "closed") {
            match restored.spent {
                None => answer.waiting_close_channels.push(restored_waiting(restored)),
                Some(spent) => {
                    let forced = restored_forced(restored, spent, height);
                    answer.pending_force_closing_channels.push(forced);
                }
            }
        }
        let Some(funded) = &snapshot.funded else { continue };
        match (snapshot.phase, funded.closing_height) {
            ("waiting for confirmations", None) => {
                answer.pending_open_channels.push(opening(&snapshot, funded));
            }
            ("open", None) | ("closed", _) => {}
            (_, None) => answer.waiting_close_channels.push(waiting(&snapshot, funded, &request)),
            (_, Some(_)) => {
                let claims = claims.iter().filter(|claim| claim.wanted.channel == snapshot.index);
                let htlcs = claims.filter_map(|claim| htlc(claim, height)).collect();
                let forced = forced(&snapshot, funded, height, htlcs);
                let anchor = anchor(node, funded.anchor_taken_by).into();
                let forced = pending::ForceClosedChannel { anchor, ..forced };
                answer.pending_force_closing_channels.push(forced);
            }
        }
    }
    let limbo = |sum: i64, more: i64| sum.saturating_add(more);
    let waiting = answer.waiting_close_channels.iter().map(|channel| channel.limbo_balance);
    let forced = answer.pending_force_closing_channels.iter().map(|channel| channel.limbo_balance);
    answer.total_limbo_balance = waiting.chain(forced).fold(0, limbo);
    Ok(answer)
}

fn channel(snapshot: &Snapshot, funded: &FundedSnapshot) -> pending::PendingChannel {
    let params = &funded.params;
    let initiator = match params.funder {
        Side::Local => lnrpc::Initiator::Local,
        Side::Remote => lnrpc::Initiator::Remote,
    };
    let flags = if funded.behind {
        "ChanStatusLocalDataLoss"
    } else if funded.failed.is_some() {
        "ChanStatusCommitBroadcasted"
    } else if snapshot.phase == "closing" {
        "ChanStatusCoopBroadcasted"
    } else {
        "ChanStatusDefault"
    };
    pending::PendingChannel {
        remote_node_pub: snapshot.peer.to_string(),
        channel_point: channel_point(funded.outpoint),
        capacity: sat(funded.capacity),
        local_balance: floor(own_share(funded, Side::Local)),
        remote_balance: floor(own_share(funded, Side::Remote)),
        local_chan_reserve_sat: sat(params.remote.channel_reserve),
        remote_chan_reserve_sat: sat(params.local.channel_reserve),
        initiator: initiator.into(),
        commitment_type: commitment_type(params.format),
        chan_status_flags: flags.into(),
        private: !params.announce,
        memo: funded.note.memo.clone(),
        ..Default::default()
    }
}

/// A channel of which only the backup is left; what it holds for us is not known yet.
fn restored_channel(restored: &RestoredSnapshot) -> pending::PendingChannel {
    let backup = &restored.backup;
    let initiator = match backup.funder {
        Side::Local => lnrpc::Initiator::Local,
        Side::Remote => lnrpc::Initiator::Remote,
    };
    let flags = match restored.told || restored.spent.is_some() {
        true => "ChanStatusLocalDataLoss|ChanStatusRestored",
        false => "ChanStatusRestored",
    };
    pending::PendingChannel {
        remote_node_pub: backup.peer.to_string(),
        channel_point: channel_point(backup.outpoint),
        capacity: sat(backup.capacity),
        initiator: initiator.into(),
        commitment_type: commitment_type(backup.format),
        chan_status_flags: flags.into(),
        private: !backup.announce,
        ..Default::default()
    }
}

fn restored_waiting(restored: &RestoredSnapshot) -> pending::WaitingCloseChannel {
    pending::WaitingCloseChannel {
        channel: Some(restored_channel(restored)),
        commitments: Some(pending::Commitments::default()),
        blocks_til_close_confirmed: 1,
        ..Default::default()
    }
}

fn restored_forced(
    restored: &RestoredSnapshot,
    spent: SpentRecord,
    height: u32,
) -> pending::ForceClosedChannel {
    let matures = spent.matures_at.map_or(0, |at| at.number());
    let left = i64::from(matures).saturating_sub(i64::from(height));
    pending::ForceClosedChannel {
        channel: Some(restored_channel(restored)),
        closing_txid: spent.txid.to_string(),
        limbo_balance: sat(spent.limbo),
        maturity_height: matures,
        blocks_til_maturity: i32::try_from(left).unwrap_or(i32::MAX),
        anchor: AnchorState::Lost.into(),
        ..Default::default()
    }
}

fn opening(snapshot: &Snapshot, funded: &FundedSnapshot) -> pending::PendingOpenChannel {
    let left = funded.params.minimum_depth.saturating_sub(funded.confirmations);
    pending::PendingOpenChannel {
        channel: Some(channel(snapshot, funded)),
        commit_fee: sat(funded.commit_fee),
        commit_weight: i64::try_from(funded.commit_weight).unwrap_or(i64::MAX),
        fee_per_kw: i64::from(funded.feerate.per_kw()),
        funding_expiry_blocks: 2_016,
        confirmations_until_active: left,
        confirmation_height: funded
            .short_channel_id
            .and_then(|scid| u32::try_from(scid >> 40).ok())
            .unwrap_or(0),
    }
}

fn waiting(
    snapshot: &Snapshot,
    funded: &FundedSnapshot,
    request: &lnrpc::PendingChannelsRequest,
) -> pending::WaitingCloseChannel {
    let raw = funded.closing_tx.as_ref().filter(|_| request.include_raw_tx);
    let pending = funded.remote_pending;
    pending::WaitingCloseChannel {
        channel: Some(channel(snapshot, funded)),
        limbo_balance: floor(own_share(funded, Side::Local)),
        commitments: Some(pending::Commitments {
            local_txid: funded.local_txid.to_string(),
            remote_txid: funded.remote_commitment.0.to_string(),
            local_commit_fee_sat: funded.commit_fee.sat(),
            remote_commit_fee_sat: funded.remote_commitment.1.sat(),
            remote_pending_txid: pending.map(|(txid, _)| txid.to_string()).unwrap_or_default(),
            remote_pending_commit_fee_sat: pending.map_or(0, |(_, fee)| fee.sat()),
        }),
        closing_txid: funded.closing_txid.map(|txid| txid.to_string()).unwrap_or_default(),
        closing_tx_hex: raw.map(serialize_hex).unwrap_or_default(),
        // A close counts from its first confirmation on.
        blocks_til_close_confirmed: 1,
        close_height: 0,
    }
}

fn forced(
    snapshot: &Snapshot,
    funded: &FundedSnapshot,
    height: u32,
    pending_htlcs: Vec<lnrpc::PendingHtlc>,
) -> pending::ForceClosedChannel {
    let matures = funded.matures_at.map_or(0, |at| at.number());
    pending::ForceClosedChannel {
        channel: Some(channel(snapshot, funded)),
        closing_txid: funded.closing_txid.map(|txid| txid.to_string()).unwrap_or_default(),
        limbo_balance: sat(funded.limbo),
        maturity_height: matures,
        blocks_til_maturity: blocks_until(matures, height),
        recovered_balance: sat(funded.recovered),
        pending_htlcs,
        ..Default::default()
    }
}

/// Our anchor on a commitment comes back with what paid for that one; after 16 blocks anybody may
/// have it (BOLT 3).
fn anchor(node: &Node, taken_by: Option<Txid>) -> AnchorState {
    match taken_by {
        None => AnchorState::Limbo,
        Some(txid) if node.money.wallet().has_paid_for(txid) => AnchorState::Recovered,
        Some(_) => AnchorState::Lost,
    }
}

/// Blocks from `height` to one that may be gone by.
fn blocks_until(matures: u32, height: u32) -> i32 {
    let left = i64::from(matures).saturating_sub(i64::from(height));
    i32::try_from(left).unwrap_or(i32::MAX)
}

/// An HTLC that is still to be taken: from the commitment, or from what HT or HE paid.
fn htlc(claim: &Pending, height: u32) -> Option<lnrpc::PendingHtlc> {
    let wanted = &claim.wanted.claim;
    let (by, _) = wanted.htlc?;
    let second = matches!(wanted.name, Name::HTRD | Name::HERD | Name::HTBR | Name::HEBR);
    let matures = wanted.from.number();
    Some(lnrpc::PendingHtlc {
        incoming: by == Side::Remote,
        amount: sat(wanted.spend.value()),
        outpoint: channel_point(wanted.spend.outpoint),
        maturity_height: matures,
        blocks_til_maturity: blocks_until(matures, height),
        stage: if second { 2 } else { 1 },
    })
}
