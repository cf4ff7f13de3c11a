//! What peers keep for one another: words and one peer bring all channels home, and an old copy of
//! the database is not run.

use std::path::PathBuf;

use bitcoin::Txid;
use bitcoincore_rpc::RpcApi;
use fulmen_channel::amount::{Msat, Sat};
use fulmen_itest::failure::{Context, Result};
use fulmen_itest::regtest::{Cluster, Daemon, Peer, DEEP};
use fulmen_proto::lnrpc::{
    channel_close_summary::ClosureType, Channel, ChannelCloseSummary, ClosedChannelsRequest,
    ConnectPeerRequest, Initiator, LightningAddress,
};

use crate::backups::{makes_wallet, restores};
use crate::sweeps::holds;

const CAPACITY: Sat = Sat::new(1_000_000);

/// Alice has lost everything but her words, and remembers one of her two peers.
#[tokio::test(flavor = "multi_thread")]
async fn words_and_one_peer_bring_all_channels_home() -> Result<()> {
    let cluster = Cluster::start()?;
    let bitcoind = cluster.bitcoind();
    let alice = Daemon::without_wallet(bitcoind, "alice", &[])?;
    let words = makes_wallet(&alice).await?;
    let (bob, carol) = (cluster.daemon("bob").await?, cluster.daemon("carol").await?);
    has_channels(&alice, [&bob, &carol]).await?;
    let ours: i64 = alice.channels().await?.iter().map(|channel| channel.local_balance).sum();
    let coins = alice.coins().await?.total_balance;
    alice.stops().await?;
    drop(alice);
    // What is kept outlives its keeper's restart.
    bob.stops().await?;
    bob.starts().await?;
    bob.outlives_doubt().await?;

    let again = Daemon::without_wallet(bitcoind, "again", &[])?;
    again.spawn()?;
    restores(&again, &words, None).await?;
    assert_eq!(again.coins().await?.total_balance, coins);
    // The story's verb would wait until bob is listed, who may hang up before.
    let addr = LightningAddress { pubkey: bob.id()?.to_string(), host: bob.listen_address() };
    let request = ConnectPeerRequest { addr: Some(addr), ..Default::default() };
    again.lightning().await?.connect_peer(request).await?;
    is_published(&again, 2).await?;
    bitcoind.mine(1)?;
    // One transaction takes both balances.
    let taken = is_published(&again, 1).await?;
    let mut fees = 0;
    for txid in taken {
        fees += i64::try_from(bitcoind.rpc().get_mempool_entry(&txid)?.fees.base.to_sat())?;
    }
    bitcoind.mine(1)?;
    let wanted = coins + ours - fees;
    again
        .until("all is home", async || {
            Ok((again.coins().await?.confirmed_balance == wanted).then_some(()))
        })
        .await?;
    assert_eq!(closed(&again, 2).await?.iter().map(|it| it.settled_balance).sum::<i64>(), ours);
    Ok(())
}

/// Somebody puts an old copy of the data directory back. Bob, whose channel went on since, is not
/// there; Carol has kept how far it was.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_copy_of_the_database_is_not_run() -> Result<()> {
    let cluster = Cluster::start()?;
    let bitcoind = cluster.bitcoind();
    let alice = cluster.daemon("alice").await?;
    let (bob, carol) = (cluster.daemon("bob").await?, cluster.daemon("carol").await?);
    has_channels(&alice, [&bob, &carol]).await?;
    let copy = stopped_copy(&alice).await?;
    alice.starts().await?;
    with(&alice, &bob).await?;
    with(&alice, &carol).await?;
    alice.pays(&bob, Msat::new(100_000_000)).await?;
    let channel = alice
        .until("nothing is in flight", async || {
            let quiet = with(&alice, &bob).await?;
            Ok(quiet.pending_htlcs.is_empty().then_some(quiet))
        })
        .await?;
    alice.stops().await?;
    bob.stops().await?;
    std::fs::rename(copy, database(&alice))?;

    alice.starts().await?;
    let flags = "ChanStatusLocalDataLoss";
    alice
        .until("the channel with bob is not run", async || {
            let waiting = alice.pending_channels().await?.waiting_close_channels;
            let mut lost = waiting.into_iter().filter_map(|waiting| waiting.channel);
            let lost = lost.find(|lost| lost.channel_point == channel.channel_point);
            Ok(lost.filter(|lost| lost.chan_status_flags == flags).map(drop))
        })
        .await?;
    says_that_it_is_old(&alice, &channel).await?;
    // Carol's did not move: it is as good as ever.
    with(&alice, &carol).await?;
    alice.pays(&carol, Msat::new(5_000_000)).await?;
    bitcoind.mine(DEEP)?;
    assert!(bitcoind.mempool()?.is_empty(), "nothing was published");

    bob.starts().await?;
    closes_in_time(&bob).await?;
    is_published(&alice, 1).await?;
    bitcoind.mine(1)?;
    is_published(&alice, 1).await?;
    // Of a commitment that is not known all must be deep.
    bitcoind.mine(DEEP)?;
    let [closed]: [ChannelCloseSummary; 1] =
        closed(&alice, 1).await?.try_into().ok().context("one channel")?;
    assert_eq!(closed.channel_point, channel.channel_point);
    assert_eq!(closed.settled_balance, channel.local_balance, "of the latest state");
    Ok(())
}

