//! What the contract puts out, moved: rows to the store, messages to the peer, transactions to the
//! chain.

use super::Driver;
use crate::channels::chain_side::LOOK_BACK;
use crate::channels::note::Note;
use crate::channels::record::{put_changes, ChannelRecord};
use crate::channels::Totals;
use crate::payments::Usable;
use crate::peer::wire::WireMessage;
use crate::store::{StoreError, Unit};
use crate::tower_client::Keeper;
use bitcoin::{OutPoint, Transaction};
use fulmen_channel::contract::balance::View;
use fulmen_channel::contract::htlc::Removal;
use fulmen_channel::output::Persist;
use fulmen_channel::params::Side;
use std::time::Duration;
use tokio::time::timeout;

/// How long a channel waits for room in a peer's queue. A channel that waits sees no block, and
/// holds up those that have news for it.
const SEND_WITHIN: Duration = Duration::from_secs(10);

/// How long a channel waits for bitcoind to take a transaction.
const PUBLISH_WITHIN: Duration = Duration::from_secs(1);

impl Driver {
    /// Keeps the list of channels that payments may leave by true.
    pub(super) fn publish_usable(&self) {
        let open = self.channel.funded().filter(|open| open.is_usable());
        let usable = open.and_then(|open| {
            Some(Usable {
                channel: open.channel_id().0,
                short_channel_id: open.listed_as()?,
                aliases: open.aliases.clone(),
                peer: self.peer,
                spendable: open.contract.spendable(),
                minimum: open.contract.params.remote.htlc_minimum,
            })
        });
        self.services.registry.set_usable(self.index, usable);
    }

