//! OpenChannelSync and OpenChannel.

use super::close_channel::delivery_script;
use super::failed;
use super::send_coins::Asked;
use crate::channels::note::MAX_MEMO;
use crate::channels::opening::{self, OpenParams};
use crate::channels::OpenUpdate;
use crate::node::Node;
use crate::peer::features::negotiated;
use bitcoin::hashes::Hash;
use bitcoin::secp256k1::PublicKey;
use bitcoin::OutPoint;
use fulmen_channel::amount::{FeeratePerKw, Msat, Sat};
use fulmen_channel::params::CommitmentFormat;
use fulmen_proto::lnrpc::{self, open_status_update::Update, CommitmentType};
use std::sync::Arc;
use tokio::sync::mpsc;
use tonic::Status;

type News = mpsc::UnboundedReceiver<OpenUpdate>;

/// Opens a channel; answers when F is published.
pub async fn open_channel_sync(
    node: &Node,
    request: lnrpc::OpenChannelRequest,
) -> Result<lnrpc::ChannelPoint, Status> {
    let (_, mut news) = start(node, request).await?;
    match news.recv().await {
        Some(OpenUpdate::Pending(outpoint) | OpenUpdate::Open(outpoint)) => Ok(point(outpoint)),
        Some(OpenUpdate::Failed(why)) => Err(came_to_nothing(&why)),
        None => Err(failed("the node is shutting down")),
    }
}

/// Opens a channel; tells when F is published and when the channel is ready.
pub async fn open_channel(
    node: Arc<Node>,
    request: lnrpc::OpenChannelRequest,
) -> Result<mpsc::Receiver<Result<lnrpc::OpenStatusUpdate, Status>>, Status> {
    let (pending_chan_id, mut news) = start(&node, request).await?;
    let (answers, receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        while let Some(update) = news.recv().await {
            let pending_chan_id = pending_chan_id.clone();
            let (last, answer) = match update {
                OpenUpdate::Pending(outpoint) => {
                    let (txid, output_index) = (outpoint.txid.to_byte_array(), outpoint.vout);
                    let pending = lnrpc::PendingUpdate {
                        txid: txid.to_vec(),
                        output_index,
                        ..Default::default()
                    };
                    (false, Ok(Update::ChanPending(pending)))
                }
                OpenUpdate::Open(outpoint) => {
                    let channel_point = Some(point(outpoint));
                    (true, Ok(Update::ChanOpen(lnrpc::ChannelOpenUpdate { channel_point })))
                }
                OpenUpdate::Failed(why) => (true, Err(came_to_nothing(&why))),
            };
            let update = |update| lnrpc::OpenStatusUpdate { update: Some(update), pending_chan_id };
            if answers.send(answer.map(update)).await.is_err() || last {
                return;
            }
        }
    });
    Ok(receiver)
}

/// Clients compare this text of a peer's whole, so it is told without saying whose it is.
fn came_to_nothing(why: &str) -> Status {
    let peers = why.strip_prefix("the peer said: ");
    failed(peers.filter(|text| *text == "Synchronizing blockchain").unwrap_or(why))
}

async fn start(node: &Node, request: lnrpc::OpenChannelRequest) -> Result<(Vec<u8>, News), Status> {
    let services = &node.services;
    let peer = peer_of(&request)?;
    if peer == node.node_id() {
        return Err(failed("cannot open channel to self"));
    }
    refuse_unbuilt(&request)?;
    if !services.chain.synced() {
        return Err(failed("channels cannot be created before the wallet is fully synced"));
    }
    let capacity = u64::try_from(request.local_funding_amount)
        .map_err(|_| failed("funding amount must be positive"))?;
    let push = u64::try_from(request.push_sat).map_err(|_| failed("push amount is negative"))?;
    let (capacity, push) = (Sat::new(capacity), Sat::new(push));
    let (min, max) = (services.limits.min_channel, services.limits.max_channel);
    if capacity < min {
        return Err(failed(format!("channel is too small, the minimum channel size is: {min}")));
    }
    if capacity > max {
        return Err(failed(format!("funding amount is too large, the max channel size is: {max}")));
    }
    if push >= capacity {
        return Err(failed(
            "amount pushed to remote peer for initial state must be below the \
                           local funding amount",
        ));
    }
    let Some((link, features)) = services.registry.peer(&peer) else {
        return Err(failed(format!("peer {peer} is not online")));
    };
    if opening::pending(services, &peer).await >= services.max_pending {
        return Err(failed("Number of pending channels exceed maximum"));
    }
    let params = OpenParams {
        peer,
        capacity,
        push: push.saturating_msat(),
        feerate: funding_feerate(node, &request).await?,
        private: request.private,
        htlc_minimum: minimum(&request)?,
        to_self_delay: delay(&request)?,
        close_script: delivery_script(
            node,
            &request.close_address,
            negotiated(&services.protocol, &features),
        )?,
        format: format(&request)?,
        scid_alias: request.scid_alias,
        zero_conf: request.zero_conf,
        memo: memo(&request)?,
    };
    let opened = opening::open(services, link, &features, params).await.map_err(failed)?;
    Ok((opened.0 .0.to_vec(), opened.1))
}

