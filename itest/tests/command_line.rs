//! fulmen-cli against a real daemon: a payment from the shell, and the errors a shell sees.

use std::process::Command;

use fulmen_channel::amount::Sat;
use fulmen_itest::build;
use fulmen_itest::failure::Result;
use fulmen_itest::regtest::{Cluster, Daemon, Peer};
use serde_json::Value;

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_from_the_shell() -> Result<()> {
    let cluster = Cluster::start()?;
    let (alice, bob, channel) = cluster.pair(Sat::new(1_000_000)).await?;
    let info = says(&alice, &["getinfo"])?;
    assert_eq!(info["identity_pubkey"], alice.node_id()?.to_string());
    assert_eq!(
        says(&alice, &["listchannels"])?["channels"][0]["channel_point"],
        channel.channel_point
    );
    let invoice = says(&bob, &["addinvoice", "--memo=tea", "--amt=1000"])?;
    let request = invoice["payment_request"].as_str().unwrap();
    says(&alice, &["payinvoice", "--force", "--json", request])?;
    let hash = invoice["r_hash"].as_str().unwrap();
    assert_eq!(says(&bob, &["lookupinvoice", hash])?["state"], "SETTLED");
    let again = says(&alice, &["payinvoice", "--force", "--json", request]).unwrap_err();
    assert!(again.to_string().contains("already paid"), "{again}");
    says(&alice, &["stop"])?;
    assert!(alice.ends()?);
    assert!(says(&alice, &["getinfo"]).unwrap_err().to_string().contains("cannot reach fulmend"));
    Ok(())
}

/// What a command prints; its stderr as the failure.
fn says(daemon: &Daemon, words: &[&str]) -> Result<Value> {
    let output = Command::new(build::fulmen_cli()?)
        .arg(format!("--fulmendir={}", daemon.dir().display()))
        .arg(format!("--rpcserver={}", daemon.rpc_address()))
        .arg("--network=regtest")
        .args(words)
        .output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(serde_json::from_slice(&output.stdout).unwrap_or(Value::Null));
    }
    Err(fulmen_itest::failure::Failure::new(text(&output.stderr)))
}
