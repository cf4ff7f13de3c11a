//! From backups to rows: one for each channel that the database has never heard of.

use super::catalog::Known;
use super::record::RestoredRecord;
use super::single::Single;
use crate::channels::record::{next_index, put_next_index};
use crate::store::{Store, StoreError, Table, Unit};

/// Writes what `singles` bring that is new, and the peers' addresses. The records written.
///
/// # Errors
/// [`StoreError`] when the database cannot be read.
pub fn plan(
    store: &Store,
    singles: &[Single],
    unit: &mut Unit,
) -> Result<Vec<RestoredRecord>, StoreError> {
    let mut known = Known::load(store)?;
    let mut records = Vec::new();
    for single in singles.iter().filter(|single| known.insert(single)) {
        let record = RestoredRecord::new(single.clone());
        record.put(unit);
        let peer = single.peer.serialize();
        if let (Some(address), None) = (single.addresses.first(), store.get(Table::Peer, &peer)?) {
            unit.put(Table::Peer, peer, address.clone().into_bytes());
        }
        records.push(record);
    }
    // Their keys must not come again.
    if let Some(last) = records.iter().map(|record| record.backup.index).max() {
        put_next_index(next_index(store)?.max(last.saturating_add(1)), unit);
    }
    Ok(records)
}
