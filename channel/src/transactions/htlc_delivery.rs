//! HED and HTD: an HTLC taken straight from the other side's commitment.
//!
//! ```text
//! F ── C ─┬─ offered HTLC ── HED        the countersigner received it and has the preimage
//!         └─ received HTLC ─ HTD        the countersigner offered it, after cltv_expiry
//! ```
//!
//! No second stage and no delay: the countersigner's own state is not in question. With anchors
//! one block of delay.

use bitcoin::OutPoint;

use super::commitment::{CommitmentContext, Htlc};
use super::spend::{Key, Spend};
use crate::params::CommitmentFormat;
use crate::payment::Preimage;

/// HED as an input: an HTLC that the broadcaster offered, with its preimage.
pub fn execution(
    context: &CommitmentContext,
    htlc: &Htlc,
    outpoint: OutPoint,
    preimage: &Preimage,
) -> Spend {
    spend(context, htlc, outpoint, &preimage.0)
}

/// HTD as an input: an HTLC that the broadcaster received, after its expiry.
pub fn timeout(context: &CommitmentContext, htlc: &Htlc, outpoint: OutPoint) -> Spend {
    spend(context, htlc, outpoint, &[]).not_before(htlc.cltv_expiry)
}

fn spend(context: &CommitmentContext, htlc: &Htlc, outpoint: OutPoint, unlock: &[u8]) -> Spend {
    let (value, script) = (htlc.amount.floor(), context.htlc_script(htlc));
    let spend = Spend::p2wsh(Key::Htlc, outpoint, value, script, Some(unlock));
    match context.format {
        CommitmentFormat::StaticRemoteKey => spend,
        CommitmentFormat::Anchors => spend.after(1),
    }
}
