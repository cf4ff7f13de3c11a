//! ClosedChannels: history.

use super::send_coins::outpoint;
use super::{channel_point, sat};
use crate::backup::{RestoredRecord, Single};
use crate::channels::record::{load_resolution, ChannelRecord, Names, SpendKind, SpentRecord};
use crate::node::Node;
use fulmen_channel::onchain::outcome::{Ended, Outcome, What};
use fulmen_channel::params::Side;
use fulmen_proto::lnrpc::{self, channel_close_summary::ClosureType};
use tonic::Status;

/// Channels of which nothing is left, by the request's filters (none set: all).
pub async fn closed_channels(
    node: &Node,
    request: lnrpc::ClosedChannelsRequest,
) -> Result<lnrpc::ClosedChannelsResponse, Status> {
    let records = ChannelRecord::load_all(&node.services.store).map_err(super::failed)?;
    let mut channels = Vec::new();
    for record in records.iter().filter(|record| record.closed) {
        let Some(spent) = record.spent else { continue };
        let names = Names::load(&node.services.store, record).map_err(super::failed)?;
        let mut summary = summary(node, record, &spent, names);
        summary.resolutions = resolutions(node, record.index)?;
        if wanted(&request, summary.close_type()) {
            channels.push(summary);
        }
    }
    let restored = RestoredRecord::load_all(&node.services.store).map_err(super::failed)?;
    for record in restored.iter().filter(|record| record.closed) {
        let Some(spent) = record.spent else { continue };
        let mut summary = restored_summary(node, &record.backup, &spent);
        summary.resolutions = resolutions(node, record.backup.index)?;
        if wanted(&request, summary.close_type()) {
            channels.push(summary);
        }
    }
    Ok(lnrpc::ClosedChannelsResponse { channels })
}

fn wanted(request: &lnrpc::ClosedChannelsRequest, kind: ClosureType) -> bool {
    let asked = [
        (request.cooperative, ClosureType::CooperativeClose),
        (request.local_force, ClosureType::LocalForceClose),
        (request.remote_force, ClosureType::RemoteForceClose),
        (request.breach, ClosureType::BreachClose),
        (request.funding_canceled, ClosureType::FundingCanceled),
        (request.abandoned, ClosureType::Abandoned),
    ];
    asked.iter().all(|(set, _)| !set) || asked.contains(&(true, kind))
}

/// How each output that could be ours ended.
fn resolutions(node: &Node, index: u64) -> Result<Vec<lnrpc::Resolution>, Status> {
    let chain = load_resolution(&node.services.store, index).map_err(super::failed)?;
    let outcomes = chain.iter().flat_map(|chain| chain.outcomes());
    Ok(outcomes.map(resolution).collect())
}

fn resolution(outcome: Outcome) -> lnrpc::Resolution {
    let kind = match outcome.what {
        What::Balance => lnrpc::ResolutionType::Commit,
        What::Anchor => lnrpc::ResolutionType::Anchor,
        What::Incoming => lnrpc::ResolutionType::IncomingHtlc,
        What::Outgoing => lnrpc::ResolutionType::OutgoingHtlc,
    };
    let ended = match outcome.ended {
        Ended::Claimed => lnrpc::ResolutionOutcome::Claimed,
        Ended::Unclaimed => lnrpc::ResolutionOutcome::Unclaimed,
        Ended::FirstStage => lnrpc::ResolutionOutcome::FirstStage,
        Ended::TimedOut => lnrpc::ResolutionOutcome::Timeout,
    };
    lnrpc::Resolution {
        resolution_type: kind.into(),
        outcome: ended.into(),
        outpoint: Some(outpoint(outcome.outpoint)),
        amount_sat: outcome.value.sat(),
        sweep_txid: outcome.taken_by.map(|txid| txid.to_string()).unwrap_or_default(),
    }
}

fn summary(
    node: &Node,
    record: &ChannelRecord,
    spent: &SpentRecord,
    names: Names,
) -> lnrpc::ChannelCloseSummary {
    let initiator =
        if record.initiator { lnrpc::Initiator::Local } else { lnrpc::Initiator::Remote };
    let close_initiator = match record.close_initiator {
        None => lnrpc::Initiator::Unknown,
        Some(Side::Local) => lnrpc::Initiator::Local,
        Some(Side::Remote) => lnrpc::Initiator::Remote,
    };
    lnrpc::ChannelCloseSummary {
        channel_point: channel_point(record.outpoint),
        chan_id: names.listed_as.unwrap_or(0),
        chain_hash: bitcoin::constants::genesis_block(node.config.network).block_hash().to_string(),
        closing_tx_hash: spent.txid.to_string(),
        remote_pubkey: record.peer.to_string(),
        capacity: sat(record.capacity),
        close_height: spent.height.number(),
        settled_balance: sat(spent.settled),
        time_locked_balance: match spent.kind {
            SpendKind::Local => sat(spent.settled),
            _ => 0,
        },
        close_type: close_type(spent.kind).into(),
        open_initiator: initiator.into(),
        alias_scids: names.aliases,
        zero_conf_confirmed_scid: names.confirmed.unwrap_or(0),
        close_initiator: close_initiator.into(),
        ..Default::default()
    }
}

fn close_type(kind: SpendKind) -> ClosureType {
    match kind {
        SpendKind::Mutual => ClosureType::CooperativeClose,
        SpendKind::Local => ClosureType::LocalForceClose,
        SpendKind::Remote | SpendKind::Other => ClosureType::RemoteForceClose,
        SpendKind::Revoked => ClosureType::BreachClose,
        // Nothing is left to be done, and nobody knows more.
        SpendKind::Unknown => ClosureType::Abandoned,
    }
}

/// Of a channel that was restored from its backup, which knows no names.
fn restored_summary(
    node: &Node,
    backup: &Single,
    spent: &SpentRecord,
) -> lnrpc::ChannelCloseSummary {
    let side = |side| match side {
        Side::Local => lnrpc::Initiator::Local,
        Side::Remote => lnrpc::Initiator::Remote,
    };
    lnrpc::ChannelCloseSummary {
        channel_point: channel_point(backup.outpoint),
        chain_hash: bitcoin::constants::genesis_block(node.config.network).block_hash().to_string(),
        closing_tx_hash: spent.txid.to_string(),
        remote_pubkey: backup.peer.to_string(),
        capacity: sat(backup.capacity),
        close_height: spent.height.number(),
        settled_balance: sat(spent.settled),
        close_type: close_type(spent.kind).into(),
        open_initiator: side(backup.funder).into(),
        close_initiator: match spent.kind {
            SpendKind::Mutual | SpendKind::Unknown => lnrpc::Initiator::Unknown,
            SpendKind::Local => lnrpc::Initiator::Local,
            _ => lnrpc::Initiator::Remote,
        }
        .into(),
        ..Default::default()
    }
}
