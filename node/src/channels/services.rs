//! What every channel's task uses, and what it needs of the wallet.

use super::registry::Registry;
use super::Hub;
use crate::backup::Backups;
use crate::chain::Chain;
use crate::keys::KeyRing;
use crate::peer::features::Protocol;
use crate::peer::{Address, Peers};
use crate::store::{Store, StoreError, Table, Unit};
use crate::sweeper::Sweeper;
use crate::tower_client::TowerClient;
use bitcoin::constants::ChainHash;
use bitcoin::secp256k1::PublicKey;
use bitcoin::{ScriptBuf, Transaction};
use fulmen_channel::amount::{FeeratePerKw, Sat};
use fulmen_channel::keys::Curve;
use std::collections::BTreeSet;
use std::str::FromStr;
use std::sync::Arc;

/// Shared by all channels' tasks.
pub struct Services {
    /// What is durable.
    pub store: Store,
    /// Connections.
    pub peers: Peers,
    /// bitcoind.
    pub chain: Chain,
    /// Secrets.
    pub keys: KeyRing,
    /// Numbers for new channels.
    pub numbers: super::opening::Numbers,
    /// How many channels with one peer may be on their way to be open.
    pub max_pending: usize,
    /// Batches of curve operations.
    pub curve: Arc<dyn Curve>,
    /// Payments, invoices, circuits.
    pub hub: Arc<dyn Hub>,
    /// On-chain money.
    pub funds: Arc<dyn Funds>,
    /// What takes their money on chain.
    pub sweeper: Arc<Sweeper>,
    /// What is kept to bring channels back.
    pub backups: Arc<Backups>,
    /// The other channels.
    pub registry: Registry,
    /// Which chain.
    pub chain_hash: ChainHash,
    /// What the operator may set about openings.
    pub limits: super::policy::Limits,
    /// What of the protocol is switched on.
    pub protocol: Protocol,
    /// The watchtowers' client.
    pub towers: Arc<TowerClient>,
    /// Whose channels are used before they are in the chain.
    pub zero_conf_peers: BTreeSet<PublicKey>,
    /// What a channel may lose to fees at most.
    pub max_fee_exposure: Sat,
    /// What we ask for forwarding, told in channel_update.
    pub forwarding: super::announce::Forwarding,
}

impl Services {
    /// Reconnects to a peer from now on whenever it goes away, if its address is known.
    ///
    /// # Errors
    /// [`StoreError`] when the database cannot be read.
    pub fn stay_connected(&self, peer: &PublicKey) -> Result<(), StoreError> {
        let stored = self.store.get(Table::Peer, &peer.serialize())?;
        let text = stored.and_then(|bytes| String::from_utf8(bytes).ok());
        if let Some(address) = text.and_then(|text| Address::from_str(&text).ok()) {
            self.peers.keep_connected(*peer, vec![address]);
        }
        Ok(())
    }
}

/// What channels need of the wallet. What must be durable is added to the unit given.
pub trait Funds: Send + Sync + 'static {
    /// Builds and signs F: pays `amount` to `script`. Its inputs are set aside until it is released
    /// or confirmed.
    ///
    /// # Errors
    /// In lnd's words when there is not enough money.
    fn fund(
        &self,
        script: ScriptBuf,
        amount: Sat,
        feerate: FeeratePerKw,
        unit: &mut Unit,
    ) -> Result<Transaction, String>;
    /// F is on its way: from now on its change is money of ours.
    fn published(&self, tx: &Transaction, unit: &mut Unit);
    /// F will never be published: its inputs are free again.
    fn release(&self, tx: &Transaction, unit: &mut Unit);
    /// What is missing of the anchor reserve, all channels that there are counted.
    fn missing_reserve(&self) -> Sat;
    /// A fresh script of ours, for a close or a sweep.
    ///
    /// # Errors
    /// When the wallet cannot make one.
    fn script(&self, unit: &mut Unit) -> Result<ScriptBuf, String>;
    /// What a transaction pays to scripts of ours.
    fn paid_by(&self, tx: &Transaction) -> Sat;
}
