//! BR: the broadcaster's balance on a commitment it had revoked (BOLT 3 to_local, by revocation).
//!
//! ```text
//! F ── revoked C ── to_local ── BR          the countersigner, at once
//! ```

use bitcoin::OutPoint;

use super::commitment::CommitmentContext;
use super::spend::{Key, Spend};
use crate::amount::Sat;

/// BR as an input; `context` is that of the revoked commitment.
pub fn spend(context: &CommitmentContext, outpoint: OutPoint, value: Sat) -> Spend {
    Spend::p2wsh(Key::Revocation, outpoint, value, context.to_local_script(), Some(&[1]))
}
