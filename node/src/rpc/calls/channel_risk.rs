//! ChannelRisk: when we would close channels and why, and what is at stake.

use super::explain_channel::{htlc, named};
use super::{channel_point, sat};
use crate::channels::explain::{self, Explained, Stake};
use crate::channels::services::Services;
use crate::node::Node;
use crate::sweeper::budget::budget;
use crate::sweeper::Pending;
use fulmen_channel::amount::Sat;
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
        channels: channels.iter().map(|channel| risk(channel, fee_budget(node, channel))).collect(),
    })
}

fn fee_budget(node: &Node, channel: &Explained) -> Sat {
    let Services { registry, sweeper, .. } = &*node.services;
    let index = registry.by_outpoint(&channel.outpoint).map(|handle| handle.index);
    let of_channel = |pending: &Pending| Some(pending.wanted.channel) == index;
    budget_of(channel.at_risk, sweeper.pending().into_iter().filter(of_channel))
}

/// What the sweeper may pay for these claims. For what the peer signed with its fee it pays
/// nothing more. Of a channel without claims it is what a close would be worth.
fn budget_of(at_risk: Sat, pending: impl Iterator<Item = Pending>) -> Sat {
    let budgets = pending.map(|Pending { wanted, .. }| match wanted.is_fixed() {
        true => Sat::ZERO,
        false => wanted.budget(),
    });
    budgets.reduce(Sat::saturating_add).unwrap_or_else(|| budget(at_risk))
}

fn risk(channel: &Explained, fee_budget: Sat) -> fulmenrpc::Risk {
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
        fee_budget_sat: sat(fee_budget),
        htlcs: channel.stakes.iter().map(stake).collect(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sweeper::wanted::{Order, Wanted};
    use bitcoin::hashes::Hash;
    use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};
    use bitcoin::{OutPoint, Txid};
    use fulmen_channel::amount::Height;
    use fulmen_channel::onchain::claim::{Claim, Name, Pays};
    use fulmen_channel::params::CommitmentFormat;
    use fulmen_channel::transactions::delivery;

    fn pending(name: Name, value: u64) -> Pending {
        let key: PublicKey = SecretKey::from_slice(&[7; 32]).unwrap().public_key(&Secp256k1::new());
        let outpoint = OutPoint { txid: Txid::from_byte_array([3; 32]), vout: 2 };
        let spend = delivery::spend(CommitmentFormat::Anchors, &key, outpoint, Sat::new(value));
        let (from, until) = (Height::new(700), None);
        let claim = Claim { name, htlc: None, spend, pays: Pays::Anything, from, until };
        Pending { wanted: Wanted::new(1, claim), version: None, waits: None }
    }

    fn told(pending: Vec<Pending>) -> u64 {
        budget_of(Sat::new(80_000), pending.into_iter()).sat()
    }

    #[test]
    fn the_budget_is_what_the_sweeper_may_pay() {
        assert_eq!(told(vec![]), 40_000, "nothing is published");
        // Our commitment waits for a block: its anchor pays for it, for what only waits too.
        let mut anchor = pending(Name::Anchor, 330);
        (anchor.wanted.at_risk, anchor.wanted.patient) = (Sat::new(80_000), Sat::new(500_000));
        let budget = anchor.wanted.budget();
        assert_eq!(told(vec![anchor]), budget.sat());
        // A breach: half of the cheater's balance, a tenth of what goes on in a second stage.
        let breach = || vec![pending(Name::BR, 100_000), pending(Name::HBR, 50_000)];
        assert_eq!(told(breach()), 50_000 + 5_000);
        let mut ordered = breach();
        ordered[1].wanted.order = Order { budget: Some(Sat::new(30_000)), ..Order::default() };
        assert_eq!(told(ordered), 50_000 + 30_000);
        // What the peer signed with its fee costs nothing more.
        let mut fixed = pending(Name::HT, 60_000);
        let output = fixed.wanted.claim.spend.output.clone();
        fixed.wanted.claim.pays = Pays::Only(output);
        assert_eq!(told(vec![fixed, pending(Name::RD, 70_000)]), 35_000);
    }
}
