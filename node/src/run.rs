//! The daemon from start to stop: what is started in which order, and stopped in the reverse.
//!
//! ```text
//!   directory, log ─▶ store ─▶ gRPC          State and WalletUnlocker answer
//!     ─▶ wallet made or opened ─▶ macaroons  UNLOCKED
//!     ─▶ node: wallet, channels read back    RPC_ACTIVE: what needs neither chain nor peers
//!     ─▶ bitcoind ─▶ recovery ─▶ blocks
//!     ─▶ all blocks read ─▶ peers            SERVER_ACTIVE
//! ```
//!
//! Nothing is said to a peer before every channel was read back and the chain caught up with; no
//! block is processed before every channel watches what it must.

use crate::assemble;
use crate::auth::{put_root_key, remove_files, Bakery, BakeryError};
use crate::chain::{Chain, ChainEvent};
use crate::channels::services::Services;
use crate::channels::{pumps, storage, ToChannel};
use crate::config::Config;
use crate::keys::{seed_file, KeyRing};
use crate::node::Node;
use crate::own_tower;
use crate::recovery;
use crate::rpc::{self, Front};
use crate::sends::load_broadcasts;
use crate::store::{Store, StoreError, Unit};
use crate::switchboard::Switchboard;
use crate::tower_client::ask_towers;
use crate::unlock::{Files, Opened, Unlocker};
use fulmen_proto::lnrpc::WalletState;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// Why the daemon does not run, in words for whoever started it.
pub type Failure = String;

/// How many events of peers or of the chain may wait.
const EVENTS: usize = 1024;

fn say(what: &str) -> impl Fn(&dyn std::fmt::Display) -> Failure + '_ {
    move |error| format!("{what}: {error}")
}

fn text(error: impl std::fmt::Display) -> Failure {
    error.to_string()
}

/// Runs until `stop` is set, or until something makes going on unsafe.
///
/// # Errors
/// What is wrong and what to do about it.
pub async fn run(config: Config, stop: watch::Sender<bool>) -> Result<(), Failure> {
    let directory = config.network_dir();
    crate::files::make_private_directory(&directory).map_err(|e| say("data directory")(&e))?;
    let store = Store::open(&config.database_path()).map_err(text)?;
    let front = Arc::new(Front::default());
    let (unlocker, opened) = Unlocker::new(config.seed_path(), store.clone(), config.network);
    front.reached(first_state(&config, &unlocker));
    let served = rpc::serve(&config, &front, unlocker.clone()).await?;
    let ended = live(config, &store, &front, &unlocker, opened, stop).await;
    served.stop().await;
    // A panic there has nothing left to spoil.
    let _ = tokio::task::spawn_blocking(move || store.close()).await;
    ended
}

/// What the wallet waits for, known before anybody can ask.
fn first_state(config: &Config, unlocker: &Unlocker) -> WalletState {
    let opens_by_itself = config.no_seed_backup || config.unlock_password_file.is_some();
    match unlocker.exists() {
        true if opens_by_itself => WalletState::WaitingToStart,
        true => WalletState::Locked,
        false if config.no_seed_backup => WalletState::WaitingToStart,
        false => WalletState::NonExisting,
    }
}

/// From the wallet's opening to the end.
async fn live(
    config: Config,
    store: &Store,
    front: &Front,
    unlocker: &Unlocker,
    opened: mpsc::Receiver<Opened>,
    stop: watch::Sender<bool>,
) -> Result<(), Failure> {
    let mut stopped = stop.subscribe();
    let opened = tokio::select! {
        opened = open_wallet(&config, unlocker, opened) => opened?,
        refused = refused_by_bitcoind(&config) => return Err(refused),
        _ = stopped.wait_for(|stop| *stop) => return Ok(()),
    };
    let keys = KeyRing::new(&opened.seed, config.network).map_err(text)?;
    let birthday = opened.seed.birthday();
    let bakery = macaroons(store, &keys, &config.network_dir(), &opened).await?;
    front.unlocked(bakery.clone());
    if let Some(answer) = opened.answer {
        // Whoever asked may have gone away.
        let _ = answer.send(bakery.bake(crate::auth::admin()));
    }
    let database = config.database_path();
    let (peer_events, peer_news) = mpsc::channel(EVENTS);
    let node = assemble::node(config, store.clone(), keys, bakery, peer_events, stop);
    let node = Arc::new(node.await?);
    tokio::spawn(pumps::peers(node.services.clone(), peer_news));
    tokio::spawn(expire_invoices(node.switchboard.clone()));
    tokio::spawn(storage::run(node.services.clone()));
    front.active(rpc::routes(&node));
    let mut failed = store.failed();
    let ended = tokio::select! {
        biased;
        _ = stopped.wait_for(|stop| *stop) => {
            tracing::info!("stopping");
            Ok(())
        }
        why = disk_failed(&mut failed) => {
            Err(format!("{why}; see to the disk of {}, then start again", database.display()))
        }
        why = serve_channels(&node, front, birthday) => why,
    };
    if let Err(why) = &ended {
        tracing::error!("stopping: {why}");
    }
    shut_down(&node.services).await;
    ended
}

/// Ends when a write has failed, and says why.
async fn disk_failed(failed: &mut watch::Receiver<Option<StoreError>>) -> Failure {
    let error = failed.wait_for(Option::is_some).await;
    error.ok().and_then(|error| error.as_ref().map(text)).unwrap_or_default()
}

