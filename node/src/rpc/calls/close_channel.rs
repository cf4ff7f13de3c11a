//! CloseChannel: together, or by force.

use super::{asked_feerate, failed};
use crate::channels::{CloseUpdate, ToChannel};
use crate::keys::Purpose;
use crate::node::Node;
use bitcoin::hashes::Hash;
use bitcoin::{OutPoint, Txid};
use fulmen_channel::input::Command;
use fulmen_proto::lnrpc::{self, close_status_update::Update};
use std::str::FromStr;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tonic::Status;

/// Closes a channel; tells when the closing transaction is published and when it is in a block.
pub async fn close_channel(
    node: Arc<Node>,
    request: lnrpc::CloseChannelRequest,
) -> Result<mpsc::Receiver<Result<lnrpc::CloseStatusUpdate, Status>>, Status> {
    let point = request.channel_point.clone().ok_or_else(|| failed("channel point is missing"))?;
    let outpoint = outpoint(&point)?;
    let handle = node
        .services
        .registry
        .by_outpoint(&outpoint)
        .ok_or_else(|| failed(format!("unable to find channel {outpoint}")))?;
    let command = command(&node, &request).await?;
    let (updates, news) = mpsc::unbounded_channel();
    let (reply, outcome) = oneshot::channel();
    handle.tell(ToChannel::WatchClose(updates)).await;
    handle.tell(ToChannel::Command(command, Some(reply))).await;
    outcome.await.map_err(|_| failed("the channel is gone"))?.map_err(failed)?;
    let (answers, receiver) = mpsc::channel(4);
    if request.no_wait {
        let instant = Update::CloseInstant(lnrpc::InstantUpdate { num_pending_htlcs: 0 });
        let _ = answers.send(Ok(lnrpc::CloseStatusUpdate { update: Some(instant) })).await;
    }
    tokio::spawn(relay(news, answers));
    Ok(receiver)
}

async fn command(node: &Node, request: &lnrpc::CloseChannelRequest) -> Result<Command, Status> {
    if request.force {
        return Ok(Command::ForceClose("closed by force on the operator's command".into()));
    }
    if request.max_fee_per_vbyte > 0 {
        return Err(failed("max_fee_per_vbyte is not built into fulmen yet"));
    }
    let feerate = match asked_feerate(request.sat_per_vbyte, request.sat_per_byte) {
        Some(asked) => Some(asked),
        None if request.target_conf > 0 => {
            Some(node.services.chain.feerate(crate::chain::Target::Normal).await)
        }
        None => None,
    };
    let script = match super::open_channel::close_script(node, &request.delivery_address)? {
        Some(script) => script,
        None => {
            let address = node.money.address(Purpose::WitnessKeyHash, false).await;
            address.map_err(failed)?.script_pubkey()
        }
    };
    Ok(Command::Close { script, feerate })
}

async fn relay(
    mut news: mpsc::UnboundedReceiver<CloseUpdate>,
    answers: mpsc::Sender<Result<lnrpc::CloseStatusUpdate, Status>>,
) {
    while let Some(update) = news.recv().await {
        let bytes = |txid: Txid| txid.to_byte_array().to_vec();
        let (last, answer) = match update {
            CloseUpdate::Pending(txid) => {
                let pending = lnrpc::PendingUpdate { txid: bytes(txid), ..Default::default() };
                (false, Ok(Update::ClosePending(pending)))
            }
            CloseUpdate::Confirmed(txid) => {
                let closing_txid = bytes(txid);
                let update =
                    lnrpc::ChannelCloseUpdate { closing_txid, success: true, ..Default::default() };
                (true, Ok(Update::ChanClose(update)))
            }
            CloseUpdate::Failed(why) => (true, Err(failed(why))),
        };
        let answer = answer.map(|update| lnrpc::CloseStatusUpdate { update: Some(update) });
        if answers.send(answer).await.is_err() || last {
            return;
        }
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
