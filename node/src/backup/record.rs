//! A channel that was restored from its backup, as a row.

use super::single::Single;
use super::vault::readable;
use crate::channels::record::{SpentRecord, WATCHED};
use crate::desk::{decode, encode, Record};
use crate::store::{KeyRange, Store, StoreError, Table, Unit};
use fulmen_channel::amount::Height;
use serde::{Deserialize, Serialize};

/// What is known of it, and what has happened since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredRecord {
    /// The backup.
    pub backup: Single,
    /// What spent F.
    pub spent: Option<SpentRecord>,
    /// The block that holds what took D.
    pub delivered: Option<Height>,
    /// Nothing of ours is left: the channel is history.
    pub closed: bool,
}

/// The same as bytes: a backup grows for itself, so it is packed for itself.
#[derive(Serialize, Deserialize)]
struct Row {
    backup: Vec<u8>,
    spent: Option<SpentRecord>,
    delivered: Option<Height>,
    closed: bool,
}

impl Record for Row {
    const TABLE: Table = Table::Restored;
}

impl RestoredRecord {
    /// A channel that was restored now.
    pub fn new(backup: Single) -> Self {
        RestoredRecord { backup, spent: None, delivered: None, closed: false }
    }

    /// Writes the record.
    pub fn put(&self, unit: &mut Unit) {
        let RestoredRecord { backup, spent, delivered, closed } = self;
        let (backup, index) = (encode(backup), self.backup.index);
        let row = Row { backup, spent: *spent, delivered: *delivered, closed: *closed };
        unit.put(Row::TABLE, index.to_be_bytes(), encode(&row));
    }

    /// All that were ever restored.
    ///
    /// # Errors
    /// [`StoreError`] when a row cannot be read: damaged, or of a later version.
    pub fn load_all(store: &Store) -> Result<Vec<RestoredRecord>, StoreError> {
        let rows = store.scan(Row::TABLE, &KeyRange::all(), usize::MAX, false)?;
        let record = |(_, value): &(Vec<u8>, Vec<u8>)| {
            let Row { backup, spent, delivered, closed } = decode(value)?;
            let backup = readable("a restored channel", &backup);
            let backup = backup.map_err(|error| StoreError::Failed(error.to_string()))?;
            Ok(RestoredRecord { backup, spent, delivered, closed })
        };
        rows.iter().map(record).collect()
    }

    /// Closed so deep that it is not watched any more.
    pub fn is_history(&self, tip: Height) -> bool {
        let last = self.delivered.or(self.spent.map(|spent| spent.height));
        self.closed && last.is_some_and(|height| height.plus(WATCHED) <= tip)
    }

    /// The block at `height` is gone, and what was in it or after it. Whether that changes
    /// anything.
    pub fn unblock(&mut self, height: Height) -> bool {
        let gone = |at: Height| at >= height;
        let before = self.clone();
        if self.spent.is_some_and(|spent| gone(spent.height)) {
            (self.spent, self.delivered, self.closed) = (None, None, false);
        }
        if self.delivered.is_some_and(gone) {
            (self.delivered, self.closed) = (None, false);
        }
        *self != before
    }
}
