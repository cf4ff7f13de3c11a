//! The handle, and the writer thread with its group commit.

use super::{KeyRange, Row, SqliteStorage, Storage, StoreError, Table, Unit};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::{mpsc, oneshot, watch};

/// How many units may wait to be written.
pub const QUEUE_CAPACITY: usize = 16_384;

type Done = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

enum Order {
    Write(Unit, Done),
    Close,
}

/// What has been written so far, for benchmarks and tests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Transactions, each with one fsync.
    pub commits: u64,
    /// Units in them.
    pub units: u64,
    /// Writes in those.
    pub writes: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
}

#[derive(Default)]
struct Counters {
    commits: AtomicU64,
    units: AtomicU64,
    writes: AtomicU64,
    bytes: AtomicU64,
}

/// A handle on the store; clones share one writer.
#[derive(Clone)]
pub struct Store {
    storage: Arc<dyn Storage>,
    queue: mpsc::Sender<Order>,
    failed: watch::Receiver<Option<StoreError>>,
    counters: Arc<Counters>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Store {
    /// Opens the SQLite file `path`, making it and its directory if there are none.
    ///
    /// Errors: in use by another process, damaged, of a later version, or not to be opened.
    pub fn open(path: &Path) -> Result<Store, StoreError> {
        Store::with_storage(SqliteStorage::open(path, &Default::default())?)
    }

    /// A store in front of any storage.
    pub fn with_storage(storage: impl Storage + 'static) -> Result<Store, StoreError> {
        let storage: Arc<dyn Storage> = Arc::new(storage);
        let (queue, orders) = mpsc::channel(QUEUE_CAPACITY);
        let (failed_tx, failed) = watch::channel(None);
        let counters = Arc::new(Counters::default());
        let writer = Writer {
            storage: storage.clone(),
            orders,
            failed: failed_tx,
            counters: counters.clone(),
        };
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writer.run())
            .map_err(|error| StoreError::Failed(error.to_string()))?;
        let thread = Arc::new(Mutex::new(Some(thread)));
        Ok(Store { storage, queue, failed, counters, thread })
    }

    /// Queues `unit` and returns at once. `done` is called, on the writer thread, when the unit is
    /// durable or will not be: keep it short, say a send into a channel.
    ///
    /// Never blocks: a full queue answers [`StoreError::QueueFull`], and the unit is not written.
    pub fn submit(&self, unit: Unit, done: impl FnOnce(Result<(), StoreError>) + Send + 'static) {
        if let Err(refused) = self.queue.try_send(Order::Write(unit, Box::new(done))) {
            let (order, error) = match refused {
                mpsc::error::TrySendError::Full(order) => (order, StoreError::QueueFull),
                mpsc::error::TrySendError::Closed(order) => (order, self.gone()),
            };
            if let Order::Write(_, done) = order {
                done(Err(error));
            }
        }
    }

    /// As [`Store::submit`], but waits for room when the queue is full. Returns when the unit is
    /// queued, not when it is durable.
    pub async fn enqueue(
        &self,
        unit: Unit,
        done: impl FnOnce(Result<(), StoreError>) + Send + 'static,
    ) {
        let order = Order::Write(unit, Box::new(done));
        if let Err(mpsc::error::SendError(Order::Write(_, done))) = self.queue.send(order).await {
            done(Err(self.gone()));
        }
    }

    /// Writes `unit` and returns when it is durable.
    pub async fn commit(&self, unit: Unit) -> Result<(), StoreError> {
        let (tx, rx) = oneshot::channel();
        // The caller may have gone away meanwhile, which is its own affair.
        self.enqueue(unit, move |result| drop(tx.send(result))).await;
        rx.await.unwrap_or_else(|_| Err(self.gone()))
    }

    /// As [`Store::commit`], for threads outside of the runtime: start-up, tests.
    pub fn commit_blocking(&self, unit: Unit) -> Result<(), StoreError> {
        let (tx, rx) = std::sync::mpsc::channel();
        self.submit(unit, move |result| drop(tx.send(result)));
        rx.recv().unwrap_or_else(|_| Err(self.gone()))
    }

