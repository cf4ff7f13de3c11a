//! The switch joins channels with payments and invoices: what happened to an HTLC comes in, what
//! to do goes out, and what must be durable goes to the desk's unit.
//!
//! ```text
//!   update_add_htlc ─ read_onion ─▶ memo, kept with the HTLC
//!   received   a peer's HTLC is irrevocable   ─▶ invoice ─▶ settle it, or fail it
//!   pay        a request                      ─▶ payment ─▶ offer an HTLC
//!   fulfilled  an HTLC of ours, preimage      ─▶ payment made
//!   resolved   an HTLC of ours, over for good ─▶ payment made, tried again or failed
//!   refused    a channel would not take it    ─▶ tried again or failed
//!   resume     after a restart                ─▶ what never left is tried again or failed
//! ```
//!
//! No clock, file or socket here. Channels tell their news again after a restart until they are
//! dealt with for good; telling them twice does nothing twice. Forwarding is not built yet: an HTLC
//! for somebody else is failed with `unknown_next_peer`.

mod circuit;
mod memo;

pub use circuit::{Circuit, Origin};
pub use memo::{attempt_of, read_onion, Onion};

use crate::desk::Desk;
use crate::invoices::{registry, Incoming, Invoice, Verdict};
use crate::onion::failure::seal;
use crate::onion::{FailureMessage, Payload, SharedSecret};
use crate::payments::lifecycle::{self, Launch, Step, World};
use crate::payments::{PayError, Payment, Request};
use crate::store::{StoreError, Table};
use fulmen_channel::amount::Height;
use fulmen_channel::contract::commitments::Offer;
use fulmen_channel::contract::htlc::Removal;
use fulmen_channel::output::{Received, Resolved};
use fulmen_channel::payment::Preimage;
use std::collections::BTreeSet;

/// What is to be done, in order, behind the unit that the step wrote to.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Settle or fail a peer's HTLC.
    Remove {
        /// The channel's id.
        channel: [u8; 32],
        /// The HTLC's id on it.
        id: u64,
        /// How.
        removal: Removal,
    },
    /// Offer an HTLC. If it cannot be, say so with [`refused`].
    Offer {
        /// The channel's id.
        channel: [u8; 32],
        /// The attempt it is for.
        attempt_id: u64,
        /// What to offer.
        offer: Box<Offer>,
    },
    /// Tell who listens: an invoice is as this now.
    Invoice(Box<Invoice>),
    /// Tell who listens: a payment is as this now.
    Payment(Box<Payment>),
}

/// A peer's HTLC is irrevocably committed: settles or fails it. `now` is in seconds since 1970.
///
/// # Errors
/// `StoreError` if the database cannot be read: the HTLC stays as it is.
pub fn received(
    desk: &mut Desk<'_>,
    channel: [u8; 32],
    htlc: &Received,
    now: u64,
    height: Height,
) -> Result<Vec<Action>, StoreError> {
    let sealed =
        |secret: &SharedSecret, failure: FailureMessage| Removal::Failed(seal(secret, &failure));
    let mut actions = Vec::new();
    let removal = match memo::read_incoming(&htlc.memo) {
        Onion::Malformed(malformed) => Removal::Malformed {
            sha256_of_onion: malformed.sha256_of_onion,
            code: malformed.failure_code,
        },
        Onion::Bad(secret, failure) => sealed(&secret, failure),
        Onion::Forward(secret, _) => sealed(&secret, FailureMessage::UnknownNextPeer),
        // The payee must not answer with a failure of channels (BOLT 4).
        Onion::Final(secret, _) if htlc.over_dust_exposure => {
            sealed(&secret, FailureMessage::TemporaryNodeFailure)
        }
        Onion::Final(secret, payload) => {
            match registry::receive(desk, &incoming(channel, htlc, &payload, now, height))? {
                Verdict::Settle { preimage, changed } => {
                    actions.extend(changed.map(Action::Invoice));
                    Removal::Fulfilled(preimage)
                }
                Verdict::Fail(failure) => sealed(&secret, failure),
            }
        }
    };
    actions.push(Action::Remove { channel, id: htlc.id, removal });
    Ok(actions)
}

/// A peer's HTLC is irrevocably committed and to be held, neither settled nor failed: its invoice
/// remembers it. `now` is in seconds since 1970.
///
/// # Errors
/// `StoreError` if the database cannot be read.
pub fn held(
    desk: &mut Desk<'_>,
    channel: [u8; 32],
    htlc: &Received,
    now: u64,
    height: Height,
) -> Result<(), StoreError> {
    match memo::read_incoming(&htlc.memo) {
        Onion::Final(_, payload) if !htlc.over_dust_exposure => {
            registry::accept(desk, &incoming(channel, htlc, &payload, now, height))
        }
        _ => Ok(()),
    }
}

