//! The life of a payment, as functions from what happened to what to do. Rows are the state.
//!
//! ```text
//!   start ─▶ attempt ─▶ InFlight ─┬─ succeeded ──────────────────────▶ Succeeded
//!               ▲                 └─ resolved, refused ─┬─ final, or no way left ─▶ Failed
//!               └──────────── another way ──────────────┘
//! ```
//!
//! A hash is paid once: only a payment that failed for good, with no HTLC under way, may be started
//! again. Everything may be said twice.

use super::payment::{attempt_id, payment_of};
use super::payment::{Attempt, AttemptFailure, FailureReason, Payment, Status, Terms};
use super::request::{PayError, Request};
use super::route::{Hop, Route};
use crate::desk::Desk;
use crate::onion::failure::{open, Opened, BADONION};
use crate::onion::sphinx::shared_secrets;
use crate::onion::{FailureMessage, OnionError};
use crate::store::{StoreError, Table};
use bitcoin::hashes::{sha256, Hash, HashEngine};
use bitcoin::secp256k1::{PublicKey, SecretKey};
use fulmen_channel::amount::{Height, Msat};
use fulmen_channel::contract::htlc::Removal;
use fulmen_channel::payment::{PaymentHash, Preimage};
use std::collections::BTreeSet;

/// A channel of ours that a payment may leave by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usable {
    /// Its id.
    pub channel: [u8; 32],
    /// Its short channel id, or an alias of it.
    pub short_channel_id: u64,
    /// Our other names for it.
    pub aliases: Vec<u64>,
    /// Who is at the other end.
    pub peer: PublicKey,
    /// The most that one HTLC may bring.
    pub spendable: Msat,
    /// The least that one HTLC may bring.
    pub minimum: Msat,
}

/// What a step knows of the world around it.
pub struct World<'a> {
    /// Nanoseconds since 1970.
    pub now_ns: u64,
    /// The best block.
    pub height: Height,
    /// Our own id.
    pub node: PublicKey,
    /// Our channels that can be used now.
    pub channels: &'a [Usable],
    /// Payments that their callers gave up: no further attempt is made.
    pub given_up: &'a BTreeSet<PaymentHash>,
    /// 32 fresh random bytes.
    pub entropy: &'a mut dyn FnMut() -> [u8; 32],
}

/// An HTLC to offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Its attempt.
    pub attempt_id: u64,
    /// On which channel.
    pub channel: [u8; 32],
    /// What it is worth.
    pub amount: Msat,
    /// What it is locked to.
    pub payment_hash: PaymentHash,
    /// When we may take it back.
    pub cltv_expiry: Height,
    /// The onion, 1366 bytes.
    pub onion: Vec<u8>,
}

/// What a step did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// The payment as it is now, if it changed.
    pub changed: Option<Box<Payment>>,
    /// The attempt to make next.
    pub launch: Option<Launch>,
}

/// The payment with this hash.
///
/// # Errors
/// `StoreError` if the database cannot be read.
pub fn find(desk: &Desk<'_>, hash: &PaymentHash) -> Result<Option<Payment>, StoreError> {
    match desk.get(Table::PaymentByHash, &hash.0)? {
        Some(index) => desk.read(&index),
        None => Ok(None),
    }
}

/// Begins a payment. If no channel can carry it, it is recorded as failed.
///
/// # Errors
/// `PayError`: nothing is recorded.
pub fn start(
    desk: &mut Desk<'_>,
    request: Request,
    world: &mut World<'_>,
) -> Result<Step, PayError> {
    request.terms.check()?;
    if request.terms.destination == world.node {
        return Err(PayError::SelfPayment);
    }
    let before = find(desk, &request.payment_hash)?;
    match before.as_ref().map(|payment| payment.status) {
        Some(Status::Succeeded) => return Err(PayError::AlreadyPaid),
        Some(Status::InFlight) => return Err(PayError::InTransition),
        Some(Status::Failed) | None => {}
    }
    let mut payment = Payment {
        payment_index: desk.next_number(Table::Payment)?,
        payment_hash: request.payment_hash,
        preimage: None,
        terms: request.terms,
        creation_time_ns: world.now_ns,
        payment_request: request.payment_request,
        status: Status::InFlight,
        failure_reason: None,
        attempts: Vec::new(),
    };
    let launch = payment.next_attempt(world)?;
    if let Some(failed) = before {
        desk.delete(Table::Payment, &failed.payment_index.to_be_bytes());
    }
    Ok(write(desk, payment, launch))
}

