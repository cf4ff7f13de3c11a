//! Two daemons on bitcoind: they open a channel, pay each other, restart, and close it.

use bitcoin::OutPoint;
use bitcoincore_rpc::RpcApi;
use fulmen_channel::amount::{Msat, Sat};
use fulmen_itest::failure::Result;
use fulmen_itest::regtest::{Cluster, Daemon, Peer};
use fulmen_proto::lnrpc::invoice::InvoiceState;
use fulmen_proto::lnrpc::OpenChannelRequest;

pub const CAPACITY: Sat = Sat::new(1_000_000);

#[tokio::test(flavor = "multi_thread")]
async fn they_open_pay_each_other_and_close() -> Result<()> {
    open_pay_close(Cluster::start()?).await
}

pub async fn open_pay_close(cluster: Cluster) -> Result<()> {
    let (alice, bob, channel) = cluster.pair(CAPACITY).await?;
    assert!(channel.initiator && !channel.private);
    assert_eq!(channel.capacity, 1_000_000);

    let paid = alice.pays(&bob, Msat::new(300_000_000)).await?;
    assert_eq!((paid.value_msat, paid.fee_msat), (300_000_000, 0));
    bob.pays(&alice, Msat::new(100_000_001)).await?;
    let invoices = bob.all_invoices().await?;
    assert_eq!(invoices.len(), 1);
    assert_eq!(invoices[0].state(), InvoiceState::Settled);
    assert_eq!(invoices[0].amt_paid_msat, 300_000_000);
    both_agree(&alice, &bob).await?;
    assert_eq!(bob.channel().await?.local_balance, 199_999);

    let (alice_had, bob_had) = (coins(&alice).await?, coins(&bob).await?);
    let spent: OutPoint = channel.channel_point.parse()?;
    alice.closes(&alice.channel().await?).await?;
    assert!(cluster.bitcoind().rpc().get_tx_out(&spent.txid, spent.vout, None)?.is_none());
    bob.until("its coins come back", async || {
        Ok((coins(&bob).await? == bob_had + 199_999).then_some(()))
    })
    .await?;
    alice
        .until("its coins come back", async || {
            // The opener pays the closing fee.
            let back = coins(&alice).await? - alice_had;
            Ok((790_000..=800_000).contains(&back).then_some(()))
        })
        .await?;
    assert!(alice.channels().await?.is_empty() && bob.channels().await?.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_channel_works_as_well_and_the_other_side_may_close() -> Result<()> {
    private_and_closed_by_the_other(Cluster::start()?).await
}

pub async fn private_and_closed_by_the_other(cluster: Cluster) -> Result<()> {
    let (alice, bob) = (cluster.daemon("alice").await?, cluster.daemon("bob").await?);
    alice.receives_coins(Sat::new(2_000_000)).await?;
    alice.connects(&bob).await?;
    let channel = alice
        .opens_with(&bob, CAPACITY, |request| {
            request.private = true;
            request.push_sat = 250_000;
        })
        .await?;
    assert!(channel.private);
    bob.pays(&alice, Msat::new(1_000)).await?;
    alice.pays(&bob, Msat::new(1)).await?;
    both_agree(&alice, &bob).await?;
    bob.closes(&bob.channel().await?).await?;
    alice
        .until("the channel is gone", async || Ok(alice.channels().await?.is_empty().then_some(())))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orderly_restart_of_both_keeps_everything() -> Result<()> {
    orderly_restart(Cluster::start()?).await
}

pub async fn orderly_restart(cluster: Cluster) -> Result<()> {
    let (alice, bob, _) = cluster.pair(CAPACITY).await?;
    alice.pays(&bob, Msat::new(50_000_000)).await?;
    let (alice_id, payments) = (alice.node_id()?, alice.payments().await?);
    alice.stops().await?;
    bob.stops().await?;
    cluster.bitcoind().mine(3)?;
    bob.starts().await?;
    alice.starts().await?;
    assert_eq!(alice.node_id()?, alice_id);
    assert_eq!(alice.payments().await?, payments);
    bob.active_channel(alice_id).await?;
    bob.pays(&alice, Msat::new(20_000_000)).await?;
    both_agree(&alice, &bob).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_given_and_noted_at_the_opening_is_kept() -> Result<()> {
    let cluster = Cluster::start()?;
    let (alice, bob) = (cluster.daemon("alice").await?, cluster.daemon("bob").await?);
    alice.receives_coins(Sat::new(2_000_000)).await?;
    alice.connects(&bob).await?;
    let change = |request: &mut OpenChannelRequest| {
        (request.push_sat, request.memo) = (250_000, "rent".into());
    };
    alice.opens_with(&bob, CAPACITY, change).await?;
    for (daemon, memo) in [(&alice, "rent"), (&bob, "")] {
        daemon.stops().await?;
        daemon.starts().await?;
        let channel = daemon.channel().await?;
        assert_eq!((channel.push_amount_sat, channel.memo.as_str()), (250_000, memo));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forced_close_publishes_and_waits() -> Result<()> {
    forced_close(Cluster::start()?).await
}

pub async fn forced_close(cluster: Cluster) -> Result<()> {
    let (alice, bob, channel) = cluster.pair(CAPACITY).await?;
    alice.pays(&bob, Msat::new(400_000_000)).await?;
    let bob_had = coins(&bob).await?;
    alice.begins_to_close(&channel, true).await?;
    alice
        .until("it waits, and its commitment is published", async || {
            let waits = alice.pending_channels().await?.waiting_close_channels.len() == 1;
            Ok((waits && cluster.bitcoind().mempool()?.len() == 1).then_some(()))
        })
        .await?;
    cluster.bitcoind().mine(6)?;
    bob.until("its delivery", async || {
        cluster.bitcoind().mine(1)?;
        let back = coins(&bob).await? - bob_had;
        Ok((395_000..=400_000).contains(&back).then_some(()))
    })
    .await
}

/// What a daemon's wallet holds, confirmed, in satoshi.
async fn coins(daemon: &Daemon) -> Result<i64> {
    Ok(daemon.coins().await?.confirmed_balance)
}

/// Waits until nothing is in flight, then: the two sides see the same channel, and its balances,
/// fee and anchors make up its capacity.
pub async fn both_agree(alice: &Daemon, bob: &Daemon) -> Result<()> {
    let (ours, theirs) = (alice.quiet_channel().await?, bob.quiet_channel().await?);
    assert_eq!(ours.channel_point, theirs.channel_point);
    let sum = ours.local_balance + ours.remote_balance + ours.commit_fee;
    // Two anchors, and the millisatoshi that each side's balance rounds down.
    let kept = ours.capacity - sum;
    assert!((0..=662).contains(&kept), "{ours:?}");
    let apart = (ours.local_balance - theirs.remote_balance).abs()
        + (ours.remote_balance - theirs.local_balance).abs();
    assert!(apart <= 2, "{ours:?} and {theirs:?} differ");
    Ok(())
}
