//! RD: the broadcaster's balance on its own commitment (BOLT 3 to_local, by delay).
//!
//! ```text
//! F ── C ── to_local ── RD          the broadcaster, after to_self_delay
//! ```

use bitcoin::OutPoint;

use super::commitment::CommitmentContext;
use super::spend::{Key, Spend};
use crate::amount::Sat;

/// RD as an input.
pub fn spend(context: &CommitmentContext, outpoint: OutPoint, value: Sat) -> Spend {
    Spend::p2wsh(Key::Delayed, outpoint, value, context.to_local_script(), Some(&[]))
        .after(context.to_self_delay)
}
