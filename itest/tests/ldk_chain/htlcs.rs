//! Closes with LDK while HTLCs are in flight both ways: each side ends with what is its own, to the
//! satoshi, but for the fees of its own transactions.

use std::sync::Arc;

use bitcoin::OutPoint;
use bitcoincore_rpc::RpcApi;
use fulmen_channel::amount::{Msat, Sat};
use fulmen_channel::payment::Preimage;
use fulmen_itest::failure::{Context, Result};
use fulmen_itest::ldk::LdkPeer;
use fulmen_itest::regtest::{Cluster, Daemon, Peer};
use fulmen_itest::wait::{self, PATIENCE};
use fulmen_proto::lnrpc::payment::PaymentStatus;
use fulmen_proto::lnrpc::CommitmentType::{self, Anchors, StaticRemoteKey};
use fulmen_proto::lnrpc::{Channel, ChannelCloseSummary, ClosedChannelsRequest};

use super::money::{Account, Descent};
use super::{in_mempool, with_channel_in};
use crate::sweeps::{claims_are_published, holds};

/// Offered by us, and by LDK, in satoshi.
pub const OURS: u64 = 60_000;
pub const THEIRS: u64 = 50_000;
pub const SECRET: Preimage = Preimage([7; 32]);

/// Alice and LDK's Carol with an HTLC each way, both held by their payees.
async fn with_htlcs(format: CommitmentType) -> Result<(Cluster, Daemon, Arc<LdkPeer>, Channel)> {
    let cluster = Cluster::start()?;
    let alice = Daemon::new(cluster.bitcoind(), "alice", &[])?;
    holds(&alice, true)?;
    let carol = with_channel_in(format, &cluster, &alice).await?;
    let channel = offers_both_ways(&cluster, &alice, &carol).await?;
    Ok((cluster, alice, carol, channel))
}

/// Alice and Carol, who hold what they receive, each begin to pay the other.
pub async fn offers_both_ways(
    cluster: &Cluster,
    alice: &Daemon,
    carol: &LdkPeer,
) -> Result<Channel> {
    carol.begins_to_pay(&alice.invoices(Msat::new(THEIRS * 1_000), "held").await?)?;
    let channel = has_htlcs(alice, 1).await?;
    // LDK adds up to 120 blocks to what the invoice asks, by chance: ours is to be the first to
    // expire, and both are before LDK's delay would be over.
    let offered = channel.pending_htlcs.first().context("LDK's HTLC")?;
    let left = u64::from(offered.expiration_height).saturating_sub(cluster.bitcoind().height()?);
    cluster.bitcoind().mine(left.saturating_sub(80))?;
    alice.is_at_tip().await?;
    carol.sync()?;
    alice.begins_to_pay(&carol.holds(Msat::new(OURS * 1_000), SECRET)?).await?;
    carol.has_to_claim(SECRET)?;
    has_htlcs(alice, 2).await
}

/// Waits until so many HTLCs are on both commitments.
async fn has_htlcs(alice: &Daemon, count: usize) -> Result<Channel> {
    alice
        .until("HTLCs are on both commitments", async || {
            let channel = alice.channel().await?;
            let locked = channel.pending_htlcs.iter().filter(|htlc| htlc.locked_in).count();
            Ok((locked == count).then_some(channel))
        })
        .await
}

/// Who closes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Us,
    Ldk,
}

/// Both payees settle, each without the other hearing of it; both are stopped then.
async fn both_settle_unheard(alice: &Daemon, carol: &LdkPeer) -> Result<()> {
    alice.stops().await?;
    carol.claims(Msat::new(OURS * 1_000), SECRET)?;
    carol.stop()?;
    holds(alice, false)?;
    alice.starts().await?;
    alice
        .until("she settles without her peer", async || {
            let paid = alice.all_invoices().await?.into_iter().find(|it| it.amt_paid_sat > 0);
            Ok(paid.map(drop))
        })
        .await?;
    alice.stops().await
}

/// The commitment of one of them is in a block, and both run.
async fn closes_by(
    by: By,
    cluster: &Cluster,
    alice: &Daemon,
    carol: &LdkPeer,
    channel: &Channel,
) -> Result<()> {
    // Told of the close, the other would publish as well, and either could confirm.
    match by {
        By::Us => {
            alice.starts().await?;
            alice.begins_to_close(channel, true).await?;
            in_mempool(cluster, &channel.channel_point)?;
            cluster.bitcoind().mine(1)?;
            carol.starts_again()
        }
        By::Ldk => {
            carol.starts_again()?;
            let theirs = carol.channels()?.pop().context("a channel")?;
            carol.force_closes(&theirs)?;
            in_mempool(cluster, &channel.channel_point)?;
            cluster.bitcoind().mine(1)?;
            alice.starts().await
        }
    }
}

