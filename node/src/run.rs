//! The daemon from start to stop: what is started in which order, and stopped in the reverse.
//!
//! ```text
//!   directory, log ─▶ store ─▶ seed ─▶ bitcoind ─▶ wallet ─▶ peers ─▶ channels ─▶ chain ─▶ rpc
//! ```
//!
//! Nothing is said to a peer before every channel was read back; no block is processed before
//! every channel watches what it must.

use crate::chain::{Chain, ChainConfig, ChainEvent, RpcAuth};
use crate::channels::announce::Forwarding;
use crate::channels::opening::{restore_all, Numbers};
use crate::channels::policy::Limits;
use crate::channels::pumps;
use crate::channels::registry::Registry;
use crate::channels::services::Services;
use crate::config::{BitcoindAuth, Config};
use crate::keys::{seed_file, KeyRing};
use crate::money::Money;
use crate::node::Node;
use crate::peer::{features::features, Peers, PeersConfig};
use crate::sends::load_broadcasts;
use crate::store::{Store, Unit};
use crate::switchboard::{BoardHub, Switchboard};
use crate::wallet::Wallet;
use bitcoin::constants::ChainHash;
use bitcoin::Transaction;
use fulmen_channel::keys::Inline;
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// Why the daemon does not run, in words for whoever started it.
pub type Failure = String;

/// How many events of peers or of the chain may wait.
const EVENTS: usize = 1024;

fn say(what: &str) -> impl Fn(&dyn std::fmt::Display) -> Failure + '_ {
    move |error| format!("{what}: {error}")
}

/// Runs until `stop` is set, or until something makes going on unsafe.
///
/// # Errors
/// What is wrong and what to do about it.
pub async fn run(config: Config, stop: watch::Sender<bool>) -> Result<(), Failure> {
    let directory = config.network_dir();
    crate::files::make_private_directory(&directory).map_err(|e| say("data directory")(&e))?;
    let store = Store::open(&config.database_path()).map_err(|e| e.to_string())?;
    let keys = open_keys(&config).await?;
    let mut stopped = stop.subscribe();
    let chain = tokio::select! {
        chain = Chain::connect(chain_config(&config)) => chain.map_err(|e| e.to_string())?,
        // bitcoind may take long to answer; nothing that needs an order is started yet.
        _ = stopped.wait_for(|stop| *stop) => return Ok(()),
    };
    let wallet = Wallet::load(&keys, config.network, &store).map_err(|e| e.to_string())?;
    let recent = wallet.recent_blocks();
    let registry = Registry::default();
    let of_channels = registry.clone();
    let count = move || u32::try_from(of_channels.all().len()).unwrap_or(u32::MAX);
    let money = Money::new(wallet, store.clone(), count).with_random_coins(config.random_coins);
    let money = Arc::new(money);
    let switchboard = Switchboard::new(&store, &keys, &registry, &chain, config.network);
    let switchboard = switchboard.map_err(|e| e.to_string())?;
    let (peer_events, peer_news) = mpsc::channel(EVENTS);
    let peers = Peers::start(peers_config(&config, &keys), peer_events).await;
    let peers = peers.map_err(|e| say("listening for peers")(&e))?;
    let services = Arc::new(Services {
        store: store.clone(),
        peers,
        chain: chain.clone(),
        keys,
        numbers: Numbers::default(),
        max_pending: usize::try_from(config.max_pending_channels).unwrap_or(usize::MAX),
        curve: Arc::new(Inline),
        hub: Arc::new(BoardHub(switchboard.clone())),
        funds: money.clone(),
        registry,
        chain_hash: ChainHash::using_genesis_block(config.network),
        limits: limits(&config),
        forwarding: forwarding(&config),
        protocol: config.protocol,
        zero_conf_peers: config.zero_conf_peers.clone(),
        max_fee_exposure: config.max_fee_exposure,
    });
    let sent = load_broadcasts(&store).map_err(|e| e.to_string())?;
    restore(&services, &money, &sent).await?;
    let (chain_events, chain_news) = mpsc::channel(EVENTS);
    chain.follow(recent, sent, chain_events).map_err(|e| e.to_string())?;
    let (header, header_time) = watch::channel(0);
    tokio::spawn(pumps::peers(services.clone(), peer_news));
    let priced = services.clone();
    tokio::spawn(async move { pumps::feerates(&priced).await });
    let pump = tokio::spawn(follow_chain(services.clone(), money.clone(), chain_news, header));
    reconnect(&services)?;
    let node = Node { config, services, money, switchboard, header_time, stop };
    let node = Arc::new(node);
    node.switchboard.resume().await.map_err(|e| e.to_string())?;
    tokio::spawn(expire_invoices(node.switchboard.clone()));
    let served = crate::rpc::serve(node.clone(), &directory).await?;
    wait_for_stop(&node, &store, pump).await;
    served.stop().await;
    shut_down(&node.services).await;
    Ok(())
}