/// The preimage of an attempt came: the payment is made, whatever was thought of it before.
///
/// # Errors
/// `StoreError` if the database cannot be read.
pub fn succeeded(
    desk: &mut Desk<'_>,
    attempt_id: u64,
    preimage: Preimage,
    now_ns: u64,
) -> Result<Step, StoreError> {
    let Some(mut payment) = load(desk, attempt_id)? else { return Ok(Step::default()) };
    let hash = payment.payment_hash;
    let Some(attempt) = payment.attempt(attempt_id) else { return Ok(Step::default()) };
    if attempt.status == Status::Succeeded || preimage.hash() != hash {
        return Ok(Step::default());
    }
    attempt.end(Status::Succeeded, now_ns);
    attempt.preimage = Some(preimage);
    attempt.failure = None;
    payment.preimage = Some(preimage);
    payment.status = Status::Succeeded;
    payment.failure_reason = None;
    desk.put(Table::Preimage, &hash.0, preimage.0.to_vec());
    Ok(write(desk, payment, None))
}

/// An attempt's HTLC is over for good: unless it succeeded, tries another way, or gives up.
///
/// # Errors
/// `StoreError` if the database cannot be read.
pub fn resolved(
    desk: &mut Desk<'_>,
    attempt_id: u64,
    removal: &Removal,
    world: &mut World<'_>,
) -> Result<Step, StoreError> {
    if let Removal::Fulfilled(preimage) = removal {
        return succeeded(desk, attempt_id, *preimage, world.now_ns);
    }
    let Some(mut payment) = load(desk, attempt_id)? else { return Ok(Step::default()) };
    let Some(failure) = payment.read_failure(attempt_id, removal) else {
        return Ok(Step::default());
    };
    after_failure(desk, payment, attempt_id, failure, world)
}

/// An attempt could not be made: its channel refused it, or it did not outlive a restart.
///
/// # Errors
/// `StoreError` if the database cannot be read.
pub fn refused(
    desk: &mut Desk<'_>,
    attempt_id: u64,
    why: String,
    world: &mut World<'_>,
) -> Result<Step, StoreError> {
    match load(desk, attempt_id)? {
        Some(payment) => {
            after_failure(desk, payment, attempt_id, AttemptFailure::Local(why), world)
        }
        None => Ok(Step::default()),
    }
}

fn after_failure(
    desk: &mut Desk<'_>,
    mut payment: Payment,
    attempt_id: u64,
    failure: AttemptFailure,
    world: &mut World<'_>,
) -> Result<Step, StoreError> {
    let Some(attempt) = payment.attempt(attempt_id) else { return Ok(Step::default()) };
    if attempt.status != Status::InFlight {
        return Ok(Step::default());
    }
    attempt.end(Status::Failed, world.now_ns);
    let last_hop = attempt.route.hops.len().saturating_sub(1);
    let final_reason = reason_to_stop(&failure, last_hop);
    attempt.failure = Some(failure);
    if payment.status != Status::InFlight || payment.has_attempt_in_flight() {
        return Ok(write(desk, payment, None));
    }
    if let Some(reason) = final_reason {
        payment.fail(reason);
        return Ok(write(desk, payment, None));
    }
    let launch = payment.next_attempt(world).unwrap_or_else(|_| {
        payment.fail(FailureReason::Error);
        None
    });
    Ok(write(desk, payment, launch))
}

/// Whether a failure ends the payment, and why (BOLT 4, receiving failure codes): a permanent one
/// of the payee does, others leave the other ways open.
fn reason_to_stop(failure: &AttemptFailure, last_hop: usize) -> Option<FailureReason> {
    let AttemptFailure::Hop { hop, message } = failure else { return None };
    if *hop != last_hop {
        return None;
    }
    match message {
        Some(FailureMessage::IncorrectOrUnknownPaymentDetails { .. }) => {
            Some(FailureReason::IncorrectPaymentDetails)
        }
        // It could not read the onion that this channel brought: another may fare better.
        Some(message) if message.code() & BADONION != 0 => None,
        Some(message) if message.is_permanent() => Some(FailureReason::Error),
        Some(_) => None,
        None => Some(FailureReason::Error),
    }
}

fn load(desk: &Desk<'_>, attempt_id: u64) -> Result<Option<Payment>, StoreError> {
    desk.read(&payment_of(attempt_id).to_be_bytes())
}

fn write(desk: &mut Desk<'_>, payment: Payment, launch: Option<Launch>) -> Step {
    let index = payment.payment_index.to_be_bytes();
    desk.write(&index, &payment);
    desk.put(Table::PaymentByHash, &payment.payment_hash.0, index.to_vec());
    Step { changed: Some(Box::new(payment)), launch }
}

impl Attempt {
    fn end(&mut self, status: Status, now_ns: u64) {
        self.status = status;
        self.resolve_time_ns = now_ns;
    }
}

impl Payment {
    fn attempt(&mut self, attempt_id: u64) -> Option<&mut Attempt> {
        self.attempts.iter_mut().find(|attempt| attempt.attempt_id == attempt_id)
    }

