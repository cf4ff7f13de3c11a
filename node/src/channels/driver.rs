//! The task of one channel: drains the contract's outputs and moves them where they belong. It
//! decides nothing about money.

use super::announce::Announcer;
use super::record::{put_changes, ChannelRecord};
use super::services::Services;
use super::{Action, CloseUpdate, OpenUpdate, ToChannel};
use crate::payments::Usable;
use crate::peer::wire::WireMessage;
use crate::peer::PeerLink;
use crate::store::{StoreError, Unit};
use bitcoin::secp256k1::PublicKey;
use bitcoin::{OutPoint, ScriptBuf, Transaction};
use fulmen_channel::amount::{FeeratePerKw, Height};
use fulmen_channel::channel::Channel;
use fulmen_channel::contract::htlc::Removal;
use fulmen_channel::input::{Command, FundingRequest, Input};
use fulmen_channel::message::Message;
use fulmen_channel::output::{Event, Output, Persist};
use lightning::ln::types::ChannelId;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{timeout, Instant};

/// How many messages are handed to the contract before it is polled: what arrives together is
/// signed and written together.
const BATCH: usize = 512;
/// How long a peer may leave an opening without an answer: our coins are held meanwhile.
const OPEN_WITHIN: Duration = Duration::from_secs(600);
/// How long a channel waits for room in a peer's queue. A channel that waits sees no block, and
/// holds up those that have news for it.
const SEND_WITHIN: Duration = Duration::from_secs(10);

/// What an opening of ours still needs to know.
pub struct Opening {
    /// Feerate of F.
    pub feerate: FeeratePerKw,
    /// Where news of it go.
    pub news: mpsc::UnboundedSender<OpenUpdate>,
    /// F, built but not durable yet.
    pub built: Option<Transaction>,
}

/// One channel and what its task keeps beside the contract.
pub struct Driver {
    pub(super) channel: Channel,
    pub(super) index: u64,
    pub(super) peer: PublicKey,
    pub(super) record: Option<ChannelRecord>,
    pub(super) opening: Option<Opening>,
    pub(super) announcer: Announcer,
    pub(super) height: Height,
    /// The connection that the contract is in step with: what it says goes there or nowhere.
    link: Option<PeerLink>,
    services: Arc<Services>,
    inbox: mpsc::Receiver<ToChannel>,
    durable: mpsc::UnboundedReceiver<Result<u64, StoreError>>,
    on_durable: mpsc::UnboundedSender<Result<u64, StoreError>>,
    /// What waits for a change set to be durable.
    deferred: VecDeque<(u64, Vec<Action>)>,
    /// Rows that go with the next change set.
    with_next: Unit,
    close_watchers: Vec<mpsc::UnboundedSender<CloseUpdate>>,
    /// An opening that is not signed by then is given up.
    give_up_at: Instant,
    /// The record changed: it goes with the next change set.
    record_changed: bool,
    /// Rows wait that no change set may come for.
    flush: bool,
    /// RD or D is published; the chain repeats it until it is deep.
    pub(super) swept: bool,
}

/// Whether the task goes on.
enum Flow {
    Goes,
    Ends,
}

impl Driver {
    /// A task for `channel`, reading `inbox`.
    pub fn new(
        channel: Channel,
        index: u64,
        peer: PublicKey,
        services: Arc<Services>,
        inbox: mpsc::Receiver<ToChannel>,
    ) -> Self {
        let (on_durable, durable) = mpsc::unbounded_channel();
        let height = services.chain.tip().height;
        Driver {
            channel,
            index,
            peer,
            record: None,
            opening: None,
            announcer: Announcer::default(),
            height,
            link: None,
            services,
            inbox,
            durable,
            on_durable,
            deferred: VecDeque::new(),
            with_next: Unit::new(),
            close_watchers: Vec::new(),
            give_up_at: Instant::now().checked_add(OPEN_WITHIN).unwrap_or_else(Instant::now),
            record_changed: false,
            flush: false,
            swept: false,
        }
    }

    /// The same with a peer that is connected.
    pub fn linked(mut self, link: PeerLink) -> Self {
        self.link = Some(link);
        self
    }

    /// The same for a channel of ours that is opening.
    pub fn opening(mut self, opening: Opening) -> Self {
        self.opening = Some(opening);
        self
    }

