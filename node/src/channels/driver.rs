//! The task of one channel: drains the contract's outputs and moves them where they belong. It
//! decides nothing about money.

mod events;
mod outputs;

use super::announce::Announcer;
use super::note::Note;
use super::presence::Presence;
use super::record::ChannelRecord;
use super::services::Services;
use super::{Action, CloseUpdate, OpenUpdate, ToChannel};
use crate::peer::wire::WireMessage;
use crate::peer::PeerLink;
use crate::store::{StoreError, Unit};
use crate::tower_client::Keeper;
use bitcoin::secp256k1::PublicKey;
use bitcoin::{OutPoint, ScriptBuf, Transaction, Txid};
use fulmen_channel::amount::{FeeratePerKw, Height};
use fulmen_channel::channel::Channel;
use fulmen_channel::input::{Command, Input};
use fulmen_channel::message::Message;
use fulmen_channel::output::{Output, Received};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};

/// How many messages are handed to the contract before it is polled: what arrives together is
/// signed and written together.
const BATCH: usize = 512;
/// The contract counts in these.
const MINUTE: Duration = Duration::from_secs(60);
/// How long a peer may leave an opening without an answer: our coins are held meanwhile.
const OPEN_WITHIN: Duration = Duration::from_secs(600);

/// What an opening of ours still needs to know.
pub struct Opening {
    /// Feerate of F.
    pub feerate: FeeratePerKw,
    /// Where news of it go.
    pub news: mpsc::UnboundedSender<OpenUpdate>,
    /// F, built but not durable yet.
    pub built: Option<Transaction>,
    /// What the operator notes.
    pub memo: String,
}

/// One channel and what its task keeps beside the contract.
pub struct Driver {
    pub(super) channel: Channel,
    pub(super) index: u64,
    pub(super) peer: PublicKey,
    pub(super) record: Option<ChannelRecord>,
    pub(super) opening: Option<Opening>,
    pub(super) note: Note,
    pub(super) presence: Presence,
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
    /// The mutual closes that the chain repeats: the peer's version, and ours.
    settlements: [Option<Txid>; 2],
    pub(super) close_watchers: Vec<mpsc::UnboundedSender<CloseUpdate>>,
    /// An opening that is not signed by then is given up.
    give_up_at: Instant,
    /// The record changed: it goes with the next change set.
    record_changed: bool,
    /// The channel came, or came nearer to its end: its backup may have to follow.
    backup_changed: bool,
    /// Rows wait that no change set may come for.
    flush: bool,
    /// What spent F.
    pub(super) spent_by: Option<Transaction>,
    /// What watchtowers will be told of; read back when it is first needed.
    keeper: Option<Keeper>,
    /// HTLCs that arrived while blocks are missing: how near they are to their end is not known.
    unjudged: Vec<Received>,
    /// Outputs of a commitment, and of what spends them, that are watched.
    pub(super) watched: BTreeSet<OutPoint>,
    /// Blocks that are gone and whose rows are not on their way to the disk yet.
    unblocked: Vec<mpsc::Sender<()>>,
    /// What was on disk is being taken up.
    pub(super) starts: bool,
}

