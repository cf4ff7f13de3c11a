//! `docs/tower-demo.sh`: a fulmen-tower of its own catches a breach while the node that it works
//! for is off; told in pictures and tables. On the machine's bitcoind, or on the chain in a box.

use std::path::Path;
use std::time::{Duration, Instant};

use bitcoin::{Transaction, Txid};
use bitcoincore_rpc::RpcApi;
use fulmen_channel::amount::Sat;
use fulmen_itest::bitcoind::{Bitcoind, Program};
use fulmen_itest::chainbox::shell;
use fulmen_itest::failure::{Failure, Result};
use fulmen_itest::port::Port;
use fulmen_itest::regtest::{Cluster, Daemon};
use fulmen_itest::show::{grouped, says, step};
use fulmen_itest::tower::Tower;
use fulmen_itest::{build, places, wait};
use fulmen_proto::lnrpc::Channel;

const CAPACITY: Sat = Sat::new(1_000_000);
const PATIENCE: Duration = Duration::from_secs(60);
/// The argument that makes this program the chain that the demo runs on.
const AS_CHAIN: &str = "--chain-in-a-box";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some(AS_CHAIN) => shell::run(arguments.into_iter().skip(1)),
        Some(other) => Err(Failure::new(format!("unknown word {other}; say nothing"))),
        None => tokio::runtime::Runtime::new()?.block_on(demo()),
    }
}

async fn demo() -> Result<()> {
    println!("\nBuilding fulmend, fulmen-cli and fulmen-tower if they are not built yet …");
    build::fulmend()?;
    build::fulmen_cli()?;
    build::fulmen_tower()?;
    let began = Instant::now();
    let installed = Program::installed();
    let chain = if installed.is_some() { "bitcoind" } else { "the chain in a box" };
    let program = match installed {
        Some(program) => program,
        None => Program::standing_in(std::env::current_exe()?, &[AS_CHAIN]),
    };
    let cluster = Cluster::start_on(program)?;
    let bitcoind = cluster.bitcoind();
    let port = Port::free()?;
    let tower = Tower::on(bitcoind, port.address(), None)?;
    let alice = Daemon::new(bitcoind, "alice", &["--wtclient.active"])?;
    alice.starts().await?;
    let bob = cluster.daemon("bob").await?;
    println!("\n  {chain}, regtest, {} blocks", bitcoind.height()?);
    println!("  tower  {}@{}", tower.id, tower.address);
    for daemon in [&alice, &bob] {
        println!("  {:<6} {}@{}", daemon.name(), daemon.id()?, daemon.listen_address());
    }

    step("alice opens a channel of 1,000,000 sat to bob, and has the tower watch it");
    alice.receives_coins(Sat::new(2_000_000)).await?;
    says(&alice, &["wtclient", "add", &format!("{}@{}", tower.id, tower.address)])?;
    alice.connects(&bob).await?;
    alice.opens(&bob, CAPACITY).await?;
    let before = coins(&alice).await?;
    let copy = places::temporary("saved")?;
    let channel = pay(&alice, &bob, &copy.path().join("bob")).await?;
    says(&alice, &["wtclient", "coverage"])?;
    alice.stops().await?;
    let remedies = cheat(&bob, &copy.path().join("bob"), &tower).await?;
    bitcoind.mine(1)?;

    step("alice is back");
    alice.starts().await?;
    let home: u64 = remedies.iter().flat_map(|tx| &tx.output).map(|out| out.value.to_sat()).sum();
    let after = before.saturating_add(Sat::new(home));
    alice
        .until("it is all home", async || {
            bitcoind.mine(1)?;
            Ok((coins(&alice).await? == after).then_some(()))
        })
        .await?;
    says(&alice, &["channel", "explain", &channel.channel_point])?;
    let line = |what: &str, amount| println!("  {what:<21} {:>9} sat", grouped(amount));
    println!();
    line("alice's share was", sat(channel.local_balance)?);
    line("bob's was", sat(channel.remote_balance)?);
    line("came home to alice", Sat::new(home));
    println!("\nAll but fees and anchors. Done in {:.1?}.", began.elapsed());
    Ok(())
}