    fn fail(&mut self, reason: FailureReason) {
        self.status = Status::Failed;
        self.failure_reason = Some(reason);
    }

    /// Begins the next attempt; if there is no way left, or no time, the payment has failed.
    fn next_attempt(&mut self, world: &mut World<'_>) -> Result<Option<Launch>, OnionError> {
        let over =
            world.now_ns >= self.terms.deadline_ns || world.given_up.contains(&self.payment_hash);
        if !self.attempts.is_empty() && over {
            self.fail(FailureReason::Timeout);
            return Ok(None);
        }
        let (Some(route), Some(attempt_id)) =
            (self.next_route(world), attempt_id(self.payment_index, self.attempts.len()))
        else {
            self.fail(self.why_no_route(world));
            return Ok(None);
        };
        let session_key = session_key((world.entropy)(), attempt_id)?;
        let onion = route.onion(&session_key, &self.payment_hash, &self.terms)?;
        let launch = Launch {
            attempt_id,
            channel: route.channel,
            amount: route.amount,
            payment_hash: self.payment_hash,
            cltv_expiry: route.cltv,
            onion,
        };
        self.attempts.push(Attempt {
            attempt_id,
            session_key: session_key.secret_bytes(),
            route,
            attempt_time_ns: world.now_ns,
            resolve_time_ns: 0,
            status: Status::InFlight,
            preimage: None,
            failure: None,
        });
        Ok(Some(launch))
    }

    /// Over the channel to the payee that has most to spend, of those not tried yet.
    fn next_route(&self, world: &World<'_>) -> Option<Route> {
        let terms = &self.terms;
        let tried = |channel: &Usable| {
            self.attempts.iter().any(|attempt| attempt.route.channel == channel.channel)
        };
        let channel = world
            .channels
            .iter()
            .filter(|channel| channel.peer == terms.destination && channel.suits(terms))
            .filter(|channel| !tried(channel))
            .max_by_key(|channel| (channel.spendable, channel.channel))?;
        let cltv = world.height.plus(terms.final_blocks());
        let payee = Hop {
            node: terms.destination,
            short_channel_id: channel.short_channel_id,
            amount: terms.amount,
            cltv,
        };
        let route =
            Route { channel: channel.channel, amount: terms.amount, cltv, hops: vec![payee] };
        (route.fees() <= terms.fee_limit).then_some(route)
    }

    fn why_no_route(&self, world: &World<'_>) -> FailureReason {
        let ours = Msat::checked_sum(world.channels.iter().map(|channel| channel.spendable));
        match ours {
            Some(ours) if self.attempts.is_empty() && ours < self.terms.amount => {
                FailureReason::InsufficientBalance
            }
            _ => FailureReason::NoRoute,
        }
    }

    /// What came back for an attempt; none if there is no such attempt.
    fn read_failure(&mut self, attempt_id: u64, removal: &Removal) -> Option<AttemptFailure> {
        let attempt = self.attempt(attempt_id)?;
        let reason = match removal {
            Removal::Failed(reason) if reason.is_empty() => {
                return Some(AttemptFailure::Local("the channel could not carry it".into()));
            }
            Removal::Failed(reason) => reason,
            // Our own peer says so, unsealed.
            Removal::Malformed { code, sha256_of_onion } => {
                let raw = [&code.to_be_bytes()[..], sha256_of_onion].concat();
                let message = FailureMessage::decode(&raw);
                return Some(AttemptFailure::Hop { hop: 0, message });
            }
            Removal::Fulfilled(_) => return None,
        };
        let session_key = SecretKey::from_slice(&attempt.session_key).ok()?;
        let secrets = shared_secrets(&session_key, attempt.route.nodes()).ok()?;
        Some(match open(&secrets, reason) {
            Opened::From { hop, failure } => AttemptFailure::Hop { hop, message: failure },
            Opened::Unreadable => AttemptFailure::Unreadable,
        })
    }
}

impl Usable {
    fn is(&self, name: u64) -> bool {
        self.short_channel_id == name || self.aliases.contains(&name)
    }

    fn suits(&self, terms: &Terms) -> bool {
        self.minimum <= terms.amount
            && terms.amount <= self.spendable
            && (terms.outgoing.is_empty() || terms.outgoing.iter().any(|name| self.is(*name)))
    }
}

/// A key that no other attempt has, even if the random bytes came before, as in a machine that was
/// copied: an attempt's id is used once.
fn session_key(entropy: [u8; 32], attempt_id: u64) -> Result<SecretKey, OnionError> {
    let mut engine = sha256::Hash::engine();
    engine.input(b"fulmen session key");
    engine.input(&entropy);
    engine.input(&attempt_id.to_be_bytes());
    let key = sha256::Hash::from_engine(engine).to_byte_array();
    SecretKey::from_slice(&key).map_err(|_| OnionError::Key)
}
