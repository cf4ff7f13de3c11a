//! The running node, as the API sees it.

use crate::auth::Bakery;
use crate::channels::services::Services;
use crate::config::Config;
use crate::money::Money;
use crate::own_tower::OwnTower;
use crate::peer::Address;
use crate::store::{Table, Unit};
use crate::switchboard::Switchboard;
use bitcoin::secp256k1::PublicKey;
use std::sync::{Arc, OnceLock};
use tokio::sync::watch;

/// Everything that a call may use.
pub struct Node {
    /// What the operator set.
    pub config: Config,
    /// What channels use: store, peers, chain, keys, registry.
    pub services: Arc<Services>,
    /// On-chain money.
    pub money: Arc<Money>,
    /// Invoices and payments.
    pub switchboard: Arc<Switchboard>,
    /// The watchtower for others that runs here, once it does.
    pub own_tower: OnceLock<OwnTower>,
    /// Macaroons.
    pub bakery: Arc<Bakery>,
    /// Time of the best block's header.
    pub header_time: watch::Sender<u32>,
    /// Set to true once: the daemon stops.
    pub stop: watch::Sender<bool>,
}

impl Node {
    /// Our node id.
    pub fn node_id(&self) -> PublicKey {
        self.services.keys.node_id()
    }

    /// Remembers where a peer may be reached, to reconnect after a restart.
    pub async fn remember_peer(&self, peer: PublicKey, address: &Address) {
        let mut unit = Unit::new();
        unit.put(Table::Peer, peer.serialize(), address.to_string().into_bytes());
        if let Err(error) = self.services.store.commit(unit).await {
            tracing::warn!("the peer's address is not stored: {error}");
        }
    }
}
