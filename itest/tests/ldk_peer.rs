//! A channel between fulmend and an LDK node: opened, used, restarted and closed from either side.

use std::collections::BTreeMap;
use std::sync::Arc;

use fulmen_channel::amount::{Msat, Sat};
use fulmen_itest::failure::Result;
use fulmen_itest::ldk::LdkPeer;
use fulmen_itest::regtest::{is_ended, Cluster, Daemon, Peer};
use fulmen_itest::wait::{self, PATIENCE};
use fulmen_proto::lnrpc::payment::PaymentStatus;
use tokio::task::{spawn_blocking, JoinSet};

const CAPACITY: Sat = Sat::new(5_000_000);
const PAYMENTS: u64 = 100;
/// So that the side that did not open has something to send. LDK accepts a tenth of the
/// channel in flight.
const HANDED_OVER: Sat = Sat::new(400_000);

#[tokio::test(flavor = "multi_thread")]
async fn we_open_an_announced_channel_and_close_it() -> Result<()> {
    let (cluster, alice, carol) = funded().await?;
    alice.connects(&carol).await?;
    let channel = alice.opens(&carol, CAPACITY).await?;
    assert!(!channel.private && carol.usable_channel(alice.node_id()?)?.announced);
    pay_both_ways_at_once(&alice, &carol).await?;
    alice.closes(&alice.channel().await?).await?;
    gone_for_both(&cluster, &alice, &carol).await
}

#[tokio::test(flavor = "multi_thread")]
async fn we_open_a_private_channel_and_ldk_closes_it() -> Result<()> {
    let (cluster, alice, carol) = funded().await?;
    alice.connects(&carol).await?;
    let channel = alice.opens_with(&carol, CAPACITY, |request| request.private = true).await?;
    assert!(channel.private);
    pay_both_ways_at_once(&alice, &carol).await?;
    carol.closes(&carol.usable_channel(alice.node_id()?)?)?;
    gone_for_both(&cluster, &alice, &carol).await
}

#[tokio::test(flavor = "multi_thread")]
async fn ldk_opens_an_announced_channel_and_closes_it() -> Result<()> {
    let (cluster, alice, carol) = funded().await?;
    ldk_opens(&cluster, &alice, &carol, true).await?;
    pay_both_ways_at_once(&alice, &carol).await?;
    carol.closes(&carol.usable_channel(alice.node_id()?)?)?;
    gone_for_both(&cluster, &alice, &carol).await
}

#[tokio::test(flavor = "multi_thread")]
async fn ldk_opens_a_private_channel_and_we_close_it() -> Result<()> {
    let (cluster, alice, carol) = funded().await?;
    ldk_opens(&cluster, &alice, &carol, false).await?;
    pay_both_ways_at_once(&alice, &carol).await?;
    alice.closes(&alice.channel().await?).await?;
    gone_for_both(&cluster, &alice, &carol).await
}

#[tokio::test(flavor = "multi_thread")]
async fn either_side_restarts_with_payments_in_flight() -> Result<()> {
    let (_cluster, alice, carol) = funded().await?;
    alice.connects(&carol).await?;
    alice.opens_with(&carol, CAPACITY, |request| request.push_sat = 2_000_000).await?;
    for ldk_restarts in [true, false] {
        let mut sent = begin_to_pay(&alice, &carol, 20).await?;
        sent.join_next().await;
        if ldk_restarts {
            // In order: killed with HTLCs in flight, LDK finds its own files apart and closes.
            let carol = Arc::clone(&carol);
            spawn_blocking(move || carol.stop().and_then(|()| carol.starts_again())).await??;
        } else {
            alice.killed();
            alice.starts().await?;
        }
        alice.active_channel(Peer::node_id(&carol)?).await?;
        while sent.join_next().await.is_some() {}
        same_story(&alice, &carol).await?;
    }
    alice.pays(&carol, Msat::new(10_000)).await?;
    ldk_pays(&carol, &alice, Msat::new(10_000)).await
}