    /// The same for a channel read back from disk.
    pub fn restored(mut self, record: ChannelRecord, announcer: Announcer) -> Self {
        self.announcer = announcer;
        self.services.registry.set_capacity(self.channel.channel_id(), record.capacity);
        self.record = Some(record);
        self
    }

    /// Runs until the daemon stops or the channel is over.
    pub async fn run(mut self) {
        // Read back, it knows no height, and what expires is measured by it.
        self.tell(Input::Block(self.height));
        let mut flow = self.drain().await;
        while let Flow::Goes = flow {
            tokio::select! {
                biased;
                Some(durable) = self.durable.recv() => match durable {
                    Ok(id) => self.persisted(id).await,
                    Err(error) => {
                        // Nothing more is signed on a disk that does not write (rules 2.7).
                        tracing::error!(channel = self.index, "channel stops: {error}");
                        break;
                    }
                },
                message = self.inbox.recv() => match message {
                    None => break,
                    Some(message) => match batch(message, &mut self.inbox) {
                        Some(batch) => batch.into_iter().for_each(|message| self.take(message)),
                        None => break,
                    },
                },
                () = tokio::time::sleep_until(self.give_up_at),
                    if self.channel.funded().is_none() =>
                {
                    let why = "the peer did not answer in time".to_owned();
                    self.tell(Input::Command(Command::Abandon(why)));
                }
            }
            flow = self.drain().await;
            if self.is_history() {
                break;
            }
        }
        self.services.registry.remove(self.index);
    }

    fn take(&mut self, message: ToChannel) {
        match message {
            ToChannel::Peer(Message::UpdateAddHtlc(message)) => {
                let memo = self.services.hub.peel(&message);
                self.tell(Input::PeerAdd { message, memo });
            }
            ToChannel::Peer(message) => self.tell(Input::Message(message)),
            ToChannel::PeerUpdate(update) => self.peer_update(*update),
            ToChannel::PeerUp(link) => {
                self.link = Some(link);
                self.tell(Input::Connected);
            }
            ToChannel::PeerDown => {
                self.link = None;
                self.announcer.disconnected();
                self.tell(Input::Disconnected);
            }
            ToChannel::Command(command, reply) => {
                let outcome = self.channel.handle(Input::Command(command));
                if let Some(reply) = reply {
                    // Whoever asked may be gone: its own affair.
                    let _ = reply.send(outcome);
                }
            }
            ToChannel::Offer(offer, reply) => {
                let outcome = self.channel.handle(Input::Command(Command::Offer(*offer)));
                let _ = reply.send(outcome);
            }
            ToChannel::Block(height) => self.block(height),
            ToChannel::Unblock(height) => self.unblock(height),
            ToChannel::FundingConfirmed { tx, height, tx_index } => {
                self.funding_confirmed(tx, height, tx_index);
            }
            ToChannel::Spent { outpoint, tx, height } => self.spent_in_block(outpoint, *tx, height),
            ToChannel::Feerates { commitment, close } => {
                self.tell(Input::Feerates { commitment, close });
            }
            ToChannel::Describe(reply) => drop(reply.send(self.snapshot())),
            ToChannel::WatchClose(watcher) => self.close_watchers.push(watcher),
            // It made the batch none.
            ToChannel::Stop => {}
        }
    }

    pub(super) fn tell(&mut self, input: Input) {
        if let Err(refused) = self.channel.handle(input) {
            tracing::debug!(channel = self.index, "not done: {refused}");
        }
    }

    async fn persisted(&mut self, id: u64) {
        self.tell(Input::Persisted(id));
        while self.deferred.front().is_some_and(|(wanted, _)| *wanted <= id) {
            if let Some((_, actions)) = self.deferred.pop_front() {
                self.act(actions).await;
            }
        }
    }

