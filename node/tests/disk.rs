//! A disk of rows in memory, for what keeps its state in rows.

use fulmen_node::desk::Rows;
use fulmen_node::store::{StoreError, Table, Unit, Write};
use std::collections::BTreeMap;

/// What is durable.
#[derive(Default, Clone, PartialEq, Debug)]
pub struct Disk(pub BTreeMap<(Table, Vec<u8>), Vec<u8>>);

impl Rows for Disk {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.0.get(&(table, key.to_vec())).cloned())
    }

    fn last_key(&self, table: Table) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.table(table).pop().map(|(key, _)| key))
    }
}

impl Disk {
    /// Makes a unit durable.
    pub fn apply(&mut self, unit: &Unit) {
        for write in unit.writes() {
            match write.clone() {
                Write::Put { table, key, value } => drop(self.0.insert((table, key), value)),
                Write::Delete { table, key } => drop(self.0.remove(&(table, key))),
                Write::DeletePrefix { table, prefix } => {
                    self.0.retain(|(t, key), _| *t != table || !key.starts_with(&prefix));
                }
            }
        }
    }

    /// The rows of a table.
    pub fn table(&self, table: Table) -> Vec<(Vec<u8>, Vec<u8>)> {
        let rows = self.0.iter().filter(|((t, _), _)| *t == table);
        rows.map(|((_, key), value)| (key.clone(), value.clone())).collect()
    }
}
