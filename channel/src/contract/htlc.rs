//! The life of an HTLC as one ordered enum, and the table of which commitment holds it when.
//!
//! ```text
//!   stage               entered when                on the receiver's   on the offerer's
//!                                                      commitment          commitment
//!   Proposed            update_add_htlc                   .                   .
//!   AddSigned           the offerer signs                 #                   .
//!   AddRevoked          the receiver revokes              #                   .
//!   AddAcked            the receiver signs                #                   #
//!   Locked              the offerer revokes               #                   #   irrevocable
//!   RemoveProposed      update_fulfill / fail             #                   #
//!   RemoveSigned        the receiver signs                #                   .
//!   RemoveRevoked       the offerer revokes               #                   .
//!   RemoveAcked         the offerer signs                 .                   .
//!   Gone                the receiver revokes              .                   .   irrevocable
//! ```
//!
//! A fee update lives the first five stages, with the funder as its offerer. (BOLT 2, normal
//! operation.)

use crate::amount::{FeeratePerKw, Height, Msat};
use crate::params::Side;
use crate::payment::{PaymentHash, Preimage};
use serde::{Deserialize, Serialize};

/// Where an update is between being proposed and being settled for good, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[allow(missing_docs)] // the module's table describes each
pub enum Stage {
    Proposed,
    AddSigned,
    AddRevoked,
    AddAcked,
    Locked,
    RemoveProposed,
    RemoveSigned,
    RemoveRevoked,
    RemoveAcked,
    Gone,
}

/// What moves stages on: one side signs the other's next commitment, or revokes its own last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// `side` sends commitment_signed.
    Signs(Side),
    /// `side` sends revoke_and_ack.
    Revokes(Side),
}

/// How a commitment sees an HTLC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Not on it yet.
    NotYet,
    /// One of its outputs (or trimmed from them).
    Present,
    /// Removed from it.
    Removed,
}

impl Stage {
    /// The stage after `step`, for an update offered by `offerer`.
    pub fn after(self, step: Step, offerer: Side) -> Stage {
        let by_offerer = |side: Side| side == offerer;
        match (self, step) {
            (Stage::Proposed, Step::Signs(s)) if by_offerer(s) => Stage::AddSigned,
            (Stage::AddSigned, Step::Revokes(s)) if !by_offerer(s) => Stage::AddRevoked,
            (Stage::AddRevoked, Step::Signs(s)) if !by_offerer(s) => Stage::AddAcked,
            (Stage::AddAcked, Step::Revokes(s)) if by_offerer(s) => Stage::Locked,
            (Stage::RemoveProposed, Step::Signs(s)) if !by_offerer(s) => Stage::RemoveSigned,
            (Stage::RemoveSigned, Step::Revokes(s)) if by_offerer(s) => Stage::RemoveRevoked,
            (Stage::RemoveRevoked, Step::Signs(s)) if by_offerer(s) => Stage::RemoveAcked,
            (Stage::RemoveAcked, Step::Revokes(s)) if !by_offerer(s) => Stage::Gone,
            (stage, _) => stage,
        }
    }

    /// The stage before `step`, if that was the last step that moved the update.
    pub fn before(self, step: Step, offerer: Side) -> Stage {
        let each =
            [Stage::Proposed, Stage::AddRevoked, Stage::RemoveProposed, Stage::RemoveRevoked];
        each.into_iter().find(|stage| stage.after(step, offerer) == self).unwrap_or(self)
    }

    /// How the latest signed commitment of `holder` sees an update offered by `offerer`.
    pub fn on_commitment(self, holder: Side, offerer: Side) -> Presence {
        let (from, to) = if holder == offerer {
            (Stage::AddAcked, Stage::RemoveProposed)
        } else {
            (Stage::AddSigned, Stage::RemoveRevoked)
        };
        match self {
            stage if stage < from => Presence::NotYet,
            stage if stage > to => Presence::Removed,
            _ => Presence::Present,
        }
    }
}

/// How an HTLC ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Removal {
    /// The receiver showed the preimage: the value is theirs.
    Fulfilled(Preimage),
    /// It failed; the sealed reason travels back to the sender (BOLT 4).
    Failed(Vec<u8>),
    /// The receiver could not read the onion.
    Malformed {
        /// SHA256 of the onion it got.
        sha256_of_onion: [u8; 32],
        /// A code with the BADONION bit.
        code: u16,
    },
}

/// An HTLC between `update_add_htlc` and the last revocation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Htlc {
    /// Where it is in its life.
    pub stage: Stage,
    /// What it is worth.
    pub amount: Msat,
    /// What it is locked to.
    pub payment_hash: PaymentHash,
    /// When its offerer may take it back.
    pub cltv_expiry: Height,
    /// How it ends, once that is known.
    pub removal: Option<Removal>,
    /// Number of the peer's first commitment that held it.
    pub first_remote: Option<u64>,
    /// What the node wants to find again with this HTLC; opaque here, and a row of its own.
    #[serde(skip)]
    pub memo: Vec<u8>,
    /// Taking it would have exceeded the dust exposure: it must be failed (BOLT 2).
    pub over_dust_exposure: bool,
}

/// A feerate that was proposed, and how far it got. The first entry of a channel's list is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeeUpdate {
    /// The commitment feerate.
    pub feerate: FeeratePerKw,
    /// How far it got: at most `Locked`.
    pub stage: Stage,
}

/// What a penalty for an old state needs of an HTLC (rules 1.3): on the peer's commitments
/// `first ..= last` it was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PenaltyRecord {
    /// What it was locked to.
    pub payment_hash: PaymentHash,
    /// What it was worth.
    pub amount: Msat,
    /// When its offerer could take it back.
    pub cltv_expiry: Height,
    /// The peer's first commitment that held it.
    pub first: u64,
    /// The peer's last commitment that held it; none while it still does.
    pub last: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use Side::{Local, Remote};

    #[test]
    fn an_htlc_walks_the_table_and_each_commitment_sees_what_it_says() {
        let (offerer, receiver) = (Local, Remote);
        let walk = [
            (Some(Step::Signs(offerer)), Stage::AddSigned, true, false),
            (Some(Step::Revokes(receiver)), Stage::AddRevoked, true, false),
            (Some(Step::Signs(receiver)), Stage::AddAcked, true, true),
            (Some(Step::Revokes(offerer)), Stage::Locked, true, true),
            (None, Stage::RemoveProposed, true, true),
            (Some(Step::Signs(receiver)), Stage::RemoveSigned, true, false),
            (Some(Step::Revokes(offerer)), Stage::RemoveRevoked, true, false),
            (Some(Step::Signs(offerer)), Stage::RemoveAcked, false, false),
            (Some(Step::Revokes(receiver)), Stage::Gone, false, false),
        ];
        let mut stage = Stage::Proposed;
        for (step, next, on_receiver, on_offerer) in walk {
            for other in [
                Step::Signs(Local),
                Step::Signs(Remote),
                Step::Revokes(Local),
                Step::Revokes(Remote),
            ] {
                let moved = stage.after(other, offerer);
                assert_eq!(moved, if Some(other) == step { next } else { stage });
            }
            stage = next;
            let present = |holder| stage.on_commitment(holder, offerer) == Presence::Present;
            assert_eq!((present(receiver), present(offerer)), (on_receiver, on_offerer));
        }
    }
}
