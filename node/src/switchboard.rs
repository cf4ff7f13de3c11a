//! The shell of the switch: gives it the clock, the chain's height and the usable channels, writes
//! what it decides, and carries it out when that is durable.
//!
//! ```text
//!   channels ── Received, Fulfilled, Resolved ─▶ switch ─▶ rows (unit) ─▶ store
//!   api ── pay ────────────────────────────────▶   │
//!                                                  └─▶ Remove, Offer ─▶ channels
//!                                                      Payment, Invoice ─▶ whoever listens
//! ```

use crate::chain::Chain;
use crate::channels::registry::Registry;
use crate::channels::{Action, Hub, ToChannel};
use crate::clock;
use crate::desk::{decode, Desk, Pending, Record, Rows};
use crate::invoices::expiry::Expiries;
use crate::invoices::registry::{self as invoices, InvoiceError};
use crate::invoices::{Invoice, InvoiceNews, Told};
use crate::keys::KeyRing;
use crate::payments::{lifecycle, News, PayError, Payment, Request, Status, World};
use crate::store::{KeyRange, Store, StoreError, Table, Unit};
use crate::switch::{self, Circuit};
use bitcoin::secp256k1::rand::{rngs::OsRng, RngCore};
use bitcoin::secp256k1::{PublicKey, SecretKey};
use bitcoin::Network;
use fulmen_channel::amount::Msat;
use fulmen_channel::contract::commitments::Offer;
use fulmen_channel::error::Refused;
use fulmen_channel::output::{Received, Resolved};
use fulmen_channel::payment::{PaymentHash, Preimage};
use lightning::ln::msgs;
use lightning::ln::types::ChannelId;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{oneshot, watch, Notify};

/// How many payments may be under way, or wait for room on a channel, at once.
const MOST_UNDER_WAY: usize = 20_000;

/// Invoices, payments, and what joins them with channels.
pub struct Switchboard {
    store: Store,
    registry: Registry,
    chain: Chain,
    /// The network that invoices must be for.
    pub network: Network,
    node_secret: SecretKey,
    node: PublicKey,
    desk: Mutex<Pending>,
    /// Payments under way.
    payments: News,
    /// Attempts whose HTLC a channel still had when the daemon started.
    live: Mutex<BTreeSet<u64>>,
    /// Something was resolved: a channel that had no room may have some now.
    room: Notify,
    /// Who listens to invoices.
    pub invoice_news: Arc<InvoiceNews>,
    expiries: Expiries,
    /// Payments under way that are not to be tried again.
    given_up: Mutex<BTreeSet<PaymentHash>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Switchboard {
    /// A switchboard over what is in `store`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn new(
        store: &Store,
        keys: &KeyRing,
        registry: &Registry,
        chain: &Chain,
        network: Network,
    ) -> Result<Arc<Self>, StoreError> {
        let last = |table| -> Result<u64, StoreError> {
            let key = store.last_key(table)?.and_then(|key| key.try_into().ok());
            Ok(key.map_or(0, u64::from_be_bytes))
        };
        let told =
            Told { add_index: last(Table::Invoice)?, settle_index: last(Table::InvoiceBySettle)? };
        Ok(Arc::new(Switchboard {
            store: store.clone(),
            registry: registry.clone(),
            chain: chain.clone(),
            network,
            node_secret: keys.node_secret(),
            node: keys.node_id(),
            desk: Mutex::default(),
            payments: News::default(),
            live: Mutex::default(),
            room: Notify::new(),
            invoice_news: Arc::new(InvoiceNews::after(told)),
            expiries: Expiries::default(),
            given_up: Mutex::default(),
        }))
    }

