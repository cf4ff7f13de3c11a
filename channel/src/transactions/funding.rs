//! F: the output that both sides own together.
//!
//! ```text
//! wallet ── F ── 2-of-2 ── C or ES
//! ```
//!
//! The rest of the transaction is the funder's own affair (v1 opening): inputs, change and fee.

use bitcoin::secp256k1::ecdsa::Signature;
use bitcoin::secp256k1::PublicKey;
use bitcoin::sighash::EcdsaSighashType;
use bitcoin::{OutPoint, Transaction, TxOut, Witness};

use super::sighash::witness_element;
use crate::amount::Sat;
use crate::script::funding::{sorted, witness_script};

pub use crate::script::funding::witness_script as funding_script;

/// The output of F.
pub fn output(one: &PublicKey, other: &PublicKey, capacity: Sat) -> TxOut {
    TxOut { value: capacity.to_amount(), script_pubkey: witness_script(one, other).to_p2wsh() }
}

/// Where `tx` has that output, if it has: the first that is equal.
pub fn find(tx: &Transaction, output: &TxOut) -> Option<OutPoint> {
    let place = tx.output.iter().position(|candidate| candidate == output)?;
    Some(OutPoint::new(tx.compute_txid(), u32::try_from(place).ok()?))
}

/// The witness that spends F: each key with its signature, in either order.
pub fn witness(one: (&PublicKey, &Signature), other: (&PublicKey, &Signature)) -> Witness {
    let (lesser, _) = sorted(one.0, other.0);
    let (first, second) =
        if lesser == one.0.serialize() { (one.1, other.1) } else { (other.1, one.1) };
    let mut witness = Witness::new();
    witness.push([]);
    witness.push(witness_element(first, EcdsaSighashType::All));
    witness.push(witness_element(second, EcdsaSighashType::All));
    witness.push(witness_script(one.0, other.0));
    witness
}
