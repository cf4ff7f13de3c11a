//! One payment of ours: its terms, its attempts, how it ended.

use super::route::Route;
use crate::desk::Record;
use crate::onion::FailureMessage;
use crate::store::Table;
use bitcoin::secp256k1::PublicKey;
use fulmen_channel::amount::Msat;
use fulmen_channel::payment::{PaymentHash, Preimage};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What is to be paid to whom, within which limits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// The payee.
    pub destination: PublicKey,
    /// What the payee gets.
    pub amount: Msat,
    /// From the invoice.
    pub payment_secret: [u8; 32],
    /// From the invoice.
    pub metadata: Option<Vec<u8>>,
    /// Blocks that the payee wants its HTLC to have left.
    pub final_cltv_delta: u32,
    /// The most that the hops may keep.
    pub fee_limit: Msat,
    /// The most blocks that our money may be locked.
    pub cltv_limit: u32,
    /// No attempt is begun later; nanoseconds since 1970.
    pub deadline_ns: u64,
    /// Short channel ids of ours to choose from; empty: all.
    pub outgoing: Vec<u64>,
    /// Custom records for the payee.
    pub records: BTreeMap<u64, Vec<u8>>,
}

/// Where a payment or an attempt is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // lnrpc's words
pub enum Status {
    InFlight,
    Succeeded,
    Failed,
}

/// Why a payment failed (lnrpc `PaymentFailureReason`, of the same number).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // lnrpc's words
pub enum FailureReason {
    Timeout = 1,
    NoRoute = 2,
    Error = 3,
    IncorrectPaymentDetails = 4,
    InsufficientBalance = 5,
    Canceled = 6,
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AttemptFailure {
    /// It never left us.
    Local(String),
    /// A hop said so.
    Hop {
        /// Which one, from 0.
        hop: usize,
        /// What it said; none if that makes no sense.
        message: Option<FailureMessage>,
    },
    /// Somebody garbled the answer.
    Unreadable,
}

/// One HTLC that was to bring the payment over one route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Never used twice: see [`attempt_id`].
    pub attempt_id: u64,
    /// With the route it gives the onion again, and opens its failures.
    pub session_key: [u8; 32],
    /// The way.
    pub route: Route,
    /// When it was begun; nanoseconds since 1970.
    pub attempt_time_ns: u64,
    /// When it ended; 0 until then.
    pub resolve_time_ns: u64,
    /// Where it is in its life.
    pub status: Status,
    /// What came back if it succeeded.
    pub preimage: Option<Preimage>,
    /// What came back if it failed.
    pub failure: Option<AttemptFailure>,
}

/// A payment of ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payment {
    /// Counts the payments, from 1.
    pub payment_index: u64,
    /// What it is locked to.
    pub payment_hash: PaymentHash,
    /// The proof, once it succeeded.
    pub preimage: Option<Preimage>,
    /// What is to be paid.
    pub terms: Terms,
    /// Nanoseconds since 1970.
    pub creation_time_ns: u64,
    /// The invoice; empty if there was none.
    pub payment_request: String,
    /// Where it is in its life.
    pub status: Status,
    /// Why it failed.
    pub failure_reason: Option<FailureReason>,
    /// In the order they were begun.
    pub attempts: Vec<Attempt>,
}

impl Record for Payment {
    const TABLE: Table = Table::Payment;
}

/// Bits of an attempt's id that count the attempts of one payment.
const ATTEMPT_BITS: u32 = 16;

/// The id of attempt `number` (from 0) of a payment: its index, then the number.
pub(super) fn attempt_id(payment_index: u64, number: usize) -> Option<u64> {
    let number = u16::try_from(number).ok()?;
    Some(payment_index.checked_mul(1 << ATTEMPT_BITS)? | u64::from(number))
}

/// The index of the payment that an attempt belongs to.
pub(super) fn payment_of(attempt_id: u64) -> u64 {
    attempt_id >> ATTEMPT_BITS
}

impl Payment {
    /// What the hops of the attempt that succeeded kept.
    pub fn fee(&self) -> Msat {
        let mut succeeded = self.attempts.iter().filter(|a| a.status == Status::Succeeded);
        succeeded.next().map_or(Msat::ZERO, |attempt| attempt.route.fees())
    }

    /// Whether an HTLC of it may still be under way.
    pub fn has_attempt_in_flight(&self) -> bool {
        self.attempts.iter().any(|attempt| attempt.status == Status::InFlight)
    }
}
