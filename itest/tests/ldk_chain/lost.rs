//! What Alice knew of her channel with LDK is lost or old: she publishes nothing, LDK closes as it
//! is asked to, and her balance comes home to the satoshi.

use std::sync::Arc;

use bitcoin::OutPoint;
use bitcoincore_rpc::RpcApi;
use fulmen_channel::amount::{Msat, Sat};
use fulmen_itest::failure::{Context, Result};
use fulmen_itest::ldk::LdkPeer;
use fulmen_itest::regtest::{Cluster, Daemon, Peer, DEEP};
use fulmen_proto::lnrpc::channel_close_summary::ClosureType;
use fulmen_proto::lnrpc::{Channel, ConnectPeerRequest, LightningAddress};
use tokio::task::spawn_blocking;

use super::money::Descent;
use super::{closes, in_mempool, with_channel, with_channel_of, CAPACITY};
use crate::backups::{makes_wallet, multi, restores};
use crate::peer_storage::{database, stopped_copy};

/// LDK's commitment comes into a block, and Alice takes what was hers, no more and no less.
async fn balance_comes_home(
    cluster: &Cluster,
    alice: &Daemon,
    channel: &Channel,
    had: i64,
) -> Result<()> {
    let since = cluster.bitcoind().height()?;
    in_mempool(cluster, &channel.channel_point)?;
    cluster.bitcoind().mine(1)?;
    let closed = closes(cluster, alice).await?;
    assert_eq!(closed.close_type(), ClosureType::RemoteForceClose);
    assert_eq!(closed.settled_balance, channel.local_balance);
    let funding = channel.channel_point.parse()?;
    let (ours, _) = Descent::of(cluster.bitcoind(), funding, since)?.accounts(alice).await?;
    assert_eq!(ours.taken, channel.local_balance, "{closed:?}");
    alice
        .until("it is in the wallet", async || {
            let has = alice.coins().await?.total_balance;
            Ok((has == had + ours.gain()).then_some(()))
        })
        .await
}

/// From the words, and either `channel.backup` or what LDK keeps.
async fn all_is_lost(with_file: bool) -> Result<()> {
    let cluster = Cluster::start()?;
    let alice = Daemon::without_wallet(cluster.bitcoind(), "alice", &[])?;
    let words = makes_wallet(&alice).await?;
    let bitcoind = Arc::clone(cluster.bitcoind());
    let carol = spawn_blocking(move || {
        let carol = LdkPeer::start(&bitcoind, "carol")?;
        carol.receives_coins(Sat::new(1_000_000)).map(|()| carol)
    });
    alice.receives_coins(Sat::new(10_000_000)).await?;
    let carol = carol.await??;
    alice.connects(&carol).await?;
    alice.opens(&carol, CAPACITY).await?;
    alice.pays(&carol, Msat::new(123_456_000)).await?;
    let channel = alice.quiet_channel().await?;
    let had = alice.coins().await?.total_balance;
    let file = std::fs::read(alice.admin_macaroon().with_file_name("channel.backup"))?;
    alice.stops().await?;
    drop(alice);

    let again = Daemon::without_wallet(cluster.bitcoind(), "again", &[])?;
    again.spawn()?;
    restores(&again, &words, with_file.then(|| multi(file))).await?;
    if !with_file {
        let pubkey = Peer::node_id(&carol)?.to_string();
        let addr = Some(LightningAddress { pubkey, host: Peer::address(&carol) });
        let request = ConnectPeerRequest { addr, ..Default::default() };
        again.lightning().await?.connect_peer(request).await?;
    }
    balance_comes_home(&cluster, &again, &channel, had).await
}

#[tokio::test(flavor = "multi_thread")]
async fn ldk_closes_for_who_has_words_and_a_backup() -> Result<()> {
    all_is_lost(true).await
}

#[tokio::test(flavor = "multi_thread")]
async fn ldk_keeps_the_backup_for_who_has_words_only() -> Result<()> {
    all_is_lost(false).await
}

/// A payment to Carol that a copy of Alice's database, put back, knows nothing of. Both run no
/// more; the channel as it was in truth.
async fn goes_back_a_payment(alice: &Daemon, carol: &LdkPeer) -> Result<Channel> {
    let copy = stopped_copy(alice).await?;
    alice.starts().await?;
    alice.active_channel(Peer::node_id(carol)?).await?;
    carol.usable_channel(alice.id()?)?;
    alice.pays(carol, Msat::new(100_000_000)).await?;
    let channel = alice
        .until("nothing is in flight", async || {
            let channel = alice.active_channel(Peer::node_id(carol)?).await?;
            Ok(channel.pending_htlcs.is_empty().then_some(channel))
        })
        .await?;
    alice.stops().await?;
    carol.stop()?;
    std::fs::rename(copy, database(alice))?;
    Ok(channel)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_copy_of_ours_publishes_nothing_against_ldk() -> Result<()> {
    let (cluster, alice, carol) = with_channel().await?;
    let channel = goes_back_a_payment(&alice, &carol).await?;
    carol.starts_again()?;
    alice.starts().await?;
    let had = alice.coins().await?.total_balance;
    balance_comes_home(&cluster, &alice, &channel, had).await
}

/// Carol, whose channel went on, is away: Dave, who is LDK too, has kept how far it was.
#[tokio::test(flavor = "multi_thread")]
async fn ldk_is_the_witness_that_our_copy_is_old() -> Result<()> {
    let cluster = Cluster::start()?;
    let alice = Daemon::new(cluster.bitcoind(), "alice", &[])?;
    let carol = with_channel_of(&cluster, &alice).await?;
    let dave = LdkPeer::start(cluster.bitcoind(), "dave")?;
    dave.receives_coins(Sat::new(1_000_000))?;
    alice.is_at_tip().await?;
    alice.connects(&dave).await?;
    alice.opens(&dave, CAPACITY).await?;
    let channel = goes_back_a_payment(&alice, &carol).await?;

    alice.starts().await?;
    alice
        .until("the channel with carol is not run", async || {
            let waiting = alice.pending_channels().await?.waiting_close_channels;
            let mut lost = waiting.into_iter().filter_map(|waiting| waiting.channel);
            let lost = lost.find(|lost| lost.channel_point == channel.channel_point);
            Ok(lost.filter(|lost| lost.chan_status_flags == "ChanStatusLocalDataLoss").map(drop))
        })
        .await?;
    let refused = alice.begins_to_close(&channel, true).await.unwrap_err().to_string();
    assert!(refused.contains("publishing it would lose all funds"), "{refused}");
    cluster.bitcoind().mine(DEEP)?;
    alice.is_at_tip().await?;
    let funding: OutPoint = channel.channel_point.parse()?;
    let unspent = cluster.bitcoind().rpc().get_tx_out(&funding.txid, funding.vout, Some(true))?;
    unspent.context("F is spent, and Carol did not do it")?;

    carol.starts_again()?;
    let had = alice.coins().await?.total_balance;
    balance_comes_home(&cluster, &alice, &channel, had).await
}
