//! `fulmen-cli wallet bumpclosefee` on a close that waits for a block: by force, its anchor pays
//! more; together, closechannel does, and is named.

use crate::closing::summary;
use crate::rows::chain::waiting_spend;
use crate::sweeps::best_ancestor_rate;
use crate::two_daemons::CAPACITY;
use bitcoin::{OutPoint, Txid};
use bitcoincore_rpc::RpcApi as _;
use fulmen_channel::amount::Msat;
use fulmen_itest::failure::{Context as _, Result};
use fulmen_itest::regtest::{Cluster, Daemon};
use fulmen_itest::show::cli;
use fulmen_proto::lnrpc::Channel;

/// What the command says for a channel, and whether it was taken.
fn bumps(daemon: &Daemon, channel: &Channel, more: &[&str]) -> Result<(bool, String)> {
    let mut command = cli(daemon)?;
    command.args(["wallet", "bumpclosefee", &channel.channel_point]).args(more);
    let output = command.output()?;
    let said = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
}

/// It is refused, and says why.
fn is_refused(daemon: &Daemon, channel: &Channel, why: &str) -> Result<()> {
    let (taken, said) = bumps(daemon, channel, &["--sat_per_vbyte=30"])?;
    assert!(!taken && said.contains(why), "{said}");
    Ok(())
}

/// Commitment and child together pay about this in the mempool.
async fn pays(cluster: &Cluster, daemon: &Daemon, rate: f64) -> Result<()> {
    daemon
        .until("the close pays more", async || {
            let near = (rate - 1.0)..(rate + 2.0);
            Ok(best_ancestor_rate(cluster)?.filter(|rate| near.contains(rate)).map(drop))
        })
        .await
}

fn waits(cluster: &Cluster, channel: &Channel) -> Result<Option<Txid>> {
    waiting_spend(cluster.bitcoind(), &channel.channel_point.parse::<OutPoint>()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forced_close_is_raised_as_often_as_one_likes() -> Result<()> {
    let cluster = Cluster::start()?;
    let (alice, bob, channel) = cluster.pair(CAPACITY).await?;
    alice.pays(&bob, Msat::new(300_000_000)).await?;
    alice.quiet_channel().await?;
    bob.quiet_channel().await?;
    is_refused(&alice, &channel, "no commitment of ours")?;
    drop(alice.begins_to_close(&channel, true).await?);
    let commitment = alice.until("C is published", async || waits(&cluster, &channel)).await?;
    for (rate, budget) in [(20, "--budget=30000"), (60, "--budget=60000")] {
        let asked = format!("--sat_per_vbyte={rate}");
        let (taken, said) = bumps(&alice, &channel, &[&asked, budget])?;
        assert!(taken && said.contains("Successfully registered"), "{said}");
        pays(&cluster, &alice, f64::from(rate)).await?;
    }
    // It pays for the same commitment, and no more than was allowed.
    assert_eq!(waits(&cluster, &channel)?, Some(commitment));
    let (taken, said) = bumps(&alice, &channel, &["--sat_per_vbyte=600", "--budget=70000"])?;
    assert!(taken, "{said}");
    let child = alice
        .until("the whole budget is offered", async || {
            let sweeps = crate::sweeps::sweeps(&alice).await?;
            Ok(sweeps.into_iter().find(|it| it.budget == 70_000 && it.sat_per_vbyte > 100))
        })
        .await?;
    assert!(child.sat_per_vbyte < 600, "{child:?}");
    cluster.bitcoind().mine(1)?;
    alice
        .until("it is in a block", async || {
            let closed = alice.pending_channels().await?.pending_force_closing_channels;
            Ok((closed.len() == 1).then_some(()))
        })
        .await?;
    is_refused(&alice, &channel, "the close is in a block")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mutual_close_is_raised_by_closing_again() -> Result<()> {
    let cluster = Cluster::start()?;
    let (alice, bob, channel) = cluster.pair(CAPACITY).await?;
    alice.pays(&bob, Msat::new(300_000_000)).await?;
    alice.quiet_channel().await?;
    bob.quiet_channel().await?;
    let mut first =
        alice.begins_to_close_with(&channel, |request| request.sat_per_vbyte = 2).await?;
    alice.own_close(&mut first).await?;
    is_refused(&alice, &channel, "run closechannel again with a higher --sat_per_vbyte")?;
    let before = waits(&cluster, &channel)?;
    let mut again =
        alice.begins_to_close_with(&channel, |request| request.sat_per_vbyte = 30).await?;
    alice.own_close(&mut again).await?;
    pays(&cluster, &alice, 30.0).await?;
    let dearer = waits(&cluster, &channel)?.context("it waits")?;
    assert_ne!(Some(dearer), before);
    let tx = cluster.bitcoind().rpc().get_raw_transaction(&dearer, None)?;
    let paid: u64 = tx.output.iter().map(|output| output.value.to_sat()).sum();
    cluster.bitcoind().mine(1)?;
    alice.is_at_tip().await?;
    // Who opened the channel pays for it.
    let mine = i64::try_from(paid)? - 300_000;
    let closed = alice.until("it is closed", async || Ok(summary(&alice).await.ok())).await?;
    assert_eq!((closed.closing_tx_hash, closed.settled_balance), (dearer.to_string(), mine));
    Ok(())
}
