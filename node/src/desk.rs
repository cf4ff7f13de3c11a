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

use crate::store::{Store, StoreError, Table, Unit};
use serde::de::DeserializeOwned;
use serde::Serialize;
use std::collections::BTreeMap;

/// A value that is a row: postcard behind a byte that names its format.
pub trait Record: Serialize + DeserializeOwned {
    /// Where its rows are.
    const TABLE: Table;
}

/// The format that this build writes.
const FORMAT: u8 = 1;

/// What is durable.
pub trait Rows {
    /// The row under `key`.
    ///
    /// # Errors
    /// `StoreError` if it cannot be read.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;
}

impl Rows for Store {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Store::get(self, table, key)
    }
}

/// A value as bytes: postcard behind a byte that names the format.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    // Serialising into a Vec fails only for sequences of unknown length, which no record has.
    let body = postcard::to_stdvec(value).unwrap_or_default();
    std::iter::once(FORMAT).chain(body).collect()
}

/// What [`encode`] made bytes of. `what` names it in the error.
///
/// # Errors
/// `StoreError::Failed` for bytes of a later version, or damaged ones.
pub fn decode_as<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, StoreError> {
    let bad = |why: String| StoreError::Failed(format!("{what} cannot be read: {why}"));
    match bytes.split_first() {
        Some((&FORMAT, body)) => postcard::from_bytes(body).map_err(|error| bad(error.to_string())),
        Some((other, _)) => Err(bad(format!("its format {other} is of a later version"))),
        None => Err(bad("it is empty".into())),
    }
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
    mark: u64,
}

impl Pending {
    /// Stands for all that was written so far. Give it to [`Pending::durable`] when the unit with
    /// the last of it is.
    pub fn mark(&self) -> u64 {
        self.mark
    }

    /// What was written up to `mark` is on disk: read it from there.
    pub fn durable(&mut self, mark: u64) {
        self.rows.retain(|_, row| row.mark > mark);
    }
}

/// Reads and writes of one step.
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
        self.pending.rows.insert((table, key.to_vec()), Written { value, mark });
    }
}

/// A number under a name in the table of facts, counted up; 1 comes first.
///
/// # Errors
/// `StoreError` if the disk cannot be read.
pub fn next_number(desk: &mut Desk<'_>, name: &str) -> Result<u64, StoreError> {
    let last = desk.get(Table::Meta, name.as_bytes())?;
    let last = last.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes);
    let next = last.saturating_add(1);
    desk.put(Table::Meta, name.as_bytes(), next.to_be_bytes().to_vec());
    Ok(next)
}
