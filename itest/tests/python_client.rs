//! PyPI's lnd-grpc-client, which carries LND's own stubs, against our daemon.

use fulmen_itest::failure::Result;
use fulmen_itest::python::Python;

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
