//! Clients that were written for lnd, doing all of tier 1 against our daemons: PyPI's
//! lnd-grpc-client and lndgrpc, npm's lightning.

use std::collections::BTreeSet;

use fulmen_itest::bitcoind::RPC_LOGIN;
use fulmen_itest::failure::Result;
use fulmen_itest::node_js::Node;
use fulmen_itest::python::Python;
use fulmen_itest::regtest::{Cluster, Daemon};
use fulmen_proto::lnrpc::ListPermissionsRequest;

/// What most clients call, a method a line.
const TIER_1: &str = include_str!("tier1.txt");
/// The calls of a daemon without a wallet, which is none of these.
const UNLOCKER: &str = "lnrpc.WalletUnlocker/";

/// Services that are served all together or not at all.
const AROUND: [&str; 2] = ["lnrpc.State/", "verrpc.Versioner/"];

#[tokio::test(flavor = "multi_thread")]
async fn lnd_grpc_client() -> Result<()> {
    if Python::is_missing() {
        return Ok(());
    }
    let client = Python::with("lnd-grpc-client", &["lnd-grpc-client==0.6.0"])?;
    makes_all_of_tier_1(|arguments| client.runs("calls.py", arguments), &[]).await
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
    makes_all_of_tier_1(|arguments| client.runs("calls.py", arguments), &unknown).await
}

#[tokio::test(flavor = "multi_thread")]
async fn npm_lightning() -> Result<()> {
    let client = Node::with_packages()?;
    makes_all_of_tier_1(|arguments| client.runs("calls.js", arguments), &[]).await
}

/// Runs a client's script against two daemons: it makes every call of the list but those that it
/// does not know, and stops the first daemon.
async fn makes_all_of_tier_1(
    runs: impl FnOnce(&[String]) -> Result<String>,
    unknown: &[&str],
) -> Result<()> {
    let cluster = Cluster::start()?;
    let (alice, bob) = (cluster.daemon("alice").await?, cluster.daemon("bob").await?);
    let url = format!("http://{RPC_LOGIN}:{RPC_LOGIN}@{}", cluster.bitcoind().rpc_address());
    let arguments =
        [vec![url], credentials(&alice), credentials(&bob), vec![bob.listen_address()]].concat();
    let permissions = alice.lightning().await?.list_permissions(ListPermissionsRequest {}).await?;
    let served = permissions.into_inner().method_permissions;
    let around = served.contains_key("/verrpc.Versioner/GetVersion");
    let printed = runs(&arguments)?;
    let made: BTreeSet<&str> = printed.split_whitespace().collect();
    let wanted = TIER_1.lines().filter(|call| !call.starts_with(UNLOCKER));
    let wanted = wanted.filter(|call| around || !AROUND.iter().any(|name| call.starts_with(name)));
    let wanted: BTreeSet<&str> = wanted.filter(|call| !unknown.contains(call)).collect();
    assert!(wanted.len() > 20, "the list is empty");
    let missing: Vec<_> = wanted.difference(&made).collect();
    assert!(missing.is_empty(), "not made: {missing:?}");
    assert!(alice.ends()?, "StopDaemon ends it without error");
    Ok(())
}

/// Address, certificate and macaroon, as the scripts take them.
fn credentials(daemon: &Daemon) -> Vec<String> {
    let path = |path: std::path::PathBuf| path.display().to_string();
    vec![daemon.rpc_address(), path(daemon.tls_cert()), path(daemon.admin_macaroon())]
}
