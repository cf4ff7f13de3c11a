//! The task of a channel that was restored from its backup: says on each connection that its state
//! is lost, waits for the peer's commitment, and brings what that pays us to the wallet.

use super::chain_side::unknown_spend;
use super::record::{SpendKind, SpentRecord};
use super::registry::{Handle, INBOX};
use super::services::Services;
use super::{CloseUpdate, RestoredSnapshot, Snapshot, ToChannel};
use crate::backup::{restore, RestoredRecord, Single};
use crate::peer::wire::WireMessage;
use crate::peer::PeerLink;
use crate::store::{StoreError, Unit};
use bitcoin::{OutPoint, Transaction};
use fulmen_channel::amount::{FeeratePerKw, Height, Sat};
use fulmen_channel::error::Refused;
use fulmen_channel::keys::InMemorySigner;
use fulmen_channel::message::Message;
use fulmen_channel::output::Spend;
use fulmen_channel::protocol::restored::{Due, Restored};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Restores the channels of these backups that are not known yet. How many those are.
///
/// # Errors
/// [`StoreError`] when the database cannot be read or written.
pub async fn restore(services: &Arc<Services>, singles: &[Single]) -> Result<usize, StoreError> {
    let mut unit = Unit::new();
    let records = restore::plan(&services.store, singles, &mut unit)?;
    services.store.commit(unit).await?;
    for record in &records {
        start(services, record.clone());
        services.stay_connected(&record.backup.peer)?;
    }
    if !records.is_empty() {
        services.backups.changed();
    }
    Ok(records.len())
}

/// Starts the tasks of all that were restored and are not history.
///
/// # Errors
/// [`StoreError`] when the database cannot be read.
pub fn start_all(services: &Arc<Services>) -> Result<(), StoreError> {
    let tip = services.chain.tip().height;
    let records = RestoredRecord::load_all(&services.store)?.into_iter();
    for record in records.filter(|record| !record.is_history(tip)) {
        start(services, record);
    }
    Ok(())
}

fn start(services: &Arc<Services>, record: RestoredRecord) {
    let (inbox, messages) = mpsc::channel(INBOX);
    let backup = &record.backup;
    let (index, peer, outpoint) = (backup.index, backup.peer, backup.outpoint);
    let channel = backup.restored();
    tracing::warn!(
        channel = index,
        "channel {outpoint} was restored from a backup: {peer} is asked to close it"
    );
    let handle = Handle::new(index, peer, channel.channel_id(), Some(outpoint), inbox);
    services.registry.insert(handle);
    services.registry.set_reserve(index, false);
    services.registry.set_capacity(channel.channel_id(), backup.capacity);
    let task = Task {
        signer: InMemorySigner::from_seed(services.keys.channel_seed(index)),
        link: services.registry.peer(&peer).map(|(link, _)| link),
        height: services.chain.tip().height,
        services: services.clone(),
        channel,
        record,
        due: None,
        told: false,
        swept: false,
    };
    services.registry.started(tokio::spawn(task.run(messages)));
}

struct Task {
    services: Arc<Services>,
    signer: InMemorySigner,
    channel: Restored,
    record: RestoredRecord,
    height: Height,
    link: Option<PeerLink>,
    /// D or RD, once F's spend was seen since the start.
    due: Option<Due>,
    /// The peer was told since the start.
    told: bool,
    /// What takes it is published; the chain repeats it until it is deep.
    swept: bool,
}

impl Task {
    async fn run(mut self, mut inbox: mpsc::Receiver<ToChannel>) {
        // What spent F is not kept, only where: it is read again after each start.
        let since = self.record.spent.map_or(self.record.backup.opened, |spent| spent.height);
        self.watch(self.record.backup.outpoint, since);
        self.greet().await;
        while let Some(message) = inbox.recv().await {
            if matches!(message, ToChannel::Stop) {
                return;
            }
            if let Err(error) = self.take(message).await {
                tracing::error!(channel = self.record.backup.index, "it stops: {error}");
                return;
            }
            if self.record.is_history(self.height) {
                break;
            }
        }
        self.services.registry.remove(self.record.backup.index);
    }

    async fn take(&mut self, message: ToChannel) -> Result<(), StoreError> {
        match message {
            ToChannel::PeerUp(link, _) => {
                self.link = Some(link);
                self.greet().await;
            }
            ToChannel::PeerDown => self.link = None,
            ToChannel::Peer(Message::ChannelReestablish(_)) => self.say(self.channel.error()).await,
            ToChannel::Peer(_) => {}
            ToChannel::Block(height) => {
                self.height = height;
                self.sweep().await?;
            }
            ToChannel::Unblock(height, _pending) => {
                self.height = height.minus(1);
                if self.record.unblock(height) {
                    self.due = self.due.take().filter(|_| self.record.spent.is_some());
                    self.swept &= self.record.spent.is_some();
                    self.save().await?;
                }
            }
            ToChannel::Spent { outpoint, tx, height } if outpoint == self.channel.outpoint => {
                self.closed_by(&tx, height).await?;
            }
            ToChannel::Spent { height, .. } => self.delivered(height).await?,
            // All it knows is its backup.
            ToChannel::Explain(reply) => drop(reply.send(None)),
            ToChannel::Describe(reply) => drop(reply.send(self.snapshot())),
            ToChannel::Command(_, reply) => {
                // Whoever asked may be gone: its own affair.
                let _ = reply.map(|reply| reply.send(Err(Refused::Behind)));
            }
            ToChannel::Offer(_, reply) => drop(reply.send(Err(Refused::Behind))),
            ToChannel::WatchClose(watcher) => {
                let _ = watcher.send(CloseUpdate::Failed(Refused::Behind.to_string()));
            }
            ToChannel::PeerUpdate(_)
            | ToChannel::PeersMayTell(_)
            | ToChannel::Witnessed(_)
            | ToChannel::FundingConfirmed { .. }
            | ToChannel::Feerates(_)
            | ToChannel::Unconfirmed(_)
            | ToChannel::Stop => {}
        }
        Ok(())
    }

