//! Blocks alone close a channel: the payer's once its HTLC has expired and is not failed, the
//! payee's while it can still show the preimage that its peer does not take.

use bitcoin::{OutPoint, Txid};
use fulmen_channel::amount::{Msat, Sat};
use fulmen_channel::onchain::deadline::{CLAIM_WINDOW, GRACE};
use fulmen_itest::failure::{Context, Result};
use fulmen_itest::regtest::{Cluster, Daemon, Peer};
use fulmen_proto::lnrpc::invoice::InvoiceState;
use fulmen_proto::lnrpc::payment::PaymentStatus;
use fulmen_proto::lnrpc::Channel;

use crate::rows::chain::{waiting_spend, Ledger};
use crate::sweeps::{claims_are_published, coins, holds, takes_everything};
use crate::two_daemons::CAPACITY;

/// What is in flight, in satoshi.
const HELD: u64 = 60_000;
/// What an anchor holds (BOLT 3).
const ANCHOR: u64 = 330;

/// A channel from Alice to Bob, who has coins and holds what he receives; he runs since before the
/// channel was opened, so that no wait after a start comes in between.
async fn pair(cluster: &Cluster) -> Result<(Daemon, Daemon)> {
    let alice = cluster.daemon("alice").await?;
    let bob = Daemon::new(cluster.bitcoind(), "bob", &[])?;
    holds(&bob, true)?;
    bob.starts().await?;
    alice.receives_coins(Sat::new(2_000_000)).await?;
    bob.receives_coins(Sat::new(3_000_000)).await?;
    alice.connects(&bob).await?;
    alice.opens_with(&bob, CAPACITY, |request| request.push_sat = 300_000).await?;
    Ok((alice, bob))
}

/// An HTLC from Alice is in flight to Bob, on both commitments for good.
async fn held(alice: &Daemon, bob: &Daemon) -> Result<()> {
    let invoice = bob.invoices(Msat::new(HELD * 1_000), "held").await?;
    alice.begins_to_pay(&invoice).await?;
    for (daemon, peer) in [(alice, bob), (bob, alice)] {
        daemon
            .until("the HTLC is on both commitments", async || {
                let htlcs = with(daemon, peer).await?.pending_htlcs;
                Ok((htlcs.len() == 1 && htlcs[0].locked_in).then_some(()))
            })
            .await?;
    }
    Ok(())
}

/// The channel with a peer, active or not.
async fn with(daemon: &Daemon, peer: &Daemon) -> Result<Channel> {
    let peer = peer.id()?.to_string();
    let mut channels = daemon.channels().await?.into_iter();
    channels.find(|channel| channel.remote_pubkey == peer).context("the channel")
}

/// Mines up to the block before `height`, at which `daemon` still has the channel, and that one,
/// at which it closes. The commitment, in the next block.
async fn closes_at(
    cluster: &Cluster,
    daemon: &Daemon,
    channel: &Channel,
    height: u32,
) -> Result<Txid> {
    let bitcoind = cluster.bitcoind();
    let funding: OutPoint = channel.channel_point.parse()?;
    bitcoind.mine(u64::from(height) - 1 - bitcoind.height()?)?;
    daemon.is_at_tip().await?;
    assert_eq!(waiting_spend(bitcoind, &funding)?, None, "too early");
    let listed = daemon.channels().await?;
    assert!(listed.iter().any(|it| it.channel_point == channel.channel_point), "{listed:?}");
    bitcoind.mine(1)?;
    let commitment =
        daemon.until("it closes by itself", async || waiting_spend(bitcoind, &funding)).await?;
    // What pays for it, too: it would keep the coin that the claims need from them.
    claims_are_published(daemon).await?;
    bitcoind.mine(1)?;
    Ok(commitment)
}

/// What the two paid to miners since a commitment is in a block at `height`: who published it, less
/// its anchor, and the other, for the one output of `value` that is its own.
fn fees(cluster: &Cluster, commitment: Txid, height: u32, value: i64) -> Result<(i64, i64)> {
    let mut ledger = Ledger::new();
    ledger.catches_up(cluster.bitcoind())?;
    let (mined, tx) = ledger.tx(&commitment);
    assert_eq!(*mined, u64::from(height), "in the block after");
    let is_others = |output: &bitcoin::TxOut| output.value.to_sat() as i64 == value;
    let others = tx.output.iter().position(is_others).context("the other's output")?;
    let others = OutPoint { txid: commitment, vout: others as u32 };
    let (direct, _) = ledger.spend(&others).context("it is taken")?;
    // All else that comes of it is the publisher's.
    let (mut txids, mut read) = (vec![commitment], 0);
    while let Some(txid) = txids.get(read).copied() {
        for vout in 0..ledger.tx(&txid).1.output.len() as u32 {
            let spend = ledger.spend(&OutPoint { txid, vout }).map(|(txid, _)| txid);
            txids.extend(spend.filter(|spend| *spend != direct && !txids.contains(spend)));
        }
        read += 1;
    }
    let paid: u64 = txids[1..].iter().map(|txid| ledger.fee(txid)).sum();
    // An anchor that was moved to pay for the commitment comes home too.
    let anchors = ledger.tx(&commitment).1.output.iter().enumerate();
    let anchors = anchors.filter(|(_, output)| output.value.to_sat() == ANCHOR);
    let moved = anchors
        .filter(|(vout, _)| {
            ledger.spend(&OutPoint { txid: commitment, vout: *vout as u32 }).is_some()
        })
        .count() as u64;
    Ok((paid as i64 - (moved * ANCHOR) as i64, ledger.fee(&direct) as i64))
}

