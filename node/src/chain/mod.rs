//! The chain: bitcoind over RPC and ZMQ, as a stream of ordered events and a few questions.
//!
//! ```text
//!   zmq (hints) ─┐
//!   poll timer ──┼─► watcher task ──► ChainEvent, in order, through a bounded queue
//!   commands ────┘        │
//!                         └── rpc, on blocking threads, over a connection of its own
//! ```
//!
//! [`Chain::connect`] waits for bitcoind and checks it; set the watches that are known, then
//! [`Chain::follow`]. bitcoind may go away at any time after that: `Down`, retries, `Up`, catch-up.

pub mod broadcast;
mod config;
pub mod fees;
pub mod follow;
pub use fulmen_watchtower::http;
pub use fulmen_watchtower::rpc;
pub mod silence;
pub mod spends;
mod status;
pub mod watcher;
pub mod zmq;

pub use broadcast::BroadcastError;
pub use config::ChainConfig;
pub use fees::Target;
pub use follow::BlockRef;
pub use rpc::{MempoolVerdict, RpcAuth, RpcError, Unspent};
pub use spends::{Confirmed, Found, Spent};

use bitcoin::constants::genesis_block;
use bitcoin::{Block, BlockHash, OutPoint, Transaction, Txid};
use follow::BlockSource;
use fulmen_channel::amount::{FeeratePerKw, Height};
use rpc::{chain_name, ChainInfo, Rpc};
use silence::Ear;
use status::Status;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use watcher::{Command, Node, Rules, Turn, Watcher};
use zmq::{Listener, Notice};

/// What happened on chain, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChainEvent {
    /// A block is the new tip. On a fresh start the first one is bitcoind's best block.
    Connected {
        /// The block.
        at: BlockRef,
        /// All of it.
        block: Arc<Block>,
        /// What it holds of what is watched.
        found: Found,
        /// Broadcasts that are settled now: their rows may go.
        settled: Vec<Txid>,
    },
    /// The tip is no longer in the chain: what it confirmed is unconfirmed again.
    Disconnected {
        /// The block.
        at: BlockRef,
        /// The one below it, which is the tip now, whether it was ever connected or not.
        tip: Option<BlockRef>,
    },
    /// A watch was set late; these are in blocks delivered before, and still in the chain.
    Found(Found),
    /// A transaction is or was in the mempool; the same may come more than once.
    Mempool(Transaction),
    /// bitcoind does not answer; we keep trying.
    Down {
        /// In plain words.
        why: String,
    },
    /// bitcoind answers again.
    Up,
    /// The chain cannot be followed any further, and no more events come.
    Stopped {
        /// In plain words, with what to do.
        why: String,
    },
}

/// Why the chain cannot be used at start.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// bitcoind does not answer as it should.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// bitcoind is on another network.
    #[error("{0}")]
    WrongNetwork(String),
    /// A ZMQ endpoint is not usable.
    #[error(
        "cannot subscribe to bitcoind's ZMQ at {endpoints}: {why}; an endpoint looks like \
         tcp://127.0.0.1:28332"
    )]
    Zmq {
        /// What was given.
        endpoints: String,
        /// What ZMQ said.
        why: String,
    },
    /// [`Chain::follow`] was called before.
    #[error("the chain is being followed already")]
    Following,
}

fn wrong_network(wanted: &str, is: &str) -> String {
    let flag = |chain: &str| match chain {
        "main" => "--bitcoin.mainnet",
        "test" => "--bitcoin.testnet",
        "signet" => "--bitcoin.signet",
        "regtest" => "--bitcoin.regtest",
        _ => "another network",
    };
    format!(
        "bitcoind is on the network {is}, but {} is set: give {} instead, start bitcoind with \
         -chain={wanted}, or name another one with --bitcoind.rpchost",
        flag(wanted),
        flag(is)
    )
}

/// A handle to the chain; clones are the same chain.
#[derive(Clone)]
pub struct Chain {
    inner: Arc<Inner>,
}

