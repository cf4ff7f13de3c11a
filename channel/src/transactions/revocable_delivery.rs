//! RD: the broadcaster's balance on its own commitment (BOLT 3 to_local, by delay).
//!
//! ```text
//! F ── C ── to_local ── RD          the broadcaster, after to_self_delay
//! ```

use bitcoin::{OutPoint, ScriptBuf};

use super::commitment::CommitmentContext;
use super::spend::{Key, Spend};
use crate::amount::Sat;

/// RD as an input.
pub fn spend(context: &CommitmentContext, outpoint: OutPoint, value: Sat) -> Spend {
    spend_script(context.to_local_script(), context.to_self_delay, outpoint, value)
}

/// The same of an output whose script and delay are known.
pub fn spend_script(script: ScriptBuf, delay: u16, outpoint: OutPoint, value: Sat) -> Spend {
    Spend::p2wsh(Key::Delayed, outpoint, value, script, Some(&[])).after(delay)
}
