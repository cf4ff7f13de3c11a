//! The contract's news: to the switch, to the wallet, to whoever waits for an opening or a close.

use super::{Driver, Flow};
use crate::channels::record::forget;
use crate::channels::{Action, CloseUpdate, OpenUpdate};
use crate::store::{StoreError, Unit};
use bitcoin::OutPoint;
use fulmen_channel::amount::Sat;
use fulmen_channel::contract::htlc::Removal;
use fulmen_channel::input::{Command, FundingRequest, Input};
use fulmen_channel::onchain::deadline::HESITATION;
use fulmen_channel::output::{Event, Received, Settled};
use fulmen_channel::params::Side;
use lightning::ln::types::ChannelId;

impl Driver {
    pub(super) async fn take_events(&mut self, events: Vec<Event>) -> Flow {
        let mut unit = Unit::new();
        let mut actions = Vec::new();
        let mut flow = Flow::Goes;
        for event in events {
            let id = self.channel.channel_id();
            match event {
                Event::Received(htlc) if !self.services.chain.is_fresh() => {
                    self.unjudged.push(htlc);
                }
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
                Event::Closing(settled) => self.settled(settled),
                Event::Failed(why) => self.failed(why),
                Event::Spent { spend, txid } => actions.push(self.spent(spend, txid, &mut unit)),
                Event::Claims => self.claims_changed(),
                Event::Abandoned(why) => {
                    self.abandoned(why, &mut unit);
                    let backups = self.services.backups.clone();
                    actions.push(Action::After(Box::new(move || backups.changed())));
                    flow = Flow::Ends;
                }
            }
        }
        self.carry_out(unit, actions).await;
        flow
    }

    /// All blocks are here: what waited for them and is still there is judged by the best of them.
    /// By an older one a preimage could be given for an HTLC that has expired.
    pub(super) async fn judge_again(&mut self) {
        let Some(open) = self.channel.funded() else { return };
        let waits = |htlc: &Received| {
            let stands = open.contract.htlcs.get(&(Side::Remote, htlc.id));
            stands.is_some_and(|stands| stands.removal.is_none())
        };
        let arrived = std::mem::take(&mut self.unjudged);
        let events = arrived.into_iter().filter(waits).map(Event::Received).collect();
        self.take_events(events).await;
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

    pub(super) async fn act(&mut self, actions: Vec<Action>) {
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
        let htlc = open.contract.htlcs.get(&(Side::Remote, id));
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
        self.note_reserve();
        tracing::info!(channel = self.index, "channel {outpoint} with {} is signed", self.peer);
        if self.opening.is_some() {
            self.warn_of_missing_reserve();
        }
        if let Err(error) = self.services.stay_connected(&self.peer) {
            tracing::warn!("the address of {} cannot be read: {error}", self.peer);
        }
        self.open_news(OpenUpdate::Pending);
    }

    /// Who opens keeps the anchor reserve, or does not open; who is opened to may have no coins
    /// yet, and is not refused for it, as lnd does not.
    pub(in crate::channels) fn warn_of_missing_reserve(&self) {
        let missing = self.services.funds.missing_reserve();
        if missing > Sat::ZERO {
            tracing::warn!(
                channel = self.index,
                "the wallet lacks {missing} of the anchor reserve: send that to an address of its \
                 own (newaddress). Until then it may be unable to pay the fees of a close, and \
                 what channels with anchors receive is safe only while their peers are honest"
            );
        }
    }

    fn open_news(&mut self, news: impl Fn(OutPoint) -> OpenUpdate) {
        let outpoint = self.channel.funded().map(|open| open.contract.funding.outpoint);
        if let (Some(opening), Some(outpoint)) = (&self.opening, outpoint) {
            let _ = opening.news.send(news(outpoint));
        }
    }

    fn abandoned(&mut self, why: String, unit: &mut Unit) {
        tracing::info!(peer = %self.peer, "opening a channel came to nothing: {why}");
        if let Some(record) = self.record.take() {
            let which = (self.index, record.outpoint);
            if let Err(error) = forget(&self.services.store, which, unit) {
                tracing::error!(channel = self.index, "a channel cannot be forgotten: {error}");
            }
        }
        if let Some(opening) = self.opening.take() {
            if let Some(tx) = &opening.built {
                self.services.funds.release(tx, unit);
            }
            let _ = opening.news.send(OpenUpdate::Failed(why));
        }
    }

    /// A version of the mutual close is published: the one that it replaces need not be any more.
    fn settled(&mut self, settled: Settled) {
        let kept = self.settlements.get_mut(usize::from(settled.ours));
        let before = kept.and_then(|kept| kept.replace(settled.txid));
        if let Some(before) = before.filter(|before| *before != settled.txid) {
            self.services.chain.abandon(before);
        }
        self.close_news(CloseUpdate::Settled(settled));
    }

    fn failed(&mut self, why: String) {
        self.tell_sweeper();
        tracing::warn!(channel = self.index, "channel failed: {why}");
        if self.channel.funded().is_some_and(|open| open.life.held) {
            tracing::warn!(
                channel = self.index,
                "this database may be an old copy: our commitment waits for peers or towers to \
                 tell, {HESITATION} blocks at most; closechannel --force does not wait"
            );
        }
        if let Some(txid) = self.snapshot().funded.and_then(|funded| funded.closing_txid) {
            self.close_news(CloseUpdate::Forced(txid));
        } else {
            self.close_news(CloseUpdate::Failed(why));
        }
    }

    /// A peer gave back what only we can have sealed: a commitment of ours with this number.
    pub(super) fn witnessed(&mut self, number: u64) {
        self.tell(Input::Witnessed(number));
        let open = self.channel.funded().filter(|open| open.life.behind);
        let ours = open.map_or(u64::MAX, |open| open.contract.state.local_number);
        if ours < number {
            tracing::error!(
                channel = self.index,
                "THIS DATABASE IS OLD: it has commitment {ours} of the channel with {}, but \
                 {number} was witnessed. The channel is not run and nothing of it is published, \
                 which would forfeit its funds: the peer is asked to close it",
                self.peer
            );
        }
    }

    fn close_news(&mut self, news: CloseUpdate) {
        self.close_watchers.retain(|watcher| watcher.send(news.clone()).is_ok());
    }
}

fn run_all(actions: Vec<Action>) {
    for action in actions {
        if let Action::After(run) = action {
            run();
        }
    }
}
