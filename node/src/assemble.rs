//! The node put together of its parts, from the settings and an open wallet. bitcoind and the peers
//! are not needed for that, and hear nothing yet.

use crate::auth::Bakery;
use crate::backup::Backups;
use crate::chain::{Chain, ChainConfig};
use crate::channels::announce::Forwarding;
use crate::channels::opening::{restore_all, Numbers};
use crate::channels::policy::Limits;
use crate::channels::registry::Registry;
use crate::channels::restored;
use crate::channels::services::Services;
use crate::config::Config;
use crate::keys::KeyRing;
use crate::money::Money;
use crate::node::Node;
use crate::peer::{features::features, PeerEvent, Peers, PeersConfig};
use crate::sends::load_broadcasts;
use crate::store::{Store, Unit};
use crate::sweeper::Sweeper;
use crate::switchboard::{BoardHub, Switchboard};
use crate::tower_client::TowerClient;
use crate::wallet::Wallet;
use bitcoin::constants::{genesis_block, ChainHash};
use bitcoin::Transaction;
use fulmen_channel::keys::Inline;
use std::sync::{Arc, OnceLock};
use tokio::sync::{mpsc, watch};

/// The node with all its channels read back.
///
/// # Errors
/// What cannot be read.
pub async fn node(
    config: Config,
    store: Store,
    keys: KeyRing,
    bakery: Arc<Bakery>,
    peer_events: mpsc::Sender<PeerEvent>,
    stop: watch::Sender<bool>,
) -> Result<Node, String> {
    let wallet = Wallet::load(&keys, config.network, &store).map_err(|e| e.to_string())?;
    let chain = Chain::new(chain_config(&config), wallet.tip());
    let registry = Registry::default();
    let of_channels = registry.clone();
    let count = move || of_channels.reserves();
    let money = Money::new(wallet, store.clone(), count).with_random_coins(config.random_coins);
    let money = Arc::new(money);
    let switchboard = Switchboard::new(&store, &keys, &registry, &chain, config.network);
    let switchboard = switchboard.map_err(|e| e.to_string())?;
    let sweeper = Sweeper::new(store.clone(), chain.clone(), keys.clone(), money.clone());
    let sweeper = Arc::new(sweeper.map_err(|e| e.to_string())?);
    let backups = Arc::new(Backups::new(&keys, store.clone(), config.backup_path()));
    let genesis = genesis_block(config.network).block_hash();
    let own = (store.clone(), keys.clone());
    let named = (config.towers_active, config.towers.as_slice());
    let towers = TowerClient::new(named, config.tower_policy, own, genesis)?;
    let services = Arc::new(Services {
        towers: Arc::new(towers),
        store,
        peers: Peers::new(peers_config(&config, &keys), peer_events),
        chain,
        keys,
        numbers: Numbers::default(),
        max_pending: usize::try_from(config.max_pending_channels).unwrap_or(usize::MAX),
        curve: Arc::new(Inline),
        hub: Arc::new(BoardHub { board: switchboard.clone(), holds: config.hodl_exit_settle }),
        funds: money.clone(),
        sweeper,
        backups,
        registry,
        chain_hash: ChainHash::using_genesis_block(config.network),
        limits: limits(&config),
        forwarding: forwarding(&config),
        protocol: config.protocol,
        zero_conf_peers: config.zero_conf_peers.clone(),
        max_fee_exposure: config.max_fee_exposure,
    });
    restore(&services, &money).await?;
    let header_time = watch::Sender::new(0);
    let own_tower = OnceLock::new();
    Ok(Node { config, services, money, switchboard, own_tower, bakery, header_time, stop })
}

/// Where bitcoind is.
pub fn chain_config(config: &Config) -> ChainConfig {
    let bitcoind = &config.bitcoind;
    let mut chain = ChainConfig::new(config.network, &bitcoind.host, bitcoind.auth.clone());
    chain.zmq_block = bitcoind.zmq_raw_block.clone().or(bitcoind.zmq_hash_block.clone());
    chain.zmq_tx = bitcoind.zmq_raw_tx.clone();
    chain
}

fn peers_config(config: &Config, keys: &KeyRing) -> PeersConfig {
    PeersConfig {
        node_secret: keys.node_secret(),
        listen: config.listen.clone(),
        features: features(&config.protocol),
        chain: ChainHash::using_genesis_block(config.network),
        limits: Default::default(),
    }
}

fn limits(config: &Config) -> Limits {
    Limits {
        confirmations: config.default_chan_confs.map(u32::from),
        min_channel: config.min_chan_size,
        max_channel: config.max_chan_size.min(Limits::default().max_channel),
    }
}

fn forwarding(config: &Config) -> Forwarding {
    Forwarding {
        base_fee: config.policy.base_fee,
        fee_ppm: config.policy.fee_rate_ppm,
        cltv_delta: config.policy.time_lock_delta,
        htlc_minimum: config.policy.min_htlc,
    }
}

/// Reads every channel back, and frees what the wallet held for channels that never came to be.
async fn restore(services: &Arc<Services>, money: &Money) -> Result<(), String> {
    let sent = load_broadcasts(&services.store).map_err(|e| e.to_string())?;
    let records = restore_all(services).map_err(|e| e.to_string())?;
    restored::start_all(services).map_err(|e| e.to_string())?;
    let mut known: Vec<_> = records.iter().map(|record| record.outpoint.txid).collect();
    known.extend(sent.iter().map(Transaction::compute_txid));
    let mut unit = Unit::new();
    money.release_unknown(&known, &mut unit);
    services.store.commit(unit).await.map_err(|e| e.to_string())
}