    pub(super) async fn persist(&mut self, unit: Persist) -> Result<(), StoreError> {
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
            self.make_record(&mut rows);
        }
        if let Some(record) = self.record.as_ref().filter(|_| self.record_changed) {
            record.put(&mut rows);
            self.record_changed = false;
        }
        self.deferred.push_back((id, actions));
        let on_durable = self.on_durable.clone();
        let backup = self.backup_if_changed();
        let towers = self.services.towers.clone();
        let waits = self.note_for_towers(&mut rows)?;
        let report = move |result: Result<(), StoreError>| {
            backup();
            if waits {
                towers.wake();
            }
            // The task may have ended meanwhile.
            let _ = on_durable.send(result.map(|()| id));
        };
        self.services.store.enqueue(rows, report).await;
        Ok(())
    }

    /// What watchtowers must know of this change goes with its rows. Whether there is any.
    fn note_for_towers(&mut self, rows: &mut Unit) -> Result<bool, StoreError> {
        let (client, index) = (&self.services.towers, self.index);
        let Some(open) = self.channel.funded().filter(|_| client.is_on()) else {
            return Ok(false);
        };
        let keeper = match &mut self.keeper {
            Some(keeper) => keeper,
            none => none.insert(Keeper::restored(&self.services.store, index)?),
        };
        let fresh = |rows: &mut Unit| {
            let script = self.services.funds.script(rows);
            script.inspect_err(|why| tracing::warn!(channel = index, "no tower: {why}")).ok()
        };
        Ok(keeper.note(client, (index, &open.contract), fresh, rows))
    }

    /// Towers may have been added while the daemon was off: what both sides agree on now is kept
    /// for them from now on.
    pub(super) async fn begin_with_towers(&mut self) {
        let runs = self.channel.funded().is_some_and(|open| {
            open.life.spent_by.is_none() && !open.life.behind && self.record.is_some()
        });
        if !runs {
            return;
        }
        let mut rows = Unit::new();
        match self.note_for_towers(&mut rows) {
            Ok(waits) if !rows.is_empty() => {
                let towers = self.services.towers.clone();
                let report = move |_| {
                    if waits {
                        towers.wake()
                    }
                };
                self.services.store.enqueue(rows, report).await;
            }
            Ok(_) => {}
            Err(error) => tracing::error!(channel = self.index, "towers: {error}"),
        }
    }

    /// The channel is over: neither we nor towers watch it any more.
    pub(super) async fn becomes_history(&mut self) {
        let mut rows = Unit::new();
        if let Some(record) = &mut self.record {
            record.history = true;
            record.put(&mut rows);
        }
        let client = &self.services.towers;
        if let Some(open) = self.channel.funded().filter(|_| client.is_on()) {
            Keeper::over(client, (self.index, &open.contract), &mut rows);
        }
        let towers = client.clone();
        self.services.store.enqueue(rows, move |_| towers.wake()).await;
    }

    fn make_record(&mut self, rows: &mut Unit) {
        let Some(open) = self.channel.funded() else { return };
        let given = open.contract.content(Side::Local, View::Signed).balances;
        self.note = Note {
            // Nothing else has moved yet.
            pushed: if self.opening.is_some() { given.remote } else { given.local },
            memo: self.opening.as_ref().map(|opening| opening.memo.clone()).unwrap_or_default(),
        };
        self.note.put(self.index, rows);
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
            totals: Totals::default(),
            closed: false,
            close_initiator: None,
            history: false,
        });
        (self.record_changed, self.backup_changed) = (true, true);
        let (id, capacity) = (open.channel_id(), open.contract.funding.capacity);
        self.services.registry.set_capacity(id, capacity);
        self.note_promise();
    }

    pub(in crate::channels) async fn send(&mut self, message: WireMessage) {
        let Some(link) = &self.link else { return };
        // A peer that went away meanwhile gets it again after channel_reestablish.
        if timeout(SEND_WITHIN, link.send(message)).await.is_err() {
            tracing::warn!(channel = self.index, "the peer does not read: disconnecting");
            self.link = None;
            self.services.peers.disconnect(self.peer);
        }
    }

    /// Has a moment to reach bitcoind before anything else is said: the peer may publish then, too.
    pub(super) async fn broadcast(&mut self, tx: Transaction) {
        let (chain, index) = (self.services.chain.clone(), self.index);
        let sending = tokio::spawn(async move {
            let txid = tx.compute_txid();
            match chain.broadcast(tx).await {
                Ok(()) => tracing::info!(channel = index, "published {txid}"),
                Err(error) => tracing::warn!(channel = index, "publishing {txid}: {error}"),
            }
        });
        // It goes on if that is not enough.
        let _ = timeout(PUBLISH_WITHIN, sending).await;
    }

    pub(super) fn watch(&mut self, outpoint: OutPoint) {
        let (since, known) = match &self.record {
            Some(record) => {
                let near = self.height.minus(LOOK_BACK).max(record.opened_height);
                // Earlier versions have not kept what spent F.
                let kept = self.channel.funded().is_some_and(|open| open.onchain.height.is_some());
                let spent = record.spent.filter(|_| !kept).map_or(near, |spent| spent.height);
                (spent.min(near), record.funding_block)
            }
            None => (self.height, None),
        };
        self.services.registry.watch(self.index, outpoint);
        // Where F is known to be, no old block is read again: bitcoind may have pruned it. Should
        // F leave the chain, the chain says so first.
        let unseen = self.height.plus(1);
        self.services.chain.watch_tx(outpoint.txid, known.map_or(since, |_| unseen));
        self.services.chain.watch_spend(outpoint, since);
        if let Some((height, tx_index)) = known {
            self.depth(height, tx_index);
        }
    }

    pub(super) async fn flush(&mut self) {
        let unit = match std::mem::take(&mut self.flush) {
            true => std::mem::take(&mut self.with_next),
            false => return,
        };
        if !unit.is_empty() {
            let backup = self.backup_if_changed();
            // A disk that fails stops the daemon: nobody needs to hear of it here.
            self.services.store.enqueue(unit, move |_| backup()).await;
        }
    }

    /// To be done when what is written now is durable: backups are made of what is on disk.
    fn backup_if_changed(&mut self) -> impl FnOnce() + Send + 'static {
        let changed = std::mem::take(&mut self.backup_changed);
        let backups = self.services.backups.clone();
        move || {
            if changed {
                backups.changed();
            }
        }
    }
}
