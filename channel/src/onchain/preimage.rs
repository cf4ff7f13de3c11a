//! A preimage that the chain tells: whoever executes an HTLC shows its R in a witness (BOLT 5).

use crate::payment::{PaymentHash, Preimage};
use bitcoin::Witness;

/// The preimage of `hash`, if it is an element of this witness.
pub fn in_witness(witness: &Witness, hash: &PaymentHash) -> Option<Preimage> {
    let shown = witness.iter().filter_map(|element| element.try_into().ok().map(Preimage));
    shown.into_iter().find(|preimage| preimage.hash() == *hash)
}
