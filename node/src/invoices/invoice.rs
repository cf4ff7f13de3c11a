//! One invoice, and the rules for what pays it (BOLT 4, final node).

use crate::desk::Record;
use crate::onion::{FailureMessage, Payload};
use crate::store::Table;
use fulmen_channel::amount::{Height, Msat};
use fulmen_channel::payment::{PaymentHash, Preimage};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Blocks before an HTLC's expiry in which we would have to claim it on chain: one that is nearer
/// is not taken, whatever its invoice asks (rules 3.5).
pub const CLAIM_WINDOW: u32 = 18;
/// What our invoices ask for by default, as lnd (rules 3.5).
pub const DEFAULT_FINAL_CLTV: u32 = 80;

/// Where an invoice is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InvoiceState {
    /// Waits for its payment.
    Open,
    /// Paid.
    Settled,
    /// Not to be paid any more.
    Canceled,
    /// A payment is held (`--hodl.exit-settle`).
    Accepted,
}

/// An HTLC that an invoice took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvoiceHtlc {
    /// The channel's id.
    pub channel: [u8; 32],
    /// The HTLC's id on it.
    pub htlc_id: u64,
    /// What it brought.
    pub amount: Msat,
    /// The best block when it came.
    pub accept_height: Height,
    /// Seconds since 1970 when it came.
    pub accept_time: u64,
    /// Seconds since 1970 when it was settled; 0 while it is held.
    pub resolve_time: u64,
    /// When it would have expired.
    pub expiry_height: Height,
    /// What the sender said it would send in all.
    pub total: Msat,
    /// The sender's own records.
    pub records: BTreeMap<u64, Vec<u8>>,
}

/// An invoice of ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invoice {
    /// Counts the invoices, from 1.
    pub add_index: u64,
    /// Counts the settled ones, from 1; 0 until it is settled.
    pub settle_index: u64,
    /// What for, in words.
    pub memo: String,
    /// What for, if the words are elsewhere.
    pub description_hash: Option<[u8; 32]>,
    /// What the payer gets.
    pub preimage: Preimage,
    /// Its hash.
    pub payment_hash: PaymentHash,
    /// Known to readers of the invoice only.
    pub payment_secret: [u8; 32],
    /// None: the payer chooses.
    pub value: Option<Msat>,
    /// Seconds since 1970.
    pub creation_date: u64,
    /// Seconds since 1970; 0 until it is settled.
    pub settle_date: u64,
    /// Seconds that it stays valid.
    pub expiry: u64,
    /// Blocks that its HTLC must have left.
    pub cltv_expiry: u32,
    /// Where it is in its life.
    pub state: InvoiceState,
    /// What was paid.
    pub amt_paid: Msat,
    /// In BOLT 11.
    pub payment_request: String,
    /// With hints for private channels.
    pub private: bool,
    /// An address for payment on chain; empty if none.
    pub fallback: String,
    /// What paid it.
    pub htlcs: Vec<InvoiceHtlc>,
}

impl Record for Invoice {
    const TABLE: Table = Table::Invoice;
}

/// An HTLC of the peer's whose onion says that we are the payee.
#[derive(Clone, Debug)]
pub struct Incoming<'a> {
    /// The channel's id.
    pub channel: [u8; 32],
    /// The HTLC's id on it.
    pub htlc_id: u64,
    /// What it brings.
    pub amount: Msat,
    /// What it is locked to.
    pub payment_hash: PaymentHash,
    /// When the peer may take it back.
    pub cltv_expiry: Height,
    /// What the onion told us.
    pub payload: &'a Payload,
    /// Seconds since 1970.
    pub now: u64,
    /// The best block.
    pub height: Height,
}

/// What to do with an HTLC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Fulfil it.
    Settle {
        /// With this.
        preimage: Preimage,
        /// The invoice after it; none if it is as it was: the HTLC is one that it took before.
        changed: Option<Box<Invoice>>,
    },
    /// Fail it.
    Fail(FailureMessage),
}

