//! HT: takes back an HTLC that the broadcaster offered, after its expiry (BOLT 3 HTLC-timeout).
//!
//! ```text
//! F ── C ── offered HTLC ── HT ─┬─ HTRD
//!                               └─ HTBR
//! ```

use bitcoin::absolute::LockTime;
use bitcoin::secp256k1::ecdsa::Signature;
use bitcoin::{OutPoint, Script, Transaction, Witness};

use super::{second_stage, weight};
use crate::amount::{FeeratePerKw, Height, Msat};
use crate::params::CommitmentFormat;

/// HT, unsigned. `revocable` is the P2WSH of to_local's script; `feerate` is the commitment's.
pub fn build(
    format: CommitmentFormat,
    feerate: FeeratePerKw,
    htlc_output: OutPoint,
    amount: Msat,
    cltv_expiry: Height,
    revocable: &Script,
) -> Transaction {
    let value = amount.floor().saturating_sub(weight::htlc_fee(format, feerate, true));
    let lock_time = LockTime::from_consensus(cltv_expiry.number());
    second_stage::build(format, htlc_output, value, revocable, lock_time)
}

/// The witness of HT; `script` is the offered HTLC's.
pub fn witness(
    format: CommitmentFormat,
    countersigner: &Signature,
    broadcaster: &Signature,
    script: &Script,
) -> Witness {
    second_stage::witness(format, countersigner, broadcaster, &[], script)
}

/// Weight of the input with its witness, with the longest signatures; what remains is one P2WSH
/// output and, with anchors, whatever pays the fee.
pub fn input_weight(script: &Script) -> u64 {
    second_stage::input_weight(0, script)
}