    /// Polls until there is nothing to do.
    async fn drain(&mut self) -> Flow {
        loop {
            let mut events = Vec::new();
            loop {
                match self.channel.poll() {
                    Output::Persist(unit) => {
                        if let Err(error) = self.persist(unit).await {
                            // Not written, so not said either: it comes again after a restart.
                            tracing::error!(channel = self.index, "channel stops: {error}");
                            return Flow::Ends;
                        }
                    }
                    Output::Send(message) => self.send(WireMessage::Channel(message)).await,
                    Output::Broadcast(tx) => self.broadcast(*tx),
                    Output::Watch { outpoint, .. } => self.watch(outpoint),
                    Output::Disconnect => {
                        self.services.peers.disconnect(self.peer);
                    }
                    Output::Event(event) => events.push(event),
                    Output::Idle { .. } => break,
                }
            }
            self.answer_shutdown();
            self.announce().await;
            self.publish_usable();
            self.flush().await;
            if events.is_empty() {
                return Flow::Goes;
            }
            if let Flow::Ends = self.take_events(events).await {
                return Flow::Ends;
            }
        }
    }

    /// Keeps the list of channels that payments may leave by true.
    fn publish_usable(&self) {
        let open = self.channel.funded().filter(|open| open.is_usable());
        let usable = open.and_then(|open| {
            Some(Usable {
                channel: open.channel_id().0,
                short_channel_id: open.life.short_channel_id?,
                peer: self.peer,
                spendable: open.contract.spendable(),
                minimum: open.contract.params.remote.htlc_minimum,
            })
        });
        self.services.registry.set_usable(self.index, usable);
    }

    async fn persist(&mut self, unit: Persist) -> Result<(), StoreError> {
        let Persist { id, changes, resolved } = unit;
        let mut rows = std::mem::take(&mut self.with_next);
        put_changes(self.index, &changes, &mut rows);
        let mut actions = Vec::new();
        for over in &resolved {
            if let (Removal::Fulfilled(_), Some(record)) = (&over.removal, &mut self.record) {
                record.totals.sent = record.totals.sent.saturating_add(over.amount);
                self.record_changed = true;
            }
            actions.extend(self.services.hub.resolved(over, &mut rows)?);
        }
        if self.record.is_none() {
            self.make_record();
        }
        if let Some(record) = self.record.as_ref().filter(|_| self.record_changed) {
            record.put(&mut rows);
            self.record_changed = false;
        }
        self.deferred.push_back((id, actions));
        let on_durable = self.on_durable.clone();
        let report = move |result: Result<(), StoreError>| {
            // The task may have ended meanwhile.
            let _ = on_durable.send(result.map(|()| id));
        };
        self.services.store.enqueue(rows, report).await;
        Ok(())
    }

    fn make_record(&mut self) {
        let Some(open) = self.channel.funded() else { return };
        self.record = Some(ChannelRecord {
            index: self.index,
            peer: self.peer,
            outpoint: open.contract.funding.outpoint,
            capacity: open.contract.funding.capacity,
            initiator: self.opening.is_some(),
            opened_at: crate::clock::unix_time(),
            opened_height: self.height,
            funding_block: None,
            spent: None,
            totals: super::Totals::default(),
            closed: false,
        });
        self.record_changed = true;
        let (id, capacity) = (open.channel_id(), open.contract.funding.capacity);
        self.services.registry.set_capacity(id, capacity);
    }

    pub(super) async fn send(&mut self, message: WireMessage) {
        let Some(link) = &self.link else { return };
        // A peer that went away meanwhile gets it again after channel_reestablish.
        if timeout(SEND_WITHIN, link.send(message)).await.is_err() {
            tracing::warn!(channel = self.index, "the peer does not read: disconnecting");
            self.link = None;
            self.services.peers.disconnect(self.peer);
        }
    }

    fn broadcast(&self, tx: Transaction) {
        let (chain, index) = (self.services.chain.clone(), self.index);
        tokio::spawn(async move {
            let txid = tx.compute_txid();
            match chain.broadcast(tx).await {
                Ok(()) => tracing::info!(channel = index, "published {txid}"),
                Err(error) => tracing::warn!(channel = index, "publishing {txid}: {error}"),
            }
        });
    }

    fn watch(&mut self, outpoint: OutPoint) {
        let (since, known) = match &self.record {
            Some(record) => {
                let spent = record.spent.map(|spent| spent.height);
                let near = self.height.minus(144).max(record.opened_height);
                (spent.unwrap_or(near).min(near), record.funding_block)
            }
            None => (self.height, None),
        };
        self.services.registry.watch(self.index, outpoint);
        self.services.chain.watch_tx(outpoint.txid, known.map_or(since, |(height, _)| height));
        self.services.chain.watch_spend(outpoint, since);
        if let Some((height, tx_index)) = known {
            self.depth(height, tx_index);
        }
    }

