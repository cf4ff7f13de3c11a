//! Sending on chain: from a request to a transaction that is durable before it is broadcast.
//!
//! ```text
//!   plan, hold the coins, sign ─▶ would bitcoind take it? ─▶ transaction, label and order to
//!                                   │ no: coins are free      broadcast are durable ─▶ broadcast,
//!                                   ▼                         and again at each block until deep
//!                                 refused
//! ```

use crate::chain::{BroadcastError, Chain};
use crate::clock::unix_time;
use crate::money::Money;
use crate::store::{KeyRange, Store, StoreError, Table, Unit};
use crate::wallet::{FundError, FundRequest, Plan, Strategy};
use bitcoin::consensus::encode::{deserialize, serialize};
use bitcoin::hashes::Hash;
use bitcoin::secp256k1::rand::{rngs::OsRng, RngCore};
use bitcoin::{ScriptBuf, Transaction, Txid};
use std::collections::{BTreeMap, BTreeSet};
use tokio::sync::oneshot;

/// What is to be sent.
#[derive(Debug, Clone)]
pub struct SendRequest {
    /// Outputs, coins and feerate; how many channels there are is filled in here.
    pub fund: FundRequest,
    /// Everything goes here instead.
    pub sweep_to: Option<ScriptBuf>,
    /// What the sender calls it.
    pub label: String,
}

/// Why nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The coins do not pay for it.
    #[error(transparent)]
    Fund(#[from] FundError),
    /// bitcoind would not take the transaction; in lnd's words.
    #[error("unmatched backend error: -26: {0}")]
    Rejected(String),
    /// bitcoind, the store or the keys.
    #[error("{0}")]
    Failed(String),
}

fn failed(error: impl std::fmt::Display) -> SendError {
    SendError::Failed(error.to_string())
}

/// Confirmations after which nothing brings back what conflicts with them.
const DEEP: u32 = 6;

impl Money {
    /// How `request` would be paid now. Nothing is held.
    ///
    /// # Errors
    /// [`FundError`] when it cannot be.
    pub fn estimate(&self, mut request: SendRequest) -> Result<Plan, FundError> {
        request.fund.anchor_channels = self.anchor_channels();
        let wallet = self.wallet();
        match &request.sweep_to {
            Some(script) => wallet.plan_sweep(script.clone(), &request.fund),
            None => wallet.plan(&request.fund),
        }
    }

    /// The order in which the operator wants coins to be chosen.
    pub fn strategy(&self) -> Strategy {
        if self.random_coins() {
            return random();
        }
        Strategy::Largest
    }

    /// Sends, and keeps sending until the transaction is deep, also after restarts.
    ///
    /// # Errors
    /// [`SendError`]: then nothing was sent, and the coins are free again.
    pub async fn send(&self, chain: &Chain, request: SendRequest) -> Result<Txid, SendError> {
        let label = request.label.clone();
        let tx = self.build(request).await?;
        let txid = tx.compute_txid();
        let refused = match chain.test_accept(tx.clone()).await {
            Ok(verdict) => verdict.refusal().map(SendError::Rejected),
            Err(error) => Some(failed(error)),
        };
        if let Some(error) = refused {
            self.undo(txid).await?;
            return Err(error);
        }
        let written = {
            let mut wallet = self.wallet();
            let mut unit = Unit::new();
            wallet.mempool(&tx, unix_time(), &mut unit);
            wallet.label(txid, &label, &mut unit);
            put_broadcast(&mut unit, &tx);
            submit(self.store(), unit)
        };
        durable(written).await?;
        match chain.broadcast(tx).await {
            Ok(()) => {}
            Err(error @ BroadcastError::Unreachable(_)) => tracing::warn!(%txid, %error, "sent"),
            Err(error) => {
                chain.abandon(txid);
                self.undo(txid).await?;
                return Err(SendError::Rejected(error.to_string()));
            }
        }
        tracing::info!(%txid, "sent on chain");
        self.tell_news();
        Ok(txid)
    }