/// Mines until the channel is history for us, and LDK's wallet, which `had` that much before, holds
/// what is `due` to it but for its own fees.
pub async fn mines_to_the_end(
    cluster: &Cluster,
    (alice, carol): (&Daemon, &LdkPeer),
    (funding, since): (OutPoint, u64),
    (had, due): (Sat, i64),
) -> Result<(ChannelCloseSummary, Account)> {
    let bitcoind = cluster.bitcoind();
    for _ in 0..200 {
        alice.is_at_tip().await?;
        claims_are_published(alice).await?;
        carol.sync()?;
        let request = ClosedChannelsRequest::default();
        let closed = alice.lightning().await?.closed_channels(request).await?.into_inner();
        if let Some(closed) = closed.channels.first() {
            let descent = Descent::of(bitcoind, funding, since)?;
            let (ours, theirs) = descent.accounts(alice).await?;
            let has = i64::try_from(carol.balances()?.onchain().sat())?;
            if theirs.taken == due && has == i64::try_from(had.sat())? + theirs.gain() {
                return Ok((closed.clone(), ours));
            }
        }
        // Nothing waits for a block, and who may claim has many blocks to do so.
        bitcoind.mine(if bitcoind.mempool()?.is_empty() { 4 } else { 1 })?;
    }
    let descent = Descent::of(bitcoind, funding, since)?;
    let both = descent.accounts(alice).await?;
    panic!("not within hundreds of blocks: {both:?}, {:?}", carol.balances()?);
}

/// Waits until these outputs are spent, in a block or not.
pub fn are_taken(cluster: &Cluster, points: &[OutPoint]) -> Result<()> {
    wait::until("both HTLCs are claimed", PATIENCE, || {
        for point in points {
            let unspent =
                cluster.bitcoind().rpc().get_tx_out(&point.txid, point.vout, Some(true))?;
            if unspent.is_some() {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })
}

async fn story(by: By, settled: bool, format: CommitmentType) -> Result<()> {
    let (cluster, alice, carol, channel) = with_htlcs(format).await?;
    let had = alice.coins().await?.total_balance;
    let carol_had = carol.balances()?.onchain();
    match settled {
        true => both_settle_unheard(&alice, &carol).await?,
        false => {
            carol.stop()?;
            alice.stops().await?;
        }
    }
    let (funding, since) = (channel.channel_point.parse()?, cluster.bitcoind().height()?);
    closes_by(by, &cluster, &alice, &carol, &channel).await?;
    if settled {
        let descent = Descent::of(cluster.bitcoind(), funding, since)?;
        are_taken(&cluster, &descent.outputs(&[OURS, THEIRS]))?;
    }
    let (offered, received) = (i64::try_from(OURS)?, i64::try_from(THEIRS)?);
    let (won, lost) = if settled { (received, offered) } else { (offered, received) };
    let (nodes, due) = ((&alice, &*carol), channel.remote_balance + lost);
    let (closed, ours) =
        mines_to_the_end(&cluster, nodes, (funding, since), (carol_had, due)).await?;
    assert_eq!(ours.taken, channel.local_balance + won, "{closed:?}");
    // What we spend on HTLCs stays below what they are worth.
    assert!(ours.fees < won, "{ours:?}");
    assert_eq!(alice.coins().await?.total_balance, had + ours.gain());
    let status = if settled { PaymentStatus::Succeeded } else { PaymentStatus::Failed };
    assert!(alice.payments().await?.iter().all(|payment| payment.status() == status));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn we_close_and_all_htlcs_expire() -> Result<()> {
    story(By::Us, false, Anchors).await
}

#[tokio::test(flavor = "multi_thread")]
async fn we_close_and_all_preimages_are_shown() -> Result<()> {
    story(By::Us, true, Anchors).await
}

#[tokio::test(flavor = "multi_thread")]
async fn ldk_closes_and_all_htlcs_expire() -> Result<()> {
    story(By::Ldk, false, Anchors).await
}

#[tokio::test(flavor = "multi_thread")]
async fn ldk_closes_and_all_preimages_are_shown() -> Result<()> {
    story(By::Ldk, true, Anchors).await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_anchors_we_close_and_all_htlcs_expire() -> Result<()> {
    story(By::Us, false, StaticRemoteKey).await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_anchors_ldk_closes_and_all_preimages_are_shown() -> Result<()> {
    story(By::Ldk, true, StaticRemoteKey).await
}
