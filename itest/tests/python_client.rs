//! PyPI's lnd-grpc-client, which carries LND's own stubs, against our daemon.

use fulmen_itest::bitcoind::RPC_LOGIN;
use fulmen_itest::failure::Result;
use fulmen_itest::python::Python;
use fulmen_itest::regtest::{Cluster, Daemon};

fn lnd_grpc_client() -> Result<Python> {
    Python::with("lnd-grpc-client", "lnd-grpc-client==0.6.0")
}

#[test]
fn its_stubs_know_our_calls() -> Result<()> {
    if Python::is_missing() {
        return Ok(());
    }
    let version = lnd_grpc_client()?.runs("stubs.py", &[])?;
    assert_eq!(version.trim(), "0.6.0");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn it_makes_every_call() -> Result<()> {
    if Python::is_missing() {
        return Ok(());
    }
    let cluster = Cluster::start()?;
    let (alice, bob) = (cluster.daemon("alice").await?, cluster.daemon("bob").await?);
    let url = format!("http://{RPC_LOGIN}:{RPC_LOGIN}@{}", cluster.bitcoind().rpc_address());
    let arguments =
        [vec![url], credentials(&alice), credentials(&bob), vec![bob.listen_address()]].concat();
    let calls = lnd_grpc_client()?.runs("calls.py", &arguments)?;
    let made: Vec<&str> = calls.split_whitespace().collect();
    let wanted = "GetInfo NewAddress WalletBalance ConnectPeer ListPeers OpenChannelSync \
        PendingChannels ListChannels AddInvoice DecodePayReq SendPaymentV2 LookupInvoice \
        AddInvoice SendPaymentSync ListInvoices ListPayments CloseChannel StopDaemon";
    assert_eq!(made, wanted.split_whitespace().collect::<Vec<_>>());
    assert!(alice.ends()?, "StopDaemon ends it without error");
    Ok(())
}

/// Address, certificate and macaroon, as the script takes them.
fn credentials(daemon: &Daemon) -> Vec<String> {
    let path = |path: std::path::PathBuf| path.display().to_string();
    vec![daemon.rpc_address(), path(daemon.tls_cert()), path(daemon.admin_macaroon())]
}
