//! HTRD and HERD: what HT and HE pay the broadcaster, after the delay.
//!
//! ```text
//! F ── C ─┬─ offered HTLC ── HT ── HTRD        the broadcaster, after to_self_delay
//!         └─ received HTLC ─ HE ── HERD
//! ```
//!
//! HT and HE pay to the same script as to_local, so this is RD one stage later.

use bitcoin::OutPoint;

use super::commitment::CommitmentContext;
use super::revocable_delivery;
use super::spend::Spend;
use crate::amount::Sat;

/// HTRD or HERD as an input; `outpoint` is the output of HT or HE.
pub fn spend(context: &CommitmentContext, outpoint: OutPoint, value: Sat) -> Spend {
    revocable_delivery::spend(context, outpoint, value)
}
