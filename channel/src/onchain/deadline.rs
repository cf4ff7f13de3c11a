//! When an HTLC forces us on chain, and what is done before: one pure function (BOLT 2,
//! cltv_expiry_delta selection; BOLT 5).
//!
//! ```text
//!  we offered it                                they offered it, and we know the preimage
//!
//!  ───── expiry ──── + GRACE ─────▶ blocks      ─── expiry - CLAIM_WINDOW ─────── expiry ──▶
//!   Wait  │  Warn      │  Close                  Wait │ Warn │ Close           they may take
//!         they must fail it                           NOTICE                     it back
//! ```
//!
//! After a start the state may be an old copy, and publishing it would forfeit everything. So our
//! commitment waits for a while until the peer or a witness has spoken, see [`Doubt`], whether a
//! deadline or an error of the peer's wants it on chain.
//!
//! A close is the last resort. It is never for an HTLC that our commitment has no output for, or
//! whose output costs more than it brings: a close would bring nothing. Nor is it for a feerate
//! that is disputed, which is warned of.

use crate::amount::{FeeratePerKw, Height, Msat, Sat};
use crate::contract::htlc::{Htlc, Removal, Stage};
use crate::params::{CommitmentFormat, Side};
use crate::transactions::weight::{htlc_fee, htlc_success, htlc_timeout, is_trimmed};

/// Blocks after its expiry that we wait for the peer to fail an HTLC we offered.
pub const GRACE: u32 = 2;
/// Blocks before its expiry that we go on chain for an HTLC whose preimage we know.
pub const CLAIM_WINDOW: u32 = 18;
/// Blocks before we would close for a preimage that the peer is warned.
pub const NOTICE: u32 = 3;
/// Blocks for which a channel that was read back waits for somebody to tell whether its state is
/// the latest: an hour, in which peers come back if they do at all.
pub const HESITATION: u32 = 6;
/// Blocks before its expiry from which nothing keeps a preimage off the chain: commitment and HE
/// have to confirm by then.
pub const LAST_CALL: u32 = CLAIM_WINDOW - HESITATION;
/// The most that the input of HTRD or HERD weighs, in weight units.
pub const DELIVERY: u64 = 320;

/// What an HTLC would bring on chain depends on these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The shape of our commitment.
    pub format: CommitmentFormat,
    /// Smaller outputs it does not have.
    pub dust_limit: Sat,
    /// Its feerate.
    pub commitment: FeeratePerKw,
    /// What confirms soon, to claim with.
    pub urgent: FeeratePerKw,
}

/// What became of the HTLC that another one is passed on as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Downstream {
    /// There is none: it ends here.
    None,
    /// Not answered yet.
    Stands {
        /// When it may be taken back.
        expiry: Height,
        /// What taking it back on chain brings, if anything.
        gain: Option<Sat>,
    },
    /// It failed, irrevocably.
    Failed,
    /// Its preimage is known.
    Fulfilled,
}

/// An HTLC and all that decides about it.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// Who offered it.
    pub offerer: Side,
    /// The HTLC.
    pub htlc: &'a Htlc,
    /// What it would bring on chain.
    pub terms: Terms,
    /// What became of it further on, if the peer offered it.
    pub downstream: Downstream,
}

/// Why a channel is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The peer did not fail an HTLC of ours that has expired.
    Expired,
    /// The peer did not take a preimage while it could still be shown on chain.
    Preimage,
}

/// What is to be done about an HTLC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Nothing until this height; none: nothing that blocks could change.
    Wait(Option<Height>),
    /// Show the preimage to the peer.
    Fulfill,
    /// Fail it. What we may lose by that, if the HTLC further on is taken after all, is for the
    /// caller to book against its budget.
    FailBack {
        /// What we may lose.
        risk: Msat,
    },
    /// Warn the peer and connect anew: it may have lost what was said.
    Warn,
    /// Our commitment goes on chain.
    Close(Why),
}

/// Whether our state may be older than the peer's, somebody having put back a copy of the database
/// (rules 4.4). It ends when the peer is in step with us, or a witness knows just our state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// There is none.
    None,
    /// Peers could not be asked yet: blocks are still being read.
    Unasked,
    /// Peers can be asked from this height on.
    Since(Height),
}

