//! The main network: refused unless one says that one knows the risk, then a network as any other.

use std::process::Command;

use fulmen_itest::bitcoind::Bitcoind;
use fulmen_itest::build;
use fulmen_itest::failure::{Failure, Result};
use fulmen_itest::regtest::Daemon;
use serde_json::Value;
use std::sync::Arc;

/// What fulmen-cli prints of a daemon on the main network, which is the network it looks for.
fn says(daemon: &Daemon, words: &[&str]) -> Result<Value> {
    let mut command = Command::new(build::fulmen_cli()?);
    command.arg(format!("--fulmendir={}", daemon.dir().display()));
    command.arg(format!("--rpcserver={}", daemon.rpc_address())).args(words);
    let output = command.output()?;
    let error = || Failure::new(String::from_utf8_lossy(&output.stderr));
    output.status.success().then_some(()).ok_or_else(error)?;
    Ok(serde_json::from_slice(&output.stdout)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_refused_without_a_word_about_the_risk() -> Result<()> {
    let bitcoind = Arc::new(Bitcoind::start_on_mainnet()?);
    let alice = Daemon::new(&bitcoind, "alice", &[])?;
    alice.spawn()?;
    assert!(!alice.ends()?);
    assert!(alice.wrote()?.contains("--mainnet-at-own-risk"), "{}", alice.wrote()?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_and_invoices_are_the_main_networks() -> Result<()> {
    let bitcoind = Arc::new(Bitcoind::start_on_mainnet()?);
    let alice = Daemon::new(&bitcoind, "alice", &["--mainnet-at-own-risk"])?;
    alice.spawn()?;
    let look = async || Ok(says(&alice, &["getinfo"]).ok());
    let info = alice.until("it answers", look).await?;
    assert_eq!(info["chains"][0]["network"], "mainnet", "{info}");
    // Its bitcoind has everything still to read.
    assert_eq!(info["synced_to_chain"], false, "{info}");
    for (kind, prefix) in [("p2wkh", "bc1q"), ("np2wkh", "3"), ("p2tr", "bc1p")] {
        let address = says(&alice, &["newaddress", kind])?["address"].clone();
        assert!(address.as_str().is_some_and(|text| text.starts_with(prefix)), "{address}");
    }
    let invoice = says(&alice, &["addinvoice", "--amt=1000"])?["payment_request"].clone();
    assert!(invoice.as_str().is_some_and(|text| text.starts_with("lnbc10u1")), "{invoice}");
    Ok(())
}
