//! Sessions with a tower that are full: payments go on, other sessions are begun, and a state of
//! any of them is answered when it is published while the node is off.

use std::path::Path;

use bitcoin::{OutPoint, Transaction};
use bitcoincore_rpc::RpcApi;
use fulmen_channel::amount::{Msat, Sat};
use fulmen_itest::failure::{Context, Result};
use fulmen_itest::places;
use fulmen_itest::port::Port;
use fulmen_itest::regtest::{Cluster, Daemon};
use fulmen_itest::tower::Tower;
use fulmen_itest::wait::{self, PATIENCE};
use fulmen_proto::lnrpc::Channel;

use crate::tower_commands::{asks, is_up_to_date, sessions};

const CAPACITY: Sat = Sat::new(1_000_000);
/// States in a session.
const MOST: u64 = 4;
const ANCHOR: u64 = 330;

/// Alice pays a peer of hers, and nothing stays in flight.
async fn pays(alice: &Daemon, peer: &Daemon, times: u64) -> Result<Channel> {
    alice.active_channel(peer.id()?).await?;
    for _ in 0..times {
        alice.pays(peer, Msat::new(50_000_000)).await?;
        peer.quiet_channel().await?;
    }
    peer.quiet_channel().await
}

/// How many states of its channel this peer of Alice's has revoked.
fn revoked(alice: &Daemon, peer: &Daemon) -> Result<u64> {
    let told = asks(alice, &["coverage", "--json"])?;
    let key = peer.id()?.to_string();
    let channels = told["channels"].as_array().context("channels")?;
    let channel = channels.iter().find(|it| it["remote_pubkey"] == key).context("its channel")?;
    Ok(channel["revoked_states"].as_str().context("a number")?.parse()?)
}

/// A peer, who is off, goes back to an old copy, publishes its state, and is off again. What the
/// commitment's outputs hold beside anchors.
async fn cheats(peer: &Daemon, old: &Path, channel: &Channel) -> Result<(Transaction, u64)> {
    std::fs::remove_dir_all(peer.dir())?;
    places::copy_all(old, peer.dir())?;
    peer.starts().await?;
    let bitcoind = peer.bitcoind();
    let before = bitcoind.mempool()?;
    let _closing = peer.begins_to_close(channel, true).await?;
    let commitment = wait::until("the old state is published", PATIENCE, || {
        let mut waiting = bitcoind.mempool()?.into_iter();
        Ok(waiting.find(|txid| !before.contains(txid)))
    })?;
    peer.stops().await?;
    let tx = bitcoind.rpc().get_raw_transaction(&commitment, None)?;
    let values = tx.output.iter().map(|output| output.value.to_sat());
    let sum = values.filter(|value| *value != ANCHOR).sum();
    let fee = u64::try_from(channel.commit_fee)?;
    assert_eq!(sum, CAPACITY.sat() - fee - 2 * ANCHOR, "nothing is in flight in that state");
    Ok((tx, sum))
}

/// What `wtclient` tells of Bob's six states and of Carol's ten.
fn tells_of_each_session(alice: &Daemon, key: &str) -> Result<()> {
    let all = sessions(alice, key)?;
    let number = |value: &serde_json::Value| value.as_u64().unwrap_or_default();
    let mut backups: Vec<u64> = all.iter().map(|it| number(&it["num_backups"])).collect();
    backups.sort_unstable();
    assert_eq!(backups, [2, 2, 4, 4, 4], "six of Bob's, ten of Carol's: {all:?}");
    assert!(all.iter().all(|it| number(&it["max_backups"]) == MOST), "{all:?}");
    let stats = asks(alice, &["stats"])?;
    let counts = ["num_backups", "num_sessions_acquired", "num_sessions_exhausted"];
    assert_eq!(counts.map(|name| number(&stats[name])), [16, 5, 3], "{stats}");
    assert_eq!(asks(alice, &["policy", "--anchor"])?["max_updates"], MOST);
    let words = ["towers", "--include_sessions", "--exclude_exhausted_sessions"];
    let listed = asks(alice, &words)?["towers"][0]["sessions"].clone();
    assert_eq!(listed.as_array().map(Vec::len), Some(2), "{listed}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn states_of_a_full_session_and_of_the_next_are_answered() -> Result<()> {
    let cluster = Cluster::start()?;
    let bitcoind = cluster.bitcoind();
    let mut tower = Tower::on(bitcoind, Port::free()?.address(), None)?;
    let key = tower.id.to_string();
    let named = format!("--wtclient.tower={key}@{}", tower.address);
    let most = format!("--wtclient.max-updates={MOST}");
    let alice = Daemon::new(bitcoind, "alice", &["--wtclient.active", &named, &most])?;
    alice.starts().await?;
    alice.receives_coins(Sat::new(3_000_000)).await?;
    let (bob, carol) = (cluster.daemon("bob").await?, cluster.daemon("carol").await?);
    for peer in [&bob, &carol] {
        alice.connects(peer).await?;
        alice.opens(peer, CAPACITY).await?;
    }
    let saved = places::temporary("saved")?;
    let copy = |peer: &Daemon| saved.path().join(peer.name());

    // Each payment revokes two states. Bob keeps one of the first session, Carol one of the second.
    let mut old = Vec::new();
    for (peer, session) in [(&bob, 0), (&carol, 1)] {
        let channel = pays(&alice, peer, 1 + 2 * session).await?;
        assert_eq!(revoked(&alice, peer)? / MOST, session);
        peer.stops().await?;
        places::copy_all(peer.dir(), &copy(peer))?;
        peer.starts().await?;
        old.push(channel);
    }
    pays(&alice, &bob, 2).await?;
    is_up_to_date(&alice)?;
    // The tower is away when Carol revokes hers, and more than the session has room for.
    tower.process.kill();
    pays(&alice, &carol, 2).await?;
    let tower = tower.again_for(bitcoind, None)?;
    is_up_to_date(&alice)?;

    tells_of_each_session(&alice, &key)?;

    let had = alice.coins().await?.total_balance;
    for daemon in [&alice, &bob, &carol] {
        daemon.stops().await?;
    }
    let (mut commitments, mut due) = (Vec::new(), 0);
    for (peer, channel) in [&bob, &carol].into_iter().zip(&old) {
        let (commitment, sum) = cheats(peer, &copy(peer), channel).await?;
        commitments.push(commitment);
        due += sum;
    }
    bitcoind.mine(1)?;
    let remedies = wait::until("two remedies of each breach wait", PATIENCE, || {
        Ok(Some(bitcoind.mempool()?).filter(|waiting| waiting.len() == 4))
    })?;
    for txid in remedies {
        let tx = bitcoind.rpc().get_raw_transaction(&txid, None)?;
        let paid: u64 = tx.output.iter().map(|output| output.value.to_sat()).sum();
        due -= value_of(&commitments, &tx.input[0].previous_output).context("ours")? - paid;
    }
    bitcoind.mine(1)?;
    drop(tower);
    alice.starts().await?;
    let wanted = had + i64::try_from(due)?;
    alice
        .until("all of both channels is in the wallet", async || {
            Ok((alice.coins().await?.confirmed_balance == wanted).then_some(()))
        })
        .await
}

fn value_of(txs: &[Transaction], point: &OutPoint) -> Option<u64> {
    let tx = txs.iter().find(|tx| tx.compute_txid() == point.txid)?;
    Some(tx.output.get(point.vout as usize)?.value.to_sat())
}