/// Whether the task goes on.
enum Flow {
    Goes,
    /// There is no channel any more.
    Ends,
    /// The daemon stops, or must. The channel is still one: its peer may not be told otherwise.
    Stops,
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
            note: Note::default(),
            presence: Presence::since(Instant::now()),
            announcer: Announcer::default(),
            height,
            link: None,
            services,
            inbox,
            durable,
            on_durable,
            deferred: VecDeque::new(),
            with_next: Unit::new(),
            settlements: [None; 2],
            close_watchers: Vec::new(),
            give_up_at: Instant::now().checked_add(OPEN_WITHIN).unwrap_or_else(Instant::now),
            record_changed: false,
            backup_changed: false,
            flush: false,
            spent_by: None,
            keeper: None,
            unjudged: Vec::new(),
            watched: BTreeSet::new(),
            unblocked: Vec::new(),
            starts: false,
        }
    }

    /// The same with a peer that is connected.
    pub fn linked(mut self, link: PeerLink) -> Self {
        self.link = Some(link);
        self.presence.comes(Instant::now());
        self
    }

    /// The same for a channel of ours that is opening.
    pub fn opening(mut self, opening: Opening) -> Self {
        self.opening = Some(opening);
        self
    }

    /// The same for a channel read back from disk.
    pub fn restored(mut self, record: ChannelRecord, note: Note, announcer: Announcer) -> Self {
        (self.note, self.announcer) = (note, announcer);
        self.services.registry.set_capacity(self.channel.channel_id(), record.capacity);
        (self.record, self.starts) = (Some(record), true);
        self.note_reserve();
        self.note_promise();
        if let Some(open) = self.channel.funded() {
            let known = [&open.closing.theirs, &open.closing.ours];
            self.settlements = known.map(|tx| tx.as_ref().map(Transaction::compute_txid));
        }
        self
    }

    /// Runs until the daemon stops or the channel is over.
    pub async fn run(mut self) {
        // Read back, it knows no height, and what expires is measured by it.
        self.tell(Input::Block(self.height));
        self.tell(Input::MaxFeeExposure(self.services.max_fee_exposure));
        if let Some(feerates) = self.services.registry.feerates() {
            self.tell(Input::Feerates(feerates));
        }
        let mut flow = self.drain().await;
        self.starts = false;
        self.begin_with_towers().await;
        let mut minutes = tokio::time::interval(MINUTE);
        minutes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while let Flow::Goes = flow {
            tokio::select! {
                biased;
                Some(durable) = self.durable.recv() => match durable {
                    Ok(id) => self.persisted(id).await,
                    Err(error) => {
                        // Nothing more is signed on a disk that does not write (rules 2.7).
                        tracing::error!(channel = self.index, "channel stops: {error}");
                        flow = Flow::Stops;
                        break;
                    }
                },
                first = self.inbox.recv() => {
                    match first.and_then(|first| batch(first, &mut self.inbox)) {
                        Some(batch) => batch.into_iter().for_each(|message| self.take(message)),
                        None => {
                            flow = Flow::Stops;
                            break;
                        }
                    }
                }
                () = tokio::time::sleep_until(self.give_up_at),
                    if self.channel.funded().is_none() =>
                {
                    let why = "the peer did not answer in time".to_owned();
                    self.tell(Input::Command(Command::Abandon(why)));
                }
                _ = minutes.tick(), if self.awaits_closing() => self.tell(Input::Minute),
                () = self.services.chain.wait_fresh(), if !self.unjudged.is_empty() => {
                    self.judge_again().await;
                }
            }
            flow = self.drain().await;
            self.unblocked.clear();
            if self.is_history() {
                self.becomes_history().await;
                break;
            }
        }
        if !matches!(flow, Flow::Stops) {
            self.services.registry.remove(self.index);
        }
    }

    fn take(&mut self, message: ToChannel) {
        match message {
            ToChannel::Peer(Message::UpdateAddHtlc(message)) => {
                let memo = self.services.hub.peel(&message);
                self.tell(Input::PeerAdd { message, memo });
            }
            ToChannel::Peer(message) => self.tell(Input::Message(message)),
            ToChannel::PeerUpdate(update) => self.peer_update(*update),
            ToChannel::PeerUp(link, negotiated) => {
                self.link = Some(link);
                self.presence.comes(Instant::now());
                self.tell(Input::Connected(negotiated));
            }
            ToChannel::PeerDown => {
                self.link = None;
                self.presence.goes(Instant::now());
                self.announcer.disconnected();
                self.tell(Input::Disconnected);
            }
            ToChannel::PeersMayTell(height) => self.tell(Input::PeersMayTell(height)),
            ToChannel::Witnessed(number) => self.witnessed(number),
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
            ToChannel::Unblock(height, pending) => {
                self.unblock(height);
                self.unblocked.push(pending);
            }
            ToChannel::FundingConfirmed { tx, height, tx_index } => {
                self.funding_confirmed(tx, height, tx_index);
            }
            ToChannel::Spent { outpoint, tx, height } => self.spent_in_block(outpoint, *tx, height),
            ToChannel::Unconfirmed(tx) => self.tell(Input::Unconfirmed(tx)),
            ToChannel::Feerates(feerates) => self.tell(Input::Feerates(feerates)),
            ToChannel::Describe(reply) => drop(reply.send(self.snapshot())),
            ToChannel::Explain(reply) => drop(reply.send(self.explained())),
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
                            return Flow::Stops;
                        }
                    }
                    Output::Send(message) => self.send(WireMessage::Channel(message)).await,
                    Output::Broadcast(tx) => self.broadcast(*tx).await,
                    Output::Watch { outpoint, .. } => self.watch(outpoint),
                    Output::WatchOutputs(outpoints) => self.watch_outputs(outpoints),
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

    fn awaits_closing(&self) -> bool {
        self.channel.funded().is_some_and(|open| open.awaits_closing().is_some())
    }

    /// The peer wants to close: our share goes to a fresh script.
    fn answer_shutdown(&mut self) {
        let owes = self.channel.funded().is_some_and(|open| open.owes_shutdown_script());
        if !owes {
            return;
        }
        match self.fresh_script() {
            Ok(script) => {
                let (feerate, max_feerate) = (None, None);
                self.tell(Input::Command(Command::Close { script, feerate, max_feerate }));
            }
            Err(why) => tracing::error!(channel = self.index, "no script to close to: {why}"),
        }
    }

    /// Has what waits for the next change set written, when there may be none for a while.
    pub(super) fn flush_soon(&mut self) {
        (self.flush, self.backup_changed) = (true, true);
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
