//! The watcher: turns bitcoind's state into ordered events. It blocks but knows no thread, clock
//! or socket: each [`Watcher::turn`] asks a [`Node`] a few questions and returns what happened.
//!
//! ```text
//!   commands ──► Watcher ──► Connected, Disconnected, Found, Mempool, Down, Up, Stopped
//!                  │  late watches: scan the blocks that they missed, before the next block
//!                  │  Follower: one block to or fro
//!                  │  at the tip: send unconfirmed broadcasts again; look at the mempool, and for
//!                  │              spends in it of what is watched newly
//!                  ▼
//!                 Node (bitcoind, or a chain in a test)
//! ```

use super::broadcast::{BroadcastError, Broadcasts};
use super::follow::{BlockRef, BlockSource, FollowError, Follower, Step};
use super::rpc::{ChainInfo, RpcError};
use super::spends::{Found, Spends};
use super::ChainEvent;
use bitcoin::{Block, OutPoint, Transaction, Txid};
use fulmen_channel::amount::Height;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// What the watcher asks of bitcoind, beside blocks.
pub trait Node: BlockSource<Error = RpcError> {
    /// The number of the connection over which it answers: another one when it has restarted.
    fn connection(&self) -> u64;
    /// Where the chain stands.
    fn info(&self) -> Result<ChainInfo, RpcError>;
    /// Hands a transaction to the mempool.
    fn send(&self, tx: &Transaction) -> Result<(), BroadcastError>;
    /// Whether the best chain has this output, unspent.
    fn is_unspent(&self, outpoint: OutPoint) -> Result<bool, RpcError>;
    /// Every transaction of the mempool.
    fn mempool(&self) -> Result<Vec<Txid>, RpcError>;
    /// What spends these outputs in the mempool.
    fn spenders(&self, outpoints: &[OutPoint]) -> Result<Vec<Txid>, RpcError>;
    /// A transaction of the mempool.
    fn transaction(&self, txid: Txid) -> Result<Option<Transaction>, RpcError>;
}

/// What others ask of the watcher. A watch also finds what is in blocks from `since` on that were
/// delivered before it was set.
#[derive(Debug, Clone)]
pub enum Command {
    /// Watch for a spend.
    WatchSpend(OutPoint, Height),
    /// Watch for a confirmation.
    WatchTx(Txid, Height),
    /// Watch no longer for a spend.
    UnwatchSpend(OutPoint),
    /// Watch no longer for a confirmation.
    UnwatchTx(Txid),
    /// Send again at each block until settled.
    Broadcast(Transaction),
    /// Send no more.
    Abandon(Txid),
    /// Look at the mempool at the next turn: notices were lost.
    LookAtMempool,
    /// Look at it in each idle turn, or no longer: notices do not come, or come again.
    PollMempool(bool),
}

/// The outcome of a turn.
#[derive(Debug, Default)]
pub struct Turn {
    /// What happened, in order.
    pub events: Vec<ChainEvent>,
    /// There is nothing more to do until something new is announced.
    pub idle: bool,
    /// The chain cannot be followed any further; the reason is the last event.
    pub over: bool,
}

/// What is fixed for a watcher's life.
#[derive(Debug, Clone)]
pub struct Rules {
    /// bitcoind's name of our network.
    pub chain: String,
    /// Confirmations after which a broadcast is settled.
    pub deep: u32,
    /// Nobody announces transactions: look at the mempool in each idle turn.
    pub poll_mempool: bool,
}

/// Blocks kept for watches that are set while an event travels.
const CACHED_BLOCKS: usize = 6;
/// A mempool with more transactions is not read whole; what is announced later is still seen.
const MEMPOOL_LIMIT: usize = 5_000;