    /// Holds coins and signs. The reservation is durable on return; without its order to broadcast
    /// it is given up at the next start.
    async fn build(&self, mut request: SendRequest) -> Result<Transaction, SendError> {
        request.fund.anchor_channels = self.anchor_channels();
        let (tx, written) = {
            let mut wallet = self.wallet();
            let plan = match request.sweep_to {
                Some(script) => wallet.plan_sweep(script, &request.fund)?,
                None => wallet.plan(&request.fund)?,
            };
            let mut unit = Unit::new();
            let reservation = wallet.reserve(plan, &mut unit).map_err(failed)?;
            let mut tx = reservation.tx;
            if let Err(error) = wallet.sign(&mut tx, &BTreeMap::new()) {
                wallet.release(reservation.txid, unix_time(), &mut unit);
                return Err(failed(error));
            }
            (tx, submit(self.store(), unit))
        };
        durable(written).await?;
        Ok(tx)
    }

    async fn undo(&self, txid: Txid) -> Result<(), SendError> {
        let written = {
            let mut unit = Unit::new();
            self.wallet().release(txid, unix_time(), &mut unit);
            delete_broadcast(&mut unit, txid);
            submit(self.store(), unit)
        };
        durable(written).await
    }

    /// Looks after unconfirmed transactions at a new block: those that left the mempool and are
    /// not ours to send again no longer count, and what can never confirm is sent no more.
    ///
    /// # Errors
    /// [`StoreError`] when the store fails.
    pub async fn look_after_unconfirmed(&self, chain: &Chain) -> Result<(), StoreError> {
        let sent = load_broadcasts(self.store())?;
        let sent_ids: BTreeSet<Txid> = sent.iter().map(Transaction::compute_txid).collect();
        let doubtful: Vec<Txid> = {
            let wallet = self.wallet();
            let held = |txid: &Txid| wallet.reservations().any(|(held, _)| held == txid);
            let unconfirmed = wallet.unconfirmed().into_iter();
            unconfirmed.filter(|txid| !sent_ids.contains(txid) && !held(txid)).collect()
        };
        let mut gone = Vec::new();
        for txid in doubtful {
            // Without an answer we know nothing, and ask again at the next block.
            if let Ok(false) = chain.in_mempool(txid).await {
                gone.push(txid);
            }
        }
        let mut unit = Unit::new();
        let written = {
            let mut wallet = self.wallet();
            for txid in gone {
                tracing::info!(%txid, "the mempool no longer has a transaction of ours");
                wallet.evicted(txid, unix_time(), &mut unit);
            }
            for tx in sent.iter().filter(|tx| wallet.conflict_depth(tx) >= DEEP) {
                let txid = tx.compute_txid();
                tracing::warn!(%txid, "a transaction of ours can never confirm");
                delete_broadcast(&mut unit, txid);
                chain.abandon(txid);
            }
            if unit.is_empty() {
                return Ok(());
            }
            submit(self.store(), unit)
        };
        written.await.unwrap_or_else(|_| Err(StoreError::Failed("the store is gone".into())))
    }
}

/// A lot for [`Strategy::Random`].
pub fn random() -> Strategy {
    Strategy::Random(OsRng.next_u64())
}

/// The transactions that are to be sent until they are deep.
///
/// # Errors
/// [`StoreError`] when a row cannot be read.
pub fn load_broadcasts(store: &Store) -> Result<Vec<Transaction>, StoreError> {
    let rows = store.scan(Table::Broadcast, &KeyRange::all(), usize::MAX, false)?;
    let read = |(key, value): &(Vec<u8>, Vec<u8>)| {
        let bad = |error| {
            let row = hex::encode(key);
            StoreError::Failed(format!("the row {row} of table broadcast is damaged: {error}"))
        };
        deserialize(value).map_err(bad)
    };
    rows.iter().map(read).collect()
}

/// Writes that `tx` is to be sent until it is deep.
pub(crate) fn put_broadcast(unit: &mut Unit, tx: &Transaction) {
    unit.put(Table::Broadcast, tx.compute_txid().to_byte_array(), serialize(tx));
}

/// Writes that it is to be sent no more.
pub(crate) fn delete_broadcast(unit: &mut Unit, txid: Txid) {
    unit.delete(Table::Broadcast, txid.to_byte_array());
}

type Written = oneshot::Receiver<Result<(), StoreError>>;

/// Queues a unit while the wallet is locked: the disk sees changes in the order of memory.
fn submit(store: &Store, unit: Unit) -> Written {
    let (done, written) = oneshot::channel();
    store.submit(unit, move |result| drop(done.send(result)));
    written
}

async fn durable(written: Written) -> Result<(), SendError> {
    written.await.map_err(failed)?.map_err(failed)
}
