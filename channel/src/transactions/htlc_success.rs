//! HE, the HTLC's execution: takes an HTLC that the broadcaster received, with its preimage
//! (BOLT 3 HTLC-success).
//!
//! ```text
//! F ── C ── received HTLC ── HE ─┬─ HERD
//!                                └─ HEBR
//! ```

use bitcoin::absolute::LockTime;
use bitcoin::secp256k1::ecdsa::Signature;
use bitcoin::{OutPoint, Script, ScriptBuf, Transaction};

use super::commitment::Htlc;
use super::spend::Spend;
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

/// The input of HE; `script` is the received HTLC's. With anchors it goes into any transaction that
/// has HE's output at the same place; without, into HE alone.
pub fn spend(
    format: CommitmentFormat,
    htlc: &Htlc,
    script: ScriptBuf,
    htlc_output: OutPoint,
    countersigner: &Signature,
    preimage: &Preimage,
) -> Spend {
    second_stage::spend(format, htlc, script, htlc_output, countersigner, &preimage.0)
}
