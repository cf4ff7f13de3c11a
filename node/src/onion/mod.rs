//! The onion of BOLT 4: built by the origin of a payment, one layer peeled by each hop, and the
//! failures that come back through the same layers.

pub mod failure;
pub mod payload;
pub mod sphinx;

pub use failure::FailureMessage;
pub use payload::{Payload, PaymentData};
pub use sphinx::SharedSecret;

use bitcoin::hashes::{sha256, Hash};
use bitcoin::secp256k1::{PublicKey, SecretKey};
use lightning::ln::msgs::OnionPacket;
use lightning::util::ser::Writeable;
use serde::{Deserialize, Serialize};
use sphinx::BadPacket;

/// Why an onion cannot be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OnionError {
    /// A route without a hop.
    #[error("the route has no hops")]
    NoHops,
    /// The payloads together are over 1300 bytes.
    #[error("the route's payloads do not fit into an onion: use fewer hops or smaller records")]
    TooLong,
    /// A key that multiplies to zero.
    #[error("the session key does not work with this route: use another one")]
    Key,
}

/// An onion that cannot be answered with a sealed failure: `update_fail_malformed_htlc` (BOLT 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Malformed {
    /// With the BADONION bit.
    pub failure_code: u16,
    /// SHA256 of the onion as it arrived.
    pub sha256_of_onion: [u8; 32],
}

/// What one layer held.
#[derive(Debug)]
pub enum Peeled {
    /// We are the payee.
    Final {
        /// What we are told.
        payload: Payload,
        /// Shared with the origin.
        shared_secret: SharedSecret,
    },
    /// We are to forward.
    Forward {
        /// What we are told; `short_channel_id` is present.
        payload: Payload,
        /// For the next hop.
        next: Box<OnionPacket>,
        /// Shared with the origin.
        shared_secret: SharedSecret,
    },
    /// Authentic, but not to be understood: fail it back, sealed.
    Bad {
        /// Shared with the origin.
        shared_secret: SharedSecret,
        /// What to answer.
        failure: FailureMessage,
    },
}

/// Builds the onion for `hops`, and the secrets shared with them, in order, with which failures
/// are opened. The same arguments give the same onion. `associated_data` is the payment hash.
/// Never use a session key for two different onions.
///
/// # Errors
/// `OnionError`: no hops, or payloads that do not fit.
pub fn build(
    session_key: &SecretKey,
    hops: &[(PublicKey, Payload)],
    associated_data: &[u8; 32],
) -> Result<(OnionPacket, Vec<SharedSecret>), OnionError> {
    let hops: Vec<_> = hops.iter().map(|(node, payload)| (*node, payload.encode())).collect();
    sphinx::wind(session_key, &hops, associated_data)
}

/// Peels our layer off (BOLT 4, onion decryption). `associated_data` is the payment hash.
///
/// # Errors
/// `Malformed` for another version, a bad key, a wrong HMAC.
pub fn peel(
    node_secret: &SecretKey,
    packet: &OnionPacket,
    associated_data: &[u8; 32],
) -> Result<Peeled, Malformed> {
    let sha256_of_onion = sha256::Hash::hash(&packet.encode()).to_byte_array();
    let unwound = sphinx::unwind(node_secret, packet, associated_data).map_err(|bad| {
        let code = match bad {
            BadPacket::Version => 4,
            BadPacket::Hmac => 5,
            BadPacket::Key => 6,
        };
        Malformed { failure_code: failure::BADONION | failure::PERM | code, sha256_of_onion }
    })?;
    let shared_secret = unwound.secret;
    let read = || {
        let content =
            unwound.content.ok_or(FailureMessage::InvalidOnionPayload { kind: 0, offset: 0 })?;
        let payload = Payload::decode(&content.payload, content.length_size, &sha256_of_onion)?;
        let Some(next) = content.next else { return Ok(Peeled::Final { payload, shared_secret }) };
        payload.next_channel()?;
        Ok(Peeled::Forward { payload, next: Box::new(next), shared_secret })
    };
    Ok(read().unwrap_or_else(|failure| Peeled::Bad { shared_secret, failure }))
}
