//! The task of a channel that was restored from its backup: says on each connection that its state
//! is lost, waits for the peer's commitment, and has the sweeper take what that pays us.

use super::chain_side::unknown_spend;
use super::explain::Explained;
use super::record::{load_row, put_changes, SpendKind, SpentRecord};
use super::registry::{Handle, INBOX};
use super::services::Services;
use super::{CloseUpdate, RestoredSnapshot, Snapshot, ToChannel};
use crate::backup::{restore, RestoredRecord, Single};
use crate::peer::wire::WireMessage;
use crate::peer::PeerLink;
use crate::store::{StoreError, Unit};
use bitcoin::{OutPoint, Transaction};
use fulmen_channel::amount::{Height, Sat};
use fulmen_channel::changeset::{encode, ChangeSet, Row};
use fulmen_channel::error::Refused;
use fulmen_channel::keys::InMemorySigner;
use fulmen_channel::message::Message;
use fulmen_channel::onchain::resolution::OnChain;
use fulmen_channel::output::Spend;
use fulmen_channel::protocol::restored::Restored;
use std::collections::BTreeMap;
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
        start(services, record.clone())?;
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
        start(services, record)?;
    }
    Ok(())
}

fn start(services: &Arc<Services>, record: RestoredRecord) -> Result<(), StoreError> {
    let (inbox, messages) = mpsc::channel(INBOX);
    let backup = &record.backup;
    let (index, peer, outpoint) = (backup.index, backup.peer, backup.outpoint);
    let channel = backup.restored();
    let onchain = load_row(&services.store, index, Row::OnChain)?.unwrap_or_default();
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
        onchain,
        told: false,
    };
    services.registry.started(tokio::spawn(task.run(messages)));
    Ok(())
}

struct Task {
    services: Arc<Services>,
    signer: InMemorySigner,
    channel: Restored,
    record: RestoredRecord,
    /// What the chain did with F, and with our balance on what spent it.
    onchain: OnChain,
    height: Height,
    link: Option<PeerLink>,
    /// The peer was told since the start.
    told: bool,
}

impl Task {
    async fn run(mut self, mut inbox: mpsc::Receiver<ToChannel>) {
        let since = self.record.spent.map_or(self.record.backup.opened, |spent| spent.height);
        self.watch(self.record.backup.outpoint, since);
        self.watch_outputs();
        self.tell_sweeper();
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
            ToChannel::Block(height) => self.height = height,
            ToChannel::Unblock(height, _pending) => {
                self.height = height.minus(1);
                if self.onchain.unsee(height) | self.record.unblock(height) {
                    self.save().await?;
                }
            }
            ToChannel::Spent { outpoint, tx, height } if outpoint == self.channel.outpoint => {
                self.closed_by(&tx, height).await?;
            }
            ToChannel::Spent { tx, height, .. } => self.delivered(&tx, height).await?,
            ToChannel::Explain(reply) => drop(reply.send(Some(self.explained()))),
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

    fn watch_outputs(&self) {
        let Some(resolution) = &self.onchain.resolution else { return };
        for (outpoint, since) in resolution.watched() {
            self.watch(outpoint, since);
        }
    }

    /// F is spent: by both, by the peer as it was asked to, or by us before all was lost.
    async fn closed_by(&mut self, tx: &Transaction, height: Height) -> Result<(), StoreError> {
        let (index, txid) = (self.record.backup.index, tx.compute_txid());
        let spend = self.channel.funding_spent(&mut self.onchain, tx, height, &self.signer);
        self.watch_outputs();
        if self.record.spent.is_none_or(|spent| spent.txid != txid) {
            let resolution = self.onchain.resolution.as_ref();
            let due = resolution.and_then(|it| self.channel.delivery(it, &self.signer));
            let limbo = due.as_ref().map_or(Sat::ZERO, |due| due.spend.value());
            tracing::info!(channel = index, "F is spent by {txid}: {spend:?}; ours is {limbo}");
            let settled = self.services.funds.paid_by(tx);
            match spend {
                Spend::Unknown => unknown_spend(index, txid, settled),
                Spend::Local => tracing::warn!(
                    channel = index,
                    "{txid} is our own commitment, published before the data was lost: HTLCs on \
                     it need that data"
                ),
                _ => {}
            }
            let (kind, matures_at) = (SpendKind::from(spend), due.map(|due| due.from));
            self.record.spent =
                Some(SpentRecord { txid, height, kind, limbo, matures_at, settled });
            self.record.closed = limbo == Sat::ZERO;
        }
        self.save().await
    }

    /// What takes D or RD is in a block.
    async fn delivered(&mut self, tx: &Transaction, height: Height) -> Result<(), StoreError> {
        let Some(resolution) = &mut self.onchain.resolution else { return Ok(()) };
        resolution.take(tx, height);
        if let Some(spent) = &mut self.record.spent {
            spent.settled = spent.limbo;
            (self.record.delivered, self.record.closed) = (Some(height), true);
        }
        self.save().await
    }

    /// What there is to take on chain; as long as it is not told again what took it, nothing.
    fn tell_sweeper(&self) {
        let claims = self.channel.claims(&self.onchain, &self.signer);
        let on_chain = claims.map(|(published, claims)| {
            let left = claims.into_iter().filter(|_| self.record.delivered.is_none());
            crate::sweeper::OnChain { published: published.clone(), claims: left.collect() }
        });
        self.services.sweeper.claims(self.record.backup.index, on_chain);
    }

    /// Once it is durable, the sweeper is told.
    async fn save(&self) -> Result<(), StoreError> {
        let mut unit = Unit::new();
        self.record.put(&mut unit);
        let onchain = BTreeMap::from([(Row::OnChain, Some(encode(&self.onchain)))]);
        put_changes(self.record.backup.index, &ChangeSet(onchain), &mut unit);
        self.services.store.commit(unit).await?;
        self.tell_sweeper();
        self.services.backups.changed();
        Ok(())
    }

    fn explained(&self) -> Explained {
        let known = (&self.record, &self.onchain);
        let state = (self.phase(), self.link.is_some());
        Explained::of_restored(known, &self.signer, state, self.height)
    }

    fn phase(&self) -> &'static str {
        if self.record.closed {
            "closed"
        } else {
            "restored"
        }
    }

    fn snapshot(&self) -> Snapshot {
        let RestoredRecord { backup, spent, .. } = self.record.clone();
        Snapshot {
            index: backup.index,
            peer: backup.peer,
            channel_id: self.channel.channel_id(),
            phase: self.phase(),
            active: false,
            funded: None,
            restored: Some(RestoredSnapshot { backup, spent, told: self.told }),
        }
    }
}
