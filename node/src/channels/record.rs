//! What the daemon keeps of a channel beside the contract's own rows.

use super::note::Note;
use super::Totals;
use crate::desk::{decode, decode_as, encode, Record};
use crate::store::{KeyRange, Store, StoreError, Table, Unit};
use bitcoin::secp256k1::PublicKey;
use bitcoin::{OutPoint, Txid};
use fulmen_channel::amount::{Height, Sat};
use fulmen_channel::changeset::{ChangeSet, Row, Rows};
use fulmen_channel::contract::htlc::PenaltyRecord;
use fulmen_channel::onchain::resolution::{OnChain, Resolution};
use fulmen_channel::output::Spend;
use fulmen_channel::params::{ChannelParams, Side};
use fulmen_channel::transactions::commitment::HtlcRef;
use serde::{Deserialize, Serialize};

/// The static row of a channel, and the few facts about it that change rarely.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelRecord {
    /// Its number: also the index of its keys.
    pub index: u64,
    /// The peer.
    pub peer: PublicKey,
    /// F's output.
    pub outpoint: OutPoint,
    /// What F holds.
    pub capacity: Sat,
    /// We opened it.
    pub initiator: bool,
    /// Unix time of the opening.
    pub opened_at: u64,
    /// The best block when it was opened.
    pub opened_height: Height,
    /// The block that holds F, its index in it.
    pub funding_block: Option<(Height, u32)>,
    /// What spent F, in which block, whose doing it was.
    pub spent: Option<SpentRecord>,
    /// Settled sums, as of the last write.
    pub totals: Totals,
    /// Nothing of ours is left, as far as the best chain says.
    pub closed: bool,
    /// Who wanted the close, once F is spent.
    pub close_initiator: Option<Side>,
    /// All of it is so deep in the chain that it is not watched any more.
    pub history: bool,
}

/// What spent F.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpentRecord {
    /// The transaction.
    pub txid: Txid,
    /// Its block.
    pub height: Height,
    /// Whose doing.
    pub kind: SpendKind,
    /// What of ours waits there for a delay.
    pub limbo: Sat,
    /// When it can be spent.
    pub matures_at: Option<Height>,
    /// What it paid us in the end, once that is known.
    pub settled: Sat,
}

/// Whose doing a spend of F was ([`Spend`] as it is stored).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // as in Spend
pub enum SpendKind {
    Mutual,
    Local,
    Remote,
    Other,
    Revoked,
    Unknown,
}

impl From<Spend> for SpendKind {
    fn from(spend: Spend) -> Self {
        match spend {
            Spend::Mutual => SpendKind::Mutual,
            Spend::Local => SpendKind::Local,
            Spend::Remote => SpendKind::Remote,
            Spend::Other => SpendKind::Other,
            Spend::Revoked => SpendKind::Revoked,
            Spend::Unknown => SpendKind::Unknown,
        }
    }
}

impl From<SpendKind> for Spend {
    fn from(kind: SpendKind) -> Self {
        match kind {
            SpendKind::Mutual => Spend::Mutual,
            SpendKind::Local => Spend::Local,
            SpendKind::Remote => Spend::Remote,
            SpendKind::Other => Spend::Other,
            SpendKind::Revoked => Spend::Revoked,
            SpendKind::Unknown => Spend::Unknown,
        }
    }
}

/// How deep a close must be for nothing of the channel to be watched any more: reorganisations of
/// so many blocks are followed.
pub const WATCHED: u32 = 100;

const NEXT_INDEX: &[u8] = b"next_channel_index";

impl Record for ChannelRecord {
    const TABLE: Table = Table::Channel;
}

impl ChannelRecord {
    /// The block at `height` is gone. True when the transaction that spent F went with it, or with
    /// one before it: then the channel is not closed any more.
    pub fn unblock_spent(&mut self, height: Height) -> bool {
        let gone = self.spent.is_some_and(|spent| spent.height >= height);
        if gone {
            (self.spent, self.closed) = (None, false);
        }
        gone
    }

    /// Writes the record.
    pub fn put(&self, unit: &mut Unit) {
        unit.put(Self::TABLE, self.index.to_be_bytes(), encode(self));
    }

    /// All channels ever, in the order of their opening.
    ///
    /// # Errors
    /// [`StoreError`] when a row cannot be read: damaged, or of a later version.
    pub fn load_all(store: &Store) -> Result<Vec<ChannelRecord>, StoreError> {
        let rows = store.scan(Self::TABLE, &KeyRange::all(), usize::MAX, false)?;
        rows.iter().map(|(_, value)| decode(value)).collect()
    }