struct Inner {
    config: ChainConfig,
    rpc: Rpc,
    commands: mpsc::UnboundedSender<Command>,
    waiting_commands: Mutex<Option<mpsc::UnboundedReceiver<Command>>>,
    status: watch::Sender<Status>,
    stop: watch::Sender<bool>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Chain {
    /// The chain of `config`, of which `tip` was processed last; the first block if none was.
    /// Nothing is asked of bitcoind yet.
    pub fn new(config: ChainConfig, tip: Option<BlockRef>) -> Chain {
        let rpc = Rpc::new(&config.rpc_host, config.rpc_auth.clone(), config.rpc_timeout);
        let first = genesis_block(config.network).block_hash();
        let tip = tip.unwrap_or(BlockRef { height: Height::new(0), hash: first });
        let status = Status::at(tip);
        let (commands, waiting) = mpsc::unbounded_channel();
        let inner = Inner {
            config,
            rpc,
            commands,
            waiting_commands: Mutex::new(Some(waiting)),
            status: watch::Sender::new(status),
            stop: watch::Sender::new(false),
            task: Mutex::new(None),
        };
        Chain { inner: Arc::new(inner) }
    }

    /// Waits until bitcoind answers, and checks that it lets us in and is on our network. It may be
    /// away or starting for as long as it likes; anything else is an error at once. Its best block.
    pub async fn connect(&self) -> Result<BlockRef, ChainError> {
        let mut told = String::new();
        let info = loop {
            match self.inner.rpc.run(Rpc::chain_info).await {
                Err(error) if error.may_pass() => {
                    let why = error.to_string();
                    if why != told {
                        tracing::warn!("waiting for bitcoind: {why}");
                        told = why;
                    }
                    tokio::time::sleep(RETRY).await;
                }
                answer => break answer?,
            }
        };
        let wanted = chain_name(self.inner.config.network);
        if info.chain != wanted {
            return Err(ChainError::WrongNetwork(wrong_network(wanted, &info.chain)));
        }
        self.inner.status.send_modify(|status| {
            status.best_height = Height::new(info.headers.max(info.blocks));
            status.best_time = info.time;
            status.up = true;
        });
        Ok(BlockRef { height: Height::new(info.blocks), hash: info.bestblockhash })
    }

    /// Starts the events. `recent` are the last blocks processed, newest last and without gaps
    /// (none on a fresh start); `broadcasts` the transactions of `Table::Broadcast`. Must be
    /// called once, within a tokio runtime.
    pub fn follow(
        &self,
        recent: Vec<BlockRef>,
        broadcasts: Vec<Transaction>,
        events: mpsc::Sender<ChainEvent>,
    ) -> Result<(), ChainError> {
        let inner = &self.inner;
        let config = &inner.config;
        let commands = lock(&inner.waiting_commands).take().ok_or(ChainError::Following)?;
        let (to_task, notices) = mpsc::channel(10_000);
        let (block, tx) = (config.zmq_block.as_deref(), config.zmq_tx.as_deref());
        let listener = Listener::start(block, tx, to_task).map_err(|why| ChainError::Zmq {
            endpoints: [block, tx].into_iter().flatten().collect::<Vec<_>>().join(" and "),
            why: why.to_string(),
        })?;
        if let Some(tip) = recent.last() {
            inner.status.send_modify(|status| status.tip = *tip);
        }
        let rules = Rules {
            chain: chain_name(config.network).into(),
            deep: config.deep,
            poll_mempool: config.zmq_tx.is_none(),
        };
        let task = Task {
            node: inner.rpc.another(),
            watcher: Some(Watcher::new(rules, recent, broadcasts)),
            commands,
            notices,
            events,
            status: inner.status.clone(),
            poll: config.poll,
            block_ear: config.zmq_block.is_some().then(Ear::default),
            tx_ear: config.zmq_tx.is_some().then(Ear::default),
            endpoints: [config.zmq_block.clone(), config.zmq_tx.clone()],
            live: false,
        };
        let mut stop = inner.stop.subscribe();
        *lock(&inner.task) = Some(tokio::spawn(async move {
            tokio::select! {
                () = task.run() => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
            // Ends the ZMQ thread, which may take a moment.
            let _ = tokio::task::spawn_blocking(move || drop(listener)).await;
        }));
        Ok(())
    }

    /// Watches for a spend of `outpoint`, in new blocks and in those from `since` on. On a restart
    /// give the height after the last processed block for what was watched before.
    pub fn watch_spend(&self, outpoint: OutPoint, since: Height) {
        self.command(Command::WatchSpend(outpoint, since));
    }
    /// Watches for a confirmation of `txid`, as [`Chain::watch_spend`] does.
    pub fn watch_tx(&self, txid: Txid, since: Height) {
        self.command(Command::WatchTx(txid, since));
    }
    /// Watches no longer for a spend.
    pub fn unwatch_spend(&self, outpoint: OutPoint) {
        self.command(Command::UnwatchSpend(outpoint));
    }
    /// Watches no longer for a confirmation.
    pub fn unwatch_tx(&self, txid: Txid) {
        self.command(Command::UnwatchTx(txid));
    }

    /// Sends `tx`, and again at each block until it is settled or abandoned, whatever this call
    /// answers. Write its row of `Table::Broadcast` first. "Already known" is success.
    pub async fn broadcast(&self, tx: Transaction) -> Result<(), BroadcastError> {
        self.command(Command::Broadcast(tx.clone()));
        broadcast::outcome(self.inner.rpc.run(move |rpc| rpc.send(&tx)).await)
    }
    /// Sends `child` together with its only unconfirmed parent, which may be too cheap to enter
    /// the mempool by itself. As [`Chain::broadcast`], but what is sent again at each block are
    /// the two apart: call again when the child is not in the mempool.
    pub async fn broadcast_package(
        &self,
        parent: Transaction,
        child: Transaction,
    ) -> Result<(), BroadcastError> {
        self.command(Command::Broadcast(child.clone()));
        self.inner
            .rpc
            .run(move |rpc| Ok(broadcast::package(rpc, &parent, &child)))
            .await
            .unwrap_or_else(|error: RpcError| Err(BroadcastError::Unreachable(error.to_string())))
    }
    /// Stops sending a transaction that will never confirm.
    pub fn abandon(&self, txid: Txid) {
        self.command(Command::Abandon(txid));
    }

    /// The last block that was delivered; before that, the last that was processed.
    pub fn tip(&self) -> BlockRef {
        self.inner.status.borrow().tip
    }
    /// The best header that bitcoind knows.
    pub fn best_height(&self) -> Height {
        self.inner.status.borrow().best_height
    }
    /// Unix time of the block that was bitcoind's best when it first answered; 0 before.
    pub fn best_time(&self) -> u32 {
        self.inner.status.borrow().best_time
    }
    /// bitcoind is up and has caught up with its network, and all its blocks are delivered.
    pub fn synced(&self) -> bool {
        self.inner.status.borrow().synced
    }
    /// Whether the last block that was delivered tells how near an HTLC is to its end: bitcoind may
    /// be away for a while, in which few blocks come.
    pub fn is_fresh(&self) -> bool {
        self.inner.status.borrow().is_fresh()
    }
    /// Waits until [`Chain::is_fresh`].
    pub async fn wait_fresh(&self) {
        // The sender lives as long as we do.
        let _ = self.inner.status.subscribe().wait_for(Status::is_fresh).await;
    }
    /// Waits until [`Chain::synced`].
    pub async fn wait_synced(&self) {
        // The sender lives as long as we do.
        let _ = self.inner.status.subscribe().wait_for(|status| status.synced).await;
    }
    /// bitcoind answered when last asked.
    pub fn up(&self) -> bool {
        self.inner.status.borrow().up
    }

    /// The feerate for a transaction that should confirm by `target`; never fails: without an
    /// answer it is a fallback, at least 253 sat/kw.
    pub async fn feerate(&self, target: Target) -> FeeratePerKw {
        let ask = move |rpc: &Rpc| Ok((rpc.estimate(target.blocks())?, rpc.mempool_info()?.min));
        let (estimate, min) = self.inner.rpc.run(ask).await.unwrap_or((None, FeeratePerKw::FLOOR));
        fees::feerate(target, estimate, min)
    }
    /// The feerate that commitments with anchors should have now.
    pub async fn anchors_feerate(&self) -> FeeratePerKw {
        let min = self.inner.rpc.run(|rpc| Ok(rpc.mempool_info()?.min)).await;
        fees::anchors_feerate(min.unwrap_or(FeeratePerKw::FLOOR))
    }

    /// The feerate that enters the mempool now.
    pub async fn entering(&self) -> FeeratePerKw {
        let min = self.inner.rpc.run(|rpc| Ok(rpc.mempool_info()?.min)).await;
        fees::entering(min.unwrap_or(FeeratePerKw::FLOOR))
    }

    /// The output if it is unspent in the chain; with `mempool`, unconfirmed outputs and spends
    /// count too.
    pub async fn output_unspent(
        &self,
        outpoint: OutPoint,
        mempool: bool,
    ) -> Result<Option<Unspent>, RpcError> {
        self.inner.rpc.run(move |rpc| rpc.unspent(outpoint, mempool)).await
    }
    /// Whether the mempool would take `tx` now.
    pub async fn test_accept(&self, tx: Transaction) -> Result<MempoolVerdict, RpcError> {
        self.inner.rpc.run(move |rpc| rpc.test_accept(&tx)).await
    }
    /// Whether `txid` is in the mempool.
    pub async fn in_mempool(&self, txid: Txid) -> Result<bool, RpcError> {
        self.inner.rpc.run(move |rpc| rpc.in_mempool(txid)).await
    }
    /// The active chain's block at `height`, if there is one.
    pub async fn block_at(&self, height: Height) -> Result<Option<Block>, RpcError> {
        let ask = move |rpc: &Rpc| rpc.block_hash(height)?.map(|hash| rpc.block(hash)).transpose();
        self.inner.rpc.run(ask).await
    }

    /// The active chain's blocks from `first` to `last`, or as far as there are any.
    pub async fn blocks(
        &self,
        first: Height,
        last: Height,
    ) -> Result<Vec<(BlockRef, Block)>, RpcError> {
        let ask = move |rpc: &Rpc| {
            let (mut blocks, mut height) = (Vec::new(), first);
            while height <= last {
                let Some(hash) = rpc.block_hash(height)? else { break };
                let block = rpc.block(hash).map_err(|error| error.of_block(height))?;
                blocks.push((BlockRef { height, hash }, block));
                height = height.plus(1);
            }
            Ok(blocks)
        };
        self.inner.rpc.run(ask).await
    }
    /// The first block of the active chain up to `best` whose median time is `time` (unix seconds)
    /// or later; the one after `best` if there is none.
    pub async fn height_at(&self, time: u64, best: Height) -> Result<Height, RpcError> {
        let ask = move |rpc: &Rpc| {
            let (mut low, mut high) = (0, best.number().saturating_add(1));
            while low < high {
                let middle = low.midpoint(high);
                match rpc.median_time(Height::new(middle))? < time {
                    true => low = middle.saturating_add(1),
                    false => high = middle,
                }
            }
            Ok(Height::new(low))
        };
        self.inner.rpc.run(ask).await
    }

    /// Ends the events. Does not wait for bitcoind or for whoever reads the events.
    pub async fn stop(&self) {
        self.inner.stop.send_replace(true);
        let task = lock(&self.inner.task).take();
        if let Some(task) = task {
            // A panic in the task was reported when it happened.
            let _ = task.await;
        }
    }

    fn command(&self, command: Command) {
        // Fails only when the task is over, and then nothing is watched any more.
        let _ = self.inner.commands.send(command);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Task {
    node: Rpc,
    /// Away while a turn runs on a blocking thread.
    watcher: Option<Watcher>,
    commands: mpsc::UnboundedReceiver<Command>,
    notices: mpsc::Receiver<Notice>,
    events: mpsc::Sender<ChainEvent>,
    status: watch::Sender<Status>,
    poll: Duration,
    /// What is expected of ZMQ, where an endpoint is given.
    block_ear: Option<Ear>,
    tx_ear: Option<Ear>,
    /// Of blocks and of transactions, for the log.
    endpoints: [Option<String>; 2],
    /// All blocks were delivered once since bitcoind was last away: further ones are announced.
    live: bool,
}

/// How soon we try again when bitcoind is away.
const RETRY: Duration = Duration::from_secs(1);

impl Task {
    async fn run(mut self) {
        while let Some(mut watcher) = self.watcher.take() {
            while let Ok(command) = self.commands.try_recv() {
                watcher.command(command);
            }
            let node = self.node.clone();
            let turn = tokio::task::spawn_blocking(move || {
                let turn = watcher.turn(&node);
                (watcher, turn)
            });
            let Ok((mut watcher, Turn { events, idle, over })) = turn.await else {
                tracing::error!("the chain watcher failed; its panic is above");
                return;
            };
            for event in events {
                self.expect_notices(&event);
                if self.events.send(event).await.is_err() {
                    return;
                }
            }
            self.status.send_modify(|status| status.after(&watcher, idle));
            if over || (idle && self.pause(&mut watcher).await.is_none()) {
                return;
            }
            self.watcher = Some(watcher);
        }
    }

    /// Waits for a reason to look again; hands on transactions meanwhile. Nothing when nobody
    /// listens any more.
    async fn pause(&mut self, watcher: &mut Watcher) -> Option<()> {
        let wait = if watcher.up() { self.poll } else { RETRY.min(self.poll) };
        let deadline = tokio::time::Instant::now().checked_add(wait)?;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(deadline) => {
                    self.live |= watcher.up();
                    self.tell_of_silence(watcher);
                    return Some(());
                }
                () = self.events.closed() => return None,
                Some(command) = self.commands.recv() => {
                    watcher.command(command);
                    return Some(());
                }
                Some(notice) = self.notices.recv() => {
                    self.live |= watcher.up();
                    self.hear(&notice, watcher);
                    match notice {
                        Notice::Block => return Some(()),
                        Notice::Lost => {
                            watcher.command(Command::LookAtMempool);
                            return Some(());
                        }
                        Notice::Transaction(tx) => {
                            self.events.send(ChainEvent::Mempool(tx)).await.ok()?;
                        }
                    }
                }
            }
        }
    }

    /// A block makes bitcoind publish; one that it brought along when it came back does not count.
    fn expect_notices(&mut self, event: &ChainEvent) {
        let mut ears = [&mut self.block_ear, &mut self.tx_ear];
        let each = ears.iter_mut().filter_map(|ear| ear.as_mut());
        match event {
            ChainEvent::Connected { .. } if self.live => each.for_each(Ear::block),
            ChainEvent::Down { .. } => {
                self.live = false;
                each.for_each(Ear::forget);
            }
            _ => {}
        }
    }

    fn hear(&mut self, notice: &Notice, watcher: &mut Watcher) {
        let of_blocks = *notice == Notice::Block;
        let ear = if of_blocks { &mut self.block_ear } else { &mut self.tx_ear };
        if ear.as_mut().is_some_and(Ear::heard) {
            tracing::info!("bitcoind's ZMQ is heard again");
            if !of_blocks {
                watcher.command(Command::PollMempool(false));
                watcher.command(Command::LookAtMempool);
            }
        }
    }

    fn tell_of_silence(&mut self, watcher: &mut Watcher) {
        let [block, tx] = &self.endpoints;
        let warn = |endpoint: &Option<String>, ours: &str, theirs: &str| {
            tracing::warn!(
                "a block came, but no notice of it from bitcoind's ZMQ at {}: check {ours}, and \
                 that bitcoind runs with {theirs} on that address; until then it is asked every {} \
                 seconds",
                endpoint.as_deref().unwrap_or_default(),
                self.poll.as_secs()
            );
        };
        if self.block_ear.as_mut().is_some_and(Ear::waited) {
            let ours = "--bitcoind.zmqpubrawblock (or --bitcoind.zmqpubhashblock)";
            warn(block, ours, "-zmqpubrawblock (or -zmqpubhashblock)");
        }
        if self.tx_ear.as_mut().is_some_and(Ear::waited) {
            warn(tx, "--bitcoind.zmqpubrawtx", "-zmqpubrawtx");
            watcher.command(Command::PollMempool(true));
        }
    }
}

impl BlockSource for Rpc {
    type Error = RpcError;
    fn best(&self) -> Result<BlockRef, RpcError> {
        let info = self.chain_info()?;
        Ok(BlockRef { height: Height::new(info.blocks), hash: info.bestblockhash })
    }
    fn hash_at(&self, height: Height) -> Result<Option<BlockHash>, RpcError> {
        self.block_hash(height)
    }
    fn parent(&self, hash: BlockHash) -> Result<Option<BlockHash>, RpcError> {
        Rpc::parent(self, hash)
    }
    fn block(&self, hash: BlockHash) -> Result<Block, RpcError> {
        Rpc::block(self, hash)
    }
}

impl Node for Rpc {
    fn connection(&self) -> u64 {
        Rpc::connection(self)
    }
    fn info(&self) -> Result<ChainInfo, RpcError> {
        self.chain_info()
    }
    fn send(&self, tx: &Transaction) -> Result<(), BroadcastError> {
        broadcast::outcome(Rpc::send(self, tx))
    }
    fn is_unspent(&self, outpoint: OutPoint) -> Result<bool, RpcError> {
        Ok(self.unspent(outpoint, false)?.is_some())
    }
    fn mempool(&self) -> Result<Vec<Txid>, RpcError> {
        Rpc::mempool(self)
    }
    fn spenders(&self, outpoints: &[OutPoint]) -> Result<Vec<Txid>, RpcError> {
        Rpc::spenders(self, outpoints)
    }
    fn transaction(&self, txid: Txid) -> Result<Option<Transaction>, RpcError> {
        Rpc::transaction(self, txid)
    }
}
