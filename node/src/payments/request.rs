//! What a caller asks to be paid, checked.

use super::payment::Terms;
use crate::invoices::bolt11::{Bolt11Error, PayReq};
use crate::onion::OnionError;
use crate::store::StoreError;
use bitcoin::Network;
use fulmen_channel::amount::Msat;
use fulmen_channel::payment::PaymentHash;
use std::collections::BTreeMap;

/// The blocks that a payment's HTLC has more than its payee asks for, so that it is not late when
/// blocks are found on the way (rules 3.5).
pub const BLOCK_PADDING: u32 = 3;
/// The blocks that our money may be locked if the caller names no limit, as lnd.
pub const DEFAULT_CLTV_LIMIT: u32 = 2_016;

/// Why a payment is not begun, or cannot be recorded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PayError {
    /// gRPC code 6; the text is lnd's.
    #[error("invoice is already paid")]
    AlreadyPaid,
    /// gRPC code 6; the text is lnd's.
    #[error("payment is in transition")]
    InTransition,
    /// The text is lnd's.
    #[error("self-payments not allowed")]
    SelfPayment,
    /// The text is lnd's.
    #[error("amount must be specified when paying a zero amount invoice")]
    AmountMissing,
    /// The text is lnd's, with its two spaces.
    #[error("amount must not be specified when paying a non-zero  amount invoice")]
    AmountGiven,
    /// Nothing, or more than there is.
    #[error("{0} is not an amount that can be paid")]
    BadAmount(Msat),
    /// The text is lnd's.
    #[error("cltv limit {limit} should be greater than {needed}")]
    CltvLimit {
        /// What the caller allows.
        limit: u32,
        /// What the payee needs.
        needed: u32,
    },
    /// The invoice cannot be read or paid.
    #[error(transparent)]
    Invoice(#[from] Bolt11Error),
    /// The records do not fit, or the payee's key is odd.
    #[error(transparent)]
    Onion(#[from] OnionError),
    /// The database cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a caller may limit and add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
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

/// A payment that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What it is locked to.
    pub payment_hash: PaymentHash,
    /// The invoice; empty if there is none.
    pub payment_request: String,
    /// The rest.
    pub terms: Terms,
}

impl Request {
    /// To pay the invoice `read` from `text`, on `network`, `now` (seconds since 1970). `amount`
    /// is what the caller named.
    ///
    /// # Errors
    /// `AmountMissing`, `AmountGiven`, `Invoice` when it is expired or for another network.
    pub fn for_invoice(
        text: &str,
        read: PayReq,
        amount: Option<Msat>,
        limits: Limits,
        network: Network,
        now: u64,
    ) -> Result<Request, PayError> {
        read.check_payable(network, now)?;
        let amount = match (read.amount, amount.filter(|amount| *amount > Msat::ZERO)) {
            (Some(asked), None) => asked,
            (None, Some(given)) => given,
            (None, None) => return Err(PayError::AmountMissing),
            (Some(_), Some(_)) => return Err(PayError::AmountGiven),
        };
        let terms = Terms {
            destination: read.payee,
            amount,
            payment_secret: read.payment_secret,
            metadata: read.metadata,
            final_cltv_delta: read.min_final_cltv,
            fee_limit: limits.fee_limit,
            cltv_limit: limits.cltv_limit,
            deadline_ns: limits.deadline_ns,
            outgoing: limits.outgoing,
            records: limits.records,
        };
        let payment_hash = read.payment_hash;
        Ok(Request { payment_hash, payment_request: text.to_owned(), terms })
    }
}

impl Terms {
    /// The blocks from now to the expiry of the payee's HTLC.
    pub(super) fn final_blocks(&self) -> u32 {
        self.final_cltv_delta.saturating_add(BLOCK_PADDING)
    }

    /// Can this be paid at all?
    pub(super) fn check(&self) -> Result<(), PayError> {
        if self.amount == Msat::ZERO || self.amount > Msat::MAX_MONEY {
            return Err(PayError::BadAmount(self.amount));
        }
        let (limit, needed) = (self.cltv_limit, self.final_blocks());
        if limit < needed {
            return Err(PayError::CltvLimit { limit, needed });
        }
        Ok(())
    }
}
