//! The wallet's rows: how changes are written and read again.
//!
//! Each fact is a row of its own in `Table::Wallet`, so that a change is as small as what changed:
//!
//! ```text
//!   b height            block hash      blocks of our chain: the latest, and those with our money
//!   k keychain          index           the last address given away
//!   t txid              transaction     everything that pays to or from us
//!   a txid height hash  block time      where it confirmed, in our chain or once was
//!   r                   window, heights  a search in old blocks that is not over
//!   f, l, e txid        time            first seen, last seen, evicted from the mempool
//!   n txid              text            what its sender calls it
//! ```
//!
//! `Table::Reservation` maps the txid of a reserved transaction to the transaction.

use super::keychain::Keychain;
use super::recover::{Recovery, Span};
use super::WalletError;
use crate::store::{Row, Table, Unit};
use bdk_chain::keychain_txout;
use bdk_chain::keychain_txout::KeychainTxOutIndex;
use bdk_chain::{indexed_tx_graph, tx_graph, BlockId, ConfirmationBlockTime, DescriptorExt};
use bitcoin::consensus::encode::{deserialize, serialize};
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Transaction, Txid};
use fulmen_channel::amount::Height;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) type Index = KeychainTxOutIndex<Keychain>;
pub(super) type Changes =
    indexed_tx_graph::ChangeSet<ConfirmationBlockTime, keychain_txout::ChangeSet>;

/// What the rows say.
#[derive(Default)]
pub(super) struct Loaded {
    pub blocks: BTreeMap<Height, BlockHash>,
    pub graph: tx_graph::ChangeSet<ConfirmationBlockTime>,
    pub revealed: BTreeMap<Keychain, u32>,
    pub labels: BTreeMap<Txid, String>,
    pub recovery: Option<Recovery>,
}

/// The key of the search in old blocks.
pub(super) const RECOVERY: &[u8] = b"r";

fn key(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut key = vec![tag];
    parts.iter().for_each(|part| key.extend_from_slice(part));
    key
}

pub(super) fn put_block(unit: &mut Unit, height: Height, hash: BlockHash) {
    let key = key(b'b', &[&height.number().to_be_bytes()]);
    unit.put(Table::Wallet, key, hash.to_byte_array());
}

pub(super) fn delete_block(unit: &mut Unit, height: Height) {
    unit.delete(Table::Wallet, key(b'b', &[&height.number().to_be_bytes()]));
}

pub(super) fn put_recovery(unit: &mut Unit, recovery: &Recovery) {
    let mut value = recovery.window.to_be_bytes().to_vec();
    for height in recovery.span.into_iter().flat_map(|span| [span.first, span.next]) {
        value.extend_from_slice(&height.number().to_be_bytes());
    }
    unit.put(Table::Wallet, RECOVERY, value);
}

pub(super) fn delete_recovery(unit: &mut Unit) {
    unit.delete(Table::Wallet, RECOVERY);
}

pub(super) fn read_recovery(value: &[u8]) -> Option<Recovery> {
    let numbers: Result<Vec<u32>, _> =
        value.chunks(4).map(|bytes| bytes.try_into().map(u32::from_be_bytes)).collect();
    let (window, span) = match *numbers.ok()?.as_slice() {
        [window] => (window, None),
        [window, first, next] => {
            let span = Span { first: Height::new(first), next: Height::new(next) };
            (window, Some(span))
        }
        _ => return None,
    };
    Some(Recovery { window, span, over: false })
}

pub(super) fn put_reservation(unit: &mut Unit, txid: Txid, tx: &Transaction) {
    unit.put(Table::Reservation, txid.to_byte_array(), serialize(tx));
}

pub(super) fn delete_reservation(unit: &mut Unit, txid: Txid) {
    unit.delete(Table::Reservation, txid.to_byte_array());
}

