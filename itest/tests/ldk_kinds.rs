//! Kinds of channels with an LDK node: used before they are in the chain, from either side, and
//! without anchors.

use std::sync::Arc;

use fulmen_channel::amount::{Msat, Sat};
use fulmen_itest::failure::Result;
use fulmen_itest::ldk::LdkPeer;
use fulmen_itest::regtest::{Cluster, Daemon, Peer};
use fulmen_proto::lnrpc::CommitmentType;
use tokio::task::spawn_blocking;

const CAPACITY: Sat = Sat::new(2_000_000);
const ZERO_CONF: [&str; 2] = ["--protocol.option-scid-alias", "--protocol.zero-conf"];

/// An LDK node with coins.
async fn carol(cluster: &Cluster, anchors: bool, trusts: &[&Daemon]) -> Result<Arc<LdkPeer>> {
    let bitcoind = Arc::clone(cluster.bitcoind());
    let trusts = trusts.iter().map(|daemon| daemon.id()).collect::<Result<Vec<_>>>()?;
    let carol = spawn_blocking(move || {
        let carol = LdkPeer::start_with(&bitcoind, "carol", anchors, &trusts)?;
        carol.receives_coins(Sat::new(10_000_000)).map(|()| carol)
    });
    Ok(Arc::new(carol.await??))
}

/// They pay each other, Alice first.
async fn pay_both_ways(alice: &Daemon, carol: &Arc<LdkPeer>) -> Result<()> {
    let back = Msat::new(20_000_000);
    alice.pays(carol, Msat::new(150_000_000)).await?;
    alice
        .until("LDK may spend what it received", async || {
            Ok(carol.channels()?.iter().any(|channel| channel.outbound() >= back).then_some(()))
        })
        .await?;
    carol.pays(&alice.invoices(back, "from LDK").await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn ldk_trusts_us_and_uses_our_channel_at_once() -> Result<()> {
    let cluster = Cluster::start()?;
    let alice = Daemon::new(cluster.bitcoind(), "alice", &ZERO_CONF)?;
    alice.starts().await?;
    alice.receives_coins(Sat::new(5_000_000)).await?;
    let carol = carol(&cluster, true, &[&alice]).await?;
    alice.connects(&carol).await?;
    let funding = alice
        .begins_to_open(&carol, CAPACITY, |request| {
            request.set_commitment_type(CommitmentType::Anchors);
            (request.zero_conf, request.private) = (true, true);
        })
        .await?;
    let channel = alice.active_channel(carol.node_id()?).await?;
    assert!(channel.zero_conf && channel.peer_scid_alias != 0);
    carol.usable_channel(alice.node_id()?)?;
    pay_both_ways(&alice, &carol).await?;
    assert!(cluster.bitcoind().mempool()?.contains(&funding.txid), "nothing is mined yet");
    in_the_chain(&cluster, &alice).await?;
    pay_both_ways(&alice, &carol).await?;
    alice.closes(&alice.quiet_channel().await?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn we_trust_ldk_and_use_its_channel_at_once() -> Result<()> {
    let cluster = Cluster::start()?;
    let carol = carol(&cluster, true, &[]).await?;
    let trust = format!("--zeroconfpeer={}", carol.node_id()?);
    let alice = Daemon::new(cluster.bitcoind(), "alice", &[&ZERO_CONF[..], &[&trust]].concat())?;
    alice.starts().await?;
    carol.opens(alice.node_id()?, &alice.address(), CAPACITY, false)?;
    let channel = alice.active_channel(carol.node_id()?).await?;
    assert!(channel.zero_conf && channel.zero_conf_confirmed_scid == 0);
    carol.usable_channel(alice.node_id()?)?;
    carol.pays(&alice.invoices(Msat::new(190_000_000), "from LDK").await?)?;
    pay_both_ways(&alice, &carol).await?;
    assert_eq!(cluster.bitcoind().mempool()?.len(), 1, "nothing is mined yet");
    in_the_chain(&cluster, &alice).await?;
    alice.stops().await?;
    alice.starts().await?;
    alice.connects(&carol).await?;
    alice.active_channel(carol.node_id()?).await?;
    carol.pays(&alice.invoices(Msat::new(20_000_000), "from LDK").await?)?;
    alice.closes(&alice.quiet_channel().await?).await
}

/// Mines until the channel has a place in the chain; its name stays.
async fn in_the_chain(cluster: &Cluster, alice: &Daemon) -> Result<()> {
    let before = alice.channel().await?;
    cluster.bitcoind().mine(6)?;
    alice
        .until("its channel is in the chain", async || {
            let now = alice.channel().await?;
            assert_eq!(now.chan_id, before.chan_id);
            Ok((now.zero_conf_confirmed_scid != 0).then_some(()))
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn ldk_opens_a_channel_without_anchors() -> Result<()> {
    let cluster = Cluster::start()?;
    let alice = cluster.daemon("alice").await?;
    let carol = carol(&cluster, false, &[]).await?;
    carol.opens(alice.node_id()?, &alice.address(), CAPACITY, false)?;
    cluster.bitcoind().mine(6)?;
    let channel = alice.active_channel(carol.node_id()?).await?;
    assert_eq!(channel.commitment_type(), CommitmentType::StaticRemoteKey);
    carol.usable_channel(alice.node_id()?)?;
    carol.pays(&alice.invoices(Msat::new(190_000_000), "from LDK").await?)?;
    pay_both_ways(&alice, &carol).await?;
    alice.closes(&alice.quiet_channel().await?).await
}
