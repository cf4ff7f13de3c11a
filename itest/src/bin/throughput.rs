//! `cargo throughput`: settled payments per second over one channel, two fulmends beside two LDK
//! nodes, in one run. Figures of a small machine swing: read them as ratios.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fulmen_channel::amount::{Msat, Sat};
use fulmen_itest::failure::Result;
use fulmen_itest::ldk::LdkPeer;
use fulmen_itest::regtest::{Cluster, Daemon, Peer};
use tokio::task::JoinSet;

const CAPACITY: Sat = Sat::new(10_000_000);
const AMOUNTS: [Sat; 2] = [Sat::new(1), Sat::new(2_000)];
/// What each node does best with: LDK's slots end at 50.
const LDK_IN_FLIGHT: usize = 35;
const IN_FLIGHT: [usize; 2] = [1, 100];

#[tokio::main]
async fn main() -> Result<()> {
    let count = std::env::args().nth(1).map_or(Ok(500), |count| count.parse())?;
    let cluster = Cluster::start()?;
    println!("{count} payments over one channel, in flight at once → settled per second\n");
    println!("| nodes | amount | in flight | per second | p50 | p99 |\n|---|---|---|---|---|---|");
    let (alice, bob, _) = cluster.pair(CAPACITY).await?;
    let (alice, bob) = (Arc::new(alice), Arc::new(bob));
    for amount in AMOUNTS {
        for in_flight in IN_FLIGHT {
            row(
                "fulmend",
                amount,
                in_flight,
                fulmen(&alice, &bob, amount, in_flight, count).await?,
            );
        }
    }
    drop((alice, bob));
    let (carol, dave) = ldk_pair(&cluster)?;
    for amount in AMOUNTS {
        for in_flight in [1, LDK_IN_FLIGHT] {
            row("ldk-node", amount, in_flight, ldk(&carol, &dave, amount, in_flight, count)?);
        }
    }
    Ok(())
}

/// How long it took in all, and how long each payment did.
struct Measured {
    all: Duration,
    each: Vec<Duration>,
}

fn row(nodes: &str, amount: Sat, in_flight: usize, mut measured: Measured) {
    measured.each.sort();
    let at = |percent: usize| {
        let at = measured.each.len().saturating_mul(percent).checked_div(100).unwrap_or(0);
        measured.each.get(at).copied().unwrap_or_default()
    };
    let count = u32::try_from(measured.each.len()).unwrap_or(u32::MAX);
    let rate = f64::from(count) / measured.all.as_secs_f64();
    let sat = amount.sat();
    println!("| {nodes} | {sat} sat | {in_flight} | {rate:.0} | {:.0?} | {:.0?} |", at(50), at(99));
}

/// Bob's invoices are made first; then as many tasks as may be in flight pay one after another.
async fn fulmen(
    alice: &Arc<Daemon>,
    bob: &Daemon,
    amount: Sat,
    in_flight: usize,
    count: usize,
) -> Result<Measured> {
    let mut invoices = Vec::new();
    for _ in 0..count {
        invoices.push(bob.invoices(amount.saturating_msat(), "throughput").await?);
    }
    let (invoices, next) = (Arc::new(invoices), Arc::new(AtomicUsize::new(0)));
    let began = Instant::now();
    let mut payers: JoinSet<Result<Vec<Duration>>> = JoinSet::new();
    for _ in 0..in_flight {
        let (alice, invoices, next) = (Arc::clone(alice), Arc::clone(&invoices), Arc::clone(&next));
        payers.spawn(async move {
            let mut each = Vec::new();
            while let Some(invoice) = invoices.get(next.fetch_add(1, Ordering::Relaxed)) {
                let began = Instant::now();
                alice.pays_invoice(invoice).await?;
                each.push(began.elapsed());
            }
            Ok(each)
        });
    }
    let mut each = Vec::new();
    while let Some(payer) = payers.join_next().await {
        each.extend(payer??);
    }
    Ok(Measured { all: began.elapsed(), each })
}

fn ldk_pair(cluster: &Cluster) -> Result<(LdkPeer, LdkPeer)> {
    let carol = LdkPeer::start(cluster.bitcoind(), "carol")?;
    let dave = LdkPeer::start(cluster.bitcoind(), "dave")?;
    carol.receives_coins(CAPACITY.saturating_add(Sat::new(1_000_000)))?;
    dave.receives_coins(Sat::new(100_000))?;
    carol.opens(dave.node_id(), &dave.address(), CAPACITY, false)?;
    cluster.bitcoind().mine(6)?;
    dave.usable_channel(carol.node_id())?;
    carol.usable_channel(dave.node_id())?;
    Ok((carol, dave))
}

fn ldk(
    carol: &LdkPeer,
    dave: &LdkPeer,
    amount: Sat,
    in_flight: usize,
    count: usize,
) -> Result<Measured> {
    let amount = Msat::new(amount.saturating_msat().msat());
    let invoices: Result<Vec<String>> =
        (0..count).map(|_| dave.invoices(amount, "throughput")).collect();
    let began = Instant::now();
    let (mut sent, mut each) = (VecDeque::new(), Vec::new());
    for invoice in invoices? {
        if sent.len() == in_flight {
            settle_first(carol, &mut sent, &mut each)?;
        }
        // LDK refuses while a payment before still fills its last slot: wait for one, then again.
        let payment = loop {
            match carol.begins_to_pay(&invoice) {
                Err(_) if !sent.is_empty() => settle_first(carol, &mut sent, &mut each)?,
                begun => break begun?,
            }
        };
        sent.push_back((payment, Instant::now()));
    }
    while !sent.is_empty() {
        settle_first(carol, &mut sent, &mut each)?;
    }
    Ok(Measured { all: began.elapsed(), each })
}

fn settle_first(
    carol: &LdkPeer,
    sent: &mut VecDeque<(String, Instant)>,
    each: &mut Vec<Duration>,
) -> Result<()> {
    if let Some((payment_hash, began)) = sent.pop_front() {
        carol.settles(&payment_hash)?;
        each.push(began.elapsed());
    }
    Ok(())
}