/// In the old copy an HTLC is in flight that has expired since. Nobody is there to tell that it was
/// settled long ago: the daemon does not close for it before somebody could have.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_copy_does_not_close_for_an_old_htlc_before_its_peer_can_speak() -> Result<()> {
    let cluster = Cluster::start()?;
    let bitcoind = cluster.bitcoind();
    let (alice, bob, channel) = cluster.pair(CAPACITY).await?;
    bob.stops().await?;
    holds(&bob, true)?;
    bob.starts().await?;
    with(&bob, &alice).await?;
    with(&alice, &bob).await?;
    alice.begins_to_pay(&bob.invoices(Msat::new(100_000_000), "held").await?).await?;
    let in_flight = alice
        .until("an HTLC is in flight", async || {
            let htlcs = alice.channel().await?.pending_htlcs;
            Ok(htlcs.into_iter().find(|htlc| htlc.locked_in))
        })
        .await?;
    let copy = stopped_copy(&alice).await?;
    alice.starts().await?;
    bob.stops().await?;
    holds(&bob, false)?;
    bob.starts().await?;
    let channel_now = alice.quiet_channel().await?;
    alice.stops().await?;
    bob.stops().await?;
    std::fs::rename(copy, database(&alice))?;
    let height = bitcoind.height()?;
    bitcoind.mine(u64::from(in_flight.expiration_height).saturating_sub(height) + 20)?;

    alice.starts().await?;
    // Three of the six blocks that it waits.
    bitcoind.mine(3)?;
    alice.is_at_tip().await?;
    let listed = alice.channel().await?;
    assert_eq!(listed.pending_htlcs.len(), 1, "it is not failed");
    bob.starts().await?;
    closes_in_time(&bob).await?;
    let closing = is_published(&alice, 1).await?;
    let tx = bitcoind.rpc().get_raw_transaction(&closing[0], None)?;
    assert_eq!(tx.input[0].previous_output.to_string(), channel.channel_point);
    bitcoind.mine(1)?;
    is_published(&alice, 1).await?;
    bitcoind.mine(DEEP)?;
    let [closed]: [ChannelCloseSummary; 1] =
        closed(&alice, 1).await?.try_into().ok().context("one channel")?;
    assert_eq!(closed.closing_tx_hash, closing[0].to_string());
    assert_eq!(closed.settled_balance, channel_now.local_balance, "of the latest state");
    Ok(())
}

/// A channel with each, from which something was paid.
async fn has_channels(alice: &Daemon, peers: [&Daemon; 2]) -> Result<()> {
    alice.receives_coins(Sat::new(4_000_000)).await?;
    for peer in peers {
        alice.connects(peer).await?;
        alice.opens(peer, CAPACITY).await?;
        alice.pays(peer, Msat::new(50_000_000)).await?;
    }
    alice
        .until("nothing is in flight", async || {
            let channels = alice.channels().await?;
            Ok(channels.iter().all(|channel| channel.pending_htlcs.is_empty()).then_some(()))
        })
        .await
}