pub(super) fn put_label(unit: &mut Unit, txid: Txid, label: &str) {
    unit.put(Table::Wallet, key(b'n', &[&txid.to_byte_array()]), label);
}

fn anchor_key(txid: &Txid, block: BlockId) -> Vec<u8> {
    let height = block.height.to_be_bytes();
    key(b'a', &[&txid.to_byte_array(), &height, &block.hash.to_byte_array()])
}

/// Writes what changed.
pub(super) fn put_changes(unit: &mut Unit, changes: Changes, index: &Index) {
    let Changes { tx_graph, indexer } = changes;
    for tx in tx_graph.txs {
        let txid = tx.compute_txid().to_byte_array();
        unit.put(Table::Wallet, key(b't', &[&txid]), serialize(&*tx));
    }
    for (anchor, txid) in tx_graph.anchors {
        let time = anchor.confirmation_time.to_be_bytes();
        unit.put(Table::Wallet, anchor_key(&txid, anchor.block_id), time);
    }
    let times =
        [(b'f', tx_graph.first_seen), (b'l', tx_graph.last_seen), (b'e', tx_graph.last_evicted)];
    for (tag, times) in times {
        for (txid, time) in times {
            let key = key(tag, &[&txid.to_byte_array()]);
            unit.put(Table::Wallet, key, time.to_be_bytes());
        }
    }
    for keychain in Keychain::all() {
        let id = index.get_descriptor(keychain).map(|descriptor| descriptor.descriptor_id());
        if let Some(last) = id.and_then(|id| indexer.last_revealed.get(&id)) {
            let key = key(b'k', &[&keychain.to_bytes()]);
            unit.put(Table::Wallet, key, last.to_be_bytes());
        }
    }
}

impl Loaded {
    /// Reads rows of `Table::Wallet`.
    pub fn read(rows: impl IntoIterator<Item = Row>) -> Result<Loaded, WalletError> {
        let mut loaded = Loaded::default();
        for (key, value) in rows {
            loaded.row(&key, &value).ok_or_else(|| WalletError::Damaged(hex::encode(&key)))?;
        }
        Ok(loaded)
    }

    fn row(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        let (tag, key) = key.split_first()?;
        let number = |bytes: &[u8]| Some(u32::from_be_bytes(bytes.try_into().ok()?));
        let time = || Some(u64::from_be_bytes(value.try_into().ok()?));
        let txid = || Txid::from_slice(key).ok();
        match tag {
            b'b' => {
                let hash = BlockHash::from_slice(value).ok()?;
                self.blocks.insert(Height::new(number(key)?), hash);
            }
            b'k' => {
                self.revealed.insert(Keychain::from_bytes(key)?, number(value)?);
            }
            b'r' => self.recovery = Some(read_recovery(value)?),
            b't' => {
                self.graph.txs.insert(Arc::new(deserialize(value).ok()?));
            }
            b'a' => {
                let (txid, block) = key.split_at_checked(32)?;
                let (height, hash) = block.split_at_checked(4)?;
                let hash = BlockHash::from_slice(hash).ok()?;
                let anchor = ConfirmationBlockTime {
                    block_id: BlockId { height: number(height)?, hash },
                    confirmation_time: time()?,
                };
                self.graph.anchors.insert((anchor, Txid::from_slice(txid).ok()?));
            }
            b'f' => drop(self.graph.first_seen.insert(txid()?, time()?)),
            b'l' => drop(self.graph.last_seen.insert(txid()?, time()?)),
            b'e' => drop(self.graph.last_evicted.insert(txid()?, time()?)),
            b'n' => drop(self.labels.insert(txid()?, String::from_utf8(value.to_vec()).ok()?)),
            _ => return None,
        }
        Some(())
    }
}

/// Reads a row of `Table::Reservation`.
pub(super) fn read_reservation((key, value): &Row) -> Result<Transaction, WalletError> {
    deserialize(value).map_err(|_| WalletError::Damaged(hex::encode(key)))
}
