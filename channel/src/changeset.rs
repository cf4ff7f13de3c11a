//! What must be on disk before we speak: upserts and deletes on named rows. Merging is
//! associative (the later write of a row wins), so a store keeps the merged rows and no history,
//! and a restart is [`crate::channel::Channel::restore`] over the rows that are live.

use crate::error::BadRow;
use crate::params::Side;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The name of a row of one channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Row {
    /// What was agreed at opening. Written once.
    Params,
    /// Numbers, base balances, points, order of the last messages. Small; written at each step.
    State,
    /// A funding output and the signatures of our commitment on it (one today; splices add more).
    Funding(u32),
    /// F itself, signed, as long as we may have to rebroadcast it.
    FundingTx,
    /// An HTLC that is on either commitment, by who offered it and its id.
    Htlc(Side, u64),
    /// What the node wants to find again with an HTLC; written once.
    Memo(Side, u64),
    /// The onion of an HTLC we offered, until the peer has acknowledged it.
    Onion(u64),
    /// One of the 49 slots of revoked secrets.
    Revocation(u8),
    /// An HTLC that ever was on the peer's commitment: what a penalty for an old state needs
    /// (rules 1.3). Kept until the close is irrevocable.
    Penalty(Side, u64),
    /// Where the channel is in its life: ready, shutting down, failed, closed.
    Life,
    /// Every name that we gave the peer for the channel (BOLT 2, channel_ready): kept for good.
    Aliases,
    /// What closing together has come to; there is none before somebody wants to.
    Closing,
    /// What the chain did with F and with the outputs of a commitment; there is none before F is
    /// spent.
    OnChain,
}

/// The first byte of each row's value: the format of what follows. One more with each step in
/// which a record has grown.
const FORMAT: u8 = 4;

/// What a row of an earlier format is taken to end with: see [`decode`].
const GROWTH: [u8; 256] = [0; 256];

impl Row {
    /// The row's name as bytes, in an order that keeps rows of a kind together.
    pub fn to_key(self) -> Vec<u8> {
        let side = |side: Side| u8::from(side == Side::Remote);
        let (kind, side, id) = match self {
            Row::Params => (0, 0, 0),
            Row::State => (1, 0, 0),
            Row::Funding(n) => (2, 0, u64::from(n)),
            Row::FundingTx => (3, 0, 0),
            Row::Htlc(by, id) => (4, side(by), id),
            Row::Onion(id) => (5, 0, id),
            Row::Revocation(slot) => (6, 0, u64::from(slot)),
            Row::Penalty(by, id) => (7, side(by), id),
            Row::Life => (8, 0, 0),
            Row::Memo(by, id) => (9, side(by), id),
            Row::Aliases => (10, 0, 0),
            Row::Closing => (11, 0, 0),
            Row::OnChain => (12, 0, 0),
        };
        let mut key = vec![kind, side];
        key.extend_from_slice(&id.to_be_bytes());
        key
    }

    /// The row that [`Row::to_key`] named so.
    pub fn from_key(key: &[u8]) -> Option<Row> {
        let (&[kind, side], id) = key.split_first_chunk::<2>()?;
        let id = u64::from_be_bytes(id.try_into().ok()?);
        let by = if side == 0 { Side::Local } else { Side::Remote };
        Some(match kind {
            0 => Row::Params,
            1 => Row::State,
            2 => Row::Funding(id.try_into().ok()?),
            3 => Row::FundingTx,
            4 => Row::Htlc(by, id),
            5 => Row::Onion(id),
            6 => Row::Revocation(id.try_into().ok()?),
            7 => Row::Penalty(by, id),
            8 => Row::Life,
            9 => Row::Memo(by, id),
            10 => Row::Aliases,
            11 => Row::Closing,
            12 => Row::OnChain,
            _ => return None,
        })
    }
}

/// Upserts (`Some`) and deletes (`None`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangeSet(pub BTreeMap<Row, Option<Vec<u8>>>);

