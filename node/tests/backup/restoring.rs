//! From backups to rows, and the file beside the database.

use super::{keys, single};
use fulmen_channel::amount::{Height, Sat};
use fulmen_node::backup::{restore, Backups, RestoredRecord, Single, Vault};
use fulmen_node::channels::record::{forget, next_index, SpendKind, SpentRecord};
use fulmen_node::store::{Store, Table, Unit};
use tempfile::tempdir;

fn restored(store: &Store, singles: &[Single]) -> usize {
    let mut unit = Unit::new();
    let records = restore::plan(store, singles, &mut unit).unwrap();
    store.commit_blocking(unit).unwrap();
    records.len()
}

#[test]
fn a_channel_is_restored_once_and_its_number_is_never_used_again() {
    let directory = tempdir().unwrap();
    let store = Store::open(&directory.path().join("db")).unwrap();
    let far = u64::MAX / 2;
    let singles = [single(1, 5), single(1, far)];
    assert_eq!(restored(&store, &singles), 2);
    assert_eq!(restored(&store, &singles), 0);
    assert_eq!(next_index(&store).unwrap(), far + 1);
    let records = RestoredRecord::load_all(&store).unwrap();
    let backups: Vec<Single> = records.into_iter().map(|record| record.backup).collect();
    assert_eq!(backups, singles);
    let address = store.get(Table::Peer, &singles[0].peer.serialize()).unwrap();
    assert_eq!(address.as_deref(), Some(b"127.0.0.1:9735".as_slice()));
}

#[test]
fn a_reorganisation_takes_back_what_it_took_out() {
    let mut record = RestoredRecord::new(single(1, 5));
    let spent = SpentRecord {
        txid: record.backup.outpoint.txid,
        height: Height::new(100),
        kind: SpendKind::Remote,
        limbo: Sat::new(5),
        matures_at: None,
        settled: Sat::new(5),
    };
    record.spent = Some(spent);
    (record.delivered, record.closed) = (Some(Height::new(102)), true);
    let whole = record.clone();
    assert!(!record.is_history(Height::new(201)) && record.is_history(Height::new(202)));
    assert!(!record.unblock(Height::new(103)));
    assert!(record.unblock(Height::new(102)), "D is spendable again");
    assert_eq!((record.spent, record.delivered, record.closed), (Some(spent), None, false));
    record = whole;
    assert!(record.unblock(Height::new(100)));
    assert_eq!((record.spent, record.closed), (None, false));
}

/// The file follows the database, and what only the file knows stays in it.
#[tokio::test]
async fn the_file_follows_the_database_and_forgets_nothing_it_alone_knows() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("channel.backup");
    let vault = Vault::new(&keys(1));
    std::fs::write(&path, vault.seal_multi(&[single(1, 3)]).unwrap()).unwrap();
    let store = Store::open(&directory.path().join("db")).unwrap();
    let backups = Backups::new(&keys(1), store.clone(), path.clone());
    let mut written = None;
    backups.catch_up(&mut written).await.unwrap();
    let news = backups.subscribe();
    backups.catch_up(&mut written).await.unwrap();
    assert!(!news.has_changed().unwrap(), "nothing has");
    let mut unit = Unit::new();
    restore::plan(&store, &[single(1, 5)], &mut unit).unwrap();
    store.commit(unit).await.unwrap();
    backups.catch_up(&mut written).await.unwrap();
    assert!(news.has_changed().unwrap());
    assert_eq!(*news.borrow(), [single(1, 5)]);
    let kept = vault.open_multi(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(kept, [single(1, 5), single(1, 3)]);
}

/// An opening that came to nothing is in no backup any more, and none brings it back.
#[tokio::test]
async fn what_was_forgotten_stays_forgotten() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("channel.backup");
    let vault = Vault::new(&keys(1));
    // The other is on the same F: whoever named that F first is not to blot out whose it is.
    let other = Single { outpoint: single(1, 5).outpoint, ..single(1, 7) };
    // This has its number, from before an old copy of the database was put back.
    let before = Single { outpoint: single(1, 9).outpoint, ..single(1, 5) };
    let all = [single(1, 5), before.clone(), other.clone()];
    std::fs::write(&path, vault.seal_multi(&all).unwrap()).unwrap();
    let store = Store::open(&directory.path().join("db")).unwrap();
    let mut unit = Unit::new();
    forget(&store, (5, single(1, 5).outpoint), &mut unit).unwrap();
    store.commit(unit).await.unwrap();
    let backups = Backups::new(&keys(1), store.clone(), path.clone());
    backups.catch_up(&mut None).await.unwrap();
    let kept = vault.open_multi(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(kept, [before, other]);
    assert_eq!(restored(&store, &[single(1, 5)]), 0, "an old blob of its peer");
    assert_eq!(restored(&store, &all), 2);
}

#[tokio::test]
async fn a_file_that_is_not_ours_is_set_aside() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("channel.backup");
    let foreign = Vault::new(&keys(2)).seal_multi(&[single(2, 3)]).unwrap();
    std::fs::write(&path, &foreign).unwrap();
    let store = Store::open(&directory.path().join("db")).unwrap();
    let backups = Backups::new(&keys(1), store, path.clone());
    backups.catch_up(&mut None).await.unwrap();
    assert_eq!(Vault::new(&keys(1)).open_multi(&std::fs::read(&path).unwrap()), Ok(vec![]));
    let names = std::fs::read_dir(directory.path()).unwrap().map(|it| it.unwrap().path());
    let aside = names
        .into_iter()
        .find(|name| *name != path && name.to_string_lossy().contains("channel.backup"));
    assert_eq!(std::fs::read(aside.expect("it is kept")).unwrap(), foreign);
}
