//! A transaction that the sweeper published: durable before it leaves, so that a later version can
//! follow the rules of replacement (BIP 125) after a restart too.

use super::budget::rate_of;
use crate::desk::{encode, Record};
use crate::store::{KeyRange, Store, StoreError, Table, Unit};
use bitcoin::hashes::Hash;
use bitcoin::{OutPoint, ScriptBuf, Transaction, Txid};
use fulmen_channel::amount::{FeeratePerKw, Height, Sat};
use serde::{Deserialize, Serialize};

/// A coin of the wallet's that pays for fees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lent {
    /// Where it is.
    pub outpoint: OutPoint,
    /// What it is worth.
    pub value: Sat,
    /// The weight of the input that spends it, signed.
    pub weight: u64,
    /// The input's script signature: nested outputs have one.
    pub script_sig: ScriptBuf,
    /// A block holds it.
    pub confirmed: bool,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// The transaction, signed.
    pub tx: Transaction,
    /// What it pays, a parent's own fee apart.
    pub fee: Sat,
    /// Its weight with the longest signatures.
    pub weight: u64,
    /// The claims that it takes: the channel of each, and what it spends.
    pub claims: Vec<(u64, OutPoint)>,
    /// The wallet's coins that it spends.
    pub coins: Vec<Lent>,
    /// Which output is the wallet's.
    pub rest: Option<u32>,
    /// The commitment that it pays for.
    pub parent: Option<Transaction>,
    /// The best block when the first version was published.
    pub since: Height,
    /// The feerate of the first version.
    pub start: FeeratePerKw,
    /// How many versions there were, this one included.
    pub attempts: u32,
}

impl Record for Version {
    const TABLE: Table = Table::Claim;
}

impl Version {
    /// The transaction's id.
    pub fn txid(&self) -> Txid {
        self.tx.compute_txid()
    }

    /// Its feerate, a parent's apart.
    pub fn feerate(&self) -> FeeratePerKw {
        rate_of(self.fee, self.weight)
    }

    /// Where what is left goes to.
    pub fn script(&self) -> Option<&ScriptBuf> {
        let place = usize::try_from(self.rest?).ok()?;
        self.tx.output.get(place).map(|output| &output.script_pubkey)
    }

    /// Writes its row.
    pub fn put(&self, unit: &mut Unit) {
        unit.put(Table::Claim, key(self.txid()), encode(self));
    }
}

/// Removes a version's row.
pub fn delete(unit: &mut Unit, txid: Txid) {
    unit.delete(Table::Claim, key(txid));
}

/// Every version that is not settled.
///
/// # Errors
/// [`StoreError`] when a row cannot be read.
pub fn load(store: &Store) -> Result<Vec<Version>, StoreError> {
    let rows = store.scan(Table::Claim, &KeyRange::prefix(b"v"), usize::MAX, false)?;
    rows.iter().map(|(_, value)| crate::desk::decode(value)).collect()
}

fn key(txid: Txid) -> Vec<u8> {
    [b"v".as_slice(), &txid.to_byte_array()].concat()
}