async fn open_keys(config: &Config) -> Result<KeyRing, Failure> {
    if !config.no_seed_backup {
        return Err("wallet creation and unlocking are not built into fulmen yet: start with \
                    --noseedbackup, which makes and opens a wallet by itself"
            .into());
    }
    let path = config.seed_path();
    let now = crate::clock::unix_time();
    let opened = tokio::task::spawn_blocking(move || seed_file::open_without_backup(&path, now));
    let seed = opened.await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
    KeyRing::new(&seed, config.network).map_err(|e| e.to_string())
}

fn chain_config(config: &Config) -> ChainConfig {
    let auth = match &config.bitcoind.auth {
        BitcoindAuth::UserPass(user, password) => {
            RpcAuth::UserPass { user: user.clone(), password: password.clone() }
        }
        BitcoindAuth::Cookie(path) => RpcAuth::Cookie(path.clone()),
    };
    let mut chain = ChainConfig::new(config.network, &config.bitcoind.host, auth);
    let bitcoind = &config.bitcoind;
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
async fn restore(
    services: &Arc<Services>,
    money: &Money,
    sent: &[Transaction],
) -> Result<(), Failure> {
    let records = restore_all(services).map_err(|e| e.to_string())?;
    let mut known: Vec<_> = records.iter().map(|record| record.outpoint.txid).collect();
    known.extend(sent.iter().map(Transaction::compute_txid));
    let mut unit = Unit::new();
    money.release_unknown(&known, &mut unit);
    services.store.commit(unit).await.map_err(|e| e.to_string())
}

/// Connects to every peer that we have a channel with and know an address of.
fn reconnect(services: &Services) -> Result<(), Failure> {
    let peers: BTreeSet<_> = services.registry.all().iter().map(|handle| handle.peer).collect();
    for peer in peers {
        services.stay_connected(&peer).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Feeds the wallet, then the channels, with what happens on chain. Ends when it cannot go on.
async fn follow_chain(
    services: Arc<Services>,
    money: Arc<Money>,
    mut events: mpsc::Receiver<ChainEvent>,
    header: watch::Sender<u32>,
) -> Failure {
    while let Some(event) = events.recv().await {
        let mut unit = Unit::new();
        if let Err(error) = money.chain_event(&event, &mut unit) {
            return error.to_string();
        }
        if !unit.is_empty() {
            if let Err(error) = services.store.commit(unit).await {
                return error.to_string();
            }
        }
        match &event {
            ChainEvent::Stopped { why } => return why.clone(),
            ChainEvent::Down { why } => tracing::warn!("bitcoind does not answer: {why}"),
            ChainEvent::Up => tracing::info!("bitcoind answers again"),
            ChainEvent::Connected { block, .. } => drop(header.send(block.header.time)),
            _ => {}
        }
        money.tell_news();
        let is_block = matches!(event, ChainEvent::Connected { .. });
        pumps::chain(&services, event).await;
        if is_block && events.is_empty() {
            let (services, money) = (services.clone(), money.clone());
            tokio::spawn(async move {
                pumps::feerates(&services).await;
                if let Err(error) = money.look_after_unconfirmed(&services.chain).await {
                    tracing::error!("unconfirmed transactions are not looked after: {error}");
                }
            });
        }
    }
    "the chain is no longer followed".into()
}

async fn expire_invoices(switchboard: Arc<Switchboard>) {
    if let Err(error) = switchboard.expire_invoices().await {
        tracing::error!("invoices are no longer cancelled when they expire: {error}");
    }
}

async fn wait_for_stop(node: &Node, store: &Store, pump: tokio::task::JoinHandle<Failure>) {
    let mut stop = node.stop.subscribe();
    let mut failed = store.failed();
    tokio::select! {
        _ = stop.wait_for(|stop| *stop) => tracing::info!("stopping"),
        why = pump => tracing::error!("stopping: {}", why.unwrap_or_else(|e| e.to_string())),
        _ = failed.wait_for(Option::is_some) => tracing::error!("stopping: the disk failed"),
    }
}

/// Channels first, so that what they decided is still written and said.
async fn shut_down(services: &Arc<Services>) {
    services.registry.stop().await;
    services.peers.stop().await;
    services.chain.stop().await;
    let store = services.store.clone();
    // A panic there has nothing left to spoil.
    let _ = tokio::task::spawn_blocking(move || store.close()).await;
}