fn incoming<'a>(
    channel: [u8; 32],
    htlc: &Received,
    payload: &'a Payload,
    now: u64,
    height: Height,
) -> Incoming<'a> {
    Incoming {
        channel,
        htlc_id: htlc.id,
        amount: htlc.amount,
        payment_hash: htlc.payment_hash,
        cltv_expiry: htlc.cltv_expiry,
        payload,
        now,
        height,
    }
}

/// Begins a payment. The first of the actions tells of it; it may have failed already.
///
/// # Errors
/// `PayError`: nothing is begun, and the desk's unit is to be dropped.
pub fn pay(
    desk: &mut Desk<'_>,
    request: Request,
    world: &mut World<'_>,
) -> Result<Vec<Action>, PayError> {
    let step = lifecycle::start(desk, request, world)?;
    Ok(carry_out(desk, step))
}

/// The peer showed the preimage of an HTLC of ours. The unit is to be durable before the
/// revoke_and_ack that removes the HTLC (rules 2.3).
///
/// # Errors
/// `StoreError` if the database or the memo cannot be read.
pub fn fulfilled(
    desk: &mut Desk<'_>,
    memo: &[u8],
    preimage: Preimage,
    now_ns: u64,
) -> Result<Vec<Action>, StoreError> {
    let step = lifecycle::succeeded(desk, attempt_of(memo)?, preimage, now_ns)?;
    Ok(carry_out(desk, step))
}

/// An HTLC of ours is over for good. The unit belongs into the transaction that says so of the
/// channel, and the actions wait for it (rules 2.3).
///
/// # Errors
/// `StoreError` if the database or the memo cannot be read.
pub fn resolved(
    desk: &mut Desk<'_>,
    over: &Resolved,
    world: &mut World<'_>,
) -> Result<Vec<Action>, StoreError> {
    let attempt_id = attempt_of(&over.memo)?;
    let step = lifecycle::resolved(desk, attempt_id, &over.removal, world)?;
    end_circuit(desk, attempt_id);
    Ok(carry_out(desk, step))
}

/// The channel did not take the HTLC of an attempt.
///
/// # Errors
/// `StoreError` if the database cannot be read.
pub fn refused(
    desk: &mut Desk<'_>,
    attempt_id: u64,
    why: &str,
    world: &mut World<'_>,
) -> Result<Vec<Action>, StoreError> {
    let step = lifecycle::refused(desk, attempt_id, why.to_owned(), world)?;
    end_circuit(desk, attempt_id);
    Ok(carry_out(desk, step))
}

/// After a restart: what was begun, but is on no channel, never left. `circuits` are the rows of
/// that table; `live` are the attempts of all HTLCs of ours that a channel still has, one on chain
/// not yet resolved included: an attempt left out is failed, and its payment may be made again.
///
/// # Errors
/// `StoreError` if the database cannot be read.
pub fn resume(
    desk: &mut Desk<'_>,
    circuits: &[Circuit],
    live: &BTreeSet<u64>,
    world: &mut World<'_>,
) -> Result<Vec<Action>, StoreError> {
    let mut actions = Vec::new();
    for circuit in circuits {
        match circuit.origin {
            Origin::Local(attempt_id) if !live.contains(&attempt_id) => {
                let why = "fulmend was stopped before it was sent";
                actions.extend(refused(desk, attempt_id, why, world)?);
            }
            Origin::Local(_) | Origin::Channel(..) => {}
        }
    }
    Ok(actions)
}

fn end_circuit(desk: &mut Desk<'_>, attempt_id: u64) {
    desk.delete(Table::Circuit, &Origin::Local(attempt_id).key());
}

/// Tells of the payment, and offers its next HTLC over a circuit of its own.
fn carry_out(desk: &mut Desk<'_>, step: Step) -> Vec<Action> {
    let told = step.changed.map(Action::Payment);
    let offered = step.launch.map(|launch| {
        let Launch { attempt_id, channel, amount, payment_hash, cltv_expiry, onion } = launch;
        let origin = Origin::Local(attempt_id);
        desk.write(&origin.key(), &Circuit { origin, outgoing: channel, payment_hash });
        let memo = memo::outgoing(attempt_id);
        let offer = Offer { amount, payment_hash, cltv_expiry, onion, memo };
        Action::Offer { channel, attempt_id, offer: Box::new(offer) }
    });
    told.into_iter().chain(offered).collect()
}
