//! D: the countersigner's balance on the broadcaster's commitment (BOLT 3 to_remote).
//!
//! ```text
//! F ── C ── to_remote ── D          the countersigner; with anchors after one block
//! ```

use bitcoin::secp256k1::PublicKey;
use bitcoin::{CompressedPublicKey, OutPoint};

use super::spend::{Key, Spend};
use crate::amount::Sat;
use crate::params::CommitmentFormat;
use crate::script::to_remote;

/// D as an input. `payment` is the countersigner's payment basepoint: no per-commitment point is
/// needed, so it works even when all state is lost.
pub fn spend(
    format: CommitmentFormat,
    payment: &PublicKey,
    outpoint: OutPoint,
    value: Sat,
) -> Spend {
    match format {
        CommitmentFormat::StaticRemoteKey => {
            Spend::p2wpkh(Key::Payment, outpoint, value, &CompressedPublicKey(*payment))
        }
        CommitmentFormat::Anchors => {
            let script = to_remote::witness_script(payment);
            Spend::p2wsh(Key::Payment, outpoint, value, script, None).after(1)
        }
    }
}