    async fn greet(&mut self) {
        if self.record.spent.is_some() || self.link.is_none() {
            return;
        }
        for message in self.channel.greeting(&self.signer) {
            self.say(message).await;
        }
        self.told = true;
    }

    async fn say(&self, message: Message) {
        if let (Some(link), None) = (&self.link, self.record.spent) {
            // Full or gone: it is said again on the next connection.
            link.send_if_room(WireMessage::Channel(message));
        }
    }

    fn watch(&self, outpoint: OutPoint, since: Height) {
        self.services.registry.watch(self.record.backup.index, outpoint);
        self.services.chain.watch_spend(outpoint, since);
    }

    /// F is spent: by both, by the peer as it was asked to, or by us before all was lost.
    async fn closed_by(&mut self, tx: &Transaction, height: Height) -> Result<(), StoreError> {
        let (index, txid) = (self.record.backup.index, tx.compute_txid());
        let spend = self.channel.identify(tx);
        self.due = self.channel.due(tx, height, &self.signer);
        let limbo = self.due.as_ref().map_or(Sat::ZERO, |due| due.claim.spend.value());
        if let Some(due) = &self.due {
            self.watch(due.claim.spend.outpoint, height);
        }
        if self.record.spent.is_none_or(|spent| spent.txid != txid) {
            tracing::info!(channel = index, "F is spent by {txid}: {spend:?}; ours is {limbo}");
            let settled = self.services.funds.paid_by(tx);
            if spend == Spend::Unknown {
                unknown_spend(index, txid, settled);
            }
            if spend == Spend::Local {
                tracing::warn!(
                    channel = index,
                    "{txid} is our own commitment, published before the data was lost: HTLCs on \
                     it need that data"
                );
            }
            let kind = SpendKind::from(spend);
            let matures_at = self.due.as_ref().map(|due| due.claim.from);
            self.record.spent =
                Some(SpentRecord { txid, height, kind, limbo, matures_at, settled });
            self.record.closed = limbo == Sat::ZERO;
            self.save().await?;
        }
        self.sweep().await
    }

    /// Takes D or RD as soon as the next block may hold that.
    async fn sweep(&mut self) -> Result<(), StoreError> {
        let ripe = |due: &&Due| due.claim.from <= self.height.plus(1);
        let done = self.swept || self.record.delivered.is_some();
        let Some(due) = self.due.as_ref().filter(ripe).filter(|_| !done).cloned() else {
            return Ok(());
        };
        let (services, index) = (self.services.clone(), self.record.backup.index);
        let mut unit = Unit::new();
        let script = match services.funds.script(&mut unit) {
            Ok(script) => script,
            Err(why) => {
                tracing::error!(channel = index, "no script to sweep to: {why}");
                return Ok(());
            }
        };
        let feerate = services.registry.feerates().map(|feerates| feerates.close);
        let feerate = feerate.unwrap_or(FeeratePerKw::FLOOR);
        // Worth less than its fee, it is tried again at the next block.
        let Some(tx) = self.channel.deliver(&due, &script, feerate, &self.signer) else {
            return Ok(());
        };
        services.store.commit(unit).await?;
        self.swept = true;
        let (txid, name) = (tx.compute_txid(), due.claim.name);
        match services.chain.broadcast(tx).await {
            Ok(()) => tracing::info!(channel = index, "published {txid}, which takes {name}"),
            Err(error) => tracing::warn!(channel = index, "publishing {txid}: {error}"),
        }
        Ok(())
    }

    /// What takes D or RD is in a block.
    async fn delivered(&mut self, height: Height) -> Result<(), StoreError> {
        if let Some(spent) = &mut self.record.spent {
            spent.settled = spent.limbo;
            (self.record.delivered, self.record.closed) = (Some(height), true);
            self.save().await?;
        }
        Ok(())
    }

    async fn save(&self) -> Result<(), StoreError> {
        let mut unit = Unit::new();
        self.record.put(&mut unit);
        self.services.store.commit(unit).await?;
        self.services.backups.changed();
        Ok(())
    }

    fn snapshot(&self) -> Snapshot {
        let RestoredRecord { backup, spent, closed, .. } = self.record.clone();
        Snapshot {
            index: backup.index,
            peer: backup.peer,
            channel_id: self.channel.channel_id(),
            phase: if closed { "closed" } else { "restored" },
            active: false,
            funded: None,
            restored: Some(RestoredSnapshot { backup, spent, told: self.told }),
        }
    }
}