impl Doubt {
    /// Whether a close that is due waits. If the state is the latest, nothing is lost by that: what
    /// we offered and has expired stays ours to take back, and a preimage waits for its last call
    /// at most.
    pub fn holds_back(&self, why: Why, expiry: Height, height: Height) -> bool {
        self.is_open(height) && (why == Why::Expired || height < expiry.minus(LAST_CALL))
    }

    /// Whether somebody may still tell.
    pub fn is_open(&self, height: Height) -> bool {
        match self {
            Doubt::None => false,
            Doubt::Unasked => true,
            Doubt::Since(from) => height < from.plus(HESITATION),
        }
    }
}

impl Terms {
    /// What an HTLC brings by HT (`offered`) or HE and its delivery once their fees are paid;
    /// nothing when it has no output or is not worth its fees.
    pub fn gain(&self, offered: bool, amount: Msat) -> Option<Sat> {
        let Terms { format, dust_limit, commitment, urgent } = *self;
        if is_trimmed(format, commitment, dust_limit, offered, amount) {
            return None;
        }
        let weight = if offered { htlc_timeout(format) } else { htlc_success(format) };
        let second = match format {
            CommitmentFormat::Anchors => urgent.fee(weight),
            CommitmentFormat::StaticRemoteKey => htlc_fee(format, commitment, offered),
        };
        let cost = second.saturating_add(urgent.fee(DELIVERY));
        amount.floor().checked_sub(cost).filter(|gain| *gain > Sat::ZERO)
    }
}

impl Case<'_> {
    /// What it would bring on chain, if anything.
    pub fn gain(&self) -> Option<Sat> {
        self.terms.gain(self.offerer == Side::Local, self.htlc.amount)
    }

    /// The height at which the channel is closed for it, if by then it still stands, and why. None
    /// when there is nothing to gain by that.
    pub fn close_at(&self) -> Option<(Height, Why)> {
        self.gain()?;
        let (fulfilled, expiry) = (self.is_fulfilled(), self.htlc.cltv_expiry);
        match self.offerer {
            // The peer has not heard of it.
            Side::Local if self.htlc.stage == Stage::Proposed => None,
            // The preimage is durable: whoever takes the HTLC now, nothing of ours is lost.
            Side::Local if fulfilled && self.htlc.stage >= Stage::RemoveSigned => None,
            // Until the peer has revoked its last commitment with the HTLC it could still claim it,
            // and the payment cannot be failed back before.
            Side::Local => Some((expiry.plus(GRACE), Why::Expired)),
            Side::Remote if fulfilled && self.htlc.stage < Stage::RemoveAcked => {
                Some((expiry.minus(CLAIM_WINDOW), Why::Preimage))
            }
            Side::Remote => None,
        }
    }

    /// What is to be done at this height.
    pub fn decide(&self, height: Height) -> Deed {
        let unsaid = self.offerer == Side::Remote && self.htlc.removal.is_none();
        match self.close_at() {
            Some((at, why)) if height >= at => Deed::Close(why),
            _ if unsaid && self.is_fulfilled() => Deed::Fulfill,
            _ if unsaid => self.decide_unknown(height),
            Some((at, why)) => {
                let late = match why {
                    Why::Expired => self.htlc.cltv_expiry,
                    Why::Preimage => at.minus(NOTICE),
                };
                if height >= late {
                    Deed::Warn
                } else {
                    Deed::Wait(Some(late))
                }
            }
            None => Deed::Wait(None),
        }
    }

    /// The peer offered it, and neither preimage nor failure is known (rules 3.6: what could still
    /// be claimed further on is failed back only when that costs the claimer more than it brings).
    fn decide_unknown(&self, height: Height) -> Deed {
        let late = self.htlc.cltv_expiry.minus(CLAIM_WINDOW);
        let (from, risk) = match self.downstream {
            Downstream::Failed => (Height::default(), Msat::ZERO),
            // Nothing is claimed inside the window.
            Downstream::None => (late, Msat::ZERO),
            Downstream::Stands { expiry, gain: None } => {
                (late.max(expiry.plus(1)), self.htlc.amount)
            }
            // Its own channel is closed in time.
            Downstream::Stands { .. } | Downstream::Fulfilled => return Deed::Wait(None),
        };
        if height >= from {
            Deed::FailBack { risk }
        } else {
            Deed::Wait(Some(from))
        }
    }

    fn is_fulfilled(&self) -> bool {
        let known = self.downstream == Downstream::Fulfilled && self.offerer == Side::Remote;
        known || matches!(self.htlc.removal, Some(Removal::Fulfilled(_)))
    }
}
