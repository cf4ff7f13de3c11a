//! HT: takes back an HTLC that the broadcaster offered, after its expiry (BOLT 3 HTLC-timeout).
//!
//! ```text
//! F ── C ── offered HTLC ── HT ─┬─ HTRD
//!                               └─ HTBR
//! ```

use bitcoin::absolute::LockTime;
use bitcoin::secp256k1::ecdsa::Signature;
use bitcoin::{OutPoint, Script, ScriptBuf, Transaction};

use super::commitment::Htlc;
use super::spend::Spend;
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

/// The input of HT; `script` is the offered HTLC's. With anchors it goes into any transaction that
/// has HT's output at the same place; without, into HT alone.
pub fn spend(
    format: CommitmentFormat,
    htlc: &Htlc,
    script: ScriptBuf,
    htlc_output: OutPoint,
    countersigner: &Signature,
) -> Spend {
    second_stage::spend(format, htlc, script, htlc_output, countersigner, &[])
        .not_before(htlc.cltv_expiry)
}
