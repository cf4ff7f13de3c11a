//! Makes `itest/fixtures`: the data directories of two daemons of a released version, with a
//! channel, payments both ways and one under way, and the blocks of their chain.
//!
//! `FULMEND_EXE=…/fulmend cargo run -p fulmen-itest --bin old_node -- itest/fixtures/vX.Y.Z`

use std::path::{Path, PathBuf};

use bitcoin::consensus::Encodable;
use bitcoincore_rpc::RpcApi;
use fulmen_channel::amount::{Msat, Sat};
use fulmen_itest::failure::{Context, Result};
use fulmen_itest::fixture::{self, Told, FILES};
use fulmen_itest::regtest::{Cluster, Daemon, Peer};

#[tokio::main]
async fn main() -> Result<()> {
    let to = PathBuf::from(std::env::args().nth(1).context("name the folder to write")?);
    let cluster = Cluster::start()?;
    let (alice, bob, _) = cluster.pair(Sat::new(1_000_000)).await?;
    for amount in [400_000_000, 12_345, 100] {
        alice.pays(&bob, Msat::new(amount)).await?;
    }
    bob.pays(&alice, Msat::new(150_000_000)).await?;
    bob.invoices(Msat::new(5_000), "never paid").await?;
    let much = bob.invoices(Msat::new(900_000_000), "too much").await?;
    drop(alice.tries_to_pay(&much).await?);
    bob.receives_coins(Sat::new(70_000)).await?;

    // Bob stands still while alice offers an HTLC: it is under way on both sides when they stop.
    let invoice = bob.invoices(Msat::new(30_000_000), "under way").await?;
    bob.signal("STOP")?;
    let payment = alice.tries_to_pay(&invoice);
    let offered = alice.until("the HTLC is offered", async || {
        let offered = alice.channel().await?.pending_htlcs.len() == 1;
        Ok(offered.then_some(()))
    });
    tokio::select! {
        ended = payment => drop(ended.context("a payment that should not end")?),
        offered = offered => offered?,
    }
    let told = fixture::tells(&alice).await?;
    alice.stops().await?;
    bob.signal("CONT")?;
    let of_bob = fixture::tells(&bob).await?;
    bob.stops().await?;
    keep(&alice, &told, &to.join("alice"))?;
    keep(&bob, &of_bob, &to.join("bob"))?;
    let mut blocks = Vec::new();
    for height in 1..=cluster.bitcoind().height()? {
        let rpc = cluster.bitcoind().rpc();
        rpc.get_block(&rpc.get_block_hash(height)?)?.consensus_encode(&mut blocks)?;
    }
    std::fs::write(to.join("blocks"), blocks)?;
    Ok(())
}

fn keep(daemon: &Daemon, told: &Told, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for file in FILES {
        let name = Path::new(file).file_name().context("a file's name")?;
        std::fs::copy(daemon.dir().join(file), to.join(name)).context(file)?;
    }
    let told = serde_json::to_string_pretty(told)? + "\n";
    Ok(std::fs::write(to.join("told.json"), told)?)
}
