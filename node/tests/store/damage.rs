//! Damaged, foreign, newer and locked files are refused as they are; a full disk stops writing.

use fulmen_node::store::{
    SqliteOptions, SqliteStorage, Store, StoreError, Table, Unit, SCHEMA_VERSION,
};
use std::path::{Path, PathBuf};
use tempfile::{tempdir, TempDir};

const MARK: &[u8] = b"a value that is easy to find in the file";

/// A closed store with a few rows.
fn filled() -> (TempDir, PathBuf) {
    let dir = tempdir().unwrap();
    let path = dir.path().join("fulmen.db");
    let store = Store::open(&path).unwrap();
    let mut unit = Unit::new();
    for n in 0..100u8 {
        unit.put(Table::ChannelRow, [n; 33], [n; 500]);
    }
    unit.put(Table::Preimage, [1], MARK);
    store.commit_blocking(unit).unwrap();
    store.close();
    (dir, path)
}

/// Opening fails with "damaged", and leaves the file as it was.
fn refused_untouched(path: &Path) -> String {
    let before = std::fs::read(path).unwrap();
    let error = Store::open(path).err().expect("opened a damaged file");
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert_eq!(std::fs::read(path).unwrap(), before, "touched: {error}");
    error.to_string()
}

fn find(haystack: &[u8], needle: &[u8]) -> usize {
    haystack.windows(needle.len()).position(|window| window == needle).unwrap()
}

#[test]
fn a_flipped_bit_in_a_value_is_found() {
    let (_dir, path) = filled();
    let mut bytes = std::fs::read(&path).unwrap();
    let at = find(&bytes, MARK);
    bytes[at + 3] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let error = refused_untouched(&path);
    assert!(error.contains("row 01 of table preimage was altered"), "{error}");
}

#[test]
fn a_flipped_byte_anywhere_is_refused_or_harmless() {
    let (_dir, path) = filled();
    let good = std::fs::read(&path).unwrap();
    let mut refused = 0;
    for at in (0..good.len()).step_by(997) {
        let mut bytes = good.clone();
        bytes[at] ^= 0x10;
        std::fs::write(&path, &bytes).unwrap();
        match Store::open(&path) {
            Err(_) => {
                assert_eq!(std::fs::read(&path).unwrap(), bytes);
                refused += 1;
            }
            Ok(store) => {
                for n in 0..100u8 {
                    let value = store.get(Table::ChannelRow, &[n; 33]).unwrap();
                    assert_eq!(value, Some(vec![n; 500]), "byte {at}");
                }
                store.close();
            }
        }
        std::fs::write(&path, &good).unwrap();
    }
    assert!(refused > 20, "only {refused} refused");
}

#[test]
fn garbage_and_a_truncated_or_emptied_file_are_refused() {
    let (_dir, path) = filled();
    let good = std::fs::read(&path).unwrap();
    for bytes in [&[0x5a; 8192][..], &good[..good.len() / 2], &[]] {
        std::fs::write(&path, bytes).unwrap();
        refused_untouched(&path);
    }
    std::fs::remove_file(&path).unwrap();
    std::fs::write(path.with_extension("db-wal"), b"left behind").unwrap();
    let error = Store::open(&path).err().unwrap();
    assert!(error.to_string().contains("its log is there"), "{error}");
}

#[test]
fn the_database_of_another_program_is_refused() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("fulmen.db");
    let foreign = rusqlite::Connection::open(&path).unwrap();
    foreign.execute_batch("CREATE TABLE photos (name TEXT)").unwrap();
    drop(foreign);
    assert!(refused_untouched(&path).contains("not a database of fulmen"));
}

#[test]
fn a_newer_schema_is_refused() {
    let (_dir, path) = filled();
    set_version(&path, SCHEMA_VERSION + 1);
    let error = Store::open(&path).err().unwrap();
    assert_eq!(error, StoreError::Newer { path, found: SCHEMA_VERSION + 1 });
}

/// Overwrites the version that the file says it has.
fn set_version(path: &Path, version: u32) {
    let store = Store::open(path).unwrap();
    let mut unit = Unit::new();
    unit.put(Table::Meta, *b"schema_version", version.to_be_bytes());
    store.commit_blocking(unit).unwrap();
    store.close();
}

#[test]
fn an_earlier_schema_is_copied_and_brought_forward() {
    let (_dir, path) = filled();
    set_version(&path, 1);
    let backup = path.with_extension("db.v1-backup");
    // Left by a migration that did not end.
    std::fs::write(&backup, "half a file").unwrap();
    let store = Store::open(&path).unwrap();
    assert_eq!(version(&store), SCHEMA_VERSION);
    assert_eq!(store.get(Table::Preimage, &[1]).unwrap(), Some(MARK.to_vec()));
    store.close();
    let copy = rusqlite::Connection::open(&backup).unwrap();
    let count = |sql: &str| copy.query_row(sql, [], |row| row.get::<_, u32>(0)).unwrap();
    assert_eq!(count("SELECT count(*) FROM channel_row"), 100);
    let of_version_1 = "SELECT hex(substr(value, 1, 4)) = '00000001' FROM meta";
    assert_eq!(count(of_version_1), 1);
    std::fs::remove_file(&backup).unwrap();
    Store::open(&path).unwrap();
    assert!(!backup.exists(), "it was of today's version already");
}