impl ChangeSet {
    /// Nothing to write.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// `self`, then `later`.
    pub fn merge(&mut self, later: ChangeSet) {
        self.0.extend(later.0);
    }
    /// Writes these changes into a table of rows, as a store does.
    pub fn apply_to(&self, rows: &mut Rows) {
        for (row, value) in &self.0 {
            match value {
                Some(value) => rows.0.insert(*row, value.clone()),
                None => rows.0.remove(row),
            };
        }
    }
}

/// The live rows of a channel, as read back from a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows(pub BTreeMap<Row, Vec<u8>>);

impl Rows {
    /// Reads one row, if it is there.
    pub fn read<T: DeserializeOwned>(&self, row: Row) -> Result<Option<T>, BadRow> {
        self.0.get(&row).map(|value| decode_row(row, value)).transpose()
    }
    /// Reads a row that every channel has.
    pub fn require<T: DeserializeOwned>(&self, row: Row) -> Result<T, BadRow> {
        self.read(row)?.ok_or_else(|| bad(row, "it is missing"))
    }
    /// All rows of the kind that `pick` recognises, in order.
    pub fn each<K, T: DeserializeOwned>(
        &self,
        pick: impl Fn(Row) -> Option<K>,
    ) -> Result<Vec<(K, T)>, BadRow> {
        let picked = self.0.iter().filter_map(|(row, value)| Some((*row, pick(*row)?, value)));
        picked.map(|(row, key, value)| Ok((key, decode_row(row, value)?))).collect()
    }
}

/// The bytes of a row: postcard behind the byte that names the format.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    // Cannot fail: the sink is a Vec and every row type has a known length.
    match postcard::to_extend(value, vec![FORMAT]) {
        Ok(bytes) => bytes,
        Err(error) => panic!("a row cannot be written: {error}"),
    }
}

/// What [`encode`] made bytes of.
///
/// A row of an earlier format may be shorter than its type is today: what it lacks reads as zeros,
/// which are `None`, `false`, 0 or empty. So a field may be added at the end of a row's own type,
/// where it means that. A row of today's format must be whole.
///
/// # Errors
/// In words, for bytes of a later version or damaged ones.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let read = match bytes.split_first() {
        Some((&FORMAT, body)) => postcard::from_bytes(body),
        Some((1..FORMAT, body)) => postcard::from_bytes(&[body, &GROWTH].concat()),
        Some((other, _)) => return Err(format!("its format {other} is newer than this version")),
        None => return Err("it is empty".into()),
    };
    read.map_err(|error| error.to_string())
}

fn decode_row<T: DeserializeOwned>(row: Row, value: &[u8]) -> Result<T, BadRow> {
    decode(value).map_err(|why| bad(row, why))
}

pub(crate) fn bad(row: Row, why: impl Into<String>) -> BadRow {
    BadRow { row: format!("{row:?}"), why: why.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Grown {
        was: u64,
        script: Option<Vec<u8>>,
        names: Vec<String>,
        secret: [u8; 32],
        asked: bool,
    }

    #[test]
    fn what_an_earlier_format_lacks_is_zero_and_todays_must_be_whole() {
        let grown = Grown {
            was: 500,
            script: Some(vec![1]),
            names: vec!["a".into()],
            secret: [7; 32],
            asked: true,
        };
        let mut bytes = encode(&grown);
        assert_eq!(decode(&bytes), Ok(grown));
        bytes.pop();
        decode::<Grown>(&bytes).unwrap_err();
        let mut earlier = encode(&500_u64);
        decode::<Grown>(&earlier).unwrap_err();
        earlier[0] = FORMAT - 1;
        let zeros = Grown { was: 500, script: None, names: vec![], secret: [0; 32], asked: false };
        assert_eq!(decode(&earlier), Ok(zeros));
        for other in [0, FORMAT + 1] {
            earlier[0] = other;
            decode::<Grown>(&earlier).unwrap_err();
        }
        decode::<Grown>(&[]).unwrap_err();
    }
}
