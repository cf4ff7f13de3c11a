//! The anchor's spend: a child that pays for its commitment.
//!
//! ```text
//! F ── C ── anchor ── child          its owner at once, anyone after 16 blocks
//! ```
//!
//! The anchor is worth less than it costs to spend: who raises a fee adds inputs of its own.

use bitcoin::secp256k1::PublicKey;
use bitcoin::{OutPoint, ScriptBuf, Sequence, TxIn, Witness};

use super::spend::{Key, Spend};
use super::weight::ANCHOR;
use crate::script::anchor::witness_script;

/// Our own anchor as an input; `funding` is our key in F.
pub fn spend(funding: &PublicKey, outpoint: OutPoint) -> Spend {
    Spend::p2wsh(Key::Funding, outpoint, ANCHOR, witness_script(funding), None)
}

/// An anchor that nobody took, complete with its witness: anyone's after 16 blocks.
pub fn abandoned(funding: &PublicKey, outpoint: OutPoint) -> TxIn {
    let mut witness = Witness::new();
    witness.push([]);
    witness.push(witness_script(funding));
    TxIn {
        previous_output: outpoint,
        script_sig: ScriptBuf::new(),
        sequence: Sequence::from_height(16),
        witness,
    }
}
