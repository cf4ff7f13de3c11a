//! The demo: what it draws is what is published, and it runs where there is no bitcoind.

use std::process::Command;

use bitcoin::Txid;
use bitcoincore_rpc::RpcApi;
use fulmen_channel::amount::{Msat, Sat};
use fulmen_itest::build;
use fulmen_itest::failure::Result;
use fulmen_itest::regtest::Daemon;
use serde_json::Value;

use super::daemons::cluster;

#[tokio::test(flavor = "multi_thread")]
async fn the_commitment_that_is_drawn_is_the_one_that_is_published() -> Result<()> {
    for pays_first in [false, true] {
        let cluster = cluster()?;
        let (alice, bob, channel) = cluster.pair(Sat::new(1_000_000)).await?;
        if pays_first {
            alice.pays(&bob, Msat::new(300_000_001)).await?;
        }
        let drawn = commitment(&alice, &alice.quiet_channel().await?.channel_point)?;
        let _updates = alice.begins_to_close(&channel, true).await?;
        let bitcoind = cluster.bitcoind();
        let txid: Txid = drawn["txid"].as_str().unwrap().parse()?;
        let published = alice.until("what was drawn is published", async || {
            Ok(bitcoind.mempool()?.contains(&txid).then_some(()))
        });
        published.await?;
        let tx = bitcoind.rpc().get_raw_transaction(&txid, None)?;
        let mut real: Vec<u64> = tx.output.iter().map(|output| output.value.to_sat()).collect();
        real.sort();
        assert_eq!(values(&drawn), real, "{drawn}");
    }
    Ok(())
}

/// Our commitment, as fulmen-cli tells it.
fn commitment(daemon: &Daemon, channel: &str) -> Result<Value> {
    let output = Command::new(build::fulmen_cli()?)
        .arg(format!("--fulmendir={}", daemon.dir().display()))
        .arg(format!("--rpcserver={}", daemon.rpc_address()))
        .args(["--network=regtest", "channel", "explain", channel, "--json"])
        .output()?;
    let told: Value = serde_json::from_slice(&output.stdout)?;
    Ok(told["funding"]["outputs"][0]["spends"][0].clone())
}

/// What its outputs hold, the least first.
fn values(commitment: &Value) -> Vec<u64> {
    let outputs = commitment["outputs"].as_array().unwrap().iter();
    let mut all: Vec<u64> =
        outputs.map(|output| output["value_sat"].as_str().unwrap().parse().unwrap()).collect();
    all.sort();
    all
}

#[test]
fn it_runs_where_there_is_no_bitcoind() -> Result<()> {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_demo"));
    demo.env("FULMEND_EXE", build::fulmend()?).env("FULMEN_CLI_EXE", build::fulmen_cli()?);
    demo.env_remove("BITCOIND_EXE").env("PATH", "/nowhere");
    let output = demo.output()?;
    let text = String::from_utf8(output.stdout)?;
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    for line in [
        "the chain in a box, regtest",
        "─ C ours ",
        "─ C theirs ",
        "to_local",
        "─ ES ",
        "our share",
        "250,000 sat",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "colours in a pipe");
    let width = text.lines().map(|line| line.chars().count()).max();
    assert!(width <= Some(100), "{width:?}\n{text}");
    let mut strange = Command::new(env!("CARGO_BIN_EXE_demo"));
    assert!(!strange.arg("--kep").output()?.status.success());
    Ok(())
}