    /// One step over the rows: what it writes goes into `unit`. The second value is to be called
    /// when that is durable.
    fn step<T>(
        self: &Arc<Self>,
        unit: &mut Unit,
        work: impl FnOnce(&mut Desk<'_>) -> T,
    ) -> (T, impl FnOnce() + Send + 'static) {
        let mut pending = lock(&self.desk);
        let done = work(&mut Desk::new(&self.store, &mut pending, unit));
        let (mark, board) = (pending.mark(), self.clone());
        (done, move || lock(&board.desk).durable(mark))
    }

    /// One step that is durable when this returns. What fails is not written.
    async fn commit<T, E: From<StoreError>>(
        self: &Arc<Self>,
        work: impl FnOnce(&mut Desk<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut unit = Unit::new();
        let (done, durable) = self.step(&mut unit, work);
        let done = done?;
        if !unit.is_empty() {
            self.store.commit(unit).await?;
        }
        durable();
        Ok(done)
    }

    fn with_world<T>(&self, work: impl FnOnce(&mut World<'_>) -> T) -> T {
        let channels = self.registry.usable_channels();
        let mut entropy = || {
            let mut bytes = [0; 32];
            OsRng.fill_bytes(&mut bytes);
            bytes
        };
        let given_up = lock(&self.given_up);
        work(&mut World {
            given_up: &given_up,
            now_ns: now_ns(),
            height: self.chain.tip().height,
            node: self.node,
            channels: &channels,
            entropy: &mut entropy,
        })
    }

    /// Takes an invoice in; durable when this returns.
    ///
    /// # Errors
    /// As [`invoices::add`].
    pub async fn add_invoice(self: &Arc<Self>, invoice: Invoice) -> Result<Invoice, InvoiceError> {
        let board = self.clone();
        // In a task of its own: a caller that goes away must not leave a number that nobody tells.
        let added = tokio::spawn(async move {
            let invoice = board.commit(|desk| invoices::add(desk, invoice)).await?;
            board.invoice_news.added(invoice.clone());
            board.expiries.add(&invoice);
            Ok(invoice)
        });
        added.await.unwrap_or_else(|error| Err(StoreError::Failed(error.to_string()).into()))
    }

    /// The invoice with this hash.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn invoice(self: &Arc<Self>, hash: &PaymentHash) -> Result<Option<Invoice>, StoreError> {
        self.step(&mut Unit::new(), |desk| invoices::find(desk, hash)).0
    }

    /// Invoices (or payments) by index: those after `offset` in order, or those before it (0: from
    /// the end) if `reversed`; at most `limit`, always in the order of their index.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn page<R: Record>(
        &self,
        offset: u64,
        limit: usize,
        reversed: bool,
    ) -> Result<Vec<R>, StoreError> {
        let range = match (reversed, offset) {
            (true, 0) => KeyRange::all(),
            (true, before) => KeyRange::before(before.to_be_bytes()),
            (false, after) => KeyRange::from(after.saturating_add(1).to_be_bytes()),
        };
        let rows = self.store.scan(R::TABLE, &range, limit, reversed)?;
        let records: Result<Vec<R>, _> = rows.iter().map(|(_, value)| decode(value)).collect();
        let mut records = records?;
        if reversed {
            records.reverse();
        }
        Ok(records)
    }

    /// Settled invoices in the order of their settling: those after `offset`, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn settled_after(&self, offset: u64, limit: usize) -> Result<Vec<Invoice>, StoreError> {
        let range = KeyRange::from(offset.saturating_add(1).to_be_bytes());
        let rows = self.store.scan(Table::InvoiceBySettle, &range, limit, false)?;
        let read = |(_, index): &(Vec<u8>, Vec<u8>)| {
            let row = self.store.get(Table::Invoice, index)?;
            let lost = || StoreError::Failed("a settled invoice has no row".into());
            decode(&row.ok_or_else(lost)?)
        };
        rows.iter().map(read).collect()
    }

