//! What there is to back up, read from the database: channels of which something may be ours.

use super::blob::{Content, Numbers};
use super::record::RestoredRecord;
use super::single::Single;
use crate::channels::record::{load_row, ChannelRecord};
use crate::store::{KeyRange, Store, StoreError, Table};
use bitcoin::OutPoint;
use fulmen_channel::changeset::Row;
use fulmen_channel::contract::commitments::State;
use fulmen_channel::params::{ChannelParams, Side};
use fulmen_channel::protocol::restored::Own;
use std::collections::BTreeSet;

/// The backup of every channel of which something may be ours, in the order of their numbers.
///
/// # Errors
/// [`StoreError`] when a row cannot be read.
pub fn load(store: &Store) -> Result<Vec<Single>, StoreError> {
    let mut singles = Vec::new();
    for record in ChannelRecord::load_all(store)?.iter().filter(|record| !record.closed) {
        if let Some(params) = load_row(store, record.index, Row::Params)? {
            singles.push(single(store, record, &params)?);
        }
    }
    let restored = RestoredRecord::load_all(store)?;
    singles.extend(restored.into_iter().filter(|record| !record.closed).map(|it| it.backup));
    singles.sort_by_key(|single| single.index);
    Ok(singles)
}

/// Every channel that the database has ever heard of.
pub struct Known {
    outpoints: BTreeSet<OutPoint>,
    /// Those that came to nothing, by number and F: any peer may have named any F for one, and
    /// numbers come again after an old copy of the database.
    forgotten: BTreeSet<(u64, OutPoint)>,
}

impl Known {
    /// Reads them.
    ///
    /// # Errors
    /// [`StoreError`] when a row cannot be read.
    pub fn load(store: &Store) -> Result<Known, StoreError> {
        let channels = ChannelRecord::load_all(store)?.into_iter().map(|record| record.outpoint);
        let restored = RestoredRecord::load_all(store)?.into_iter().map(|it| it.backup.outpoint);
        let forgotten = store.scan(Table::Forgotten, &KeyRange::all(), usize::MAX, false)?;
        let number = |(key, value): (Vec<u8>, Vec<u8>)| {
            let index = u64::from_be_bytes(key.try_into().ok()?);
            Some((index, bitcoin::consensus::deserialize(&value).ok()?))
        };
        Ok(Known {
            outpoints: channels.chain(restored).collect(),
            forgotten: forgotten.into_iter().filter_map(number).collect(),
        })
    }

    /// Takes in a backup. Whether its channel is new.
    pub fn insert(&mut self, single: &Single) -> bool {
        !self.forgotten.contains(&(single.index, single.outpoint))
            && self.outpoints.insert(single.outpoint)
    }
}

/// What peers are to keep: the backups, and how far the channels are that run.
///
/// # Errors
/// [`StoreError`] when a row cannot be read.
pub fn content(store: &Store) -> Result<Content, StoreError> {
    let backups = load(store)?;
    let mut numbers = Numbers::new();
    for single in &backups {
        let state: Option<State> = load_row(store, single.index, Row::State)?;
        numbers.extend(state.map(|state| (single.index, state.local_number)));
    }
    Ok(Content { backups, numbers })
}

fn single(
    store: &Store,
    record: &ChannelRecord,
    params: &ChannelParams,
) -> Result<Single, StoreError> {
    let address = store.get(Table::Peer, &record.peer.serialize())?;
    Ok(Single {
        index: record.index,
        peer: record.peer,
        addresses: address.and_then(|bytes| String::from_utf8(bytes).ok()).into_iter().collect(),
        outpoint: record.outpoint,
        capacity: record.capacity,
        opened: record.opened_height,
        funder: params.funder,
        format: params.format,
        scid_alias: params.scid_alias,
        zero_conf: params.zero_conf(),
        announce: params.announce,
        ours: params.side(Side::Local).basepoints.payment,
        theirs: params.side(Side::Remote).basepoints.payment,
        own: Some(Own {
            revocation: params.side(Side::Remote).basepoints.revocation,
            delay: params.side(Side::Remote).to_self_delay,
        }),
    })
}
