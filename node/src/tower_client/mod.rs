//! The watchtowers' client: what towers must know is on disk with the revocation itself, and goes
//! to them as soon as they answer.
//!
//! ```text
//!   we sign their state n ──▶ TowerState row: what n is made of          with the channel's rows
//!   they revoke it ─────────▶ TowerQueue rows, one for each tower        with the channel's rows
//!                               │
//!                               └─▶ carry: a session for each channel ──▶ receipt ──▶ row deleted
//!
//!   list     which towers there are           report   what is told of them, what none covers
//!   witness  what they know of our state      progress a row: how far a channel is with a tower
//! ```

mod carry;
mod keep;
mod list;
mod progress;
mod report;
mod witness;

pub use keep::Keeper;
pub use list::{with_port, Tower, TowerAt, TowerError};
pub use progress::{Progress, Ranges};
pub use report::{Covered, Session, Stats};
pub use witness::ask_towers;

use crate::backup::Vault;
use crate::channels::registry::Registry;
use crate::keys::KeyRing;
use crate::store::{Store, Table, Unit};
use bitcoin::secp256k1::PublicKey;
use bitcoin::{BlockHash, OutPoint};
use fulmen_channel::amount::FeeratePerKw;
use fulmen_channel::changeset::encode;
use fulmen_watchtower::record::Sealed;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use tokio::sync::{watch, Notify};

/// What sealed records are made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What remedies pay that are signed beforehand.
    pub feerate: FeeratePerKw,
    /// The most records that we put in one session, whatever its tower grants.
    pub max_updates: u32,
}

/// What waits for a tower.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Item {
    /// A revoked state, as rows had it before coverage was kept.
    Record(Sealed),
    /// A channel for a private tower, as rows had it before notes were kept.
    Channel(Vec<u8>),
    /// The channel is over, and its F.
    Over(OutPoint),
    /// A revoked state.
    State(Revoked),
    /// A channel as it is now, for a private tower: it replaces what waited of it. With the number
    /// of our commitment then.
    Whole(Vec<u8>, u64),
}

/// A revoked state that goes to a tower.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Revoked {
    sealed: Sealed,
    /// How many of its outputs are in no record, being worth less than their fee.
    left_out: u64,
    /// The number of our commitment then.
    local: u64,
}

/// The client: one for the node, used by every channel.
pub struct TowerClient {
    /// Whether states are kept for towers at all.
    active: bool,
    towers: Mutex<Vec<Tower>>,
    changing: tokio::sync::Mutex<()>,
    policy: Policy,
    store: Store,
    keys: KeyRing,
    vault: Vault,
    chain: BlockHash,
    news: Notify,
    counts: Counts,
    stop: OnceLock<watch::Sender<bool>>,
    /// The towers that have a task.
    served: Mutex<BTreeSet<PublicKey>>,
    /// Of which channels each tower was not asked since the start how far it knows them to be.
    unasked: Mutex<BTreeMap<PublicKey, BTreeMap<u64, OutPoint>>>,
    /// Who hears what towers know.
    registry: OnceLock<Registry>,
    /// Held while progress with a tower is read, acted on and written.
    turns: Mutex<BTreeMap<PublicKey, Arc<tokio::sync::Mutex<()>>>>,
}

/// What happened since the start.
#[derive(Default)]
struct Counts {
    backups: AtomicU64,
    failed: AtomicU64,
    acquired: AtomicU64,
    exhausted: AtomicU64,
}

impl TowerClient {
    /// A client of the towers that the settings name, if these switch it on, and of those that were
    /// added by command.
    ///
    /// # Errors
    /// In words, when the towers cannot be read.
    pub fn new(
        (active, named): (bool, &[TowerAt]),
        policy: Policy,
        (store, keys): (Store, KeyRing),
        chain: BlockHash,
    ) -> Result<Self, String> {
        let towers = if active { list::load(named, &store)? } else { Vec::new() };
        Ok(TowerClient {
            active,
            towers: Mutex::new(towers),
            changing: Default::default(),
            policy,
            vault: Vault::new(&keys),
            store,
            keys,
            chain,
            news: Notify::new(),
            counts: Counts::default(),
            stop: OnceLock::new(),
            served: Mutex::default(),
            unasked: Mutex::default(),
            registry: OnceLock::new(),
            turns: Mutex::default(),
        })
    }

    /// Whether states are kept for towers, also for some that may be added yet.
    pub fn is_on(&self) -> bool {
        self.active
    }

    /// What sealed records are made with.
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// What waits in the queue may be durable now.
    pub fn wake(&self) {
        self.news.notify_waiters();
    }

    /// Serves every tower until `stop`.
    pub fn run(self: &Arc<Self>, stop: &watch::Sender<bool>) {
        // Called once.
        let _ = self.stop.set(stop.clone());
        self.towers().iter().for_each(|tower| self.start(tower.id));
    }

    /// Serves this tower, if it is not served already.
    fn start(self: &Arc<Self>, id: PublicKey) {
        let Some(stop) = self.stop.get().map(watch::Sender::subscribe) else { return };
        let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        if served.insert(id) {
            let client = self.clone();
            tokio::spawn(async move { client.serve(&id, stop).await });
        }
    }

    /// To be held while progress with this tower is read, acted on and written.
    fn turn(&self, id: &PublicKey) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.entry(*id).or_default().clone()
    }

    fn queue(&self, tower: &Tower, (channel, number): (u64, u64), item: &Item, rows: &mut Unit) {
        let key = [key(&tower.id, channel).as_slice(), &number.to_be_bytes()].concat();
        rows.put(Table::TowerQueue, key, encode(item));
    }
}

/// How the keys of a tower's rows about a channel begin.
fn key(tower: &PublicKey, channel: u64) -> Vec<u8> {
    [tower.serialize().as_slice(), &channel.to_be_bytes()].concat()
}