/// A daemon and an LDK node, both with coins: LDK wants some for its anchors even to accept.
async fn funded() -> Result<(Cluster, Arc<Daemon>, Arc<LdkPeer>)> {
    let cluster = Cluster::start()?;
    let bitcoind = Arc::clone(cluster.bitcoind());
    let carol = spawn_blocking(move || {
        let carol = LdkPeer::start(&bitcoind, "carol")?;
        carol.receives_coins(Sat::new(10_000_000)).map(|()| carol)
    });
    let alice = cluster.daemon("alice").await?;
    let carol = carol.await??;
    alice.receives_coins(Sat::new(10_000_000)).await?;
    Ok((cluster, Arc::new(alice), Arc::new(carol)))
}

async fn ldk_opens(
    cluster: &Cluster,
    alice: &Daemon,
    carol: &LdkPeer,
    announced: bool,
) -> Result<()> {
    carol.opens(alice.node_id()?, &alice.address(), CAPACITY, announced)?;
    cluster.bitcoind().mine(6)?;
    let channel = alice.active_channel(carol.node_id()).await?;
    assert_eq!((channel.private, channel.initiator), (!announced, false));
    carol.usable_channel(alice.node_id()?)?;
    ldk_pays(carol, alice, HANDED_OVER.saturating_msat()).await
}

async fn ldk_pays(carol: &LdkPeer, alice: &Daemon, amount: Msat) -> Result<()> {
    carol.pays(&alice.invoices(amount, "from LDK").await?)
}

/// A hundred payments each way, all begun before any is waited for.
async fn pay_both_ways_at_once(alice: &Arc<Daemon>, carol: &Arc<LdkPeer>) -> Result<()> {
    if alice.channel().await?.initiator {
        alice.pays(carol, HANDED_OVER.saturating_msat()).await?;
    }
    let before = alice.quiet_channel().await?;
    let mut sent = begin_to_pay(alice, carol, PAYMENTS).await?;
    let mut begun = Vec::new();
    for _ in 0..PAYMENTS {
        let invoice = alice.invoices(Msat::new(2_000_000), "at once").await?;
        begun.push(carol.begins_to_pay(&invoice)?);
    }
    while let Some(payment) = sent.join_next().await {
        assert_eq!(payment??, PaymentStatus::Succeeded);
    }
    for payment_hash in begun {
        carol.settles(&payment_hash)?;
    }
    let after = alice.quiet_channel().await?;
    let gained = after.local_balance + after.commit_fee - before.local_balance - before.commit_fee;
    assert_eq!(gained, 1_000 * i64::try_from(PAYMENTS)?, "{before:?} became {after:?}");
    Ok(())
}

/// Alice begins to pay `count` new invoices of Carol's, 1,000 sat each.
async fn begin_to_pay(
    alice: &Arc<Daemon>,
    carol: &LdkPeer,
    count: u64,
) -> Result<JoinSet<Result<PaymentStatus>>> {
    let mut sent = JoinSet::new();
    for _ in 0..count {
        let invoice = carol.invoices(Msat::new(1_000_000), "at once")?;
        let alice = Arc::clone(alice);
        sent.spawn(async move { Ok(alice.tries_to_pay(&invoice).await?.status()) });
    }
    Ok(sent)
}

/// What Alice sent, Carol tells alike.
async fn same_story(alice: &Daemon, carol: &LdkPeer) -> Result<()> {
    let sent = alice
        .until("all payments have ended", async || {
            let payments = alice.payments().await?;
            Ok(payments.iter().all(is_ended).then_some(payments))
        })
        .await?;
    let received: BTreeMap<String, bool> = carol
        .payments()?
        .into_iter()
        .filter(|payment| payment.direction == "Inbound")
        .map(|payment| (payment.payment_hash, payment.status == "Succeeded"))
        .collect();
    for payment in &sent {
        let paid = payment.status() == PaymentStatus::Succeeded;
        assert_eq!(received.get(&payment.payment_hash), Some(&paid), "{payment:?}");
    }
    Ok(())
}

/// Mines what closes the channel, until neither lists it any more.
async fn gone_for_both(cluster: &Cluster, alice: &Daemon, carol: &LdkPeer) -> Result<()> {
    alice
        .until("the channel is gone", async || {
            if !cluster.bitcoind().mempool()?.is_empty() {
                cluster.bitcoind().mine(6)?;
            }
            Ok(alice.channels().await?.is_empty().then_some(()))
        })
        .await?;
    wait::until("the channel is gone for LDK", PATIENCE, || {
        carol.sync()?;
        Ok(carol.channels()?.is_empty().then_some(()))
    })
}
