//! BR: the broadcaster's balance on a commitment it had revoked (BOLT 3 to_local, by revocation).
//!
//! ```text
//! F ── revoked C ── to_local ── BR          the countersigner, at once
//! ```

use bitcoin::{OutPoint, ScriptBuf};

use super::commitment::CommitmentContext;
use super::spend::{Key, Spend};
use crate::amount::Sat;

/// BR as an input; `context` is that of the revoked commitment.
pub fn spend(context: &CommitmentContext, outpoint: OutPoint, value: Sat) -> Spend {
    by_script(context.to_local_script(), outpoint, value)
}

/// The same for who knows no more than to_local's witness script: a tower.
pub fn by_script(script: ScriptBuf, outpoint: OutPoint, value: Sat) -> Spend {
    Spend::p2wsh(Key::Revocation, outpoint, value, script, Some(&[1]))
}
