//! All keys of one commitment.

use bitcoin::secp256k1::PublicKey;
use serde::{Deserialize, Serialize};

use super::derive;
use crate::params::Basepoints;

/// The keys of one commitment, all derived for its number. The broadcaster is the side whose
/// commitment it is, the countersigner the other one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitmentKeys {
    /// Takes everything once the commitment is revoked: the countersigner's, in the end.
    pub revocation: PublicKey,
    /// The broadcaster's, for what waits to_self_delay.
    pub delayed: PublicKey,
    /// The broadcaster's, in every HTLC.
    pub broadcaster_htlc: PublicKey,
    /// The countersigner's, in every HTLC.
    pub countersigner_htlc: PublicKey,
    /// The countersigner's, in D (to_remote): its basepoint, the same for every commitment.
    pub countersigner_payment: PublicKey,
    /// The broadcaster's in F.
    pub broadcaster_funding: PublicKey,
    /// The countersigner's in F.
    pub countersigner_funding: PublicKey,
}

impl CommitmentKeys {
    /// The keys of the commitment that `broadcaster` may publish and whose per-commitment point
    /// is this one (BOLT 3, key derivation).
    pub fn derive(
        broadcaster: &Basepoints,
        countersigner: &Basepoints,
        per_commitment_point: &PublicKey,
    ) -> Self {
        let derived = |basepoint| derive::public_key(basepoint, per_commitment_point);
        CommitmentKeys {
            revocation: derive::revocation_public_key(
                &countersigner.revocation,
                per_commitment_point,
            ),
            delayed: derived(&broadcaster.delayed_payment),
            broadcaster_htlc: derived(&broadcaster.htlc),
            countersigner_htlc: derived(&countersigner.htlc),
            countersigner_payment: countersigner.payment,
            broadcaster_funding: broadcaster.funding,
            countersigner_funding: countersigner.funding,
        }
    }
}