/// See the module.
pub struct Watcher {
    rules: Rules,
    follower: Follower,
    spends: Spends,
    late: Option<(Spends, Height)>,
    broadcasts: Broadcasts,
    cache: VecDeque<(BlockRef, Arc<Block>)>,
    seen: BTreeSet<Txid>,
    /// Watched since the mempool was asked for their spends.
    sought: BTreeSet<OutPoint>,
    /// bitcoind answered at the last turn.
    up: bool,
    synced: bool,
    resend: bool,
    /// Over which bitcoind answered when it was last asked at the tip.
    connection: Option<u64>,
    look_at_mempool: bool,
    /// Since the last idle turn bitcoind was asked whether it is fit to be followed.
    checked: bool,
    /// The broadcasts given at start were looked for in the blocks before it.
    broadcasts_placed: bool,
    best_height: Height,
}

impl Watcher {
    /// A watcher that goes on after `recent` (see [`Follower::new`]) and sends `broadcasts` again.
    pub fn new(rules: Rules, recent: Vec<BlockRef>, broadcasts: Vec<Transaction>) -> Watcher {
        let mut set = Broadcasts::default();
        broadcasts.into_iter().for_each(|tx| set.add(tx));
        let follower = Follower::new(recent);
        let best_height = follower.tip().map_or(Height::new(0), |tip| tip.height);
        Watcher {
            rules,
            follower,
            spends: Spends::default(),
            late: None,
            broadcasts: set,
            cache: VecDeque::new(),
            seen: BTreeSet::new(),
            sought: BTreeSet::new(),
            up: true,
            synced: false,
            resend: true,
            connection: None,
            look_at_mempool: true,
            checked: false,
            broadcasts_placed: false,
            best_height,
        }
    }

    /// The last block delivered.
    pub fn tip(&self) -> Option<BlockRef> {
        self.follower.tip()
    }
    /// bitcoind answers, has caught up itself, and all its blocks are delivered.
    pub fn synced(&self) -> bool {
        self.synced && self.up
    }
    /// bitcoind answered at the last turn.
    pub fn up(&self) -> bool {
        self.up
    }
    /// The best header that bitcoind knows.
    pub fn best_height(&self) -> Height {
        self.best_height
    }

    /// Takes a command; what it leads to comes with the next turns.
    pub fn command(&mut self, command: Command) {
        match command {
            Command::WatchSpend(outpoint, since) => {
                self.sought.insert(outpoint);
                self.watch(since, |spends| spends.watch_spend(outpoint));
            }
            Command::WatchTx(txid, since) => self.watch(since, |spends| spends.watch_tx(txid)),
            Command::UnwatchSpend(outpoint) => self.spends.unwatch_spend(&outpoint),
            Command::UnwatchTx(txid) => self.spends.unwatch_tx(&txid),
            Command::Broadcast(tx) => {
                self.broadcasts.add(tx);
                // It may be in a block already, which then stands here.
                for (at, block) in &self.cache {
                    self.broadcasts.decided_in(block, at.height);
                }
            }
            Command::Abandon(txid) => self.broadcasts.abandon(&txid),
            Command::LookAtMempool => self.look_at_mempool = true,
            Command::PollMempool(poll) => self.rules.poll_mempool = poll,
        }
    }

    fn watch(&mut self, since: Height, add: impl Fn(&mut Spends)) {
        add(&mut self.spends);
        if self.tip().is_some_and(|tip| since <= tip.height) {
            let (late, from) = self.late.get_or_insert_with(|| (Spends::default(), since));
            add(late);
            *from = since.min(*from);
        }
    }

    /// Does one thing. Call again at once unless the turn is idle.
    pub fn turn(&mut self, node: &impl Node) -> Turn {
        let mut turn = match self.try_turn(node) {
            Ok(turn) => turn,
            Err(Trouble::Wait(why)) => return self.down(why),
            Err(Trouble::Stop(why)) => {
                self.synced = false;
                let events = vec![ChainEvent::Stopped { why }];
                return Turn { events, idle: true, over: true };
            }
        };
        if !self.up {
            self.up = true;
            self.resend = true;
            self.look_at_mempool = true;
            turn.events.insert(0, ChainEvent::Up);
            turn.idle = false;
        }
        turn
    }