/// Opens the wallet as the settings say, or waits until its owner does.
async fn open_wallet(
    config: &Config,
    unlocker: &Unlocker,
    mut opened: mpsc::Receiver<Opened>,
) -> Result<Opened, Failure> {
    if config.no_seed_backup {
        let (path, now) = (config.seed_path(), crate::clock::unix_time());
        let open = move || seed_file::open_without_backup(&path, now);
        let seed = tokio::task::spawn_blocking(open).await.map_err(text)?;
        return Ok(Opened::by_itself(seed.map_err(text)?));
    }
    if let Some(path) = &config.unlock_password_file {
        if unlocker.exists() {
            let seed = unlocker.open(password_in(path)?).await.map_err(text)?;
            return Ok(Opened::by_itself(seed));
        }
        if !config.unlock_allow_create {
            return Err("--wallet-unlock-password-file is given, but there is no wallet: add \
                        --wallet-unlock-allow-create and make one with `fulmen-cli create`"
                .into());
        }
    }
    tracing::info!(
        "waiting for the wallet: fulmen-cli create makes one, fulmen-cli unlock opens it"
    );
    opened.recv().await.ok_or_else(|| "nobody can open the wallet any more".into())
}

fn password_in(path: &Path) -> Result<Vec<u8>, Failure> {
    let name = path.display().to_string();
    let mut password = std::fs::read(path).map_err(|e| say(&name)(&e))?;
    // Editors end a file with a line break, which nobody means.
    while matches!(password.last(), Some(b'\n' | b'\r')) {
        password.pop();
    }
    Ok(password)
}

/// Ends when bitcoind refuses us; never otherwise.
async fn refused_by_bitcoind(config: &Config) -> Failure {
    match Chain::new(assemble::chain_config(config), None).connect().await {
        Err(refused) => refused.to_string(),
        Ok(_) => std::future::pending().await,
    }
}

/// Reads or makes the root keys, then the files.
async fn macaroons(
    store: &Store,
    keys: &KeyRing,
    directory: &Path,
    opened: &Opened,
) -> Result<Arc<Bakery>, Failure> {
    let (store, key, directory) = (store.clone(), keys.storage_key(), directory.to_owned());
    let (root_key, files) = (opened.root_key, opened.files);
    let made = tokio::task::spawn_blocking(move || {
        if let Some(root_key) = root_key {
            let mut unit = Unit::new();
            put_root_key(&key, &root_key, &mut unit)?;
            store.commit_blocking(unit)?;
        }
        let bakery = Bakery::open(&store, &key)?;
        match files {
            Files::Write => bakery.write_files(&directory)?,
            Files::Leave => {}
            Files::Remove => remove_files(&directory)?,
        }
        Ok::<_, BakeryError>(Arc::new(bakery))
    });
    made.await.map_err(text)?.map_err(text)
}

/// Follows the chain, and serves the peers once it was caught up with. Ends when it cannot go on.
async fn serve_channels(node: &Node, front: &Front, birthday: u64) -> Result<(), Failure> {
    let Node { services, money, .. } = node;
    let chain = &services.chain;
    let best = chain.connect().await.map_err(text)?;
    let made = (node.config.network, birthday);
    recovery::run(chain, money, &services.store, made, best).await?;
    // Before any block: an old copy of the database must not close a channel for what is over.
    ask_towers(services).await;
    let (chain_events, chain_news) = mpsc::channel(EVENTS);
    let sent = load_broadcasts(&services.store).map_err(text)?;
    chain.follow(money.recent_blocks(), sent, chain_events).map_err(text)?;
    let priced = services.clone();
    tokio::spawn(async move { pumps::feerates(&priced).await });
    tokio::spawn(services.sweeper.clone().run());
    services.towers.run(&node.stop);
    if let Some(tower) = own_tower::start(&node.config, &node.stop).await? {
        // It is started once.
        let _ = node.own_tower.set(tower);
    }
    node.switchboard.resume().await.map_err(text)?;
    let active = async {
        chain.wait_synced().await;
        services.peers.listen().await.map_err(|e| say("listening for peers")(&e))?;
        reconnect(services)?;
        let height = chain.tip().height;
        pumps::to_all(services, || ToChannel::PeersMayTell(height)).await;
        front.reached(WalletState::ServerActive);
        std::future::pending().await
    };
    tokio::select! {
        why = follow_chain(node, chain_news) => Err(why),
        why = active => why,
    }
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
async fn follow_chain(node: &Node, mut events: mpsc::Receiver<ChainEvent>) -> Failure {
    let Node { services, money, header_time, .. } = node;
    while let Some(event) = events.recv().await {
        let mut unit = Unit::new();
        if let Err(error) = money.chain_event(&event, &mut unit) {
            return error.to_string();
        }
        if let ChainEvent::Disconnected { at, .. } = &event {
            // Before the wallet's row: a daemon that starts anew is told of the block again as long
            // as that stands, and no more after.
            pumps::unblock(services, at.height).await;
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
            ChainEvent::Connected { block, .. } => {
                header_time.send_replace(block.header.time);
            }
            _ => {}
        }
        money.tell_news();
        services.sweeper.chain_event(&event);
        let is_block = matches!(event, ChainEvent::Connected { .. });
        pumps::chain(services, event).await;
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

/// Channels first, so that what they decided is still written and said.
async fn shut_down(services: &Arc<Services>) {
    services.registry.stop().await;
    storage::stop(services).await;
    services.peers.stop().await;
    services.chain.stop().await;
}