#[test]
fn without_its_copy_nothing_is_brought_forward() {
    let (_dir, path) = filled();
    set_version(&path, 1);
    let before = std::fs::read(&path).unwrap();
    std::fs::create_dir(path.with_extension("db.v1-backup")).unwrap();
    let error = Store::open(&path).err().unwrap();
    assert!(error.to_string().contains("cannot be copied"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

fn version(store: &Store) -> u32 {
    let version = store.get(Table::Meta, b"schema_version").unwrap().unwrap();
    u32::from_be_bytes(version.try_into().unwrap())
}

#[test]
fn a_second_store_on_the_same_file_is_refused_until_the_first_is_gone() {
    let (_dir, path) = filled();
    let store = Store::open(&path).unwrap();
    let error = Store::open(&path).err().unwrap();
    assert!(error.to_string().contains("in use by another fulmend"), "{error}");
    store.close();
    Store::open(&path).unwrap();
}

#[test]
fn a_full_disk_fails_the_write_keeps_what_was_there_and_stops() {
    let (_dir, path) = filled();
    let options = SqliteOptions { max_pages: Some(60) };
    let store = Store::with_storage(SqliteStorage::open(&path, &options).unwrap()).unwrap();
    let put = |n: u8| {
        let mut unit = Unit::new();
        unit.put(Table::Circuit, [n], vec![n; 20_000]);
        store.commit_blocking(unit)
    };
    let written = (0..100).take_while(|n| put(*n).is_ok()).count() as u8;
    assert!(written > 0 && written < 100, "{written}");
    let error = put(200).unwrap_err();
    assert!(error.to_string().contains("full"), "{error}");
    assert_eq!(store.failed().borrow().clone(), Some(error));
    let mut small = Unit::new();
    small.put(Table::Meta, *b"small", [1]);
    store.commit_blocking(small).unwrap_err();
    store.close();

    let store = Store::open(&path).unwrap();
    for n in 0..written {
        assert_eq!(store.get(Table::Circuit, &[n]).unwrap(), Some(vec![n; 20_000]));
    }
    assert_eq!(store.get(Table::Circuit, &[written]).unwrap(), None);
    assert_eq!(store.get(Table::Meta, b"small").unwrap(), None);
    assert_eq!(store.get(Table::Preimage, &[1]).unwrap(), Some(MARK.to_vec()));
}

/// A store of 30 commits that was killed: its file, and a log that holds what the file lacks.
fn killed(dir: &Path) -> (PathBuf, Vec<u8>) {
    let path = dir.join("fulmen.db");
    let store = Store::open(&path).unwrap();
    for n in 0..30u8 {
        let mut unit = Unit::new();
        unit.put(Table::Circuit, [n], vec![n; 3_000]);
        store.commit_blocking(unit).unwrap();
    }
    let copy = dir.join("copy").join("fulmen.db");
    std::fs::create_dir(dir.join("copy")).unwrap();
    let wal = std::fs::read(path.with_extension("db-wal")).unwrap();
    std::fs::copy(&path, &copy).unwrap();
    store.close();
    (copy, wal)
}

#[test]
fn a_flipped_byte_in_the_log_is_refused_unless_the_last_commit_alone_is_lost() {
    let dir = tempdir().unwrap();
    let (path, good) = killed(dir.path());
    let (file, log) = (std::fs::read(&path).unwrap(), path.with_extension("db-wal"));
    let mut refused = 0;
    let flips = (0..good.len()).step_by(good.len() / 150).chain([0, 8, 17, 25, 31, 33, 40, 50]);
    for at in flips {
        let mut bytes = good.clone();
        bytes[at] ^= 0x04;
        std::fs::write(&path, &file).unwrap();
        std::fs::write(&log, &bytes).unwrap();
        match Store::open(&path) {
            Err(error) => {
                assert!(error.to_string().contains("log"), "byte {at}: {error}");
                assert!(
                    std::fs::read(&path).unwrap() == file && std::fs::read(&log).unwrap() == bytes
                );
                refused += 1;
            }
            Ok(store) => {
                for n in 0..29u8 {
                    let value = store.get(Table::Circuit, &[n]).unwrap();
                    assert_eq!(value, Some(vec![n; 3_000]), "byte {at} of {}", good.len());
                }
                store.close();
            }
        }
    }
    assert!(refused > 120, "only {refused} refused");
}

#[test]
fn a_log_that_a_power_cut_tore_is_taken() {
    let dir = tempdir().unwrap();
    let (path, good) = killed(dir.path());
    let (file, log) = (std::fs::read(&path).unwrap(), path.with_extension("db-wal"));
    let zeros = vec![0; good.len()];
    let half = [&good[..good.len() / 2], &zeros[good.len() / 2..]].concat();
    for bytes in
        [&good, &good[..good.len() - 1], &good[..good.len() / 2], &half, &zeros, &good[..9]]
    {
        std::fs::write(&path, &file).unwrap();
        std::fs::write(&log, bytes).unwrap();
        Store::open(&path).unwrap().close();
    }
}
