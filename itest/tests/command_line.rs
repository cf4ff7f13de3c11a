//! fulmen-cli against a real daemon: a payment from the shell, and the errors a shell sees.

use std::io::Write;
use std::process::{Command, Stdio};

use fulmen_channel::amount::Sat;
use fulmen_itest::build;
use fulmen_itest::failure::Result;
use fulmen_itest::regtest::{Cluster, Daemon, Peer};
use fulmen_proto::lnrpc::InitWalletRequest;
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

#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_opened_from_the_shell() -> Result<()> {
    let cluster = Cluster::start()?;
    let alice = Daemon::without_wallet(cluster.bitcoind(), "alice", &[])?;
    alice.spawn()?;
    let mut unlocker = alice.unlocker().await?;
    assert_eq!(says(&alice, &["state"])?["state"], "NON_EXISTING");
    let request = InitWalletRequest {
        wallet_password: b"correct horse".into(),
        extended_master_key: MASTER_KEY.into(),
        recovery_window: 3,
        ..Default::default()
    };
    unlocker.init_wallet(request).await?;
    alice.catches_up().await?;
    let time = says(&alice, &["getinfo"])?["best_header_timestamp"].clone();
    says(&alice, &["stop"])?;
    assert!(alice.ends()?);

    alice.spawn()?;
    alice.unlocker().await?;
    assert_eq!(says(&alice, &["state"])?["state"], "LOCKED");
    let locked = says(&alice, &["getinfo"]).unwrap_err().to_string();
    assert!(locked.contains("wallet locked, unlock it to enable full RPC access"), "{locked}");
    let wrong = tells(&alice, &["unlock", "--stdin"], "battery staple").unwrap_err().to_string();
    assert!(wrong.contains("invalid passphrase for master public key"), "{wrong}");
    tells(&alice, &["unlock", "--stdin", "--recovery_window=3"], "correct horse")?;
    alice.catches_up().await?;
    assert_eq!(says(&alice, &["state"])?["state"], "SERVER_ACTIVE");
    let recovery = says(&alice, &["getrecoveryinfo"])?;
    assert_eq!(recovery["recovery_finished"], true);
    assert_eq!(says(&alice, &["getinfo"])?["best_header_timestamp"], time);
    assert_ne!(time, "0");
    Ok(())
}

/// BIP 32's master key of 16 bytes 1, on test networks.
const MASTER_KEY: &str = "tprv8ZgxMBicQKsPdb9KsKGLCmvjBVUbViqw6HcECv1N647ADPVancEdXMab\
    zLuQFpaG2oU5rwYnTn6NCy6W3SkA4VsqXpacULqFVVQGBRG976m";

/// What a command prints; its stderr as the failure.
pub fn says(daemon: &Daemon, words: &[&str]) -> Result<Value> {
    tells(daemon, words, "")
}

/// The same with a line for it to read.
fn tells(daemon: &Daemon, words: &[&str], line: &str) -> Result<Value> {
    let mut child = Command::new(build::fulmen_cli()?)
        .arg(format!("--fulmendir={}", daemon.dir().display()))
        .arg(format!("--rpcserver={}", daemon.rpc_address()))
        .arg("--network=regtest")
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    // Dropped at once, so that it reads the end after the line. One that asks nothing is over.
    let _ = writeln!(child.stdin.take().unwrap(), "{line}");
    let output = child.wait_with_output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(serde_json::from_slice(&output.stdout).unwrap_or(Value::Null));
    }
    Err(fulmen_itest::failure::Failure::new(text(&output.stderr)))
}
