//! SubscribeInvoices: nothing is missed between what was and what comes, whoever listens and when;
//! and invoices that expire.

use fulmen_channel::amount::{Msat, Sat};
use fulmen_itest::failure::{Context, Result};
use fulmen_itest::regtest::{Cluster, Daemon, Peer};
use fulmen_itest::wait::PATIENCE;
use fulmen_proto::lnrpc::invoice::InvoiceState;
use fulmen_proto::lnrpc::{Invoice, InvoiceSubscription, ListInvoiceRequest};
use tonic::Streaming;

#[tokio::test(flavor = "multi_thread")]
async fn each_invoice_is_told_when_it_is_added_and_when_it_is_settled() -> Result<()> {
    let cluster = Cluster::start()?;
    let (alice, bob, _) = cluster.pair(Sat::new(1_000_000)).await?;
    let mut live = listens(&bob, 0, 0).await?;
    for (number, amount) in [(1, 1_000), (2, 2_000), (3, 3_000)] {
        let invoice = bob.invoices(Msat::new(amount), "tea").await?;
        assert_eq!(told(&mut live).await?, (number, 0, InvoiceState::Open));
        if number > 1 {
            alice.pays_invoice(&invoice).await?;
            assert_eq!(told(&mut live).await?, (number, number - 1, InvoiceState::Settled));
        }
    }
    // Who comes later is told all that it asks for, as it is now; and then what comes.
    let mut added = listens(&bob, 1, 0).await?;
    let mut settled = listens(&bob, 0, 1).await?;
    assert_eq!(told(&mut added).await?, (2, 1, InvoiceState::Settled));
    assert_eq!(told(&mut added).await?, (3, 2, InvoiceState::Settled));
    assert_eq!(told(&mut settled).await?, (3, 2, InvoiceState::Settled));
    let last = bob.invoices(Msat::new(4_000), "cake").await?;
    for listener in [&mut live, &mut added, &mut settled] {
        assert_eq!(told(listener).await?, (4, 0, InvoiceState::Open));
    }
    bob.stops().await?;
    bob.starts().await?;
    bob.active_channel(alice.node_id()?).await?;
    let mut again = listens(&bob, 3, 2).await?;
    assert_eq!(told(&mut again).await?, (4, 0, InvoiceState::Open));
    alice.active_channel(bob.node_id()?).await?;
    alice.pays_invoice(&last).await?;
    assert_eq!(told(&mut again).await?, (4, 3, InvoiceState::Settled));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn many_listen_and_come_at_any_time_and_nobody_misses_one() -> Result<()> {
    const INVOICES: u64 = 300;
    let cluster = Cluster::start()?;
    let bob = cluster.daemon("bob").await?;
    bob.invoices(Msat::new(1), "the first").await?;
    let mut lightning = bob.lightning().await?;
    let adding = tokio::spawn(async move {
        let mut calls = tokio::task::JoinSet::new();
        for _ in 1..INVOICES {
            let mut lightning = lightning.clone();
            calls.spawn(async move { lightning.add_invoice(Invoice::default()).await });
        }
        while let Some(call) = calls.join_next().await {
            call.unwrap().unwrap();
        }
        lightning.add_invoice(Invoice::default()).await.unwrap();
    });
    let mut listeners = tokio::task::JoinSet::new();
    for _ in 0..25 {
        let mut listener = listens(&bob, 1, 0).await?;
        listeners.spawn(async move {
            let mut numbers = Vec::new();
            while numbers.last() != Some(&(INVOICES + 1)) {
                numbers.push(told(&mut listener).await.unwrap().0);
            }
            numbers
        });
    }
    adding.await?;
    while let Some(numbers) = listeners.join_next().await {
        assert_eq!(numbers?, (2..=INVOICES + 1).collect::<Vec<_>>());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invoice_that_expires_is_cancelled_also_while_the_daemon_is_down() -> Result<()> {
    let cluster = Cluster::start()?;
    let bob = cluster.daemon("bob").await?;
    let mut lightning = bob.lightning().await?;
    lightning.add_invoice(Invoice { expiry: 1, ..Invoice::default() }).await?;
    lightning.add_invoice(Invoice::default()).await?;
    expired(&bob, &[1]).await?;
    lightning.add_invoice(Invoice { expiry: 1, ..Invoice::default() }).await?;
    bob.stops().await?;
    bob.starts().await?;
    expired(&bob, &[1, 3]).await
}

/// Waits until just these have expired: they are cancelled, and not pending any more.
async fn expired(daemon: &Daemon, numbers: &[u64]) -> Result<()> {
    daemon
        .until("they are cancelled", async || {
            let all = daemon.all_invoices().await?;
            let cancelled = all.iter().filter(|one| one.state() == InvoiceState::Canceled);
            let cancelled: Vec<u64> = cancelled.map(|one| one.add_index).collect();
            Ok((cancelled == numbers).then_some(()))
        })
        .await?;
    let request = ListInvoiceRequest { pending_only: true, ..Default::default() };
    let pending = daemon.lightning().await?.list_invoices(request).await?.into_inner().invoices;
    assert_eq!(pending.iter().map(|one| one.add_index).collect::<Vec<_>>(), [2]);
    Ok(())
}

async fn listens(daemon: &Daemon, add_index: u64, settle_index: u64) -> Result<Streaming<Invoice>> {
    let request = InvoiceSubscription { add_index, settle_index };
    Ok(daemon.lightning().await?.subscribe_invoices(request).await?.into_inner())
}

/// The next invoice that is told: its numbers and its state.
async fn told(news: &mut Streaming<Invoice>) -> Result<(u64, u64, InvoiceState)> {
    let next = tokio::time::timeout(PATIENCE, news.message()).await?;
    let invoice = next?.context("the stream ended")?;
    Ok((invoice.add_index, invoice.settle_index, invoice.state()))
}