    async fn take_events(&mut self, events: Vec<Event>) -> Flow {
        let mut unit = Unit::new();
        let mut actions = Vec::new();
        let mut flow = Flow::Goes;
        for event in events {
            let id = self.channel.channel_id();
            match event {
                Event::Received(htlc) => {
                    actions.extend(self.services.hub.received(id, &htlc, &mut unit));
                }
                Event::Fulfilled { preimage, memo, .. } => {
                    actions.extend(self.services.hub.fulfilled(preimage, &memo, &mut unit));
                }
                Event::FundingNeeded(request) => self.fund(request, &mut unit),
                Event::Opened { channel_id, outpoint } => {
                    self.opened(channel_id, outpoint, &mut unit);
                }
                Event::Ready => self.open_news(OpenUpdate::Open),
                Event::Usable => {}
                Event::AnnouncementSignatures(theirs) => self.announcer.theirs(*theirs),
                Event::Closing(txid) => self.close_news(CloseUpdate::Pending(txid)),
                Event::Failed(why) => self.failed(why),
                Event::Spent { spend, txid } => self.spent(spend, txid),
                Event::Delivery { outpoint, value, confirmations } => {
                    self.delivery(outpoint, value, confirmations, &mut unit);
                }
                Event::Abandoned(why) => {
                    self.abandoned(why, &mut unit);
                    flow = Flow::Ends;
                }
            }
        }
        self.carry_out(unit, actions).await;
        flow
    }

    /// Writes what the switch wants durable and does what it asks: removals at once, since the
    /// store keeps the order; answers to clients when it is durable.
    async fn carry_out(&mut self, unit: Unit, actions: Vec<Action>) {
        let (after, now): (Vec<_>, Vec<_>) =
            actions.into_iter().partition(|action| matches!(action, Action::After(_)));
        if !unit.is_empty() {
            let done = move |result: Result<(), StoreError>| {
                if result.is_ok() {
                    run_all(after);
                }
            };
            self.services.store.enqueue(unit, done).await;
        } else {
            run_all(after);
        }
        self.act(now).await;
    }

