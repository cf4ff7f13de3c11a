//! CloseChannel: together, or by force. On a channel that closes by closing_complete a second call
//! replaces our closing transaction by a dearer one.

use super::failed;
use super::send_coins::Asked;
use crate::channels::{CloseUpdate, FundedSnapshot, Snapshot, ToChannel};
use crate::keys::Purpose;
use crate::node::Node;
use bitcoin::hashes::Hash;
use bitcoin::{OutPoint, ScriptBuf, TxOut, Txid};
use fulmen_channel::amount::FeeratePerKw;
use fulmen_channel::input::Command;
use fulmen_channel::output::Settled;
use fulmen_channel::params::Negotiated;
use fulmen_proto::lnrpc::{self, close_status_update::Update};
use std::str::FromStr;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tonic::Status;

/// Closes a channel; tells when a closing transaction is published and when one is in a block.
pub async fn close_channel(
    node: Arc<Node>,
    request: lnrpc::CloseChannelRequest,
) -> Result<mpsc::Receiver<Result<lnrpc::CloseStatusUpdate, Status>>, Status> {
    let point = request.channel_point.clone();
    let point = point.ok_or_else(|| failed("must specify channel point in close channel"))?;
    let handle = node.services.registry.by_outpoint(&outpoint(&point)?);
    let handle = handle.ok_or_else(|| failed("channel not found"))?;
    let snapshot = handle.describe().await;
    let Some((snapshot, Some(funded))) = snapshot.map(|it| (it.clone(), it.funded)) else {
        return Err(failed("channel not found"));
    };
    let pending_htlcs = i32::try_from(funded.htlcs.len()).unwrap_or(i32::MAX);
    let command = match request.force {
        true => force(&request)?,
        false => together(&node, &request, &snapshot, funded).await?,
    };
    let (updates, news) = mpsc::unbounded_channel();
    let (reply, outcome) = oneshot::channel();
    handle.tell(ToChannel::WatchClose(updates)).await;
    handle.tell(ToChannel::Command(command, Some(reply))).await;
    outcome.await.map_err(|_| failed("the channel is gone"))?.map_err(failed)?;
    let (answers, receiver) = mpsc::channel(4);
    if request.no_wait && !request.force {
        let num_pending_htlcs = pending_htlcs;
        let instant = Update::CloseInstant(lnrpc::InstantUpdate { num_pending_htlcs });
        let _ = answers.send(Ok(lnrpc::CloseStatusUpdate { update: Some(instant) })).await;
    }
    tokio::spawn(relay(news, answers));
    Ok(receiver)
}

fn force(request: &lnrpc::CloseChannelRequest) -> Result<Command, Status> {
    let fee = request.sat_per_vbyte > 0 || request.sat_per_byte > 0 || request.target_conf > 0;
    if fee || request.max_fee_per_vbyte > 0 {
        return Err(failed("force closing a channel uses a pre-defined fee"));
    }
    if !request.delivery_address.is_empty() {
        return Err(failed("force closing a channel pays to the wallet, not to an address"));
    }
    Ok(Command::ForceClose("closed by force on the operator's command".into()))
}

async fn together(
    node: &Node,
    request: &lnrpc::CloseChannelRequest,
    snapshot: &Snapshot,
    funded: FundedSnapshot,
) -> Result<Command, Status> {
    if !snapshot.active && funded.failed.is_none() {
        return Err(failed(
            "unable to gracefully close channel while peer is offline (try force closing it \
             instead): channel link not found",
        ));
    }
    if !request.no_wait && !funded.htlcs.is_empty() {
        return Err(failed("cannot co-op close channel with active htlcs"));
    }
    let most = Asked { sat_per_vbyte: request.max_fee_per_vbyte, ..Asked::default() };
    let asked = Asked {
        target_conf: request.target_conf,
        sat_per_vbyte: request.sat_per_vbyte,
        sat_per_byte: request.sat_per_byte,
    };
    let (feerate, max_feerate) = (feerate(node, asked).await?, feerate(node, most).await?);
    if let (Some(feerate), Some(max)) = (feerate, max_feerate) {
        if request.target_conf == 0 && feerate > max {
            return Err(failed(format!("{feerate} is above max_fee_per_vbyte, {max}")));
        }
    }
    let feerate = feerate.map(|feerate| feerate.min(max_feerate.unwrap_or(feerate)));
    let fixed = &funded.params.local.upfront_shutdown_script;
    let script = match delivery_script(node, &request.delivery_address, Negotiated::ALL)? {
        Some(script) if fixed.as_ref().is_some_and(|fixed| *fixed != script) => {
            return Err(failed("shutdown script does not match upfront shutdown script"));
        }
        Some(script) => script,
        None => match funded.close_script {
            Some(script) => script,
            None => {
                let address = node.money.address(Purpose::WitnessKeyHash, false).await;
                address.map_err(failed)?.script_pubkey()
            }
        },
    };
    Ok(Command::Close { script, feerate, max_feerate })
}