    fn down(&mut self, why: String) -> Turn {
        let first = std::mem::take(&mut self.up);
        self.synced = false;
        self.checked = false;
        let events = if first { vec![ChainEvent::Down { why }] } else { Vec::new() };
        Turn { events, idle: true, over: false }
    }

    fn try_turn(&mut self, node: &impl Node) -> Result<Turn, Trouble> {
        self.check(node)?;
        self.place_broadcasts(node)?;
        if let Some((late, since)) = self.late.clone() {
            let found = self.scan_again(node, late, since)?;
            self.late = None;
            let events = if found.is_empty() { vec![] } else { vec![ChainEvent::Found(found)] };
            return Ok(Turn { events, ..Turn::default() });
        }
        let event = match self.follower.step(node) {
            Ok(Step::Connect(at, block)) => self.connected(at, block),
            Ok(Step::Disconnect(at)) => self.disconnected(at),
            Ok(Step::AtTip) => return self.at_tip(node),
            Err(FollowError::Source(error)) => {
                let next = self.tip().map(|tip| tip.height.plus(1));
                return Err(Trouble::of(error, next));
            }
            Err(stranger) => return Err(Trouble::Stop(stranger.to_string())),
        };
        Ok(Turn { events: vec![event], ..Turn::default() })
    }

    /// Once before each run of steps: is this our network, and does bitcoind not lag behind us?
    fn check(&mut self, node: &impl Node) -> Result<(), Trouble> {
        if self.checked {
            return Ok(());
        }
        let info = node.info()?;
        let Rules { chain, .. } = &self.rules;
        if info.chain != *chain {
            return Err(Trouble::Stop(super::wrong_network(chain, &info.chain)));
        }
        self.best_height = Height::new(info.headers.max(info.blocks));
        let behind = self.tip().is_some_and(|tip| Height::new(info.blocks) < tip.height);
        if behind && info.initialblockdownload {
            // It reads its blocks anew (-reindex); rolling back with it would help nobody.
            return Err(Trouble::Wait("bitcoind is still catching up with its network".into()));
        }
        self.checked = true;
        Ok(())
    }

    /// Finds out, once, which of the broadcasts given at start are in recent blocks.
    fn place_broadcasts(&mut self, node: &impl Node) -> Result<(), Trouble> {
        if let (false, Some(tip)) = (self.broadcasts_placed, self.tip()) {
            let mut height = tip.height.minus(self.rules.deep).plus(1);
            while height <= tip.height && !self.broadcasts.is_empty() {
                let block = self.block_at(node, height)?;
                self.broadcasts.decided_in(&block, height);
                height = height.plus(1);
            }
        }
        self.broadcasts_placed = true;
        Ok(())
    }

    fn connected(&mut self, at: BlockRef, block: Arc<Block>) -> ChainEvent {
        let found = self.spends.scan(&block, at.height);
        let settled = self.broadcasts.connected(&block, at.height, self.rules.deep);
        self.best_height = self.best_height.max(at.height);
        self.resend = true;
        self.cache.push_back((at, block.clone()));
        if self.cache.len() > CACHED_BLOCKS {
            self.cache.pop_front();
        }
        ChainEvent::Connected { at, block, found, settled }
    }

    fn disconnected(&mut self, at: BlockRef) -> ChainEvent {
        self.broadcasts.disconnected(at.height);
        self.cache.retain(|(cached, _)| *cached != at);
        self.synced = false;
        ChainEvent::Disconnected { at, tip: self.tip() }
    }

    fn at_tip(&mut self, node: &impl Node) -> Result<Turn, Trouble> {
        let info = node.info()?;
        let connection = Some(node.connection());
        if std::mem::replace(&mut self.connection, connection) != connection {
            // It may have restarted between two questions, and lost its mempool.
            self.resend = true;
            self.look_at_mempool = true;
        }
        // A regtest chain counts as old after a day without blocks, which means nothing there.
        self.synced = !info.initialblockdownload || self.rules.chain == "regtest";
        if std::mem::take(&mut self.resend) {
            for tx in self.broadcasts.due() {
                if let Err(error) = node.send(&tx) {
                    tracing::debug!(txid = %tx.compute_txid(), %error, "sent again");
                }
            }
        }
        self.checked = false;
        let mut turn = Turn { idle: true, ..Turn::default() };
        if self.look_at_mempool || self.rules.poll_mempool {
            turn.events = self.read_mempool(node)?;
            self.look_at_mempool = false;
        }
        if !self.sought.is_empty() {
            turn.events.extend(self.spends_in_mempool(node)?);
            self.sought.clear();
        }
        Ok(turn)
    }

