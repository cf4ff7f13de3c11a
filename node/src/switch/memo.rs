//! What the switch wants to find again with an HTLC. The contract keeps it as opaque bytes, for as
//! long as the HTLC itself; an onion is read on receipt and never kept (rules 1.4).

use crate::desk::{decode_as, encode};
use crate::onion::failure::{BADONION, PERM};
use crate::onion::{peel, FailureMessage, Malformed, Payload, Peeled, SharedSecret};
use crate::store::StoreError;
use bitcoin::secp256k1::SecretKey;
use lightning::ln::msgs::UpdateAddHTLC;
use serde::{Deserialize, Serialize};

/// `invalid_onion_blinding` (BOLT 4): with it every failure inside a blinded path is answered.
const INVALID_ONION_BLINDING: u16 = BADONION | PERM | 24;
/// `invalid_onion_hmac` (BOLT 4).
const INVALID_ONION_HMAC: u16 = BADONION | PERM | 5;

/// What the onion of a peer's HTLC said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Onion {
    /// Nothing that could be read.
    Malformed(Malformed),
    /// Nothing that could be understood: fail it back so.
    Bad(SharedSecret, FailureMessage),
    /// We are the payee.
    Final(SharedSecret, Payload),
    /// We are to forward.
    Forward(SharedSecret, Payload),
}

/// Reads the onion of a peer's HTLC as it arrives: the memo for it.
pub fn read_onion(node_secret: &SecretKey, add: &UpdateAddHTLC) -> Vec<u8> {
    // Blinded payments are not built yet; inside a blinded path the hash may be left out.
    if add.blinding_point.is_some() {
        let failure_code = INVALID_ONION_BLINDING;
        return encode(&Onion::Malformed(Malformed { failure_code, sha256_of_onion: [0; 32] }));
    }
    let peeled = peel(node_secret, &add.onion_routing_packet, &add.payment_hash.0);
    encode(&match peeled {
        Err(malformed) => Onion::Malformed(malformed),
        Ok(Peeled::Bad { shared_secret, failure }) => Onion::Bad(shared_secret, failure),
        Ok(Peeled::Final { payload, shared_secret }) => Onion::Final(shared_secret, payload),
        Ok(Peeled::Forward { payload, shared_secret, .. }) => {
            Onion::Forward(shared_secret, payload)
        }
    })
}

/// The memo of a peer's HTLC. One that cannot be read, because none was made, counts as an onion
/// that could not: the HTLC is failed, and nobody loses.
pub(super) fn read_incoming(memo: &[u8]) -> Onion {
    let (failure_code, sha256_of_onion) = (INVALID_ONION_HMAC, [0; 32]);
    decode_as("the memo of an HTLC", memo)
        .unwrap_or(Onion::Malformed(Malformed { failure_code, sha256_of_onion }))
}

/// The memo of an HTLC of ours: its attempt, whose row holds session key and route.
#[derive(Serialize, Deserialize)]
struct Outgoing {
    attempt_id: u64,
}

/// Makes the memo of an HTLC of ours.
pub(super) fn outgoing(attempt_id: u64) -> Vec<u8> {
    encode(&Outgoing { attempt_id })
}

/// The attempt that an HTLC of ours was made for.
///
/// # Errors
/// `StoreError` if the memo is damaged or of a later version.
pub fn attempt_of(memo: &[u8]) -> Result<u64, StoreError> {
    decode_as("the memo of an HTLC", memo).map(|memo: Outgoing| memo.attempt_id)
}
