//! What is in no block, or no longer: a peer's commitment that nobody gets mined, and a hundred
//! blocks that are gone in the middle of a close.

use bitcoin::Txid;
use bitcoincore_rpc::RpcApi as _;
use serde_json::{json, Value};

use crate::sweeps::{coins, sweeps, takes_everything, with_htlcs_both_ways};
use crate::two_daemons::CAPACITY;
use fulmen_channel::amount::Msat;
use fulmen_itest::bitcoind::Bitcoind;
use fulmen_itest::failure::Result;
use fulmen_itest::regtest::{Cluster, Daemon};
use fulmen_proto::lnrpc::pending_channels_response::force_closed_channel::AnchorState;
use fulmen_proto::walletrpc::WitnessType::CommitmentAnchor;

/// A block that takes nothing of the mempool.
fn mines_nothing(bitcoind: &Bitcoind) -> Result<()> {
    let _: Value = bitcoind.rpc().call("generateblock", &[json!("raw(51)"), json!([])])?;
    Ok(())
}

/// Waits until a daemon's commitment is in the mempool.
async fn published(daemon: &Daemon) -> Result<Txid> {
    daemon
        .until("its commitment is in the mempool", async || {
            let waiting = daemon.pending_channels().await?.waiting_close_channels;
            let txid: Option<Txid> = waiting.first().and_then(|it| it.closing_txid.parse().ok());
            let waits = daemon.bitcoind().mempool()?;
            Ok(txid.filter(|txid| waits.contains(txid)))
        })
        .await
}

/// Whether an anchor pays for a commitment.
async fn pays_for_it(daemon: &Daemon) -> Result<Option<()>> {
    let sweeps = sweeps(daemon).await?;
    let mut anchors = sweeps.iter().filter(|it| it.witness_type() == CommitmentAnchor);
    Ok(anchors.any(|anchor| anchor.sat_per_vbyte > 0).then_some(()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peers_commitment_that_nobody_mines_is_paid_for_by_our_anchor() -> Result<()> {
    let cluster = Cluster::start()?;
    let (alice, bob, channel) = with_htlcs_both_ways(&cluster).await?;
    let bitcoind = cluster.bitcoind();
    // Told of it, she would publish hers as well, and could be quicker.
    alice.stops().await?;
    bob.begins_to_close(&channel, true).await?;
    published(&bob).await?;
    bob.stops().await?;
    alice.starts().await?;
    for _ in 0..5 {
        mines_nothing(bitcoind)?;
        alice.is_at_tip().await?;
    }
    assert_eq!(pays_for_it(&alice).await?, None, "who published it may pay for it");
    mines_nothing(bitcoind)?;
    alice.until("a child of her anchor pays for it", async || pays_for_it(&alice).await).await?;
    bitcoind.mine(1)?;
    alice
        .until("it is in a block, and her anchor is back", async || {
            let closed = alice.pending_channels().await?.pending_force_closing_channels;
            let mut closed = closed.iter();
            Ok(closed.any(|it| it.anchor() == AnchorState::Recovered).then_some(()))
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_close_goes_on_when_a_hundred_blocks_are_gone() -> Result<()> {
    let cluster = Cluster::start()?;
    let (alice, bob, channel) = cluster.pair(CAPACITY).await?;
    let bitcoind = cluster.bitcoind();
    alice.pays(&bob, Msat::new(300_000_000)).await?;
    let (ours, theirs) = (alice.quiet_channel().await?, bob.quiet_channel().await?);
    // F is deeper than what is to go.
    bitcoind.mine(100)?;
    for daemon in [&alice, &bob] {
        daemon.is_at_tip().await?;
    }
    let (alice_had, bob_had) = (coins(&alice).await?, coins(&bob).await?);
    // Else he would publish his own as well.
    bob.stops().await?;
    alice.begins_to_close(&channel, true).await?;
    let commitment = published(&alice).await?;
    bitcoind.mine(1)?;
    bob.starts().await?;
    bob.until("D is published", async || Ok((coins(&bob).await? > bob_had).then_some(()))).await?;
    bitcoind.mine(2)?;
    for daemon in [&alice, &bob] {
        daemon.is_at_tip().await?;
    }
    // Bob lives through it, Alice comes back after it.
    alice.stops().await?;
    let first = bitcoind.height()? - 99;
    bitcoind.rpc().invalidate_block(&bitcoind.rpc().get_block_hash(first)?)?;
    bitcoind.mine_others(101)?;
    bob.is_at_tip().await?;
    alice.starts().await?;
    alice.is_at_tip().await?;
    alice
        .until("her commitment is in the mempool or a block again", async || {
            let rpc = bitcoind.rpc();
            let there = |vout| rpc.get_tx_out(&commitment, vout, Some(true));
            Ok((0..4).any(|vout| there(vout).is_ok_and(|out| out.is_some())).then_some(()))
        })
        .await?;
    bitcoind.mine(1)?;
    takes_everything(&cluster, &[&alice, &bob]).await?;
    for (daemon, had, mine) in
        [(&alice, alice_had, ours.local_balance), (&bob, bob_had, theirs.local_balance)]
    {
        let back = coins(daemon).await? - had;
        assert!((mine - 10_000..=mine).contains(&back), "{}: {back} of {mine}", daemon.name());
        assert!(daemon.channels().await?.is_empty());
    }
    Ok(())
}
