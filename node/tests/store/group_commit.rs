//! The writer: what waits goes together, in order, and a failure is the end.

use fulmen_node::store::{KeyRange, Row, Storage, Store, StoreError, Table, Unit, QUEUE_CAPACITY};
use std::sync::mpsc::{channel, Receiver, Sender};
use std::sync::{Arc, Mutex};
use tempfile::tempdir;

/// A storage whose every `apply` says that it began, and waits to be told how it ends.
struct Gate {
    began: Mutex<Sender<Vec<Unit>>>,
    end: Mutex<Receiver<Result<(), StoreError>>>,
}

impl Storage for Gate {
    fn apply(&self, units: &[Unit]) -> Result<(), StoreError> {
        self.began.lock().unwrap().send(units.to_vec()).unwrap();
        self.end.lock().unwrap().recv().unwrap()
    }
    fn get(&self, _: Table, _: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(None)
    }
    fn scan(&self, _: Table, _: &KeyRange, _: usize, _: bool) -> Result<Vec<Row>, StoreError> {
        Ok(Vec::new())
    }
    fn close(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

fn gated() -> (Store, Receiver<Vec<Unit>>, Sender<Result<(), StoreError>>) {
    let (began, on_began) = channel();
    let (end, on_end) = channel();
    let gate = Gate { began: Mutex::new(began), end: Mutex::new(on_end) };
    (Store::with_storage(gate).unwrap(), on_began, end)
}

fn unit(n: u8) -> Unit {
    let mut unit = Unit::new();
    unit.put(Table::ChannelRow, [n], [n]);
    unit
}

#[test]
fn what_waits_while_one_commit_runs_goes_into_the_next_together_and_in_order() {
    let (store, began, end) = gated();
    let finished = Arc::new(Mutex::new(Vec::new()));
    let submit = |n: u8| {
        let finished = finished.clone();
        store.submit(unit(n), move |result| {
            result.unwrap();
            finished.lock().unwrap().push(n);
        });
    };
    submit(0);
    assert_eq!(began.recv().unwrap(), [unit(0)]);
    (1..=100).for_each(submit);
    assert!(finished.lock().unwrap().is_empty(), "done before it was durable");
    end.send(Ok(())).unwrap();
    assert_eq!(began.recv().unwrap(), (1..=100).map(unit).collect::<Vec<_>>());
    assert_eq!(*finished.lock().unwrap(), [0]);
    end.send(Ok(())).unwrap();
    let stats = store.clone();
    store.close();
    assert_eq!(*finished.lock().unwrap(), (0..=100).collect::<Vec<_>>());
    let stats = stats.stats();
    assert_eq!((stats.commits, stats.units, stats.writes, stats.bytes), (2, 101, 101, 202));
}

#[test]
fn after_a_failed_write_nothing_is_written_any_more() {
    let (store, began, end) = gated();
    let (tx, results) = channel();
    let submit = |n| {
        let tx = tx.clone();
        store.submit(unit(n), move |result| tx.send(result).unwrap());
    };
    let failed = store.failed();
    submit(0);
    began.recv().unwrap();
    submit(1);
    assert_eq!(*failed.borrow(), None);
    let full = StoreError::Failed("disk full".into());
    end.send(Err(full.clone())).unwrap();
    assert_eq!(results.recv().unwrap(), Err(full.clone()));
    assert_eq!(results.recv().unwrap(), Err(full.clone()));
    assert_eq!(*failed.borrow(), Some(full.clone()));
    submit(2);
    assert_eq!(results.recv().unwrap(), Err(full));
    assert!(began.try_recv().is_err(), "the storage was asked again");
}

#[tokio::test]
async fn a_full_queue_refuses_a_submit_and_holds_back_a_commit() {
    let (store, began, end) = gated();
    store.submit(unit(0), |_| ());
    began.recv().unwrap();
    for _ in 0..QUEUE_CAPACITY {
        store.submit(unit(1), |result| result.unwrap());
    }
    let (tx, refused) = channel();
    store.submit(unit(2), move |result| tx.send(result).unwrap());
    assert_eq!(refused.try_recv().unwrap(), Err(StoreError::QueueFull));
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.commit(unit(3)).await }
    });
    for _ in 0..3 {
        end.send(Ok(())).unwrap();
    }
    assert_eq!(waiting.await.unwrap(), Ok(()));
    let last = began.try_iter().last().unwrap();
    assert_eq!(last.last(), Some(&unit(3)));
}

#[test]
fn a_panic_in_a_callback_stops_nobody_else() {
    let dir = tempdir().unwrap();
    let store = Store::open(&dir.path().join("fulmen.db")).unwrap();
    store.submit(unit(0), |_| panic!("planted"));
    store.commit_blocking(unit(1)).unwrap();
    assert_eq!(store.get(Table::ChannelRow, &[0]).unwrap(), Some(vec![0]));
}

#[tokio::test]
async fn a_thousand_commits_at_once_share_their_fsyncs() {
    let dir = tempdir().unwrap();
    let store = Store::open(&dir.path().join("fulmen.db")).unwrap();
    let (tx, rx) = channel();
    for n in 0..1_000u32 {
        let tx = tx.clone();
        let mut unit = Unit::new();
        unit.put(Table::Payment, n.to_be_bytes(), [0; 100]).put(Table::Meta, *b"last", [n as u8]);
        store.submit(unit, move |result| tx.send((n, result)).unwrap());
    }
    store.commit(Unit::new()).await.unwrap();
    drop(tx);
    let order: Vec<u32> = rx.try_iter().map(|(n, result)| result.map(|()| n).unwrap()).collect();
    assert_eq!(order, (0..1_000).collect::<Vec<_>>());
    assert_eq!(store.get(Table::Meta, b"last").unwrap(), Some(vec![999u32 as u8]));
    let stats = store.stats();
    assert_eq!(stats.writes, 2_000);
    assert!(stats.commits < 500, "{} transactions for 1,000 units", stats.commits);
}
