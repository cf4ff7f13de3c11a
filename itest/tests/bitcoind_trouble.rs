//! A bitcoind that is silent, wrong, slow, garbled, starting, pruned, or changes its mind about the
//! chain.

use std::time::Duration;

use bitcoin::OutPoint;
use bitcoincore_rpc::RpcApi;
use fulmen_channel::amount::{Msat, Sat};
use fulmen_itest::failure::Result;
use fulmen_itest::proxy::{Answers, Proxy, WARMING_UP};
use fulmen_itest::regtest::{Cluster, Daemon, Peer, DEEP};
use fulmen_proto::lnrpc::{AddressType, NewAddressRequest};

use crate::rows::chain::waiting_spend;
use crate::sweeps::takes_everything;
use crate::two_daemons::both_agree;

/// The loopback's port 1: nobody is there.
const NOBODY: &str = "127.0.0.1:1";

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_zmq_is_told_and_polling_finds_blocks_and_transactions() -> Result<()> {
    let cluster = Cluster::start()?;
    let block = format!("--bitcoind.zmqpubrawblock=tcp://{NOBODY}");
    let tx = format!("--bitcoind.zmqpubrawtx=tcp://{NOBODY}");
    let alice = Daemon::new(cluster.bitcoind(), "alice", &[&block, &tx])?;
    alice.starts().await?;
    alice.receives_coins(Sat::new(100_000)).await?;
    alice
        .until("the log names the options", async || {
            let wrote = alice.wrote()?;
            let names = |option: &str| wrote.contains(&format!("check {option}"));
            let told = names("--bitcoind.zmqpubrawblock") && names("--bitcoind.zmqpubrawtx");
            Ok(told.then_some(()))
        })
        .await?;
    let kind = AddressType::WitnessPubkeyHash.into();
    let request = NewAddressRequest { r#type: kind, ..Default::default() };
    let address = alice.lightning().await?.new_address(request).await?.into_inner().address;
    let address = address.parse::<bitcoin::Address<_>>()?.assume_checked();
    cluster.bitcoind().send_to(&address, Sat::new(70_000))?;
    alice
        .until("the transaction is seen in the mempool", async || {
            Ok((alice.coins().await?.unconfirmed_balance == 70_000).then_some(()))
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_settings_are_refused_by_the_option_to_change() -> Result<()> {
    let cluster = Cluster::start()?;
    for (flags, says) in [
        (&["--bitcoind.rpcpass=wrong"][..], "check --bitcoind.rpcuser and --bitcoind.rpcpass"),
        (
            &["--bitcoin.regtest=false", "--bitcoin.signet"],
            "--bitcoin.signet is set: give --bitcoin.regtest",
        ),
    ] {
        let alice = Daemon::new(cluster.bitcoind(), "alice", flags)?;
        alice.spawn()?;
        assert!(!alice.ends()?, "exit code with {flags:?}");
        assert!(alice.wrote()?.contains(says), "{}", alice.wrote()?);
    }
    let nobody = format!("--bitcoind.rpchost={NOBODY}");
    let alice = Daemon::new(cluster.bitcoind(), "alice", &[&nobody])?;
    alice.spawn()?;
    alice
        .until("it says what it waits for", async || {
            Ok(alice.wrote()?.contains("is --bitcoind.rpchost its RPC address?").then_some(()))
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_late_cut_or_garbled_are_survived() -> Result<()> {
    let cluster = Cluster::start()?;
    let proxy = Proxy::to(cluster.bitcoind().rpc_address())?;
    let through = format!("--bitcoind.rpchost={}", proxy.address());
    let alice = Daemon::new(cluster.bitcoind(), "alice", &[&through])?;
    alice.starts().await?;
    let bob = cluster.daemon("bob").await?;
    alice.receives_coins(Sat::new(2_000_000)).await?;
    alice.connects(&bob).await?;
    alice.opens(&bob, Sat::new(1_000_000)).await?;
    for answers in [Answers::Hold, Answers::Cut, Answers::Garble] {
        proxy.set(answers);
        cluster.bitcoind().mine(2)?;
        alice.pays(&bob, Msat::new(5_000_000)).await?;
        let soon = tokio::time::timeout(Duration::from_secs(20), alice.info());
        soon.await.expect("GetInfo waits for bitcoind")?;
        proxy.set(Answers::Pass);
        alice.is_at_tip().await?;
    }
    both_agree(&alice, &bob).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bitcoind_that_is_starting_is_waited_for() -> Result<()> {
    let cluster = Cluster::start()?;
    let proxy = Proxy::to(cluster.bitcoind().rpc_address())?;
    proxy.set(Answers::WarmingUp);
    let through = format!("--bitcoind.rpchost={}", proxy.address());
    let alice = Daemon::new(cluster.bitcoind(), "alice", &[&through])?;
    let says =
        |what: &str| Ok(alice.wrote()?.contains(&format!("{what}{WARMING_UP}")).then_some(()));
    alice.spawn()?;
    alice
        .until("it says what it waits for", async || {
            says("waiting for bitcoind: bitcoind is still starting: ")
        })
        .await?;
    // What needs neither the chain nor peers answers meanwhile.
    assert!(
        !alice.until("it answers", async || Ok(alice.info().await.ok())).await?.synced_to_chain
    );
    proxy.set(Answers::Pass);
    alice.catches_up().await?;

    // It restarts while the daemon runs.
    let bob = cluster.daemon("bob").await?;
    alice.receives_coins(Sat::new(2_000_000)).await?;
    alice.connects(&bob).await?;
    let channel = alice.opens(&bob, Sat::new(1_000_000)).await?;
    proxy.set(Answers::WarmingUp);
    cluster.bitcoind().mine(2)?;
    alice
        .until("it says that bitcoind is away", async || {
            says("bitcoind does not answer: bitcoind is still starting: ")
        })
        .await?;
    alice.pays(&bob, Msat::new(5_000_000)).await?;
    proxy.set(Answers::Pass);
    alice.is_at_tip().await?;
    alice.closes(&channel).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pruned_bitcoind_serves_whoever_needs_nothing_old() -> Result<()> {
    let cluster = Cluster::start()?;
    let (alice, bob, channel) = cluster.pair(Sat::new(1_000_000)).await?;
    let carol = cluster.daemon("carol").await?;
    let carol_at = cluster.bitcoind().height()?;
    carol.stops().await?;
    // Files of 64 KiB, so that there is something to prune.
    cluster.bitcoind().restart_with(&["-fastprune", "-prune=1"])?;
    for _ in 0..14 {
        cluster.bitcoind().mine(50)?;
    }
    let height = cluster.bitcoind().height()?;
    for daemon in [&alice, &bob] {
        daemon.is_at_tip().await?;
    }
    let rpc = cluster.bitcoind().rpc();
    let pruned: u64 = rpc.call("pruneblockchain", &[(height - 300).into()])?;
    assert!(pruned > carol_at, "pruned up to {pruned} only");

    carol.spawn()?;
    assert!(!carol.ends()?, "exit code");
    let wrote = carol.wrote()?;
    for says in [
        &format!("bitcoind has pruned block {}, which we have not seen yet", carol_at + 1),
        "getblockfrompeer",
        "-reindex",
    ] {
        assert!(wrote.contains(says), "no `{says}` in {wrote}");
    }
    // The block of her channel is pruned too.
    alice.stops().await?;
    alice.starts().await?;
    alice.active_channel(bob.node_id()?).await?;
    alice.pays(&bob, Msat::new(5_000_000)).await?;
    alice.closes(&channel).await
}

#[tokio::test(flavor = "multi_thread")]
async fn reorganisations_of_1_6_and_100_blocks() -> Result<()> {
    let cluster = Cluster::start()?;
    let (alice, bob, _) = cluster.pair(Sat::new(1_000_000)).await?;
    cluster.bitcoind().mine(100)?;
    for depth in [1, 6, 100] {
        reorganise(&cluster, depth)?;
        for daemon in [&alice, &bob] {
            daemon.is_at_tip().await?;
        }
        alice.pays(&bob, Msat::new(5_000_000)).await?;
        both_agree(&alice, &bob).await?;
    }
    alice.closes(&alice.channel().await?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_block_of_a_new_wallet_and_those_below_it_are_reorganised() -> Result<()> {
    let cluster = Cluster::start()?;
    let alice = cluster.daemon("alice").await?;
    reorganise(&cluster, 3)?;
    alice.is_at_tip().await?;
    alice.receives_coins(Sat::new(100_000)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_opening_and_a_close_that_are_reorganised_out_and_back() -> Result<()> {
    let cluster = Cluster::start()?;
    let (alice, bob) = (cluster.daemon("alice").await?, cluster.daemon("bob").await?);
    alice.receives_coins(Sat::new(2_000_000)).await?;
    alice.connects(&bob).await?;
    let funding = alice.begins_to_open(&bob, Sat::new(1_000_000), |_| {}).await?;
    cluster.bitcoind().mine(1)?;
    alice.is_at_tip().await?;
    undo(&cluster, 1)?;
    assert!(cluster.bitcoind().mempool()?.contains(&funding.txid));
    cluster.bitcoind().mine_others(DEEP + 1)?;
    let channel = alice.active_channel(bob.node_id()?).await?;
    bob.active_channel(alice.node_id()?).await?;
    alice.pays(&bob, Msat::new(300_000_000)).await?;
    let before = bob.coins().await?.total_balance;

    alice.quiet_channel().await?;
    let mut closing = alice.begins_to_close(&channel, false).await?;
    alice.own_close(&mut closing).await?;
    cluster.bitcoind().mine(1)?;
    alice.is_at_tip().await?;
    reorganise(&cluster, 1)?;
    cluster.bitcoind().mine(DEEP + 1)?;
    drop(closing);
    for daemon in [&alice, &bob] {
        daemon.is_at_tip().await?;
        assert_eq!(daemon.channels().await?, []);
    }
    bob.until("its part arrives", async || {
        Ok((bob.coins().await?.confirmed_balance - before == 300_000).then_some(()))
    })
    .await
}

/// Alice dies at any point of the reorganisation that takes her commitment out of its block, and
/// bitcoind has forgotten it when she is back: it goes out again, and all comes home.
#[tokio::test(flavor = "multi_thread")]
async fn killed_while_the_block_of_her_commitment_is_taken_back() -> Result<()> {
    const DEPTH: u64 = 6;
    let cluster = Cluster::start()?;
    let bitcoind = cluster.bitcoind();
    let (alice, bob, channel) = cluster.pair(Sat::new(1_000_000)).await?;
    alice.pays(&bob, Msat::new(300_000_000)).await?;
    alice.quiet_channel().await?;
    bob.stops().await?;
    drop(alice.begins_to_close(&channel, true).await?);
    let funding: OutPoint = channel.channel_point.parse()?;
    let published = async || {
        let spend = async || waiting_spend(bitcoind, &funding);
        alice.until("her commitment is in the mempool", spend).await
    };
    let commitment = published().await?;
    for round in 0..6 {
        bitcoind.mine(DEPTH)?;
        alice.is_at_tip().await?;
        undo(&cluster, DEPTH)?;
        // A question more each time: she hears of the blocks one after the other meanwhile.
        for _ in 0..2 * round {
            alice.info().await?;
        }
        alice.killed();
        bitcoind.restart_with(&["-persistmempool=0"])?;
        bitcoind.mine_others(DEPTH + 1)?;
        alice.starts().await?;
        assert_eq!(published().await?, commitment);
    }
    bitcoind.mine(1)?;
    takes_everything(&cluster, &[&alice]).await?;
    let closed = alice.pending_channels().await?;
    assert!(closed.pending_force_closing_channels.is_empty(), "{closed:?}");
    assert_eq!(alice.channels().await?, []);
    Ok(())
}

/// Takes the last `depth` blocks out of the chain.
fn undo(cluster: &Cluster, depth: u64) -> Result<()> {
    let rpc = cluster.bitcoind().rpc();
    let first = cluster.bitcoind().height()? + 1 - depth;
    Ok(rpc.invalidate_block(&rpc.get_block_hash(first)?)?)
}

/// Puts others in the place of the last `depth` blocks, and one more.
fn reorganise(cluster: &Cluster, depth: u64) -> Result<()> {
    undo(cluster, depth)?;
    cluster.bitcoind().mine_others(depth + 1).map(drop)
}
