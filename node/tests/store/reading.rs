//! What was written is read back, by key, by range, after a restart and after a crash.

use fulmen_node::store::{KeyRange, Store, StoreError, Table, Unit};
use tempfile::tempdir;

fn keys(rows: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    rows.iter().map(|(key, _)| key[0]).collect()
}

#[test]
fn later_writes_of_a_unit_win_and_tables_are_apart() {
    let dir = tempdir().unwrap();
    let store = Store::open(&dir.path().join("fulmen.db")).unwrap();
    let mut unit = Unit::new();
    unit.put(Table::Peer, [1], [10]).put(Table::Peer, [1], [11]).put(Table::Peer, [2], [20]);
    unit.put(Table::Watch, [1], [30]).delete(Table::Peer, [2]);
    store.commit_blocking(unit).unwrap();
    assert_eq!(store.get(Table::Peer, &[1]).unwrap(), Some(vec![11]));
    assert_eq!(store.get(Table::Peer, &[2]).unwrap(), None);
    assert_eq!(store.get(Table::Watch, &[1]).unwrap(), Some(vec![30]));
}

#[test]
fn scans_take_ranges_limits_and_directions() {
    let dir = tempdir().unwrap();
    let store = Store::open(&dir.path().join("fulmen.db")).unwrap();
    let mut unit = Unit::new();
    for key in 0..10u8 {
        unit.put(Table::Invoice, [key, 255], [key]);
    }
    store.commit_blocking(unit).unwrap();
    let scan = |range: KeyRange, limit, reverse| {
        keys(&store.scan(Table::Invoice, &range, limit, reverse).unwrap())
    };
    assert_eq!(scan(KeyRange::all(), 3, false), [0, 1, 2]);
    assert_eq!(scan(KeyRange::all(), 3, true), [9, 8, 7]);
    assert_eq!(scan(KeyRange::prefix(&[4]), 9, false), [4]);
    assert_eq!(scan(KeyRange::between([3], [5]), 9, true), [4, 3]);
    assert_eq!(scan(KeyRange::from([8]), 9, false), [8, 9]);
    assert_eq!(scan(KeyRange::before([2]), 9, true), [1, 0]);

    let mut unit = Unit::new();
    unit.delete_prefix(Table::Invoice, [4]).put(Table::Invoice, [4, 0], [1]);
    store.commit_blocking(unit).unwrap();
    assert_eq!(store.get(Table::Invoice, &[4, 255]).unwrap(), None);
    assert_eq!(store.get(Table::Invoice, &[4, 0]).unwrap(), Some(vec![1]));
    let mut unit = Unit::new();
    unit.delete_prefix(Table::Invoice, []);
    store.commit_blocking(unit).unwrap();
    assert_eq!(scan(KeyRange::all(), 9, false), [0u8; 0]);
}

#[test]
fn a_restart_finds_what_was_written() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("deep/er/fulmen.db");
    let store = Store::open(&path).unwrap();
    let mut unit = Unit::new();
    unit.put(Table::Preimage, [7; 32], [8; 32]);
    store.commit_blocking(unit).unwrap();
    let clone = store.clone();
    store.close();
    assert_eq!(clone.commit_blocking(Unit::new()), Err(StoreError::Closed));
    assert!(!path.with_extension("db-wal").exists(), "the log was not copied into the file");
    drop(clone);
    let store = Store::open(&path).unwrap();
    assert_eq!(store.get(Table::Preimage, &[7; 32]).unwrap(), Some(vec![8; 32]));
}

#[test]
fn a_crash_after_a_commit_loses_nothing() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("fulmen.db");
    let store = Store::open(&path).unwrap();
    for n in 0..50u8 {
        let mut unit = Unit::new();
        unit.put(Table::Circuit, [n], [n; 2_000]);
        store.commit_blocking(unit).unwrap();
        // What is on disk at this instant, without any tidying up, is what a crash leaves.
        if n % 10 == 0 {
            let image = dir.path().join(format!("image{n}"));
            std::fs::create_dir(&image).unwrap();
            for file in ["fulmen.db", "fulmen.db-wal"] {
                std::fs::copy(dir.path().join(file), image.join(file)).unwrap();
            }
            let image = Store::open(&image.join("fulmen.db")).unwrap();
            let rows = image.scan(Table::Circuit, &KeyRange::all(), 99, false).unwrap();
            assert_eq!(keys(&rows), (0..=n).collect::<Vec<_>>());
        }
    }
}

#[test]
#[cfg(unix)]
fn only_the_owner_reads_the_file() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempdir().unwrap();
    let path = dir.path().join("data/fulmen.db");
    let store = Store::open(&path).unwrap();
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(&path.with_extension("db-wal")), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    store.close();
}
