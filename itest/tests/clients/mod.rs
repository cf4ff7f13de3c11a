//! Clients that were written for lnd, doing all of tier 1 against our daemons: PyPI's
//! lnd-grpc-client and lndgrpc, npm's lightning.

use std::collections::BTreeSet;

use fulmen_itest::bitcoind::RPC_LOGIN;
use fulmen_itest::failure::Result;
use fulmen_itest::node_js::Node;
use fulmen_itest::python::Python;
use fulmen_itest::regtest::{Cluster, Daemon};

/// What most clients call, a method a line.
const TIER_1: &str = include_str!("tier1.txt");
/// What a client does to a daemon's wallet, each at a start of its own.
const STEPS: [&str; 3] = ["makes", "opens", "changes"];

#[tokio::test(flavor = "multi_thread")]
async fn lnd_grpc_client() -> Result<()> {
    if Python::is_missing() {
        return Ok(());
    }
    let client = Python::with("lnd-grpc-client", &["lnd-grpc-client==0.6.0"])?;
    makes_all_of_tier_1(|script, arguments| client.runs(script, arguments), "py", &[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn lndgrpc() -> Result<()> {
    if Python::is_missing() {
        return Ok(());
    }
    // Its stubs do not load with a newer protobuf, and its setup asks for an old setuptools.
    let packages = [
        "setuptools==79.0.1",
        "wheel==0.45.1",
        "typing_extensions==4.16.0",
        "grpcio==1.85.1",
        "protobuf==3.20.3",
        "googleapis-common-protos==1.56.4",
        "click==8.5.1",
        "aiogrpc==1.8",
        "lndgrpc==0.2.0",
    ];
    let client = Python::with("lndgrpc", &packages)?;
    // Its stubs are of 2019.
    let unknown = [
        "lnrpc.Lightning/ListUnspent",
        "lnrpc.State/GetState",
        "lnrpc.State/SubscribeState",
        "routerrpc.Router/SendPaymentV2",
        "routerrpc.Router/TrackPaymentV2",
        "verrpc.Versioner/GetVersion",
    ];
    makes_all_of_tier_1(|script, arguments| client.runs(script, arguments), "py", &unknown).await
}

#[tokio::test(flavor = "multi_thread")]
async fn npm_lightning() -> Result<()> {
    let client = Node::with_packages()?;
    makes_all_of_tier_1(|script, arguments| client.runs(script, arguments), "js", &[]).await
}

/// Runs a client's scripts: against two daemons, of which it stops the first, and against one
/// whose wallet it makes. They make every call of the list but those that the client does not know.
async fn makes_all_of_tier_1(
    runs: impl Fn(&str, &[String]) -> Result<String>,
    language: &str,
    unknown: &[&str],
) -> Result<()> {
    let cluster = Cluster::start()?;
    let (alice, bob) = (cluster.daemon("alice").await?, cluster.daemon("bob").await?);
    let url = format!("http://{RPC_LOGIN}:{RPC_LOGIN}@{}", cluster.bitcoind().rpc_address());
    let arguments =
        [&[url], &credentials(&alice)[..], &credentials(&bob), &[bob.listen_address()]].concat();
    let mut printed = runs(&format!("calls.{language}"), &arguments)?;
    assert!(alice.ends()?, "StopDaemon ends it without error");

    let carol = Daemon::without_wallet(cluster.bitcoind(), "carol", &[])?;
    for step in STEPS {
        carol.spawn()?;
        carol.unlocker().await?;
        let [address, certificate, _] = credentials(&carol);
        let arguments = [step.into(), address, certificate];
        printed += &runs(&format!("unlocker.{language}"), &arguments)?;
        carol.catches_up().await?;
        carol.stops().await?;
    }

    let made: BTreeSet<&str> = printed.split_whitespace().collect();
    let wanted = TIER_1.lines().filter(|call| !unknown.contains(call));
    let missing: Vec<_> = wanted.filter(|call| !made.contains(call)).collect();
    assert!(missing.is_empty(), "not made: {missing:?}");
    Ok(())
}

/// Address, certificate and macaroon, as the scripts take them.
fn credentials(daemon: &Daemon) -> [String; 3] {
    let path = |path: std::path::PathBuf| path.display().to_string();
    [daemon.rpc_address(), path(daemon.tls_cert()), path(daemon.admin_macaroon())]
}
