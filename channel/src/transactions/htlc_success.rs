//! HE, the HTLC's execution: takes an HTLC that the broadcaster received, with its preimage
//! (BOLT 3 HTLC-success).
//!
//! ```text
//! F ── C ── received HTLC ── HE ─┬─ HERD
//!                                └─ HEBR
//! ```

use bitcoin::absolute::LockTime;
use bitcoin::secp256k1::ecdsa::Signature;
use bitcoin::{OutPoint, Script, Transaction, Witness};

use super::{second_stage, weight};
use crate::amount::{FeeratePerKw, Msat};
use crate::params::CommitmentFormat;
use crate::payment::Preimage;

/// HE, unsigned. `revocable` is the P2WSH of to_local's script; `feerate` is the commitment's.
pub fn build(
    format: CommitmentFormat,
    feerate: FeeratePerKw,
    htlc_output: OutPoint,
    amount: Msat,
    revocable: &Script,
) -> Transaction {
    let value = amount.floor().saturating_sub(weight::htlc_fee(format, feerate, false));
    second_stage::build(format, htlc_output, value, revocable, LockTime::ZERO)
}

/// The witness of HE; `script` is the received HTLC's.
pub fn witness(
    format: CommitmentFormat,
    countersigner: &Signature,
    broadcaster: &Signature,
    preimage: &Preimage,
    script: &Script,
) -> Witness {
    second_stage::witness(format, countersigner, broadcaster, &preimage.0, script)
}

/// Weight of the input with its witness, with the longest signatures; what remains is one P2WSH
/// output and, with anchors, whatever pays the fee.
pub fn input_weight(script: &Script) -> u64 {
    second_stage::input_weight(32, script)
}