    async fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Remove { channel, id, removal } if channel == self.channel.channel_id() => {
                    self.note_received(id, &removal);
                    self.tell(Input::Command(Command::Remove { id, removal }));
                }
                Action::Remove { channel, id, removal } => {
                    let command = Command::Remove { id, removal };
                    self.services.registry.command(channel, command).await;
                }
                Action::After(run) => run(),
            }
        }
    }

    fn note_received(&mut self, id: u64, removal: &Removal) {
        let Some(open) = self.channel.funded() else { return };
        let htlc = open.contract.htlcs.get(&(fulmen_channel::params::Side::Remote, id));
        let amount = htlc.filter(|htlc| htlc.removal.is_none()).map(|htlc| htlc.amount);
        if let (Removal::Fulfilled(_), Some(record), Some(amount)) =
            (removal, &mut self.record, amount)
        {
            record.totals.received = record.totals.received.saturating_add(amount);
            self.record_changed = true;
        }
    }

    /// Builds F with the wallet. Its reservation is durable with the channel itself, or freed.
    fn fund(&mut self, request: FundingRequest, unit: &mut Unit) {
        let Some(opening) = &mut self.opening else { return };
        let FundingRequest { script, amount } = request;
        let funded = self.services.funds.fund(script, amount, opening.feerate, unit);
        let outcome = match funded {
            Ok(tx) => {
                opening.built = Some(tx.clone());
                let fund = Command::Fund(Box::new(tx));
                self.channel.handle(Input::Command(fund)).map_err(|refused| refused.to_string())
            }
            Err(why) => Err(why),
        };
        if let Err(why) = outcome {
            self.tell(Input::Command(Command::Abandon(why)));
        }
        // From here on the peer may name the channel by its final id.
        self.services.registry.opened(self.index, self.channel.channel_id());
    }

    fn opened(&mut self, channel_id: ChannelId, outpoint: OutPoint, unit: &mut Unit) {
        if let Some(tx) = self.opening.as_ref().and_then(|opening| opening.built.as_ref()) {
            self.services.funds.published(tx, unit);
        }
        self.services.registry.opened(self.index, channel_id);
        tracing::info!(channel = self.index, "channel {outpoint} with {} is signed", self.peer);
        if let Err(error) = self.services.stay_connected(&self.peer) {
            tracing::warn!("the address of {} cannot be read: {error}", self.peer);
        }
        self.open_news(OpenUpdate::Pending);
    }

    fn open_news(&mut self, news: impl Fn(OutPoint) -> OpenUpdate) {
        let outpoint = self.channel.funded().map(|open| open.contract.funding.outpoint);
        if let (Some(opening), Some(outpoint)) = (&self.opening, outpoint) {
            let _ = opening.news.send(news(outpoint));
        }
    }

    fn abandoned(&mut self, why: String, unit: &mut Unit) {
        tracing::info!(peer = %self.peer, "opening a channel came to nothing: {why}");
        if let Some(opening) = self.opening.take() {
            if let Some(tx) = &opening.built {
                self.services.funds.release(tx, unit);
            }
            let _ = opening.news.send(OpenUpdate::Failed(why));
        }
    }

    fn failed(&mut self, why: String) {
        tracing::warn!(channel = self.index, "channel failed: {why}");
        if let Some(txid) = self.snapshot().funded.and_then(|funded| funded.closing_txid) {
            self.close_news(CloseUpdate::Pending(txid));
        } else {
            self.close_news(CloseUpdate::Failed(why));
        }
    }

    pub(super) fn close_news(&mut self, news: CloseUpdate) {
        self.close_watchers.retain(|watcher| watcher.send(news.clone()).is_ok());
    }

    /// The peer wants to close: our share goes to a fresh script.
    fn answer_shutdown(&mut self) {
        let owes = self.channel.funded().is_some_and(|open| open.owes_shutdown_script());
        if !owes {
            return;
        }
        match self.fresh_script() {
            Ok(script) => {
                self.tell(Input::Command(Command::Close { script, feerate: None }));
            }
            Err(why) => tracing::error!(channel = self.index, "no script to close to: {why}"),
        }
    }

    /// Has what waits for the next change set written, when there may be none for a while.
    pub(super) fn flush_soon(&mut self) {
        self.flush = true;
    }

    async fn flush(&mut self) {
        let unit = match std::mem::take(&mut self.flush) {
            true => std::mem::take(&mut self.with_next),
            false => return,
        };
        if !unit.is_empty() {
            // A disk that fails stops the daemon: nobody needs to hear of it here.
            self.services.store.enqueue(unit, |_| {}).await;
        }
    }

    /// A fresh script of the wallet's; its row goes with the next change set.
    pub(super) fn fresh_script(&mut self) -> Result<ScriptBuf, String> {
        self.services.funds.script(&mut self.with_next)
    }

    pub(super) fn services(&self) -> &Services {
        &self.services
    }

    pub(super) fn carry(&mut self, write: impl FnOnce(&mut Unit)) {
        write(&mut self.with_next);
    }
}

/// What waits in an inbox behind `first`; none when it says to stop: nothing of it was begun, and
/// all of it comes again.
fn batch(first: ToChannel, inbox: &mut mpsc::Receiver<ToChannel>) -> Option<Vec<ToChannel>> {
    let rest = std::iter::from_fn(|| inbox.try_recv().ok()).take(BATCH);
    let batch: Vec<ToChannel> = std::iter::once(first).chain(rest).collect();
    let stops = batch.iter().any(|message| matches!(message, ToChannel::Stop));
    (!stops).then_some(batch)
}

fn run_all(actions: Vec<Action>) {
    for action in actions {
        if let Action::After(run) = action {
            run();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_is_heard_wherever_it_waits() {
        let block = || ToChannel::Block(Height::new(1));
        for before in [0, 1, BATCH - 1, BATCH] {
            let (inbox, mut messages) = mpsc::channel(2 * BATCH);
            (0..before).for_each(|_| assert!(inbox.try_send(block()).is_ok()));
            assert!(inbox.try_send(ToChannel::Stop).is_ok());
            assert!(inbox.try_send(block()).is_ok());
            let mut heard = false;
            while let Ok(first) = messages.try_recv() {
                heard |= batch(first, &mut messages).is_none();
            }
            assert!(heard, "after {before} messages");
        }
    }
}