/// The feerate asked for; none leaves it to the channel's own estimate.
async fn feerate(node: &Node, asked: Asked) -> Result<Option<FeeratePerKw>, Status> {
    let Asked { target_conf, sat_per_vbyte, sat_per_byte } = asked;
    match (target_conf, sat_per_vbyte, sat_per_byte) {
        (0, 0, 0) => Ok(None),
        _ => asked.resolve(node).await.map(Some),
    }
}

/// Many clients take the first transaction that they are told of for the close: that is our own
/// version, and the peer's, which may be there before it, is told after it.
async fn relay(
    mut news: mpsc::UnboundedReceiver<CloseUpdate>,
    answers: mpsc::Sender<Result<lnrpc::CloseStatusUpdate, Status>>,
) {
    let mut peers = None;
    while let Some(update) = news.recv().await {
        let then = match &update {
            CloseUpdate::Settled(settled) if settled.awaits_ours => {
                peers = Some(update);
                continue;
            }
            CloseUpdate::Settled(settled) if settled.ours => peers.take(),
            _ => None,
        };
        for update in std::iter::once(update).chain(then) {
            if !tell(update, &answers).await {
                return;
            }
        }
    }
}

/// Whether there may be more to tell.
async fn tell(
    update: CloseUpdate,
    answers: &mpsc::Sender<Result<lnrpc::CloseStatusUpdate, Status>>,
) -> bool {
    let last = !matches!(update, CloseUpdate::Settled(_) | CloseUpdate::Forced(_));
    let answer = match update {
        CloseUpdate::Settled(settled) => Ok(Update::ClosePending(pending(&settled))),
        CloseUpdate::Forced(txid) => Ok(Update::ClosePending(lnrpc::PendingUpdate {
            txid: bytes(txid),
            local_close_tx: true,
            ..Default::default()
        })),
        CloseUpdate::Confirmed { txid, shares } => Ok(Update::ChanClose(closed(txid, shares))),
        CloseUpdate::Failed(why) => Err(failed(why)),
    };
    let answer = answer.map(|update| lnrpc::CloseStatusUpdate { update: Some(update) });
    answers.send(answer).await.is_ok() && !last
}

fn bytes(txid: Txid) -> Vec<u8> {
    txid.to_byte_array().to_vec()
}

fn pending(settled: &Settled) -> lnrpc::PendingUpdate {
    let vbytes = settled.weight.div_ceil(4);
    let rounded = settled.fee.sat().saturating_add(vbytes / 2);
    let rate = rounded.checked_div(vbytes).unwrap_or(0);
    lnrpc::PendingUpdate {
        txid: bytes(settled.txid),
        output_index: settled.output.unwrap_or(0),
        fee_per_vbyte: i64::try_from(rate).unwrap_or(i64::MAX),
        local_close_tx: settled.ours,
    }
}

fn closed(txid: Txid, shares: [Option<TxOut>; 2]) -> lnrpc::ChannelCloseUpdate {
    let output = |share: Option<TxOut>, is_local| {
        share.map(|share| lnrpc::CloseOutput {
            amount_sat: i64::try_from(share.value.to_sat()).unwrap_or(i64::MAX),
            pk_script: share.script_pubkey.to_bytes(),
            is_local,
            ..Default::default()
        })
    };
    let [ours, theirs] = shares;
    lnrpc::ChannelCloseUpdate {
        closing_txid: bytes(txid),
        success: true,
        local_close_output: output(ours, true),
        remote_close_output: output(theirs, false),
        ..Default::default()
    }
}

/// The script of an address on our network, for our share of a close; none for no address.
pub(super) fn delivery_script(
    node: &Node,
    address: &str,
    negotiated: Negotiated,
) -> Result<Option<ScriptBuf>, Status> {
    use fulmen_channel::protocol::closing::is_shutdown_script;
    if address.is_empty() {
        return Ok(None);
    }
    let invalid =
        |why: &dyn std::fmt::Display| failed(format!("invalid delivery address: {address}: {why}"));
    let parsed = bitcoin::Address::from_str(address).map_err(|error| invalid(&error))?;
    let checked = parsed.require_network(node.config.network).map_err(|error| invalid(&error))?;
    let script = checked.script_pubkey();
    match is_shutdown_script(&script, negotiated) {
        true => Ok(Some(script)),
        false => Err(invalid(&"a share of a close goes to a segwit address that the peer knows")),
    }
}

/// The outpoint of a channel point in either of its forms.
pub(super) fn outpoint(point: &lnrpc::ChannelPoint) -> Result<OutPoint, Status> {
    use lnrpc::channel_point::FundingTxid;
    let txid = match &point.funding_txid {
        Some(FundingTxid::FundingTxidBytes(bytes)) => Txid::from_slice(bytes).map_err(failed)?,
        Some(FundingTxid::FundingTxidStr(text)) => Txid::from_str(text).map_err(failed)?,
        None => return Err(failed("channel point has no funding txid")),
    };
    Ok(OutPoint { txid, vout: point.output_index })
}
