//! The wallet as the rest of the daemon uses it: shared, and written in the order of its changes.

use crate::chain::{BlockRef, ChainEvent};
use crate::channels::services::Funds;
use crate::keys::Purpose;
use crate::store::{Store, Table, Unit};
use crate::wallet::{Balance, Coin, FundRequest, Recovery, Wallet, WalletError, WalletTx};
use bitcoin::hashes::Hash;
use bitcoin::{Address, Block, ScriptBuf, Transaction, TxOut, Txid};
use fulmen_channel::amount::{FeeratePerKw, Height, Sat};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::broadcast;

/// The wallet behind a lock.
pub struct Money {
    wallet: Mutex<Wallet>,
    store: Store,
    /// How many channels with anchors there are: the wallet keeps a reserve for them.
    anchor_channels: Box<dyn Fn() -> u32 + Send + Sync>,
    /// Coins are chosen at random.
    random_coins: bool,
    news: broadcast::Sender<WalletTx>,
}

/// News that may wait for a slow listener before it misses some.
const NEWS: usize = 1_024;

impl Money {
    /// A wallet whose changes go to `store`.
    pub fn new(
        wallet: Wallet,
        store: Store,
        anchor_channels: impl Fn() -> u32 + Send + Sync + 'static,
    ) -> Self {
        let anchor_channels = Box::new(anchor_channels);
        let news = broadcast::Sender::new(NEWS);
        Money { wallet: Mutex::new(wallet), store, anchor_channels, random_coins: false, news }
    }

    /// Chooses coins at random, unless a request says otherwise.
    pub fn with_random_coins(mut self, random: bool) -> Self {
        self.random_coins = random;
        self
    }

    pub(crate) fn random_coins(&self) -> bool {
        self.random_coins
    }

    pub(crate) fn anchor_channels(&self) -> u32 {
        (self.anchor_channels)()
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn wallet(&self) -> MutexGuard<'_, Wallet> {
        self.wallet.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What there is.
    pub fn balance(&self) -> Balance {
        self.wallet().balance((self.anchor_channels)())
    }

    /// The unspent outputs.
    pub fn coins(&self) -> Vec<Coin> {
        self.wallet().coins()
    }

    /// The transactions, by height, the unconfirmed ones last.
    pub fn transactions(&self) -> Vec<WalletTx> {
        self.wallet().transactions()
    }

    /// Transactions from now on, as they appear and as they confirm.
    pub fn subscribe(&self) -> broadcast::Receiver<WalletTx> {
        self.news.subscribe()
    }

    /// Tells the listeners what is new. Call when it is durable.
    pub fn tell_news(&self) {
        for tx in self.wallet().take_news() {
            // Nobody may be listening.
            let _ = self.news.send(tx);
        }
    }

    /// A receiving address: a fresh one, or with `unused` the last that nothing was paid to.
    ///
    /// # Errors
    /// When it cannot be made or stored.
    pub async fn address(&self, purpose: Purpose, unused: bool) -> Result<Address, String> {
        let mut unit = Unit::new();
        let address = {
            let mut wallet = self.wallet();
            let made = match unused {
                true => wallet.unused_address(purpose, &mut unit),
                false => wallet.new_address(purpose, &mut unit),
            };
            made.map_err(|error| error.to_string())?
        };
        self.store.commit(unit).await.map_err(|error| error.to_string())?;
        Ok(address)
    }

    /// Takes in what happened on chain; what must be durable is added to `unit`.
    ///
    /// # Errors
    /// When the events are not one after another: a bug, or a damaged wallet.
    pub fn chain_event(&self, event: &ChainEvent, unit: &mut Unit) -> Result<(), WalletError> {
        let mut wallet = self.wallet();
        match event {
            ChainEvent::Connected { at, block, settled, .. } => {
                for txid in settled {
                    unit.delete(Table::Broadcast, txid.to_byte_array());
                }
                wallet.connect(*at, block, unit)
            }
            ChainEvent::Disconnected { at, tip } => wallet.disconnect(*at, *tip, unit),
            ChainEvent::Mempool(tx) => {
                wallet.mempool(tx, crate::clock::unix_time(), unit);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The search in old blocks that goes on, or was finished since the start.
    pub fn recovery(&self) -> Option<Recovery> {
        self.wallet().recovery()
    }

    /// See [`Wallet::begin_recovery`].
    pub fn begin_recovery(&self, first: Height, best: BlockRef, unit: &mut Unit) {
        self.wallet().begin_recovery(first, best, unit);
    }

    /// See [`Wallet::recover`].
    pub fn recover(&self, blocks: &[(BlockRef, Block)], unit: &mut Unit) {
        self.wallet().recover(blocks, unit);
    }

    /// See [`Wallet::recent_blocks`].
    pub fn recent_blocks(&self) -> Vec<BlockRef> {
        self.wallet().recent_blocks()
    }

    /// Frees what is held for transactions that nobody knows: the daemon was stopped between
    /// building one and deciding to publish it.
    pub fn release_unknown(&self, known: &[Txid], unit: &mut Unit) {
        let mut wallet = self.wallet();
        let held: Vec<Txid> = wallet.reservations().map(|(txid, _)| *txid).collect();
        for txid in held.into_iter().filter(|txid| !known.contains(txid)) {
            wallet.release(txid, crate::clock::unix_time(), unit);
        }
    }
}

impl Funds for Money {
    fn fund(
        &self,
        script: ScriptBuf,
        amount: Sat,
        feerate: FeeratePerKw,
        unit: &mut Unit,
    ) -> Result<Transaction, String> {
        let mut wallet = self.wallet();
        let outputs = vec![TxOut { value: amount.to_amount(), script_pubkey: script }];
        // The channel that is being opened is among them.
        let anchor_channels = (self.anchor_channels)();
        let strategy = self.strategy();
        let request =
            FundRequest { anchor_channels, strategy, ..FundRequest::new(outputs, feerate) };
        let reservation = wallet.fund(&request, unit).map_err(|error| error.to_string())?;
        let mut tx = reservation.tx;
        if let Err(error) = wallet.sign(&mut tx, &BTreeMap::new()) {
            wallet.release(reservation.txid, crate::clock::unix_time(), unit);
            return Err(error.to_string());
        }
        // Its change is no money yet: the opening may still come to nothing.
        Ok(tx)
    }

    fn published(&self, tx: &Transaction, unit: &mut Unit) {
        self.wallet().mempool(tx, crate::clock::unix_time(), unit);
    }

    fn release(&self, tx: &Transaction, unit: &mut Unit) {
        self.wallet().release(tx.compute_txid(), crate::clock::unix_time(), unit);
    }

    fn missing_reserve(&self) -> Sat {
        self.wallet().missing_reserve((self.anchor_channels)())
    }

    fn script(&self, unit: &mut Unit) -> Result<ScriptBuf, String> {
        self.wallet().sweep_script(unit).map_err(|error| error.to_string())
    }

    fn paid_by(&self, tx: &Transaction) -> Sat {
        let wallet = self.wallet();
        let ours = tx.output.iter().filter(|out| wallet.is_ours(&out.script_pubkey));
        ours.fold(Sat::ZERO, |sum, out| sum.saturating_add(out.value.into()))
    }
}