    /// The value under `key`: what is durable, not what is queued.
    pub fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.storage.get(table, key)
    }

    /// At most `limit` rows of `range` in key order, from its end if `reverse`.
    pub fn scan(
        &self,
        table: Table,
        range: &KeyRange,
        limit: usize,
        reverse: bool,
    ) -> Result<Vec<Row>, StoreError> {
        self.storage.scan(table, range, limit, reverse)
    }

    /// Changes once, to the error, when a write has failed. Nothing is written after that.
    pub fn failed(&self) -> watch::Receiver<Option<StoreError>> {
        self.failed.clone()
    }

    /// What has been written so far.
    pub fn stats(&self) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            commits: read(&self.counters.commits),
            units: read(&self.counters.units),
            writes: read(&self.counters.writes),
            bytes: read(&self.counters.bytes),
        }
    }

    /// Writes what is queued, tidies the files and stops the writer for every clone. Blocks: call
    /// it outside of the runtime or in `spawn_blocking`.
    pub fn close(self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return };
        // A full queue drains, so that this order is taken in the end; a gone writer is closed.
        let mut order = Order::Close;
        while let Err(mpsc::error::TrySendError::Full(back)) = self.queue.try_send(order) {
            order = back;
            std::thread::yield_now();
        }
        drop(thread.join());
    }

    fn gone(&self) -> StoreError {
        self.failed.borrow().clone().unwrap_or(StoreError::Closed)
    }
}

struct Writer {
    storage: Arc<dyn Storage>,
    orders: mpsc::Receiver<Order>,
    failed: watch::Sender<Option<StoreError>>,
    counters: Arc<Counters>,
}

impl Writer {
    fn run(mut self) {
        let mut units = Vec::new();
        let mut dones = Vec::new();
        let mut next = self.orders.blocking_recv();
        // What waits now goes together; whoever comes later waits for the next round.
        while let Some(order) = next.take() {
            let mut order = Some(order);
            while let Some(Order::Write(unit, done)) = order {
                units.push(unit);
                dones.push(done);
                order = match dones.len() < QUEUE_CAPACITY {
                    true => self.orders.try_recv().ok(),
                    false => None,
                };
            }
            self.commit(&mut units, &mut dones);
            if order.is_some() {
                break; // Order::Close
            }
            next = self.orders.blocking_recv();
        }
        self.refuse_the_rest();
        if let Err(error) = self.storage.close() {
            tracing::warn!("closing the database: {error}");
        }
    }

    fn commit(&self, units: &mut Vec<Unit>, dones: &mut Vec<Done>) {
        let earlier = self.failed.borrow().clone();
        let result = match earlier {
            Some(error) => Err(error),
            None if units.iter().all(Unit::is_empty) => Ok(()),
            None => self.apply(units),
        };
        units.clear();
        for done in dones.drain(..) {
            call(done, result.clone());
        }
    }

    fn apply(&self, units: &[Unit]) -> Result<(), StoreError> {
        let result = self.storage.apply(units);
        match &result {
            Ok(()) => {
                let add = |counter: &AtomicU64, n: usize| {
                    counter.fetch_add(u64::try_from(n).unwrap_or(u64::MAX), Ordering::Relaxed);
                };
                add(&self.counters.commits, 1);
                add(&self.counters.units, units.len());
                add(&self.counters.writes, units.iter().map(Unit::len).sum());
                add(&self.counters.bytes, units.iter().map(Unit::bytes).sum());
            }
            Err(error) => {
                tracing::error!("{error}");
                self.failed.send_replace(Some(error.clone()));
            }
        }
        result
    }

    fn refuse_the_rest(&mut self) {
        self.orders.close();
        while let Some(order) = self.orders.blocking_recv() {
            if let Order::Write(_, done) = order {
                call(done, Err(StoreError::Closed));
            }
        }
    }
}

/// A caller's bug must not stop the writer of all the others.
fn call(done: Done, result: Result<(), StoreError>) {
    if catch_unwind(AssertUnwindSafe(|| done(result))).is_err() {
        tracing::error!("a task that waited for a write panicked");
    }
}
