//! Which open invoices expire next, and the wait for it.

use super::{Invoice, InvoiceState};
use crate::clock;
use crate::store::StoreError;
use fulmen_channel::payment::PaymentHash;
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// How many invoices are read, or cancelled, in one go.
const PAGE: usize = 1_000;
/// The longest wait: the wall clock may be set meanwhile.
const LONGEST: u64 = 60;

/// Open invoices by the time when they expire.
#[derive(Default)]
pub struct Expiries {
    /// Seconds since 1970 of the last second in which one is good, and its hash.
    open: Mutex<BTreeSet<(u64, PaymentHash)>>,
    earlier: Notify,
}

impl Expiries {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<(u64, PaymentHash)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an open invoice in.
    pub fn add(&self, invoice: &Invoice) {
        let at = invoice.creation_date.saturating_add(invoice.expiry);
        let mut open = self.lock();
        open.insert((at, invoice.payment_hash));
        if open.first().is_some_and(|(first, _)| *first == at) {
            self.earlier.notify_one();
        }
    }

    /// Takes in all open invoices of the store, given page by page.
    ///
    /// # Errors
    /// Those of `page`.
    pub fn read(
        &self,
        page: impl Fn(u64, usize) -> Result<Vec<Invoice>, StoreError>,
    ) -> Result<(), StoreError> {
        let mut offset = 0;
        loop {
            let invoices = page(offset, PAGE)?;
            let Some(last) = invoices.last() else { return Ok(()) };
            offset = last.add_index;
            for invoice in invoices.iter().filter(|i| i.state == InvoiceState::Open) {
                self.add(invoice);
            }
        }
    }

    /// Waits until some have expired, and gives them.
    pub async fn wait(&self) -> Vec<PaymentHash> {
        loop {
            let now = clock::unix_time();
            let (due, next) = self.due(now);
            if !due.is_empty() {
                return due;
            }
            let seconds = next.map_or(LONGEST, |at| at.saturating_sub(now).saturating_add(1));
            let wait = Duration::from_secs(seconds.min(LONGEST));
            // Either way the invoices are looked at again.
            let _ = tokio::time::timeout(wait, self.earlier.notified()).await;
        }
    }

    /// Those that have expired at `now`, taken out, and when the next one does.
    fn due(&self, now: u64) -> (Vec<PaymentHash>, Option<u64>) {
        let mut open = self.lock();
        let mut due = Vec::new();
        while due.len() < PAGE && open.first().is_some_and(|(at, _)| *at < now) {
            due.extend(open.pop_first().map(|(_, hash)| hash));
        }
        (due, open.first().map(|(at, _)| *at))
    }
}
