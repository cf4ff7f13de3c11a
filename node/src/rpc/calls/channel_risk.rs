//! ChannelRisk: when we would close channels and why, and what is at stake.

use super::explain_channel::{htlc, named};
use super::{channel_point, sat};
use crate::channels::explain::{self, Explained, Stake};
use crate::node::Node;
use crate::sweeper::budget::budget;
use fulmen_channel::contract::htlc::Removal;
use fulmen_channel::onchain::deadline::Why;
use fulmen_proto::fulmenrpc;
use tonic::Status;

/// One channel's risk, or that of all that are not closed.
pub async fn channel_risk(
    node: &Node,
    request: fulmenrpc::ChannelRiskRequest,
) -> Result<fulmenrpc::ChannelRiskResponse, Status> {
    let channels = match request.channel.as_str() {
        "" => explain::live(&node.services).await,
        name => vec![named(node, name).await?.1],
    };
    let balance = node.money.balance();
    Ok(fulmenrpc::ChannelRiskResponse {
        height: node.services.chain.tip().height.number(),
        anchor_reserve_sat: sat(balance.anchor_reserve),
        wallet_sat: sat(balance.confirmed),
        channels: channels.iter().map(risk).collect(),
    })
}

fn risk(channel: &Explained) -> fulmenrpc::Risk {
    let next = channel.next_close();
    let reason = match (&channel.failed, next) {
        (Some(failed), _) => failed.clone(),
        (None, Some((_, Why::Expired, stake))) => {
            let (id, expiry) = (stake.tag.1, stake.htlc.cltv_expiry);
            format!("HTLC {id}, which we offered, expires at height {}", expiry.number())
        }
        (None, Some((_, Why::Preimage, stake))) => {
            let (id, expiry) = (stake.tag.1, stake.htlc.cltv_expiry);
            format!("HTLC {id}, whose preimage we know, expires at height {}", expiry.number())
        }
        (None, None) => String::new(),
    };
    let stake = |stake: &Stake| {
        let Stake { tag, htlc: it, close_at, gain } = stake;
        let told = htlc(*tag, it.amount.msat(), it.payment_hash, it.cltv_expiry.number());
        fulmenrpc::HtlcRisk {
            htlc: Some(told),
            close_height: close_at.map(|(height, _)| height.number()),
            gain_sat: gain.map(sat),
            preimage_known: matches!(it.removal, Some(Removal::Fulfilled(_))),
        }
    };
    fulmenrpc::Risk {
        channel_point: channel_point(channel.outpoint),
        chan_id: channel.names.0.unwrap_or(0),
        remote_pubkey: channel.peer.to_string(),
        phase: channel.phase.into(),
        active: channel.active,
        close_height: next.map(|(height, _, _)| height.number()),
        reason,
        at_risk_sat: sat(channel.at_risk),
        fee_budget_sat: sat(budget(channel.at_risk)),
        htlcs: channel.stakes.iter().map(stake).collect(),
    }
}
