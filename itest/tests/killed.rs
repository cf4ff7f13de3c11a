//! kill -9 of either daemon, or of bitcoind, in the middle of payments.

use std::collections::BTreeMap;
use std::sync::Arc;

use fulmen_channel::amount::{Msat, Sat};
use fulmen_itest::failure::Result;
use fulmen_itest::regtest::{is_ended, Cluster, Daemon, Peer};
use fulmen_proto::lnrpc::invoice::InvoiceState;
use fulmen_proto::lnrpc::payment::PaymentStatus;
use fulmen_proto::lnrpc::Payment;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinSet;

use crate::two_daemons::both_agree;

const ROUNDS: usize = 20;
const AT_ONCE: usize = 10;

/// 200 payments, ten at a time; in each round one side dies after a random number of them.
#[tokio::test(flavor = "multi_thread")]
async fn killed_at_random_points_of_200_payments() -> Result<()> {
    let seed = rand::thread_rng().gen();
    eprintln!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let cluster = Cluster::start()?;
    let (alice, bob, _) = cluster.pair(Sat::new(2_000_000)).await?;
    let (alice, bob) = (Arc::new(alice), Arc::new(bob));
    for _ in 0..ROUNDS {
        let mut payments = begin_payments(&alice, &bob).await?;
        for _ in 0..random.gen_range(0..AT_ONCE) {
            payments.join_next().await;
        }
        let victim = if random.gen() { &alice } else { &bob };
        victim.killed();
        victim.starts().await?;
        while payments.join_next().await.is_some() {}
        bob.active_channel(alice.node_id()?).await?;
        alice.active_channel(bob.node_id()?).await?;
    }
    both_sides_tell_the_same(&alice, &bob).await?;
    both_agree(&alice, &bob).await?;
    alice.pays(&bob, Msat::new(5_000)).await?;
    bob.pays(&alice, Msat::new(5_000)).await?;
    both_agree(&alice, &bob).await
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_dies_the_other_comes_back_to_it() -> Result<()> {
    let cluster = Cluster::start()?;
    let (alice, bob, _) = cluster.pair(Sat::new(1_000_000)).await?;
    for victim in [&bob, &alice, &bob] {
        victim.killed();
        victim.starts().await?;
        alice.active_channel(bob.node_id()?).await?;
        bob.active_channel(alice.node_id()?).await?;
        alice.pays(&bob, Msat::new(5_000)).await?;
    }
    both_agree(&alice, &bob).await
}

#[tokio::test(flavor = "multi_thread")]
async fn payments_go_on_while_bitcoind_is_down_and_blocks_are_caught_up() -> Result<()> {
    bitcoind_is_down(Cluster::start()?).await
}

pub async fn bitcoind_is_down(cluster: Cluster) -> Result<()> {
    let (alice, bob, channel) = cluster.pair(Sat::new(1_000_000)).await?;
    cluster.bitcoind().kill()?;
    alice.pays(&bob, Msat::new(7_000_000)).await?;
    cluster.bitcoind().restart()?;
    cluster.bitcoind().mine(3)?;
    let height = cluster.bitcoind().height()?;
    for daemon in [&alice, &bob] {
        daemon
            .until("the new blocks", async || {
                Ok((u64::from(daemon.info().await?.block_height) == height).then_some(()))
            })
            .await?;
    }
    alice.closes(&channel).await
}

/// Bob makes invoices, Alice begins to pay them all; whoever dies meanwhile, each try ends.
async fn begin_payments(alice: &Arc<Daemon>, bob: &Daemon) -> Result<JoinSet<Result<Payment>>> {
    let mut payments = JoinSet::new();
    for number in 0..AT_ONCE {
        let amount = Msat::new(1_000_000 + u64::try_from(number)?);
        let invoice = bob.invoices(amount, "killed").await?;
        let alice = Arc::clone(alice);
        payments.spawn(async move { alice.tries_to_pay(&invoice).await });
    }
    Ok(payments)
}

/// Every payment has ended, and is settled on one side exactly if it is on the other.
async fn both_sides_tell_the_same(alice: &Daemon, bob: &Daemon) -> Result<()> {
    let sent = alice
        .until("all payments have ended", async || {
            let payments = alice.payments().await?;
            Ok(payments.iter().all(is_ended).then_some(payments))
        })
        .await?;
    let status = |payment: Payment| (payment.payment_hash.clone(), payment.status());
    let sent: BTreeMap<String, PaymentStatus> = sent.into_iter().map(status).collect();
    let invoices = bob.all_invoices().await?;
    assert_eq!(invoices.len(), ROUNDS * AT_ONCE);
    let mut settled = 0;
    for invoice in invoices {
        let paid = sent.get(&hex::encode(&invoice.r_hash)) == Some(&PaymentStatus::Succeeded);
        assert_eq!(invoice.state() == InvoiceState::Settled, paid, "{invoice:?}");
        settled += usize::from(paid);
    }
    assert!(settled > 0, "all payments failed: nothing was shown");
    eprintln!("{settled} of {} payments settled", ROUNDS * AT_ONCE);
    Ok(())
}
