//! `cargo demo`: two daemons open a channel, pay each other and close it, drawn by fulmen-cli. On
//! the machine's bitcoind, or on the chain in a box where there is none.

use std::io::stdin;
use std::time::Instant;

use fulmen_channel::amount::Sat;
use fulmen_itest::bitcoind::{Program, WORDS};
use fulmen_itest::build;
use fulmen_itest::chainbox::shell;
use fulmen_itest::failure::{Failure, Result};
use fulmen_itest::regtest::{Cluster, Daemon, Peer};
use fulmen_itest::show::{grouped, says, step};

const CAPACITY: Sat = Sat::new(1_000_000);
/// The argument that makes this program the chain that the demo runs on.
const AS_CHAIN: &str = "--chain-in-a-box";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let keep = match arguments.first().map(String::as_str) {
        Some(AS_CHAIN) => return shell::run(arguments.into_iter().skip(1)),
        Some("--keep") => true,
        None => false,
        Some(other) => {
            return Err(Failure::new(format!("unknown word {other}; say nothing or --keep")))
        }
    };
    tokio::runtime::Runtime::new()?.block_on(demo(keep))
}

async fn demo(keep: bool) -> Result<()> {
    let installed = Program::installed();
    let chain = if installed.is_some() { "bitcoind" } else { "the chain in a box" };
    let program = match installed {
        Some(program) => program,
        None => Program::standing_in(std::env::current_exe()?, &[AS_CHAIN]),
    };
    println!("\nStarting {chain}; building fulmend and fulmen-cli if they are not built yet …");
    build::fulmend()?;
    build::fulmen_cli()?;
    let began = Instant::now();
    let cluster = Cluster::start_on(program)?;
    let (alice, bob) = (cluster.daemon("alice").await?, cluster.daemon("bob").await?);
    println!("\n  {chain}, regtest, {} blocks", cluster.bitcoind().height()?);
    for daemon in [&alice, &bob] {
        println!("  {:<6} {}@{}", daemon.name(), daemon.node_id()?, daemon.address());
    }

    step("alice gets 2,000,000 sat on chain and opens a channel of 1,000,000 to bob");
    alice.receives_coins(Sat::new(2_000_000)).await?;
    alice.connects(&bob).await?;
    alice.opens(&bob, CAPACITY).await?;
    pay(&alice, &bob, Sat::new(400_000)).await?;
    pay(&bob, &alice, Sat::new(150_000)).await?;
    step("what either could publish now");
    let channel = alice.quiet_channel().await?;
    says(&alice, &["channel", "explain", &channel.channel_point])?;
    if keep {
        return keep_running(&cluster, &alice, &bob);
    }

    step("they close it together");
    let had = [coins(&alice).await?, coins(&bob).await?];
    alice.closes(&channel).await?;
    says(&alice, &["channel", "explain", &channel.channel_point])?;
    println!();
    for (daemon, had) in [&alice, &bob].into_iter().zip(had) {
        let back = daemon.until("the coins are back", async || {
            Ok(Some(coins(daemon).await?).filter(|has| *has > had))
        });
        println!("  {:<6} {:>9} sat on chain", daemon.name(), grouped(back.await?));
    }
    println!("\nDone in {:.1?}. `cargo demo -- --keep` stays for fulmen-cli.", began.elapsed());
    Ok(())
}

async fn pay(from: &Daemon, to: &Daemon, amount: Sat) -> Result<()> {
    step(&format!("{} pays {} {} sat", from.name(), to.name(), grouped(amount)));
    let began = Instant::now();
    let payment = from.pays(to, amount.saturating_msat()).await?;
    let preimage = payment.payment_preimage.get(..16).unwrap_or_default();
    println!("  preimage {preimage}…, {:.1?}", began.elapsed());
    Ok(())
}

async fn coins(daemon: &Daemon) -> Result<Sat> {
    Ok(Sat::new(u64::try_from(daemon.coins().await?.total_balance)?))
}

/// Says how to use the daemons, and lets the chain be driven until Enter.
fn keep_running(cluster: &Cluster, alice: &Daemon, bob: &Daemon) -> Result<()> {
    step("it runs on: in another terminal");
    let cli = build::fulmen_cli()?;
    for daemon in [alice, bob] {
        let (name, dir, rpc) = (daemon.name(), daemon.dir().display(), daemon.rpc_address());
        let flags = format!("--fulmendir={dir} --rpcserver={rpc} --network=regtest");
        println!("  alias {name}='{} {flags}'", cli.display());
    }
    println!("  alice listchannels");
    println!("  alice payinvoice --force $(bob addinvoice --amt=1000 | grep -o 'lnbcrt[a-z0-9]*')");
    println!("\nThe chain is driven here: type {WORDS}, or Enter to end all.");
    for line in stdin().lines() {
        let line = line?;
        if line.trim().is_empty() {
            break;
        }
        match cluster.bitcoind().obeys(&line) {
            Ok(text) => println!("{text}"),
            Err(failure) => println!("{failure}"),
        }
    }
    Ok(())
}
