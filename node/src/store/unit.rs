//! A unit of work: writes that become durable together or not at all.

use super::Table;

/// One write of a [`Unit`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Makes or replaces a row.
    Put {
        /// Where.
        table: Table,
        /// Under which key.
        key: Vec<u8>,
        /// What.
        value: Vec<u8>,
    },
    /// Removes a row if it is there.
    Delete {
        /// Where.
        table: Table,
        /// Which.
        key: Vec<u8>,
    },
    /// Removes every row whose key begins so.
    DeletePrefix {
        /// Where.
        table: Table,
        /// How their keys begin.
        prefix: Vec<u8>,
    },
}

/// Writes in order: one transaction, possibly with rows of several channels and of the switch,
/// invoices, payments and wallet.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Unit {
    writes: Vec<Write>,
}

impl Unit {
    /// A unit without writes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes or replaces the row under `key`.
    pub fn put(
        &mut self,
        table: Table,
        key: impl Into<Vec<u8>>,
        value: impl Into<Vec<u8>>,
    ) -> &mut Self {
        self.writes.push(Write::Put { table, key: key.into(), value: value.into() });
        self
    }

    /// Removes the row under `key` if it is there.
    pub fn delete(&mut self, table: Table, key: impl Into<Vec<u8>>) -> &mut Self {
        self.writes.push(Write::Delete { table, key: key.into() });
        self
    }

    /// Removes every row whose key begins with `prefix`.
    pub fn delete_prefix(&mut self, table: Table, prefix: impl Into<Vec<u8>>) -> &mut Self {
        self.writes.push(Write::DeletePrefix { table, prefix: prefix.into() });
        self
    }

    /// Adds the writes of `later` behind these.
    pub fn extend(&mut self, later: Unit) -> &mut Self {
        self.writes.extend(later.writes);
        self
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// How many writes there are.
    pub fn len(&self) -> usize {
        self.writes.len()
    }

    /// The writes in order.
    pub fn writes(&self) -> &[Write] {
        &self.writes
    }

    /// How many bytes of keys and values there are.
    pub fn bytes(&self) -> usize {
        let size = |write: &Write| match write {
            Write::Put { key, value, .. } => key.len().saturating_add(value.len()),
            Write::Delete { key, .. } => key.len(),
            Write::DeletePrefix { prefix, .. } => prefix.len(),
        };
        self.writes.iter().map(size).sum()
    }
}
