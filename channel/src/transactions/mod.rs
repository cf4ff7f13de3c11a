//! What is signed: every transaction of the Lightning paper, one a file.
//!
//! ```text
//! F ─┬─ ES                                      both agree: the cooperative close
//!    │
//!    └─ C ─┬─ to_local ──┬─ RD                  the broadcaster, after to_self_delay
//!          │             └─ BR                  the countersigner, if revoked
//!          │
//!          ├─ to_remote ─── D                   the countersigner
//!          │
//!          ├─ offered HTLC ─┬─ HT ─┬─ HTRD      the broadcaster, after cltv_expiry, then the delay
//!          │                │      └─ HTBR      the countersigner, if revoked
//!          │                ├─ HED              the countersigner, with the preimage
//!          │                └─ HBR              the countersigner, if revoked
//!          │
//!          ├─ received HTLC ┬─ HE ─┬─ HERD      the broadcaster, with the preimage, then the delay
//!          │                │      └─ HEBR      the countersigner, if revoked
//!          │                ├─ HTD              the countersigner, after cltv_expiry
//!          │                └─ HBR              the countersigner, if revoked
//!          │
//!          └─ anchor ────── anchor spend        its owner, to raise the fee of C
//! ```
//!
//! C is one side's commitment: that side is its *broadcaster*, the other its *countersigner*.
//! HT and HE are signed by both, ahead of time; D, RD, HTRD, HERD, HED, HTD, the breach remedies
//! and the anchor spend by their owner alone when they are needed, so those are [`spend::Spend`]s:
//! one input each, as many to a transaction as one likes.
//!
//! | paper | file | BOLT 3 and 5 |
//! |---|---|---|
//! | F | [`funding`] | funding transaction |
//! | C | [`commitment`] | commitment transaction |
//! | D | [`delivery`] | spend of to_remote |
//! | RD | [`revocable_delivery`] | spend of to_local by delay |
//! | BR | [`breach_remedy`] | spend of to_local by the revocation key |
//! | HT | [`htlc_timeout`] | HTLC-timeout transaction |
//! | HE | [`htlc_success`] | HTLC-success transaction |
//! | HTRD, HERD | [`htlc_revocable_delivery`] | spend of an HTLC transaction by delay |
//! | HED, HTD | [`htlc_delivery`] | spend of the peer's commitment's HTLC, by preimage or expiry |
//! | HBR, HTBR, HEBR | [`htlc_breach_remedy`] | the same by the revocation key |
//! | ES | [`closing`] | closing transaction |
//! | | [`anchor`] | spend of an anchor |

pub mod anchor;
pub mod breach_remedy;
pub mod closing;
pub mod commitment;
pub mod delivery;
pub mod funding;
pub mod htlc_breach_remedy;
pub mod htlc_delivery;
pub mod htlc_revocable_delivery;
pub mod htlc_success;
pub mod htlc_timeout;
pub mod revocable_delivery;
mod second_stage;
pub mod sighash;
pub mod spend;
pub mod weight;