/// Both pay; Bob keeps a copy in between. The channel once the tower has all of it.
async fn pay(alice: &Daemon, bob: &Daemon, copy: &Path) -> Result<Channel> {
    step("alice pays bob 400,000 sat; bob keeps a copy of his database; bob pays 300,000 sat back");
    alice.pays(bob, Sat::new(400_000).saturating_msat()).await?;
    alice.quiet_channel().await?;
    bob.stops().await?;
    places::copy_all(bob.dir(), copy)?;
    bob.starts().await?;
    alice.active_channel(bob.id()?).await?;
    bob.active_channel(alice.id()?).await?;
    bob.pays(alice, Sat::new(300_000).saturating_msat()).await?;
    let channel = alice.quiet_channel().await?;
    wait::until("the tower has it all", PATIENCE, || Ok(has_handed_in(alice)?.then_some(())))?;
    Ok(channel)
}

/// Bob publishes what he had revoked. What the tower publishes then.
async fn cheat(bob: &Daemon, copy: &Path, tower: &Tower) -> Result<Vec<Transaction>> {
    let bitcoind = bob.bitcoind();
    step("alice is off. Bob puts his copy back, by which 400,000 sat are his, and publishes it");
    bob.stops().await?;
    std::fs::remove_dir_all(bob.dir())?;
    places::copy_all(copy, bob.dir())?;
    bob.starts().await?;
    let _closing = bob.begins_to_close(&bob.channel().await?, true).await?;
    let breach = transactions(bitcoind, 1)?;
    bob.stops().await?;
    table("in the mempool, bob's", &breach, &[]);
    bitcoind.mine(1)?;

    step("it is in a block. The tower sees it, and alice is still off");
    let remedies = transactions(bitcoind, 2)?;
    let told = tower.logs()?;
    let is_news = |line: &&str| line.contains("is a breach") || line.contains("remedy");
    for line in told.lines().filter(is_news) {
        let said = line.split_once("fulmen_watchtower::").map_or(line, |(_, said)| said);
        println!("  {said}");
    }
    println!();
    table("in the mempool, the tower's", &remedies, &breach);
    Ok(remedies)
}

fn sat(value: i64) -> Result<Sat> {
    Ok(Sat::new(u64::try_from(value)?))
}

async fn coins(daemon: &Daemon) -> Result<Sat> {
    sat(daemon.coins().await?.confirmed_balance)
}

/// Whether nothing waits for the tower any more.
fn has_handed_in(alice: &Daemon) -> Result<bool> {
    let output = fulmen_itest::show::cli(alice)?.args(["wtclient", "stats"]).output()?;
    let stats: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let count = |name| stats.get(name).and_then(serde_json::Value::as_u64);
    Ok(count("num_pending_backups") == Some(0) && count("num_backups") > Some(0))
}

/// Waits until the mempool holds so many, and reads them.
fn transactions(bitcoind: &Bitcoind, count: usize) -> Result<Vec<Transaction>> {
    let what = format!("{count} transactions in the mempool");
    let txids: Vec<Txid> = wait::until(what, PATIENCE, || {
        Ok(Some(bitcoind.mempool()?).filter(|txids| txids.len() == count))
    })?;
    txids.iter().map(|txid| Ok(bitcoind.rpc().get_raw_transaction(txid, None)?)).collect()
}

/// A line for each output, and for each input that takes one of `known`.
fn table(title: &str, all: &[Transaction], known: &[Transaction]) {
    println!("  {title}:");
    for tx in all {
        println!("  ┌─ {}", tx.compute_txid());
        for input in &tx.input {
            let (txid, place) = (input.previous_output.txid, input.previous_output.vout);
            let spent = known.iter().find(|known| known.compute_txid() == txid);
            let output = usize::try_from(place).ok().and_then(|at| spent?.output.get(at));
            if let Some(output) = output {
                let txid = txid.to_string();
                let short = txid.get(..8).unwrap_or_default();
                println!("  │  takes {:>9} sat of {short}…:{place}", grouped(output.value.into()));
            }
        }
        for output in &tx.output {
            println!("  │  pays  {:>9} sat", grouped(output.value.into()));
        }
        println!("  └─");
    }
}
