//! A watchtower within the daemon, for other nodes: what fulmen-tower is, by lnd's flags.

use crate::config::Config;
use bitcoin::constants::genesis_block;
use bitcoin::secp256k1::PublicKey;
use fulmen_watchtower::gatekeeper::Limits;
use fulmen_watchtower::rpc::Rpc;
use fulmen_watchtower::tower::{Setup, Tower};
use fulmen_watchtower::{api, carrier, config};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// A call to bitcoind that takes longer has failed.
const RPC_TIMEOUT: Duration = Duration::from_secs(60);

/// The tower that runs here.
pub struct OwnTower {
    /// Its key.
    pub id: PublicKey,
    /// Where it listens.
    pub listeners: Vec<SocketAddr>,
    /// How clients may add it: by the addresses that the operator told.
    pub uris: Vec<String>,
}

/// Starts it, until `stop`; nothing if the settings do not switch it on.
///
/// # Errors
/// In words: its directory cannot be used, or its address.
pub async fn start(
    config: &Config,
    stop: &watch::Sender<bool>,
) -> Result<Option<OwnTower>, String> {
    let Some(directory) = config.tower_dir.clone() else { return Ok(None) };
    let chain = genesis_block(config.network).block_hash();
    let opened = tokio::task::spawn_blocking(move || open(&directory, chain)).await;
    let tower = Arc::new(opened.map_err(|died| died.to_string())??);
    let mut listeners = Vec::new();
    for address in &config.tower_listen {
        let listener = TcpListener::bind(address).await;
        let listener = listener
            .map_err(|error| format!("the watchtower cannot listen on {address}: {error}"))?;
        listeners.push(listener.local_addr().map_err(|error| error.to_string())?);
        tokio::spawn(api::serve(tower.clone(), listener, stop.subscribe()));
    }
    let id = tower.id();
    let uris = config.tower_external_ips.iter().map(|address| format!("{id}@{address}")).collect();
    tracing::info!("watchtower {id} listens on {listeners:?}");
    let rpc = Rpc::new(&config.bitcoind.host, config.bitcoind.auth.clone(), RPC_TIMEOUT);
    let stop = stop.subscribe();
    tokio::spawn(async move {
        if let Err(error) = carrier::follow(tower, rpc, stop).await {
            tracing::error!("the watchtower watches no longer: {error}");
        }
    });
    Ok(Some(OwnTower { id, listeners, uris }))
}

fn open(directory: &Path, chain: bitcoin::BlockHash) -> Result<Tower, String> {
    crate::files::make_private_directory(directory)
        .map_err(|error| format!("{}: {error}", directory.display()))?;
    let setup = Setup {
        secret: config::key(directory)?,
        chain,
        // Channels are taken by a tower of one's own on another machine, or it watches nothing
        // while this one is off.
        private_clients: BTreeSet::new(),
        limits: Limits::default(),
    };
    Tower::open(&directory.join("tower.db"), setup).map_err(|error| error.to_string())
}