    /// Cancels invoices when they expire, as long as the daemon runs.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn expire_invoices(self: Arc<Self>) -> Result<(), StoreError> {
        self.expiries.read(|offset, limit| self.page(offset, limit, false))?;
        loop {
            let due = self.expiries.wait().await;
            let cancel = |desk: &mut Desk<'_>| invoices::expire(desk, &due, clock::unix_time());
            self.commit(cancel).await?;
        }
    }

    /// Starts a payment; it goes on when nobody listens any more.
    ///
    /// # Errors
    /// [`PayError`]: then nothing was started.
    pub async fn pay(
        self: &Arc<Self>,
        request: Request,
    ) -> Result<watch::Receiver<Payment>, PayError> {
        if self.payments.count() >= MOST_UNDER_WAY {
            let why = "too many payments are under way: try again later";
            return Err(StoreError::Failed(why.into()).into());
        }
        if self.payments.is_under_way(&request.payment_hash) {
            // What was paid says so itself.
            let hash = &request.payment_hash;
            let (found, _) = self.step(&mut Unit::new(), |desk| lifecycle::find(desk, hash));
            let paid = found?.is_some_and(|payment| payment.status == Status::Succeeded);
            return Err(if paid { PayError::AlreadyPaid } else { PayError::InTransition });
        }
        let begin = |desk: &mut Desk<'_>| self.with_world(|w| switch::pay(desk, request, w));
        let actions = self.commit(begin).await?;
        let begun = actions.iter().find_map(|action| match action {
            switch::Action::Payment(payment) => Some((**payment).clone()),
            _ => None,
        });
        let Some(payment) = begun else {
            return Err(StoreError::Failed("the payment left no trace".into()).into());
        };
        let receiver = self.payments.follow(payment);
        let actions = self.translate(actions);
        self.registry.act(actions).await;
        Ok(receiver)
    }

    /// Makes no further attempt at a payment under way. Not durable: a restart may make one.
    pub fn give_up(&self, hash: PaymentHash) {
        if self.payments.is_under_way(&hash) {
            lock(&self.given_up).insert(hash);
        }
    }

    /// A payment as it is now, and its changes while it is under way.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn track(
        self: &Arc<Self>,
        hash: &PaymentHash,
    ) -> Result<Option<watch::Receiver<Payment>>, StoreError> {
        self.payments
            .track(hash, || self.step(&mut Unit::new(), |desk| lifecycle::find(desk, hash)).0)
    }

    /// After a start, with all channels read back: payments whose HTLC is on a channel are followed
    /// to their end; those whose HTLC never left are tried again or failed.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn resume(self: &Arc<Self>) -> Result<(), StoreError> {
        let rows = self.store.scan(Table::Circuit, &KeyRange::all(), usize::MAX, false)?;
        let circuits: Result<Vec<Circuit>, _> = rows.iter().map(|(_, row)| decode(row)).collect();
        let circuits = circuits?;
        for circuit in &circuits {
            let hash = circuit.payment_hash;
            let (found, _) = self.step(&mut Unit::new(), |desk| lifecycle::find(desk, &hash));
            if let Some(payment) = found?.filter(|payment| payment.status == Status::InFlight) {
                drop(self.payments.follow(payment));
            }
        }
        let live = std::mem::take(&mut *lock(&self.live));
        let go_on = |desk: &mut Desk<'_>| {
            self.with_world(|world| switch::resume(desk, &circuits, &live, world))
        };
        let actions = self.commit(go_on).await?;
        let actions = self.translate(actions);
        self.registry.act(actions).await;
        Ok(())
    }

    /// What the switch wants, as what channels' tasks do: all but removals wait until the unit is
    /// durable.
    fn translate(self: &Arc<Self>, actions: Vec<switch::Action>) -> Vec<Action> {
        let mut deadline_ns = u64::MAX;
        let mut translated = Vec::new();
        for action in actions {
            translated.push(match action {
                switch::Action::Remove { channel, id, removal } => {
                    Action::Remove { channel: ChannelId(channel), id, removal }
                }
                switch::Action::Offer { channel, attempt_id, offer } => {
                    let board = self.clone();
                    let offering = board.offer(ChannelId(channel), attempt_id, *offer, deadline_ns);
                    Action::After(Box::new(move || drop(tokio::spawn(offering))))
                }
                switch::Action::Invoice(invoice) => {
                    let news = self.invoice_news.clone();
                    Action::After(Box::new(move || news.settled(*invoice)))
                }
                switch::Action::Payment(payment) => {
                    deadline_ns = payment.terms.deadline_ns;
                    let board = self.clone();
                    Action::After(Box::new(move || {
                        if payment.status != Status::InFlight {
                            lock(&board.given_up).remove(&payment.payment_hash);
                        }
                        board.payments.tell(*payment);
                    }))
                }
            });
        }
        translated
    }

    /// Offers to a channel; waits while it has no room, and tells the switch if it will not.
    async fn offer(
        self: Arc<Self>,
        channel: ChannelId,
        attempt_id: u64,
        offer: Offer,
        deadline_ns: u64,
    ) {
        let why = loop {
            let room = self.room.notified();
            tokio::pin!(room);
            // From here on nothing that is resolved is missed.
            room.as_mut().enable();
            let Some(handle) = self.registry.by_id(&channel) else {
                break "the channel is gone".to_owned();
            };
            let (reply, outcome) = oneshot::channel();
            handle.tell(ToChannel::Offer(Box::new(offer.clone()), reply)).await;
            match outcome.await {
                Ok(Ok(_)) => return,
                Ok(Err(refused)) if is_full(&refused, offer.amount) => {
                    let left = Duration::from_nanos(deadline_ns.saturating_sub(now_ns()));
                    if tokio::time::timeout(left, room).await.is_err() {
                        break refused.to_string();
                    }
                }
                Ok(Err(refused)) => break refused.to_string(),
                Err(_) => break "the channel is gone".to_owned(),
            }
        };
        let refuse = |desk: &mut Desk<'_>| {
            self.with_world(|world| switch::refused(desk, attempt_id, &why, world))
        };
        match self.commit(refuse).await {
            Ok(actions) => {
                let actions = self.translate(actions);
                self.registry.act(actions).await;
            }
            Err(error) => tracing::error!("attempt {attempt_id}: {error}"),
        }
    }

    /// Runs a step for a channel, whose task writes the unit and carries the actions out.
    fn for_channel(
        self: &Arc<Self>,
        unit: &mut Unit,
        work: impl FnOnce(&mut Desk<'_>) -> Result<Vec<switch::Action>, StoreError>,
    ) -> Result<Vec<Action>, StoreError> {
        let (done, durable) = self.step(unit, work);
        let mut actions = vec![Action::After(Box::new(durable))];
        actions.extend(self.translate(done?));
        Ok(actions)
    }
}

