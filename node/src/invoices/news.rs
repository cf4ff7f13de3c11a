//! News of invoices, in the order of their numbers.
//!
//! Rows become durable in any order. A listener that comes back tells the last numbers that it
//! saw, so nobody may see a number before all lower ones: what is early is held back.

use super::Invoice;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::broadcast;

/// How many changes a slow listener may be behind before it has to read the rows again.
const BEHIND: usize = 1024;

/// How long a number is waited for: one is lost when a channel's task breaks down over it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Something happened to an invoice.
#[derive(Clone, Debug)]
pub enum InvoiceEvent {
    /// It was added.
    Added(Invoice),
    /// It was paid.
    Settled(Invoice),
}

/// The last numbers told: everything up to them is durable, everything above is still to be told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// The last invoice added.
    pub add_index: u64,
    /// The last one settled.
    pub settle_index: u64,
}

/// What is to be told, in order.
pub struct InvoiceNews {
    state: Mutex<State>,
    listeners: broadcast::Sender<InvoiceEvent>,
}

#[derive(Default)]
struct State {
    told: Told,
    added: Early,
    settled: Early,
}

/// What came before a lower number did, and since when it waits.
type Early = BTreeMap<u64, (Instant, Invoice)>;

impl InvoiceNews {
    /// News after what is durable at the start.
    pub fn after(told: Told) -> Self {
        let state = Mutex::new(State { told, ..State::default() });
        InvoiceNews { state, listeners: broadcast::Sender::new(BEHIND) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An invoice was added, and that is durable.
    pub fn added(&self, invoice: Invoice) {
        let State { told, added, .. } = &mut *self.lock();
        added.insert(invoice.add_index, (Instant::now(), invoice));
        while let Some(next) = pop(added, &mut told.add_index) {
            // Nobody may be listening.
            let _ = self.listeners.send(InvoiceEvent::Added(next));
        }
    }

    /// An invoice was paid, and that is durable.
    pub fn settled(&self, invoice: Invoice) {
        let State { told, settled, .. } = &mut *self.lock();
        settled.insert(invoice.settle_index, (Instant::now(), invoice));
        while let Some(next) = pop(settled, &mut told.settle_index) {
            let _ = self.listeners.send(InvoiceEvent::Settled(next));
        }
    }

    /// What was told so far, and all that follows.
    pub fn listen(&self) -> (Told, broadcast::Receiver<InvoiceEvent>) {
        let state = self.lock();
        (state.told, self.listeners.subscribe())
    }
}

/// The next one to be told: the number after `told`, or the lowest one if it has waited in vain.
fn pop(early: &mut Early, told: &mut u64) -> Option<Invoice> {
    let (number, (since, _)) = early.first_key_value()?;
    if *number > told.saturating_add(1) && since.elapsed() < PATIENCE {
        return None;
    }
    let (number, (_, invoice)) = early.pop_first()?;
    *told = number.max(*told);
    Some(invoice)
}
