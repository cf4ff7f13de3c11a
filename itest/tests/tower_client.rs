//! The node hands what it must to its towers, is away when the peer cheats, and loses nothing.

use std::time::Duration;

use bitcoin::secp256k1::PublicKey;
use fulmen_channel::amount::{Msat, Sat};
use fulmen_itest::bitcoind::Bitcoind;
use fulmen_itest::failure::Result;
use fulmen_itest::places;
use fulmen_itest::port::Port;
use fulmen_itest::regtest::{Cluster, Daemon, DEEP};
use fulmen_itest::tower::Tower;
use fulmen_itest::wait;

use crate::command_line::says;
use crate::peer_storage::{
    closed, closes_in_time, database, is_published, says_that_it_is_old, stopped_copy,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until so many transactions are in the mempool, and has them mined.
fn mines(bitcoind: &Bitcoind, count: usize) -> Result<()> {
    let what = format!("{count} transactions in the mempool");
    wait::until(what, PATIENCE, || Ok((bitcoind.mempool()?.len() == count).then_some(())))?;
    bitcoind.mine(1)?;
    Ok(())
}

const PRIVATE: &str = "privatetower";
const ALTRUIST: &str = "tower";

/// Towers of these kinds, each with the port that is kept for it, and how Alice is told of them.
fn towers(bitcoind: &Bitcoind, kinds: &[&str]) -> Result<(Vec<Tower>, Vec<Port>, Vec<String>)> {
    let (mut towers, mut flags) = (Vec::new(), vec!["--wtclient.active".to_owned()]);
    let ports = kinds.iter().map(|_| Port::free()).collect::<Result<Vec<Port>>>()?;
    for (kind, port) in kinds.iter().zip(&ports) {
        let tower = Tower::on(bitcoind, port.address(), None)?;
        flags.push(format!("--wtclient.{kind}={}@{}", tower.id, tower.address));
        towers.push(tower);
    }
    Ok((towers, ports, flags))
}

/// Bob publishes a state that he revoked while Alice is off and her towers are not.
async fn bob_cheats(kinds: &[&str]) -> Result<()> {
    let cluster = Cluster::start()?;
    let bitcoind = cluster.bitcoind();
    let (mut towers, _ports, flags) = towers(bitcoind, kinds)?;
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let alice = Daemon::new(bitcoind, "alice", &flags)?;
    alice.starts().await?;
    let owner: PublicKey = alice.id()?;
    let bob = cluster.daemon("bob").await?;
    alice.receives_coins(Sat::new(2_000_000)).await?;
    alice.connects(&bob).await?;
    alice.opens(&bob, Sat::new(1_000_000)).await?;
    alice.pays(&bob, Msat::new(400_000_000)).await?;
    alice.quiet_channel().await?;
    bob.stops().await?;
    let saved = places::temporary("saved")?;
    let old = saved.path().join("bob");
    places::copy_all(bob.dir(), &old)?;

    // They are away when the state is revoked, and Alice dies before they are back.
    for tower in &mut towers {
        tower.process.kill();
    }
    bob.starts().await?;
    bob.active_channel(alice.id()?).await?;
    alice.active_channel(bob.id()?).await?;
    bob.pays(&alice, Msat::new(300_000_000)).await?;
    alice.quiet_channel().await?;
    bob.stops().await?;
    alice.killed();
    alice.starts().await?;
    let wrote = |what: String| {
        wait::until(&what, PATIENCE, || Ok(alice.wrote()?.contains(&what).then_some(())))
    };
    let mut watching = Vec::new();
    for (tower, kind) in towers.into_iter().zip(kinds) {
        wrote(format!("watchtower {}: ", tower.id))?;
        let owner = (*kind == PRIVATE).then_some(owner);
        watching.push(tower.again_for(bitcoind, owner)?);
    }
    for tower in &watching {
        wrote(format!("watchtower {} is up to date", tower.id))?;
    }
    let coins = alice.coins().await?.confirmed_balance;
    alice.stops().await?;

    std::fs::remove_dir_all(bob.dir())?;
    places::copy_all(&old, bob.dir())?;
    bob.starts().await?;
    let channel = bob.channel().await?;
    let _closing = bob.begins_to_close(&channel, true).await?;
    mines(bitcoind, 1)?;
    bob.stops().await?;
    // Bob's balance, for whichever was quicker; hers by who holds a signature for it.
    mines(bitcoind, if kinds.contains(&ALTRUIST) { 2 } else { 1 })?;
    drop(watching);
    // What a private tower alone leaves, her own balance, she takes herself.
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
    bob_cheats(&[ALTRUIST]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_tower_brings_the_cheaters_balance_home() -> Result<()> {
    bob_cheats(&[PRIVATE]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_each_kind_do_not_get_into_each_others_way() -> Result<()> {
    bob_cheats(&[PRIVATE, ALTRUIST]).await
}

/// Somebody puts an old copy of Alice's database back while Bob is off: nobody but her tower knows
/// that there is a later state. It may be away too when Alice starts.
async fn a_tower_knows_better(private: bool, late: bool, max_updates: u32) -> Result<()> {
    let cluster = Cluster::start()?;
    let bitcoind = cluster.bitcoind();
    let port = Port::free()?;
    let tower = Tower::on(bitcoind, port.address(), None)?;
    let kind = if private { PRIVATE } else { ALTRUIST };
    let named = format!("--wtclient.{kind}={}@{}", tower.id, tower.address);
    let max_updates = format!("--wtclient.max-updates={max_updates}");
    let flags = ["--wtclient.active", &named, &max_updates];
    let alice = Daemon::new(bitcoind, "alice", &flags)?;
    alice.starts().await?;
    let mut tower = tower.again_for(bitcoind, Some(alice.id()?))?;
    let bob = cluster.daemon("bob").await?;
    alice.receives_coins(Sat::new(2_000_000)).await?;
    alice.connects(&bob).await?;
    alice.opens(&bob, Sat::new(1_000_000)).await?;
    alice.pays(&bob, Msat::new(100_000_000)).await?;
    alice.quiet_channel().await?;
    let copy = stopped_copy(&alice).await?;
    alice.starts().await?;
    alice.active_channel(bob.id()?).await?;
    alice.pays(&bob, Msat::new(100_000_000)).await?;
    let channel = alice.quiet_channel().await?;
    wait::until("the tower has it all", PATIENCE, || {
        let stats = says(&alice, &["wtclient", "stats"])?;
        let is = |name: &str, wanted: bool| (stats[name] == 0) == wanted;
        Ok((is("num_pending_backups", true) && is("num_backups", false)).then_some(()))
    })?;
    alice.stops().await?;
    bob.stops().await?;
    std::fs::rename(copy, database(&alice))?;

    if late {
        tower.process.kill();
    }
    alice.starts().await?;
    if late {
        alice.is_at_tip().await?;
        assert!(alice.pending_channels().await?.waiting_close_channels.is_empty());
        tower = tower.again_for(bitcoind, Some(alice.id()?))?;
    }
    alice
        .until("the channel is not run", async || {
            let waiting = alice.pending_channels().await?.waiting_close_channels;
            let flags = waiting.into_iter().filter_map(|waiting| waiting.channel);
            let flags: Vec<_> = flags.map(|channel| channel.chan_status_flags).collect();
            Ok((flags == ["ChanStatusLocalDataLoss"]).then_some(()))
        })
        .await?;
    says_that_it_is_old(&alice, &channel).await?;
    bitcoind.mine(DEEP)?;
    assert!(bitcoind.mempool()?.is_empty(), "nothing was published");

    bob.starts().await?;
    closes_in_time(&bob).await?;
    is_published(&alice, 1).await?;
    bitcoind.mine(1)?;
    is_published(&alice, 1).await?;
    bitcoind.mine(DEEP)?;
    let closed = closed(&alice, 1).await?;
    assert_eq!(closed[0].settled_balance, channel.local_balance, "of the latest state");
    drop(tower);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_altruist_tower_knows_an_old_copy_of_the_database() -> Result<()> {
    a_tower_knows_better(false, false, 100).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tower_that_is_away_at_the_start_tells_it_later() -> Result<()> {
    a_tower_knows_better(false, true, 100).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_tower_knows_an_old_copy_of_the_database() -> Result<()> {
    a_tower_knows_better(true, false, 100).await
}

/// The copy knows of full sessions only.
#[tokio::test(flavor = "multi_thread")]
async fn a_later_session_of_a_tower_tells_of_an_old_copy_of_the_database() -> Result<()> {
    a_tower_knows_better(false, false, 1).await
}
