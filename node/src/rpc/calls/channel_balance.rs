//! ChannelBalance: what all channels hold together.

use super::list_channels::own_share;
use super::{amount, floor};
use crate::node::Node;
use fulmen_channel::amount::Msat;
use fulmen_channel::params::Side;
use fulmen_proto::lnrpc;
use tonic::Status;

/// Sums over open and opening channels.
pub async fn channel_balance(node: &Node) -> Result<lnrpc::ChannelBalanceResponse, Status> {
    let (mut local, mut remote) = (Msat::ZERO, Msat::ZERO);
    let (mut opening_local, mut opening_remote) = (Msat::ZERO, Msat::ZERO);
    let (mut unsettled_local, mut unsettled_remote) = (Msat::ZERO, Msat::ZERO);
    for handle in node.services.registry.all() {
        let Some(snapshot) = handle.describe().await else { continue };
        let Some(funded) = &snapshot.funded else { continue };
        let sums = match snapshot.phase {
            "open" => (&mut local, &mut remote),
            "waiting for confirmations" => (&mut opening_local, &mut opening_remote),
            _ => continue,
        };
        *sums.0 = sums.0.saturating_add(own_share(funded, Side::Local));
        *sums.1 = sums.1.saturating_add(own_share(funded, Side::Remote));
        for htlc in &funded.htlcs {
            let sum = match htlc.by {
                Side::Local => &mut unsettled_local,
                Side::Remote => &mut unsettled_remote,
            };
            *sum = sum.saturating_add(htlc.amount);
        }
    }
    Ok(lnrpc::ChannelBalanceResponse {
        balance: floor(local),
        pending_open_balance: floor(opening_local),
        local_balance: Some(amount(local)),
        remote_balance: Some(amount(remote)),
        unsettled_local_balance: Some(amount(unsettled_local)),
        unsettled_remote_balance: Some(amount(unsettled_remote)),
        pending_open_local_balance: Some(amount(opening_local)),
        pending_open_remote_balance: Some(amount(opening_remote)),
        custom_channel_data: Vec::new(),
    })
}