    /// Where F is in the chain (BOLT 7), once it is in a block.
    pub fn short_channel_id(&self) -> Option<u64> {
        self.funding_block.map(|(height, index)| short_channel_id(height, index, self.outpoint))
    }
}

/// Block, index and output as one number (BOLT 7).
pub fn short_channel_id(block: Height, tx_index: u32, outpoint: OutPoint) -> u64 {
    u64::from(block.number()) << 40 | u64::from(tx_index) << 16 | u64::from(outpoint.vout)
}

/// Writes the contract's rows of channel `index`.
pub fn put_changes(index: u64, changes: &ChangeSet, unit: &mut Unit) {
    for (row, value) in &changes.0 {
        let key = row_key(index, *row);
        match value {
            Some(value) => unit.put(Table::ChannelRow, key, value.clone()),
            None => unit.delete(Table::ChannelRow, key),
        };
    }
}

/// The contract's live rows of channel `index`. Penalty records stay on disk.
///
/// # Errors
/// [`StoreError`] when the database cannot be read.
pub fn load_rows(store: &Store, index: u64) -> Result<Rows, StoreError> {
    let live = scan(store, index)?.filter(|(row, _)| !matches!(row, Row::Penalty(_, _)));
    Ok(Rows(live.collect()))
}

/// What was to be found again with our own HTLCs of channel `index`, whatever became of them.
///
/// # Errors
/// [`StoreError`] when the database or a row of it cannot be read.
pub fn load_memos(store: &Store, index: u64) -> Result<Vec<Vec<u8>>, StoreError> {
    let own = row_key(index, Row::Memo(Side::Local, 0));
    let prefix = own.get(..own.len().saturating_sub(8)).unwrap_or(&own);
    let rows = store.scan(Table::ChannelRow, &KeyRange::prefix(prefix), usize::MAX, false)?;
    rows.iter().map(|(_, value)| decode_as("what was noted with an HTLC", value)).collect()
}

/// HTLCs that were ever on the peer's commitments.
pub type Penalties = Vec<(HtlcRef, PenaltyRecord)>;

/// The channel's records of HTLCs that were ever on the peer's commitments (rules 1.3).
///
/// # Errors
/// In words, when the database or a row of it cannot be read.
pub fn load_penalties(store: &Store, index: u64) -> Result<Penalties, String> {
    let rows = scan(store, index).map_err(|error| error.to_string())?;
    let pick = |row| match row {
        Row::Penalty(by, id) => Some((by, id)),
        _ => None,
    };
    Rows(rows.collect()).each(pick).map_err(|error| error.to_string())
}

fn scan(store: &Store, index: u64) -> Result<impl Iterator<Item = (Row, Vec<u8>)>, StoreError> {
    let prefix = index.to_be_bytes();
    let rows = store.scan(Table::ChannelRow, &KeyRange::prefix(&prefix), usize::MAX, false)?;
    let named = move |(key, value): (Vec<u8>, Vec<u8>)| {
        Some((Row::from_key(key.get(prefix.len()..)?)?, value))
    };
    Ok(rows.into_iter().filter_map(named))
}

/// One row of channel `index`, also when it is closed.
///
/// # Errors
/// [`StoreError`] when the row cannot be read.
pub fn load_row<T: serde::de::DeserializeOwned>(
    store: &Store,
    index: u64,
    row: Row,
) -> Result<Option<T>, StoreError> {
    let value = store.get(Table::ChannelRow, &row_key(index, row))?;
    let rows = Rows(value.map(|value| (row, value)).into_iter().collect());
    rows.read(row).map_err(|error| StoreError::Failed(error.to_string()))
}

/// Deletes all that is kept of channel `index`, which came to nothing: only that it was there.
///
/// # Errors
/// [`StoreError`] when the database cannot be read.
pub fn forget(
    store: &Store,
    (index, outpoint): (u64, OutPoint),
    unit: &mut Unit,
) -> Result<(), StoreError> {
    unit.delete(ChannelRecord::TABLE, index.to_be_bytes());
    unit.delete(Note::TABLE, index.to_be_bytes());
    unit.put(Table::Forgotten, index.to_be_bytes(), bitcoin::consensus::serialize(&outpoint));
    let range = KeyRange::prefix(&index.to_be_bytes());
    for (key, _) in store.scan(Table::ChannelRow, &range, usize::MAX, false)? {
        unit.delete(Table::ChannelRow, key);
    }
    Ok(())
}

