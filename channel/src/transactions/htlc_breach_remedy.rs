//! HBR, HTBR and HEBR: the HTLCs of a revoked commitment, at either stage.
//!
//! ```text
//! F ── revoked C ── HTLC ─┬─ HBR               the countersigner, at once
//!                         └─ HT or HE ─┬─ HTBR, HEBR
//!                                      └─ (HTRD, HERD: too late by to_self_delay)
//! ```

use bitcoin::secp256k1::PublicKey;
use bitcoin::{OutPoint, ScriptBuf};

use super::breach_remedy;
use super::commitment::{CommitmentContext, Htlc};
use super::spend::{Key, Spend};
use crate::amount::Sat;

/// HBR as an input: the HTLC's output on the revoked commitment.
pub fn spend(context: &CommitmentContext, htlc: &Htlc, outpoint: OutPoint) -> Spend {
    let (value, script) = (htlc.amount.floor(), context.htlc_script(htlc));
    by_script(script, &context.keys.revocation, outpoint, value)
}

/// The same for who knows no more than the HTLC's witness script and the revocation key: a tower.
pub fn by_script(
    script: ScriptBuf,
    revocation: &PublicKey,
    outpoint: OutPoint,
    value: Sat,
) -> Spend {
    Spend::p2wsh(Key::Revocation, outpoint, value, script, Some(&revocation.serialize()))
}

/// HTBR or HEBR as an input: the output of HT or HE on a revoked commitment, or of whatever else
/// the cheater made of them: any output that pays to to_local's script.
pub fn second_stage(context: &CommitmentContext, outpoint: OutPoint, value: Sat) -> Spend {
    breach_remedy::spend(context, outpoint, value)
}
