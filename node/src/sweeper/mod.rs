//! The sweeper: takes what channels have on chain, pays for it, and keeps at it until it is deep.
//!
//! ```text
//!   channels' tasks ── claims, bumps ─┐
//!   blocks ───────────────────────────┼─▶ known ─▶ plan ─▶ draft: sign ─▶ would it be taken?
//!   operator ── orders ───────────────┘    ▲                                 │ durable
//!                                          └── fees of versions ◀────────────┴─▶ broadcast
//! ```
//!
//! [`plan`] decides and is pure; [`task`] is the thin shell around it. Each version is durable with
//! its reserved coins before it leaves, and the chain sends it again at each block until it is
//! settled. Claims vanish when a block takes them and come back with a reorganisation: both are
//! told by the channels, and planned anew.

pub mod batch;
pub mod budget;
pub mod build;
pub mod known;
pub mod plan;
mod publish;
pub mod signing;
mod task;
pub mod version;
pub mod wanted;

pub use fulmen_channel::protocol::settling::Bump;
pub use known::{OnChain, Pending};
pub use plan::Waits;
pub use wanted::Order;

use crate::chain::{Chain, ChainEvent};
use crate::keys::KeyRing;
use crate::money::Money;
use crate::store::{Store, StoreError};
use bitcoin::OutPoint;
use known::Known;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// See the module.
pub struct Sweeper {
    known: Mutex<Known>,
    wake: Notify,
    store: Store,
    chain: Chain,
    keys: KeyRing,
    money: Arc<Money>,
}

impl Sweeper {
    /// A sweeper that goes on with the versions in `store`.
    ///
    /// # Errors
    /// [`StoreError`] when they cannot be read.
    pub fn new(
        store: Store,
        chain: Chain,
        keys: KeyRing,
        money: Arc<Money>,
    ) -> Result<Self, StoreError> {
        let known = Mutex::new(Known::new(version::load(&store)?, chain.tip().height));
        Ok(Sweeper { known, wake: Notify::new(), store, chain, keys, money })
    }

    /// All that channel `channel` may take now, or will be able to: the whole list, each time that
    /// it changed, and once after a restart. None when no commitment of it is in a block.
    pub fn claims(&self, channel: u64, on_chain: Option<OnChain>) {
        if self.known().claims(channel, on_chain) {
            self.wake.notify_one();
        }
    }

    /// Our commitment of channel `channel` is published, but in no block. None when it is in one,
    /// or another one is.
    pub fn bump(&self, channel: u64, bump: Option<Bump>) {
        if self.known().bump(channel, bump) {
            self.wake.notify_one();
        }
    }

    /// What happened on chain; call when the wallet knows it.
    pub fn chain_event(&self, event: &ChainEvent) {
        if self.known().chain_event(event) {
            self.wake.notify_one();
        }
    }

    /// What the operator wants for the claim on `outpoint`. Whether there is one.
    pub fn order(&self, outpoint: OutPoint, order: Order) -> bool {
        let found = self.known().order(outpoint, order);
        self.wake.notify_one();
        found
    }

    /// Everything that is to be taken, by its outpoint.
    pub fn pending(&self) -> Vec<Pending> {
        self.known().pending()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
