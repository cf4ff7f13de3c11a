//! The register of our invoices: added, found, paid, cancelled. Its rows are its state.

use super::invoice::{Incoming, Invoice, InvoiceState, Verdict, CLAIM_WINDOW};
use crate::desk::Desk;
use crate::store::{StoreError, Table};
use fulmen_channel::payment::PaymentHash;

/// The longest that an invoice may stay valid, as lnd: a year.
pub const MAX_EXPIRY: u64 = 31_536_000;

/// Why the register did not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvoiceError {
    /// The text is lnd's.
    #[error("invoice with payment hash already exists")]
    Exists,
    /// The text is lnd's.
    #[error("unable to locate invoice")]
    Unknown,
    /// The text is lnd's.
    #[error("invoice already settled")]
    Settled,
    /// Its HTLC could expire before we have claimed it.
    #[error("cltv_expiry must be from {CLAIM_WINDOW} to 65535 blocks")]
    Cltv,
    /// It would be valid for no time, or for too long.
    #[error("expiry must be from 1 second to {MAX_EXPIRY} (a year)")]
    Expiry,
    /// The preimage given does not belong to the hash.
    #[error("the preimage does not match the payment hash")]
    Preimage,
    /// The database cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Takes an invoice in, and numbers it.
///
/// # Errors
/// `Exists`, `Cltv`, `Expiry`, `Preimage`: nothing is written.
pub fn add(desk: &mut Desk<'_>, mut invoice: Invoice) -> Result<Invoice, InvoiceError> {
    if invoice.cltv_expiry < CLAIM_WINDOW || invoice.cltv_expiry > u32::from(u16::MAX) {
        return Err(InvoiceError::Cltv);
    }
    if invoice.expiry == 0 || invoice.expiry > MAX_EXPIRY {
        return Err(InvoiceError::Expiry);
    }
    if invoice.preimage.hash() != invoice.payment_hash {
        return Err(InvoiceError::Preimage);
    }
    if find(desk, &invoice.payment_hash)?.is_some() {
        return Err(InvoiceError::Exists);
    }
    invoice.add_index = desk.next_number(Table::Invoice)?;
    invoice.state = InvoiceState::Open;
    write(desk, &invoice);
    Ok(invoice)
}

/// The invoice with this hash.
///
/// # Errors
/// `StoreError` if the database cannot be read.
pub fn find(desk: &Desk<'_>, hash: &PaymentHash) -> Result<Option<Invoice>, StoreError> {
    match desk.get(Table::InvoiceByHash, &hash.0)? {
        Some(index) => desk.read(&index),
        None => Ok(None),
    }
}

/// Judges an HTLC for us, and writes what it changes: the invoice, and the preimage that is given
/// away.
///
/// # Errors
/// `StoreError` if the database cannot be read; then there is no verdict yet.
pub fn receive(desk: &mut Desk<'_>, htlc: &Incoming<'_>) -> Result<Verdict, StoreError> {
    let Some(invoice) = find(desk, &htlc.payment_hash)? else {
        return Ok(Verdict::Fail(htlc.unknown()));
    };
    let mut verdict = invoice.receive(htlc, 0);
    if let Verdict::Settle { preimage, changed: Some(changed) } = &mut verdict {
        changed.settle_index = desk.next_number(Table::InvoiceBySettle)?;
        write(desk, changed);
        let index = changed.settle_index.to_be_bytes();
        desk.put(Table::InvoiceBySettle, &index, changed.add_index.to_be_bytes().to_vec());
        desk.put(Table::Preimage, &htlc.payment_hash.0, preimage.0.to_vec());
    }
    Ok(verdict)
}

/// Judges an HTLC for us that is to be held: an invoice that takes it remembers it, so that it is
/// settled as long as it can be claimed.
///
/// # Errors
/// `StoreError` if the database cannot be read.
pub fn accept(desk: &mut Desk<'_>, htlc: &Incoming<'_>) -> Result<(), StoreError> {
    let invoice = find(desk, &htlc.payment_hash)?;
    if let Some(Ok(accepted)) = invoice.map(|invoice| invoice.accept(htlc)) {
        write(desk, &accepted);
    }
    Ok(())
}

/// Cancels an open invoice; one that is cancelled already stays so.
///
/// # Errors
/// `Unknown`, `Settled`.
pub fn cancel(desk: &mut Desk<'_>, hash: &PaymentHash) -> Result<Invoice, InvoiceError> {
    let mut invoice = find(desk, hash)?.ok_or(InvoiceError::Unknown)?;
    if invoice.state == InvoiceState::Settled {
        return Err(InvoiceError::Settled);
    }
    invoice.state = InvoiceState::Canceled;
    write(desk, &invoice);
    Ok(invoice)
}

/// Cancels those of `hashes` that are open and have expired at `now`, in seconds since 1970.
///
/// # Errors
/// `StoreError` if the database cannot be read.
pub fn expire(desk: &mut Desk<'_>, hashes: &[PaymentHash], now: u64) -> Result<(), StoreError> {
    for hash in hashes {
        let Some(mut invoice) = find(desk, hash)? else { continue };
        if invoice.state == InvoiceState::Open && invoice.is_expired(now) {
            invoice.state = InvoiceState::Canceled;
            write(desk, &invoice);
        }
    }
    Ok(())
}

fn write(desk: &mut Desk<'_>, invoice: &Invoice) {
    let index = invoice.add_index.to_be_bytes();
    desk.write(&index, invoice);
    desk.put(Table::InvoiceByHash, &invoice.payment_hash.0, index.to_vec());
}
