//! `cargo demo`: two daemons on a bitcoind open a channel, pay each other, and close it.

use std::time::Instant;

use fulmen_channel::amount::{Msat, Sat};
use fulmen_itest::failure::Result;
use fulmen_itest::regtest::{Cluster, Daemon, Peer};

const CAPACITY: Sat = Sat::new(1_000_000);
const SMALL_PAYMENTS: u32 = 20;

#[tokio::main]
async fn main() -> Result<()> {
    println!("\nLooking for bitcoind, building fulmend …");
    let cluster = Cluster::start()?;
    let (alice, bob) = (cluster.daemon("alice").await?, cluster.daemon("bob").await?);
    println!("\n  bitcoind  regtest, {} blocks", cluster.bitcoind().height()?);
    for daemon in [&alice, &bob] {
        println!("  {:<8}  {}@{}", daemon.name(), daemon.node_id()?, daemon.address());
    }

    step("alice gets 2,000,000 sat on chain and opens a channel of 1,000,000 to bob");
    alice.receives_coins(Sat::new(2_000_000)).await?;
    alice.connects(&bob).await?;
    let channel = alice.opens(&bob, CAPACITY).await?;
    println!("  F = {}, six blocks deep", channel.channel_point);
    draw(&alice).await?;

    pay(&alice, &bob, Sat::new(400_000)).await?;
    pay(&bob, &alice, Sat::new(150_000)).await?;

    step(&format!("bob pays alice {SMALL_PAYMENTS} times 1 sat, one after another"));
    let began = Instant::now();
    for _ in 0..SMALL_PAYMENTS {
        bob.pays(&alice, Msat::new(1_000)).await?;
    }
    let each = began.elapsed().checked_div(SMALL_PAYMENTS).unwrap_or_default();
    println!("  settled on both sides, {each:.1?} each");
    draw(&alice).await?;

    step("alice is killed (kill -9), started again, and pays bob 50,000 sat");
    alice.killed();
    alice.starts().await?;
    alice.active_channel(bob.node_id()?).await?;
    alice.pays(&bob, Msat::new(50_000_000)).await?;
    draw(&alice).await?;

    step("they close the channel together");
    alice.closes(&alice.channel().await?).await?;
    for daemon in [&alice, &bob] {
        println!("  {:<8}  {:>9} sat on chain", daemon.name(), coins(daemon).await?);
    }
    println!();
    Ok(())
}

async fn pay(from: &Daemon, to: &Daemon, amount: Sat) -> Result<()> {
    step(&format!("{} pays {} {} sat", from.name(), to.name(), grouped(amount.sat())));
    let began = Instant::now();
    let payment = from.pays(to, amount.saturating_msat()).await?;
    println!(
        "  preimage {}…, {:.1?}",
        payment.payment_preimage.get(..16).unwrap_or_default(),
        began.elapsed()
    );
    let alice = if from.name() == "alice" { from } else { to };
    draw(alice).await
}

fn step(what: &str) {
    println!("\n▸ {what}");
}

/// The channel as a bar: alice's part full, bob's part light.
async fn draw(alice: &Daemon) -> Result<()> {
    const WIDTH: u64 = 56;
    let channel = alice.channel().await?;
    let (ours, theirs) =
        (u64::try_from(channel.local_balance)?, u64::try_from(channel.remote_balance)?);
    let both = ours.saturating_add(theirs);
    let full = ours.saturating_mul(WIDTH).checked_div(both).unwrap_or_default();
    let full = usize::try_from(full)?;
    let rest = usize::try_from(WIDTH)?.saturating_sub(full);
    println!("  alice {}{} bob", "█".repeat(full), "░".repeat(rest));
    println!("  {:<31}{:>31}", grouped(ours), grouped(theirs));
    Ok(())
}

async fn coins(daemon: &Daemon) -> Result<String> {
    Ok(grouped(u64::try_from(daemon.coins().await?.total_balance)?))
}

/// 1234567 as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && digits.len().saturating_sub(at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