/// What the chain did with the commitment that closed a channel.
///
/// # Errors
/// In words, when the database or the row cannot be read.
pub fn load_resolution(store: &Store, index: u64) -> Result<Option<Resolution>, String> {
    let row = store.get(Table::ChannelRow, &row_key(index, Row::OnChain));
    let row = row.map_err(|error| error.to_string())?.map(|value| (Row::OnChain, value));
    let onchain = Rows(row.into_iter().collect()).read::<OnChain>(Row::OnChain);
    Ok(onchain.map_err(|error| error.to_string())?.and_then(|onchain| onchain.resolution))
}

/// What a channel is called, also when it is closed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// The name it is or was listed under.
    pub listed_as: Option<u64>,
    /// Our aliases for it, in the order given.
    pub aliases: Vec<u64>,
    /// The real scid, if it is listed under another name.
    pub confirmed: Option<u64>,
}

impl Names {
    /// Those of a channel, open or not.
    ///
    /// # Errors
    /// [`StoreError`] when the database cannot be read.
    pub fn load(store: &Store, record: &ChannelRecord) -> Result<Self, StoreError> {
        let mut rows = Rows::default();
        for row in [Row::Params, Row::Aliases] {
            let value = store.get(Table::ChannelRow, &row_key(record.index, row))?;
            rows.0.extend(value.map(|value| (row, value)));
        }
        // Rows that cannot be read stop the daemon at its start, with a clear error.
        let params = rows.read::<ChannelParams>(Row::Params).ok().flatten();
        let aliases: Vec<u64> = rows.read(Row::Aliases).ok().flatten().unwrap_or_default();
        let (real, first) = (record.short_channel_id(), aliases.first().copied());
        Ok(match params.is_some_and(|params| params.zero_conf()) {
            true => Names { listed_as: first, aliases, confirmed: real },
            false => Names { listed_as: real, aliases, confirmed: None },
        })
    }
}

fn row_key(index: u64, row: Row) -> Vec<u8> {
    let mut key = index.to_be_bytes().to_vec();
    key.extend(row.to_key());
    key
}

/// The number for the next channel.
///
/// # Errors
/// [`StoreError`] when the database cannot be read.
pub fn next_index(store: &Store) -> Result<u64, StoreError> {
    let stored = store.get(Table::Meta, NEXT_INDEX)?;
    let number = stored.and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
    // A seed may have been used before on another disk, now lost. Keys of a channel that lived then
    // must not come again, so a new database begins with a number that none had then: the time.
    Ok(number.unwrap_or_else(crate::clock::unix_time))
}

/// Makes sure that a number is never used twice: its keys would be.
pub fn put_next_index(next: u64, unit: &mut Unit) {
    unit.put(Table::Meta, NEXT_INDEX, next.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::hashes::Hash;
    use bitcoin::secp256k1::{Secp256k1, SecretKey};

    #[test]
    fn the_memos_of_our_own_htlcs_of_one_channel_are_found() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("db")).unwrap();
        let mut unit = Unit::new();
        for index in [6, 7] {
            for (row, memo) in [
                (Row::Memo(Side::Local, 3), vec![1_u8]),
                (Row::Memo(Side::Local, u64::MAX), vec![2]),
                (Row::Memo(Side::Remote, 3), vec![3]),
                (Row::Aliases, vec![4]),
            ] {
                let changes = [(row, Some(encode(&memo)))].into();
                put_changes(index, &ChangeSet(changes), &mut unit);
            }
        }
        store.commit_blocking(unit).unwrap();
        assert_eq!(load_memos(&store, 7).unwrap(), [vec![1], vec![2]]);
        assert!(load_memos(&store, 8).unwrap().is_empty());
    }

    #[test]
    fn a_close_that_a_reorganisation_took_out_is_no_close() {
        let key = SecretKey::from_slice(&[1; 32]).unwrap();
        let spent = SpentRecord {
            txid: Txid::all_zeros(),
            height: Height::new(100),
            kind: SpendKind::Mutual,
            limbo: Sat::ZERO,
            matures_at: None,
            settled: Sat::new(5),
        };
        let mut record = ChannelRecord {
            index: 0,
            peer: PublicKey::from_secret_key(&Secp256k1::signing_only(), &key),
            outpoint: OutPoint::null(),
            capacity: Sat::new(10),
            initiator: true,
            opened_at: 0,
            opened_height: Height::new(1),
            funding_block: Some((Height::new(2), 1)),
            spent: Some(spent),
            totals: Totals::default(),
            closed: true,
            close_initiator: None,
            history: false,
        };
        assert!(!record.unblock_spent(Height::new(101)), "it is below that block");
        assert!(record.closed);
        assert!(record.unblock_spent(Height::new(100)));
        assert!(!record.closed && record.spent.is_none());
    }
}
