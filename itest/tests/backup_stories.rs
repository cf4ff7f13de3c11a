//! `channel.backup` over a node's life, and a restore of channels of all kinds and in all states.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bitcoin::OutPoint;
use fulmen_channel::amount::{Msat, Sat};
use fulmen_itest::failure::{Context, Result};
use fulmen_itest::regtest::{Cluster, Daemon, Peer, DEEP};
use fulmen_proto::lnrpc::{
    Channel, ChannelBackupSubscription, ClosedChannelsRequest, CommitmentType, OpenChannelRequest,
};

use crate::backups::{makes_wallet, multi, restores, unlocks, verified};
use crate::explained::{explain, is_drawn_as_svg};
use crate::ldk_chain::in_mempool;
use crate::ldk_chain::money::Descent;
use crate::sweeps::holds;

const CAPACITY: Sat = Sat::new(1_000_000);
/// What goes over each of three channels, in satoshi.
const PAID: [u64; 3] = [100_000, 200_000, 300_000];

fn backup_of(daemon: &Daemon) -> PathBuf {
    daemon.admin_macaroon().with_file_name("channel.backup")
}

/// How many channels the file has, which must be whole.
async fn in_file(daemon: &Daemon) -> Result<usize> {
    Ok(verified(daemon, multi(std::fs::read(backup_of(daemon))?)).await?.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_is_whole_whenever_the_daemon_is_killed() -> Result<()> {
    let cluster = Cluster::start()?;
    let (alice, bob) = (cluster.daemon("alice").await?, cluster.daemon("bob").await?);
    for opened in 0..3 {
        alice.receives_coins(Sat::new(1_100_000)).await?;
        bob.is_at_tip().await?;
        alice.connects(&bob).await?;
        alice.begins_to_open(&bob, CAPACITY, |_| {}).await?;
        // The file is being replaced now, or is about to be.
        alice.killed();
        let file = std::fs::read(backup_of(&alice))?;
        // Some of the next one may lie there, too.
        std::fs::write(backup_of(&alice).with_extension("backup.new"), &file[..file.len() / 2])?;
        alice.starts().await?;
        let held = verified(&alice, multi(file)).await?.len();
        assert!((opened..=opened + 1).contains(&held), "{held} of {opened}");
        alice
            .until("the file has every channel", async || {
                Ok((in_file(&alice).await? == opened + 1).then_some(()))
            })
            .await?;
        cluster.bitcoind().mine(DEEP)?;
    }
    let mut lightning = alice.lightning().await?;
    let mut news =
        lightning.subscribe_channel_backups(ChannelBackupSubscription {}).await?.into_inner();
    let channel = alice.active_channel(bob.id()?).await?;
    alice.closes(&channel).await?;
    let told = news.message().await?.context("news of the close")?;
    let left = verified(&alice, told).await?;
    assert!(left.len() == 2 && !left.contains(&channel.channel_point), "{left:?}");
    assert_eq!(in_file(&alice).await?, 2);
    Ok(())
}

fn kinds() -> [fn(&mut OpenChannelRequest); 3] {
    [
        |_| {},
        |open| {
            open.private = true;
            open.set_commitment_type(CommitmentType::StaticRemoteKey);
        },
        |open| {
            open.set_commitment_type(CommitmentType::Anchors);
            (open.zero_conf, open.private) = (true, true);
        },
    ]
}

/// Who published its commitment before Alice is back.
async fn publishes(cluster: &Cluster, peer: &Daemon, channel: &Channel) -> Result<()> {
    peer.begins_to_close(channel, true).await?;
    in_mempool(cluster, &channel.channel_point)?;
    cluster.bitcoind().mine(1).map(drop)
}

/// Three channels, and Alice loses everything: of one the close is deep in the past when she is
/// back, of one it has just come, with an HTLC in flight, and one is still open.
#[tokio::test(flavor = "multi_thread")]
async fn channels_of_all_kinds_and_in_all_states_come_home() -> Result<()> {
    let flags = ["--protocol.option-scid-alias", "--protocol.zero-conf"];
    let cluster = Cluster::start()?;
    let bitcoind = cluster.bitcoind();
    let alice = Daemon::without_wallet(bitcoind, "alice", &flags)?;
    let words = makes_wallet(&alice).await?;
    let trust = format!("--zeroconfpeer={}", alice.id()?);
    let peers = [
        Daemon::new(bitcoind, "bob", &[])?,
        Daemon::new(bitcoind, "carol", &[])?,
        Daemon::new(bitcoind, "dave", &[flags[0], flags[1], &trust])?,
    ];
    let [bob, carol, dave] = &peers;
    holds(bob, true)?;
    for (peer, kind) in peers.iter().zip(kinds()) {
        peer.starts().await?;
        alice.receives_coins(Sat::new(1_100_000)).await?;
        peer.is_at_tip().await?;
        alice.connects(peer).await?;
        alice.opens_with(peer, CAPACITY, kind).await?;
    }
    for (peer, sat) in [carol, dave].into_iter().zip(PAID) {
        alice.pays(peer, Msat::new(sat * 1_000)).await?;
    }
    alice.begins_to_pay(&bob.invoices(Msat::new(PAID[2] * 1_000), "held").await?).await?;
    let channels = alice
        .until("only one HTLC is in flight", async || {
            let channels = alice.channels().await?;
            let htlcs = channels.iter().flat_map(|channel| &channel.pending_htlcs);
            let locked: Vec<bool> = htlcs.map(|htlc| htlc.locked_in).collect();
            Ok((locked == [true]).then_some(channels))
        })
        .await?;
    let had = alice.coins().await?.total_balance;
    let file = std::fs::read(backup_of(&alice))?;
    let with = |peer: &Daemon| {
        let id = peer.id().map(|id| id.to_string()).unwrap_or_default();
        channels.iter().find(|channel| channel.remote_pubkey == id).context("a channel with it")
    };
    alice.stops().await?;
    drop(alice);

    let since = bitcoind.height()?;
    publishes(&cluster, carol, with(carol)?).await?;
    bitcoind.mine(200)?;
    bob.is_at_tip().await?;
    publishes(&cluster, bob, with(bob)?).await?;
    let again = Daemon::without_wallet(bitcoind, "again", &flags)?;
    again.spawn()?;
    restores(&again, &words, Some(multi(file))).await?;
    in_mempool(&cluster, &with(dave)?.channel_point)?;
    come_home(&cluster, &again, &channels, (since, had)).await
}

/// Mines until the channels, closed after block `since`, are history: all balances have come to the
/// wallet, which `had` that much before.
async fn come_home(
    cluster: &Cluster,
    again: &Daemon,
    channels: &[Channel],
    (since, had): (u64, i64),
) -> Result<()> {
    let bitcoind = cluster.bitcoind();
    again
        .until("all are history", async || {
            bitcoind.mine(1)?;
            again.is_at_tip().await?;
            let request = ClosedChannelsRequest::default();
            let closed = again.lightning().await?.closed_channels(request).await?.into_inner();
            Ok((closed.channels.len() == channels.len()).then_some(()))
        })
        .await?;
    let (mut gain, mut fees) = (0, BTreeMap::new());
    for channel in channels {
        let funding: OutPoint = channel.channel_point.parse()?;
        let descent = Descent::of(bitcoind, funding, since)?;
        let (ours, _) = descent.accounts(again).await?;
        assert_eq!(ours.taken, channel.local_balance, "{channel:?}");
        gain += ours.taken + ours.anchors;
        fees.extend(descent.fees(again).await?);
    }
    let gain = gain - fees.values().sum::<i64>();
    again
        .until("all of it is in the wallet", async || {
            Ok((again.coins().await?.total_balance == had + gain).then_some(()))
        })
        .await
}

/// Alice closed by force, and loses everything before her balance comes back.
#[tokio::test(flavor = "multi_thread")]
async fn what_our_own_commitment_held_comes_home() -> Result<()> {
    let cluster = Cluster::start()?;
    let bitcoind = cluster.bitcoind();
    let alice = Daemon::without_wallet(bitcoind, "alice", &[])?;
    let words = makes_wallet(&alice).await?;
    let bob = cluster.daemon("bob").await?;
    alice.receives_coins(Sat::new(1_100_000)).await?;
    bob.is_at_tip().await?;
    alice.connects(&bob).await?;
    alice.opens(&bob, CAPACITY).await?;
    alice.pays(&bob, Msat::new(PAID[0] * 1_000)).await?;
    let channel = alice.quiet_channel().await?;
    let (since, had) = (bitcoind.height()?, alice.coins().await?.total_balance);
    publishes(&cluster, &alice, &channel).await?;
    let file = std::fs::read(backup_of(&alice))?;
    alice.stops().await?;
    drop(alice);

    let again = Daemon::without_wallet(bitcoind, "again", &[])?;
    again.spawn()?;
    restores(&again, &words, Some(multi(file))).await?;
    bitcoind.mine(100)?;
    again.is_at_tip().await?;
    // A restart in the middle of the wait changes nothing.
    again.stops().await?;
    again.spawn()?;
    unlocks(&again).await?;
    is_drawn(&again, &channel.channel_point, &["└─ C ours", "to_local", "RD     we, from "])
        .await?;
    let point = channel.channel_point.clone();
    come_home(&cluster, &again, &[channel], (since, had)).await?;
    is_drawn(&again, &point, &["└─ C ours", "to_local", "RD     we, block "]).await
}

/// What is known of a restored channel is drawn, as text and as SVG.
async fn is_drawn(daemon: &Daemon, point: &str, words: &[&str]) -> Result<()> {
    daemon
        .until("its close is seen", async || {
            let drawn = explain(daemon, point, &[])?;
            Ok(drawn.contains("sat, in a block").then_some(()))
        })
        .await?;
    let drawn = explain(daemon, point, &[])?;
    for words in words {
        assert!(drawn.contains(words), "{words}\n{drawn}");
    }
    assert_eq!(is_drawn_as_svg(&explain(daemon, point, &["--svg"])?, &drawn)?, 3, "F, C, RD");
    let data: serde_json::Value = serde_json::from_str(&explain(daemon, point, &["--json"])?)?;
    let spends = &data["funding"]["outputs"][0]["spends"];
    assert_eq!(spends[0]["outputs"][0]["what"], "TO_LOCAL", "{data}");
    Ok(())
}