impl Incoming<'_> {
    /// The answer to everything that would tell a prober whether an invoice exists.
    pub fn unknown(&self) -> FailureMessage {
        let Incoming { amount, height, .. } = *self;
        FailureMessage::IncorrectOrUnknownPaymentDetails { amount, height }
    }

    /// What a forwarding node may have changed: less than the onion says.
    fn shortchanged(&self) -> Option<FailureMessage> {
        if self.cltv_expiry < self.payload.outgoing_cltv {
            return Some(FailureMessage::FinalIncorrectCltvExpiry { cltv: self.cltv_expiry });
        }
        let short = self.amount < self.payload.amt_to_forward;
        short.then_some(FailureMessage::FinalIncorrectHtlcAmount { amount: self.amount })
    }

    /// What its invoice remembers of it, not settled yet.
    fn taken(&self) -> InvoiceHtlc {
        InvoiceHtlc {
            channel: self.channel,
            htlc_id: self.htlc_id,
            amount: self.amount,
            accept_height: self.height,
            accept_time: self.now,
            resolve_time: 0,
            expiry_height: self.cltv_expiry,
            total: self.payload.payment_data.map_or(Msat::ZERO, |data| data.total),
            records: self.payload.records.clone(),
        }
    }

    /// Whether there is time enough to claim it.
    fn in_time(&self, blocks: u32) -> bool {
        self.cltv_expiry >= self.height.plus(blocks.max(CLAIM_WINDOW))
    }
}

impl Invoice {
    /// Has it expired at `now`, in seconds since 1970?
    pub fn is_expired(&self, now: u64) -> bool {
        self.creation_date.saturating_add(self.expiry) < now
    }

    /// What to do with this HTLC. `settle_index` is the number it gets if it takes it.
    pub fn receive(&self, htlc: &Incoming<'_>, settle_index: u64) -> Verdict {
        let changed = match self.accept(htlc) {
            Err(failure) => return Verdict::Fail(failure),
            Ok(accepted) if accepted.state == InvoiceState::Settled => None,
            Ok(accepted) => Some(Box::new(accepted.settled(htlc, settle_index))),
        };
        Verdict::Settle { preimage: self.preimage, changed }
    }

    /// The invoice with this HTLC, which it takes, or took before: then it is not judged anew, as
    /// long as it can be claimed, since blocks and hours have gone by that were not its payer's
    /// fault.
    ///
    /// # Errors
    /// The first failure in the order of BOLT 4's list when it does not take it.
    pub fn accept(&self, htlc: &Incoming<'_>) -> Result<Invoice, FailureMessage> {
        let mut invoice = self.clone();
        let took = |h: &InvoiceHtlc| (h.channel, h.htlc_id) == (htlc.channel, htlc.htlc_id);
        // What is settled has been given away. What is not is no longer safe to be, once the payer
        // may soon take it back.
        let taken = self.state == InvoiceState::Settled
            || self.state == InvoiceState::Accepted && htlc.in_time(0);
        if taken && self.htlcs.iter().any(took) {
            return Ok(invoice);
        }
        if !self.is_paid_by(htlc) {
            return Err(htlc.unknown());
        }
        if let Some(failure) = htlc.shortchanged() {
            return Err(failure);
        }
        invoice.state = InvoiceState::Accepted;
        invoice.htlcs.push(htlc.taken());
        Ok(invoice)
    }

    /// The secret, the sum, the time, and that nothing has paid it yet.
    fn is_paid_by(&self, htlc: &Incoming<'_>) -> bool {
        let Some(data) = &htlc.payload.payment_data else { return false };
        let enough = |value: Msat| value <= data.total && data.total <= value.saturating_add(value);
        self.state == InvoiceState::Open
            && data.payment_secret == self.payment_secret
            && self.value.is_none_or(enough)
            // Without basic_mpp the whole sum comes in one HTLC.
            && data.total == htlc.payload.amt_to_forward
            && htlc.in_time(self.cltv_expiry)
            && !self.is_expired(htlc.now)
    }

    fn settled(mut self, htlc: &Incoming<'_>, settle_index: u64) -> Invoice {
        self.state = InvoiceState::Settled;
        self.settle_index = settle_index;
        self.settle_date = htlc.now;
        self.amt_paid = htlc.amount;
        for taken in &mut self.htlcs {
            taken.resolve_time = htlc.now;
        }
        self
    }
}
