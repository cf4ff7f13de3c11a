//! The node hands what it must to its towers, is away when the peer cheats, and loses nothing.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bitcoin::secp256k1::PublicKey;
use fulmen_channel::amount::{Msat, Sat};
use fulmen_itest::bitcoind::Bitcoind;
use fulmen_itest::failure::{Context, Failure, Result};
use fulmen_itest::port::Port;
use fulmen_itest::regtest::{Cluster, Daemon};
use fulmen_itest::wait;

use crate::tower::Tower;

const PATIENCE: Duration = Duration::from_secs(60);

fn copies(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().context("cp")?;
    status.success().then_some(()).ok_or_else(|| Failure::new("the folder was not copied"))
}

/// Waits until so many transactions are in the mempool, and has them mined.
fn mines(bitcoind: &Bitcoind, count: usize) -> Result<()> {
    let what = format!("{count} transactions in the mempool");
    wait::until(what, PATIENCE, || Ok((bitcoind.mempool()?.len() == count).then_some(())))?;
    bitcoind.mine(1)?;
    Ok(())
}

/// Bob publishes a state that he revoked while Alice is off; how much more she has in the end.
async fn bob_cheats(private: bool) -> Result<()> {
    let cluster = Cluster::start()?;
    let bitcoind = cluster.bitcoind();
    let port = Port::free()?;
    let mut tower = Tower::on(bitcoind, port.address(), None)?;
    let kind = if private { "wtclient.privatetower" } else { "wtclient.tower" };
    let named = format!("--{kind}={}@{}", tower.id, tower.address);
    let alice = Daemon::new(bitcoind, "alice", &["--wtclient.active", &named])?;
    alice.starts().await?;
    let owner: PublicKey = alice.id()?;
    let bob = cluster.daemon("bob").await?;
    alice.receives_coins(Sat::new(2_000_000)).await?;
    alice.connects(&bob).await?;
    alice.opens(&bob, Sat::new(1_000_000)).await?;
    alice.pays(&bob, Msat::new(400_000_000)).await?;
    alice.quiet_channel().await?;
    bob.stops().await?;
    let saved = fulmen_itest::places::temporary("saved")?;
    let old = saved.path().join("bob");
    copies(bob.dir(), &old)?;

    // The tower is away when the state is revoked, and Alice dies before it is back.
    tower.process.kill();
    bob.starts().await?;
    bob.active_channel(alice.id()?).await?;
    alice.active_channel(bob.id()?).await?;
    bob.pays(&alice, Msat::new(300_000_000)).await?;
    alice.quiet_channel().await?;
    bob.stops().await?;
    alice.killed();
    alice.starts().await?;
    wait::until("alice misses her tower", PATIENCE, || {
        Ok(alice.wrote()?.contains("watchtower").then_some(()))
    })?;
    let tower = tower.again_for(bitcoind, Some(owner))?;
    wait::until("the tower has it all", PATIENCE, || {
        Ok(alice.wrote()?.contains("is up to date").then_some(()))
    })?;
    let coins = alice.coins().await?.confirmed_balance;
    alice.stops().await?;

    std::fs::remove_dir_all(bob.dir())?;
    copies(&old, bob.dir())?;
    bob.starts().await?;
    let channel = bob.channel().await?;
    let _closing = bob.begins_to_close(&channel, true).await?;
    mines(bitcoind, 1)?;
    bob.stops().await?;
    mines(bitcoind, if private { 1 } else { 2 })?;
    drop(tower);
    // What the private tower leaves, her own balance, she takes herself.
    alice.starts().await?;
    wait::until_async("alice has it all", PATIENCE, async || {
        bitcoind.mine(1)?;
        let now = alice.coins().await?.confirmed_balance;
        // All but anchors, the commitment's fee and two remedies'.
        Ok((now > coins + 985_000).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_altruist_tower_brings_all_of_it_home() -> Result<()> {
    bob_cheats(false).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_tower_brings_the_cheaters_balance_home() -> Result<()> {
    bob_cheats(true).await
}