/// The copy is older than the mutual close: its books know no transaction like it. That is an
/// error, shown as such, and the coins are there all the same.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_copy_does_not_take_what_it_never_agreed_on_for_a_mutual_close() -> Result<()> {
    let cluster = Cluster::start()?;
    let (alice, bob, channel) = cluster.pair(CAPACITY).await?;
    alice.pays(&bob, Msat::new(300_000_000)).await?;
    let had = alice.quiet_channel().await?.local_balance;
    let copy = stopped_copy(&alice).await?;
    alice.starts().await?;
    alice.active_channel(bob.id()?).await?;
    alice.closes(&channel).await?;
    let history = async || -> Result<Vec<ChannelCloseSummary>> {
        let request = ClosedChannelsRequest::default();
        Ok(alice.lightning().await?.closed_channels(request).await?.into_inner().channels)
    };
    let (agreed, coins) = (history().await?, alice.coins().await?);
    assert_eq!(agreed[0].close_type(), ClosureType::CooperativeClose);
    alice.stops().await?;
    std::fs::rename(copy, database(&alice))?;

    alice.starts().await?;
    let unknown = alice
        .until("the channel is closed", async || Ok(history().await?.first().cloned()))
        .await?;
    assert_eq!(unknown.close_type(), ClosureType::Abandoned);
    assert_eq!(unknown.close_initiator(), Initiator::Unknown);
    assert_eq!(unknown.closing_tx_hash, agreed[0].closing_tx_hash);
    assert_eq!(unknown.settled_balance, agreed[0].settled_balance);
    assert!(had - unknown.settled_balance < 5_000, "all but the fee");
    assert!(alice.wrote()?.contains("SPENT BY AN UNKNOWN TRANSACTION"), "loudly");
    let there = async || Ok((alice.coins().await? == coins).then_some(()));
    alice.until("its coins are there", there).await
}

/// The active channel with a peer.
async fn with(alice: &Daemon, peer: &Daemon) -> Result<Channel> {
    alice.active_channel(peer.id()?).await
}

pub fn database(daemon: &Daemon) -> PathBuf {
    daemon.admin_macaroon().with_file_name("fulmen.db")
}

/// A daemon whose database is old says so loudly, and publishes nothing of the channel when asked.
pub async fn says_that_it_is_old(daemon: &Daemon, channel: &Channel) -> Result<()> {
    assert!(daemon.wrote()?.contains("THIS DATABASE IS OLD"), "loudly");
    let refused = daemon.begins_to_close(channel, true).await.unwrap_err().to_string();
    assert!(refused.contains("publishing it would lose all funds"), "{refused}");
    Ok(())
}

/// Stops a daemon, and copies its database.
pub async fn stopped_copy(daemon: &Daemon) -> Result<PathBuf> {
    daemon.stops().await?;
    let copy = daemon.dir().join("copy.db");
    std::fs::copy(database(daemon), &copy)?;
    Ok(copy)
}

/// Waits until the mempool holds so many transactions.
pub async fn is_published(daemon: &Daemon, count: usize) -> Result<Vec<Txid>> {
    daemon
        .until("what is awaited is in the mempool", async || {
            Ok(Some(daemon.bitcoind().mempool()?).filter(|held| held.len() == count))
        })
        .await
}

/// A peer that was just started is asked to close. Its database might be the old copy, so it waits
/// for a while.
pub async fn closes_in_time(peer: &Daemon) -> Result<()> {
    peer.until("it is asked to close", async || {
        let waiting = peer.pending_channels().await?.waiting_close_channels;
        Ok((!waiting.is_empty()).then_some(()))
    })
    .await?;
    assert!(peer.bitcoind().mempool()?.is_empty(), "it waits");
    peer.outlives_doubt().await
}

/// Waits for so many channels that a peer closed.
pub async fn closed(daemon: &Daemon, count: usize) -> Result<Vec<ChannelCloseSummary>> {
    let request = ClosedChannelsRequest { remote_force: true, ..Default::default() };
    daemon
        .until("the channels are history", async || {
            let closed = daemon.lightning().await?.closed_channels(request).await?;
            Ok(Some(closed.into_inner().channels).filter(|closed| closed.len() == count))
        })
        .await
}
