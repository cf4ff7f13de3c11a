//! What was given and noted at a channel's opening: a row beside its record, which none has that an
//! earlier version opened.

use crate::desk::{decode, encode, Record};
use crate::store::{Store, StoreError, Table, Unit};
use fulmen_channel::amount::Msat;
use serde::{Deserialize, Serialize};

/// The most bytes that a memo may have, as in lnd.
pub const MAX_MEMO: usize = 500;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// What whoever opened the channel gave the other from the start.
    pub pushed: Msat,
    /// What the operator wrote down; nobody else learns it.
    pub memo: String,
}

impl Record for Note {
    const TABLE: Table = Table::ChannelNote;
}

impl Note {
    /// That of channel `index`; an empty one if there is none.
    ///
    /// # Errors
    /// [`StoreError`] when the row cannot be read.
    pub fn load(store: &Store, index: u64) -> Result<Self, StoreError> {
        let row = store.get(Self::TABLE, &index.to_be_bytes())?;
        row.map_or(Ok(Note::default()), |row| decode(&row))
    }

    /// Writes it.
    pub fn put(&self, index: u64, unit: &mut Unit) {
        unit.put(Self::TABLE, index.to_be_bytes(), encode(self));
    }
}
