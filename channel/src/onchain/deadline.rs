//! When an HTLC forces us on chain (BOLT 2, cltv_expiry_delta selection): one pure function.

use crate::amount::Height;
use crate::contract::htlc::{Htlc, Removal, Stage};
use crate::params::Side;

/// Blocks after its expiry that we wait for the peer to fail an HTLC we offered.
pub const GRACE: u32 = 2;
/// Blocks before its expiry that we go on chain for an HTLC whose preimage we know.
pub const CLAIM_WINDOW: u32 = 18;

/// The height at which the channel must be failed for `htlc`, offered by `offerer`, if by then it
/// still stands. None when there is nothing to lose by waiting.
pub fn act_by(offerer: Side, htlc: &Htlc) -> Option<Height> {
    let fulfilled = matches!(htlc.removal, Some(Removal::Fulfilled(_)));
    match offerer {
        // The peer has not heard of it.
        Side::Local if htlc.stage == Stage::Proposed => None,
        // The preimage is durable: whoever takes the HTLC now, nothing of ours is lost.
        Side::Local if fulfilled && htlc.stage >= Stage::RemoveSigned => None,
        // Until the peer has revoked its last commitment with the HTLC it could still claim it, and
        // the payment cannot be failed back before.
        Side::Local => Some(htlc.cltv_expiry.plus(GRACE)),
        Side::Remote if fulfilled && htlc.stage < Stage::RemoveAcked => {
            Some(htlc.cltv_expiry.minus(CLAIM_WINDOW))
        }
        Side::Remote => None,
    }
}