fn peer_of(request: &lnrpc::OpenChannelRequest) -> Result<PublicKey, Status> {
    if !request.node_pubkey.is_empty() {
        return PublicKey::from_slice(&request.node_pubkey).map_err(failed);
    }
    super::connect_peer::public_key(&request.node_pubkey_string)
}

/// What is asked for and not built is refused, never dropped in silence.
fn refuse_unbuilt(request: &lnrpc::OpenChannelRequest) -> Result<(), Status> {
    let unbuilt = [
        ("funding_shim", request.funding_shim.is_some()),
        ("fund_max", request.fund_max),
        ("outpoints", !request.outpoints.is_empty()),
        ("base_fee", request.use_base_fee),
        ("fee_rate", request.use_fee_rate),
        ("remote_max_value_in_flight_msat", request.remote_max_value_in_flight_msat > 0),
        ("remote_max_htlcs", request.remote_max_htlcs > 0),
        ("max_local_csv", request.max_local_csv > 0),
        ("remote_chan_reserve_sat", request.remote_chan_reserve_sat > 0),
        ("spend_unconfirmed", request.spend_unconfirmed),
    ];
    match unbuilt.iter().find(|(_, asked)| *asked) {
        Some((name, _)) => Err(failed(format!("{name} is not built into fulmen yet"))),
        None => Ok(()),
    }
}

async fn funding_feerate(
    node: &Node,
    request: &lnrpc::OpenChannelRequest,
) -> Result<FeeratePerKw, Status> {
    let asked = Asked {
        target_conf: request.target_conf,
        sat_per_vbyte: request.sat_per_vbyte,
        sat_per_byte: request.sat_per_byte,
    };
    asked.resolve(node).await
}

fn memo(request: &lnrpc::OpenChannelRequest) -> Result<String, Status> {
    let (memo, length) = (request.memo.clone(), request.memo.len());
    if length > MAX_MEMO {
        let why = format!("provided memo ({memo}) is of length {length}, exceeds {MAX_MEMO}");
        return Err(failed(why));
    }
    Ok(memo)
}

fn minimum(request: &lnrpc::OpenChannelRequest) -> Result<Option<Msat>, Status> {
    let minimum =
        u64::try_from(request.min_htlc_msat).map_err(|_| failed("min_htlc_msat is negative"))?;
    Ok((minimum > 0).then_some(Msat::new(minimum)))
}

fn delay(request: &lnrpc::OpenChannelRequest) -> Result<Option<u16>, Status> {
    let delay = u16::try_from(request.remote_csv_delay)
        .ok()
        .filter(|delay| *delay <= fulmen_channel::protocol::opening::MAX_TO_SELF_DELAY)
        .ok_or_else(|| failed("remote_csv_delay is at most 2016 blocks"))?;
    Ok((delay > 0).then_some(delay))
}

fn format(request: &lnrpc::OpenChannelRequest) -> Result<Option<CommitmentFormat>, Status> {
    match request.commitment_type() {
        CommitmentType::UnknownCommitmentType if request.zero_conf => {
            Err(failed("use anchors for zero-conf"))
        }
        CommitmentType::UnknownCommitmentType => Ok(None),
        CommitmentType::StaticRemoteKey => Ok(Some(CommitmentFormat::StaticRemoteKey)),
        CommitmentType::Anchors => Ok(Some(CommitmentFormat::Anchors)),
        other => Err(failed(format!("{} is not built into fulmen yet", other.as_str_name()))),
    }
}

pub(super) fn point(outpoint: OutPoint) -> lnrpc::ChannelPoint {
    use lnrpc::channel_point::FundingTxid;
    lnrpc::ChannelPoint {
        funding_txid: Some(FundingTxid::FundingTxidBytes(outpoint.txid.to_byte_array().to_vec())),
        output_index: outpoint.vout,
    }
}