    /// What was in the mempool before its output was watched: nobody announces it again.
    fn spends_in_mempool(&self, node: &impl Node) -> Result<Vec<ChainEvent>, RpcError> {
        let sought: Vec<OutPoint> = self.sought.iter().copied().collect();
        let spenders: BTreeSet<Txid> = node.spenders(&sought)?.into_iter().collect();
        let mut events = Vec::new();
        for txid in spenders {
            events.extend(node.transaction(txid)?.map(ChainEvent::Mempool));
        }
        Ok(events)
    }

    fn read_mempool(&mut self, node: &impl Node) -> Result<Vec<ChainEvent>, RpcError> {
        let present: BTreeSet<Txid> = node.mempool()?.into_iter().collect();
        if present.len() > MEMPOOL_LIMIT {
            tracing::info!(size = present.len(), "the mempool is too large to be read whole");
            return Ok(Vec::new());
        }
        let mut events = Vec::new();
        for txid in present.difference(&self.seen) {
            // It may have left the mempool meanwhile.
            events.extend(node.transaction(*txid)?.map(ChainEvent::Mempool));
        }
        self.seen = present;
        Ok(events)
    }

    /// Looks for `late` in blocks of our chain from `since` on.
    fn scan_again(
        &self,
        node: &impl Node,
        mut late: Spends,
        since: Height,
    ) -> Result<Found, Trouble> {
        let Some(tip) = self.tip() else { return Ok(Found::default()) };
        let cached_from = self.cache.front().map(|(at, _)| at.height);
        if cached_from.is_none_or(|from| since < from) {
            // Before old blocks are fetched: an output that is unspent needs no search.
            late.retain_spends(|outpoint| node.is_unspent(*outpoint).map(|unspent| !unspent))?;
        }
        let mut found = Found::default();
        let mut height = since;
        while height <= tip.height && !late.is_empty() {
            found.append(late.scan(&*self.block_at(node, height)?, height));
            height = height.plus(1);
        }
        Ok(found)
    }

    fn block_at(&self, node: &impl Node, height: Height) -> Result<Arc<Block>, Trouble> {
        if let Some((_, block)) = self.cache.iter().find(|(at, _)| at.height == height) {
            return Ok(block.clone());
        }
        let hash = match self.follower.recent_at(height) {
            Some(at) => at.hash,
            None => (node.hash_at(height)?)
                .ok_or_else(|| Trouble::Wait(format!("bitcoind has no block {height} now")))?,
        };
        let block = node.block(hash).map_err(|error| Trouble::of(error, Some(height)))?;
        Ok(Arc::new(block))
    }
}

/// Why a turn could not be completed.
enum Trouble {
    /// Try again later.
    Wait(String),
    /// Trying again will not help.
    Stop(String),
}

impl Trouble {
    /// What `error` means where the block at `height` was wanted.
    fn of(error: RpcError, height: Option<Height>) -> Trouble {
        match height.into_iter().fold(error, RpcError::of_block) {
            pruned @ RpcError::Pruned(height) => Trouble::Stop(format!(
                "{pruned}, which we have not seen yet. Have it fetch the blocks from {height} on \
                 again: with `bitcoin-cli getblockfrompeer`, or all of them with a larger -prune= \
                 and -reindex; then start again"
            )),
            error => Trouble::Wait(error.to_string()),
        }
    }
}

impl From<RpcError> for Trouble {
    fn from(error: RpcError) -> Trouble {
        Trouble::of(error, None)
    }
}
