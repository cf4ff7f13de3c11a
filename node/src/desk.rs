//! Rows as typed records, read through what is written but not durable yet.
//!
//! ```text
//!   read ──▶ pending (written, not durable) ──▶ disk (durable)
//!   write ─▶ pending, and the unit that its caller submits to the store
//! ```
//!
//! Invoices, payments and circuits change faster than the disk, and all keep their state in rows
//! only. The desk makes what one step wrote visible to the next, so that nothing is settled, paid
//! or numbered twice while a unit waits in the store's queue.

use crate::store::{KeyRange, Store, StoreError, Table, Unit};
use fulmen_channel::changeset;
use serde::de::DeserializeOwned;
use serde::Serialize;
use std::collections::BTreeMap;

/// A value that is a row. How it may grow: docs/architecture.md, "Records that grow".
pub trait Record: Serialize + DeserializeOwned {
    /// Where its rows are.
    const TABLE: Table;
}

/// What is durable.
pub trait Rows {
    /// The row under `key`.
    ///
    /// # Errors
    /// `StoreError` if it cannot be read.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// The last key of a table.
    ///
    /// # Errors
    /// `StoreError` if it cannot be read.
    fn last_key(&self, table: Table) -> Result<Option<Vec<u8>>, StoreError>;
}

impl Rows for Store {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Store::get(self, table, key)
    }

    fn last_key(&self, table: Table) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.scan(table, &KeyRange::all(), 1, true)?.pop().map(|(key, _)| key))
    }
}

/// A value as bytes, in the form of the contract's rows.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    changeset::encode(value)
}

/// What [`encode`] made bytes of. `what` names it in the error.
///
/// # Errors
/// `StoreError::Failed` for bytes of a later version, or damaged ones.
pub fn decode_as<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, StoreError> {
    let bad = |why: String| StoreError::Failed(format!("{what} cannot be read: {why}"));
    changeset::decode(bytes).map_err(bad)
}

/// The record in a row, say of a scan.
///
/// # Errors
/// `StoreError::Failed` for a row of a later version, or a damaged one.
pub fn decode<R: Record>(bytes: &[u8]) -> Result<R, StoreError> {
    decode_as(&format!("a row of table {}", R::TABLE.name()), bytes)
}

/// A row that is written, but not durable yet: nothing if it is deleted.
struct Written {
    value: Option<Vec<u8>>,
    mark: u64,
}

/// What is written, but not durable yet.
#[derive(Default)]
pub struct Pending {
    rows: BTreeMap<(Table, Vec<u8>), Written>,
    steps: BTreeMap<u64, Vec<(Table, Vec<u8>)>>,
    mark: u64,
    /// The last number given away in each table.
    numbers: BTreeMap<Table, u64>,
}

impl Pending {
    /// Stands for what the last desk wrote. Give it to [`Pending::durable`] when its unit is.
    pub fn mark(&self) -> u64 {
        self.mark
    }

    /// What the desk of `mark` wrote is on disk: read it from there, unless it was written again.
    pub fn durable(&mut self, mark: u64) {
        for key in self.steps.remove(&mark).unwrap_or_default() {
            if self.rows.get(&key).is_some_and(|row| row.mark == mark) {
                self.rows.remove(&key);
            }
        }
    }
}

/// Reads and writes of one step. Units that write the same row are to be submitted in the order of
/// their desks; that of others does not matter.
pub struct Desk<'a> {
    disk: &'a dyn Rows,
    pending: &'a mut Pending,
    unit: &'a mut Unit,
}

impl<'a> Desk<'a> {
    /// Writes go to `unit`.
    pub fn new(disk: &'a dyn Rows, pending: &'a mut Pending, unit: &'a mut Unit) -> Self {
        pending.mark = pending.mark.saturating_add(1);
        Desk { disk, pending, unit }
    }

    /// The bytes under `key`.
    ///
    /// # Errors
    /// `StoreError` if the disk cannot be read.
    pub fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.pending.rows.get(&(table, key.to_vec())) {
            Some(row) => Ok(row.value.clone()),
            None => self.disk.get(table, key),
        }
    }

    /// The record under `key`.
    ///
    /// # Errors
    /// `StoreError` if it cannot be read.
    pub fn read<R: Record>(&self, key: &[u8]) -> Result<Option<R>, StoreError> {
        self.get(R::TABLE, key)?.map(|bytes| decode(&bytes)).transpose()
    }

    /// Writes bytes under `key`.
    pub fn put(&mut self, table: Table, key: &[u8], value: Vec<u8>) {
        self.unit.put(table, key, value.clone());
        self.note(table, key, Some(value));
    }

    /// Writes a record under `key`.
    pub fn write<R: Record>(&mut self, key: &[u8], record: &R) {
        self.put(R::TABLE, key, encode(record));
    }

    /// Deletes what is under `key`.
    pub fn delete(&mut self, table: Table, key: &[u8]) {
        self.unit.delete(table, key);
        self.note(table, key, None);
    }

    fn note(&mut self, table: Table, key: &[u8], value: Option<Vec<u8>>) {
        let mark = self.pending.mark;
        let key = (table, key.to_vec());
        self.pending.steps.entry(mark).or_default().push(key.clone());
        self.pending.rows.insert(key, Written { value, mark });
    }

    /// The number after the last key of `table`, whose keys are big-endian; 1 comes first. Never
    /// given twice: it does not matter in which order the rows with these keys become durable.
    ///
    /// # Errors
    /// `StoreError` if the disk cannot be read.
    pub fn next_number(&mut self, table: Table) -> Result<u64, StoreError> {
        let last = match self.pending.numbers.get(&table) {
            Some(last) => *last,
            None => {
                let key = self.disk.last_key(table)?.and_then(|key| key.try_into().ok());
                key.map_or(0, u64::from_be_bytes)
            }
        };
        let next = last.saturating_add(1);
        self.pending.numbers.insert(table, next);
        Ok(next)
    }
}