/// The channel has no room for `amount` now, and will have some when something is resolved. What is
/// above a limit by itself never fits.
fn is_full(refused: &Refused, amount: Msat) -> bool {
    match refused {
        Refused::TooMuchInFlight { limit, .. } | Refused::DustExposure { limit, .. } => {
            amount <= *limit
        }
        Refused::TooManyHtlcs { .. } | Refused::FunderCannotPay => true,
        _ => false,
    }
}

/// Nanoseconds since 1970.
fn now_ns() -> u64 {
    u64::try_from(clock::now().as_nanos()).unwrap_or(u64::MAX)
}

/// What was not understood is told again after a restart: until then the HTLC stays as it is.
fn waits(outcome: Result<Vec<Action>, StoreError>) -> Vec<Action> {
    outcome.unwrap_or_else(|error| {
        tracing::error!("an HTLC waits: {error}");
        Vec::new()
    })
}

/// The switchboard as channels know it.
pub struct BoardHub {
    /// It.
    pub board: Arc<Switchboard>,
    /// HTLCs for us are judged, and neither settled nor failed.
    pub holds: bool,
}

impl Hub for BoardHub {
    fn peel(&self, add: &msgs::UpdateAddHTLC) -> Vec<u8> {
        switch::read_onion(&self.board.node_secret, add)
    }

    fn received(&self, channel: ChannelId, htlc: &Received, unit: &mut Unit) -> Vec<Action> {
        let (now, height) = (clock::unix_time(), self.board.chain.tip().height);
        let work = |desk: &mut Desk<'_>| match self.holds {
            true => switch::held(desk, channel.0, htlc, now, height).map(|()| Vec::new()),
            false => switch::received(desk, channel.0, htlc, now, height),
        };
        waits(self.board.for_channel(unit, work))
    }

    fn fulfilled(&self, preimage: Preimage, memo: &[u8], unit: &mut Unit) -> Vec<Action> {
        let work = |desk: &mut Desk<'_>| switch::fulfilled(desk, memo, preimage, now_ns());
        waits(self.board.for_channel(unit, work))
    }

    fn resolved(&self, over: &Resolved, unit: &mut Unit) -> Result<Vec<Action>, StoreError> {
        let mut actions = self.board.for_channel(unit, |desk| {
            self.board.with_world(|world| switch::resolved(desk, over, world))
        })?;
        let board = self.board.clone();
        actions.push(Action::After(Box::new(move || board.room.notify_waiters())));
        Ok(actions)
    }

    fn restored(&self, memo: &[u8]) {
        match switch::attempt_of(memo) {
            Ok(attempt) => drop(lock(&self.board.live).insert(attempt)),
            Err(error) => tracing::error!("an HTLC of ours: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_never_fit_is_not_waited_for() {
        let limit = Msat::new(1_000);
        let over = |in_flight| Refused::TooMuchInFlight { in_flight: Msat::new(in_flight), limit };
        let rows = [
            (over(1_500), 600, true),
            (over(1_500), 1_500, false),
            (Refused::TooManyHtlcs { limit: 30 }, 1, true),
            (Refused::ZeroAmount, 0, false),
        ];
        for (refused, amount, waits) in rows {
            assert_eq!(is_full(&refused, Msat::new(amount)), waits, "{refused}");
        }
    }
}
