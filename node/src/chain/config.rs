//! Where bitcoind is, and how it is used.

use super::RpcAuth;
use bitcoin::Network;
use std::time::Duration;

/// Where bitcoind is and how we use it.
#[derive(Clone)]
pub struct ChainConfig {
    /// The network that bitcoind must be on.
    pub network: Network,
    /// `address:port` of its RPC.
    pub rpc_host: String,
    /// How we identify ourselves.
    pub rpc_auth: RpcAuth,
    /// How long one RPC call may take.
    pub rpc_timeout: Duration,
    /// ZMQ endpoint of `rawblock` or `hashblock`, as `tcp://127.0.0.1:28332`.
    pub zmq_block: Option<String>,
    /// ZMQ endpoint of `rawtx`; without it the mempool is polled.
    pub zmq_tx: Option<String>,
    /// How often we look for ourselves, whatever ZMQ says.
    pub poll: Duration,
    /// Confirmations after which a broadcast counts as settled.
    pub deep: u32,
}

impl ChainConfig {
    /// The usual settings, without ZMQ.
    pub fn new(network: Network, rpc_host: &str, rpc_auth: RpcAuth) -> ChainConfig {
        ChainConfig {
            network,
            rpc_host: rpc_host.into(),
            rpc_auth,
            rpc_timeout: Duration::from_secs(30),
            zmq_block: None,
            zmq_tx: None,
            poll: Duration::from_secs(5),
            deep: 6,
        }
    }
}