/// Waits until a daemon has so much more than it `had`.
async fn gains(daemon: &Daemon, had: i64, gain: i64) -> Result<()> {
    let (mut last, what) = (0, format!("it has {gain} sat more"));
    let gained = daemon.until(&what, async || {
        last = coins(daemon).await? - had;
        Ok((last == gain).then_some(()))
    });
    let gained = gained.await;
    gained.context(format!("it has {last} sat more"))
}

#[tokio::test(flavor = "multi_thread")]
async fn who_offered_an_htlc_closes_two_blocks_after_its_expiry() -> Result<()> {
    let cluster = Cluster::start()?;
    let (alice, bob) = pair(&cluster).await?;
    held(&alice, &bob).await?;
    let (alice_had, bob_had) = (coins(&alice).await?, coins(&bob).await?);
    let (ours, theirs) = (alice.channel().await?, bob.channel().await?);
    let height = ours.pending_htlcs[0].expiration_height + GRACE;
    // Told of the close, he would publish his commitment as well, and could be quicker.
    bob.stops().await?;
    let commitment = closes_at(&cluster, &alice, &ours, height).await?;
    bob.starts().await?;
    takes_everything(&cluster, &[&alice, &bob]).await?;
    let (paid, direct) = fees(&cluster, commitment, height + 1, theirs.local_balance)?;
    gains(&alice, alice_had, ours.local_balance + HELD as i64 - paid).await?;
    gains(&bob, bob_had, theirs.local_balance - direct).await?;
    let payments = alice.payments().await?;
    assert_eq!(payments[0].status(), PaymentStatus::Failed);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_knows_a_preimage_closes_while_it_can_still_be_shown() -> Result<()> {
    let cluster = Cluster::start()?;
    let (alice, bob) = pair(&cluster).await?;
    let carol = cluster.daemon("carol").await?;
    bob.connects(&carol).await?;
    bob.opens(&carol, CAPACITY).await?;
    // No block comes between the HTLC and its end: what is due too soon is failed.
    alice.is_at_tip().await?;
    held(&alice, &bob).await?;
    // What he took in is his, though fewer blocks are left than his invoice asks for.
    cluster.bitcoind().mine(60)?;
    for daemon in [&alice, &bob, &carol] {
        daemon.is_at_tip().await?;
    }
    assert_eq!(bob.all_invoices().await?[0].state(), InvoiceState::Accepted);
    let (ours, theirs) = (with(&bob, &alice).await?, with(&alice, &bob).await?);
    // From now on Bob settles; Alice hears nothing of it, and Carol is witness to his number.
    bob.stops().await?;
    alice.signal("STOP")?;
    holds(&bob, false)?;
    bob.starts().await?;
    bob.until("it settles without its peer", async || {
        let settled = bob.all_invoices().await?.into_iter().filter(|it| it.amt_paid_sat > 0);
        Ok((settled.count() == 1).then_some(()))
    })
    .await?;
    bob.active_channel(carol.id()?).await?;
    let bob_had = coins(&bob).await?;
    let height = ours.pending_htlcs[0].expiration_height - CLAIM_WINDOW;
    let commitment = closes_at(&cluster, &bob, &ours, height).await?;
    bob.is_at_tip().await?;
    claims_are_published(&bob).await?;
    cluster.bitcoind().mine(1)?;
    alice.signal("CONT")?;
    let alice_had = coins(&alice).await?;
    takes_everything(&cluster, &[&alice, &bob]).await?;
    let (paid, direct) = fees(&cluster, commitment, height + 1, theirs.local_balance)?;
    gains(&bob, bob_had, ours.local_balance + HELD as i64 - paid).await?;
    gains(&alice, alice_had, theirs.local_balance - direct).await?;
    let payments = alice.payments().await?;
    assert_eq!(payments[0].status(), PaymentStatus::Succeeded);
    Ok(())
}
