//! Peer storage (BOLT 1), both ways, and the guard that it makes possible (rules 4.4).
//!
//! ```text
//!   peer ── peer_storage ───────────▶ shelf ─▶ disk           we keep the peer's blob,
//!   peer ◀─ peer_storage_retrieval ── shelf, disk             and give it back on each connection
//!
//!   store ─▶ content ─▶ sealed ── peer_storage ─▶ peer        it keeps ours,
//!   peer ── peer_storage_retrieval ─▶ witness ─┬─▶ channels   which stop if they are older,
//!                                              └─▶ restored   or come back if they are not known
//! ```
//!
//! A peer gives back what it keeps before it speaks of any channel.

use super::restored;
use super::services::Services;
use super::ToChannel;
use crate::backup::{blob, catalog, RestoredRecord};
use crate::channels::record::ChannelRecord;
use crate::peer::wire::WireMessage;
use crate::peer::PeerLink;
use crate::store::{KeyRange, StoreError, Table, Unit};
use bitcoin::secp256k1::PublicKey;
use lightning::ln::msgs::{PeerStorage, PeerStorageRetrieval};
use lightning::types::features::InitFeatures;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::MissedTickBehavior;

const MINUTE: Duration = Duration::from_secs(60);
/// Blocks after its last channel for which a peer's blob is kept (BOLT 1).
const KEPT_FOR: u32 = 2_016;

/// Keeps the backup's file, peers' blobs and our own with peers in step, for ever.
pub async fn run(services: Arc<Services>) {
    let backups = &services.backups;
    let mut minutes = tokio::time::interval(MINUTE);
    minutes.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut written = None;
    if let Err(error) = clear(&services).await {
        tracing::error!("what peers have us keep cannot be read: {error}");
    }
    loop {
        if let Err(error) = backups.catch_up(&mut written).await {
            tracing::error!("the backup of channels is not up to date: {error}");
        }
        hand_out(&services, false);
        let (registry, now) = (&services.registry, Instant::now());
        backups.shelf().keep_only(|peer| !registry.of_peer(peer).is_empty());
        let due = backups.shelf().due(now, |peer| registry.knows(peer));
        write(&services, due).await;
        tokio::select! {
            () = backups.wait_changed() => {}
            _ = minutes.tick() => {}
        }
    }
}

/// The daemon stops: what peers are to have, and what we have of them, is brought up to date.
pub async fn stop(services: &Services) {
    hand_out(services, true);
    let rest = services.backups.shelf().all(|peer| services.registry.knows(peer));
    write(services, rest).await;
}

/// A peer is connected: what we keep of it goes back before anything about channels.
pub fn connected(services: &Services, peer: PublicKey, link: &PeerLink, theirs: &InitFeatures) {
    if theirs.supports_provide_storage() {
        services.backups.keepers().connected(peer);
    }
    let waiting = services.backups.shelf().waiting(&peer).map(<[u8]>::to_vec);
    let kept = match waiting {
        Some(blob) => Ok(Some(blob)),
        None => services.store.get(Table::PeerStorage, &peer.serialize()),
    };
    match kept {
        Ok(Some(data)) => {
            let message = PeerStorageRetrieval { data };
            link.send_if_room(WireMessage::PeerStorageRetrieval(Box::new(message)));
        }
        Ok(None) => {}
        Err(error) => tracing::error!(%peer, "what it had us keep cannot be read: {error}"),
    }
}

/// A peer is gone.
pub fn disconnected(services: &Services, peer: &PublicKey) {
    services.backups.keepers().disconnected(peer);
}

/// A peer speaks of channels: what it keeps has come back by now.
pub fn heard(services: &Services, peer: &PublicKey) {
    if services.backups.keepers().ready(peer) {
        services.backups.changed();
    }
}

/// A peer has us keep a blob. Only peers with a channel may; it is not written to disk before F of
/// one of them is in a block, as openings that come to nothing cost nothing.
pub async fn take(services: &Services, peer: PublicKey, blob: Vec<u8>) {
    let of_peer = services.registry.of_peer(&peer);
    if blob.len() > blob::LARGE || !of_peer.iter().any(|handle| handle.outpoint.is_some()) {
        tracing::debug!(%peer, "its blob of {} bytes is not kept", blob.len());
        return;
    }
    if !services.registry.knows(&peer) {
        return services.backups.shelf().hold(peer, blob);
    }
    let due = services.backups.shelf().take(peer, blob, Instant::now());
    write(services, due.map(|blob| (peer, blob)).into_iter().collect()).await;
}

/// A peer gives back what it kept for us.
pub async fn given_back(services: &Arc<Services>, peer: PublicKey, sealed: &[u8]) {
    let witness = match blob::open(&services.backups.vault, sealed) {
        Ok(witness) => witness,
        Err(error) => {
            tracing::warn!(%peer, "what it gives back is not what it was given: {error}");
            return;
        }
    };
    services.backups.keepers().witnessed(&witness.numbers);
    for (index, number) in witness.numbers {
        let Some(handle) = services.registry.by_index(index) else { continue };
        // After an old copy of the database a number may come again, for another channel.
        let mut same = witness.backups.iter().filter(|single| single.index == index);
        if same.all(|single| handle.outpoint == Some(single.outpoint)) {
            handle.tell(ToChannel::Witnessed(number)).await;
        }
    }
    match restored::restore(services, &witness.backups).await {
        Ok(0) => {}
        Ok(count) => tracing::warn!(%peer, "it kept backups of {count} channels unknown here"),
        Err(error) => tracing::error!("channels are not restored: {error}"),
    }
}

/// Has peers keep what is new.
fn hand_out(services: &Services, end: bool) {
    let backups = &services.backups;
    let content = match catalog::content(&services.store) {
        Ok(content) => backups.keepers().with_witnessed(content),
        Err(error) => return tracing::error!("nothing is given to peers to keep: {error}"),
    };
    let now = Instant::now();
    let due = backups.keepers().due(&content, now, end);
    for (peer, small) in due {
        let Some((link, _)) = services.registry.peer(&peer) else { continue };
        let has_channel =
            |handle: &super::registry::Handle| handle.outpoint.is_some() && handle.peer == peer;
        if !services.registry.all().iter().any(has_channel) {
            continue;
        }
        match content.seal(&backups.vault, &peer, small) {
            Ok(data) => {
                backups.keepers().sent(&peer, &content, data.len(), now);
                let message = PeerStorage { data };
                link.send_if_room(WireMessage::PeerStorage(Box::new(message)));
            }
            Err(error) => tracing::error!("nothing is given to peers to keep: {error}"),
        }
    }
}

async fn write(services: &Services, blobs: Vec<(PublicKey, Vec<u8>)>) {
    let mut unit = Unit::new();
    for (peer, blob) in blobs {
        unit.put(Table::PeerStorage, peer.serialize(), blob);
    }
    if !unit.is_empty() {
        // A disk that fails stops the daemon: nobody needs to hear of it here.
        services.store.enqueue(unit, |_| {}).await;
    }
}

/// Forgets what peers had us keep whose last channel was closed long ago, or never came to be.
async fn clear(services: &Services) -> Result<(), StoreError> {
    let tip = services.chain.tip().height;
    let mut last = BTreeMap::new();
    let channels = ChannelRecord::load_all(&services.store)?.into_iter();
    let channels = channels.map(|record| (record.peer, record.closed, record.spent));
    let restored = RestoredRecord::load_all(&services.store)?.into_iter();
    let restored = restored.map(|record| (record.backup.peer, record.closed, record.spent));
    for (peer, closed, spent) in channels.chain(restored) {
        let until = match (closed, spent) {
            (true, Some(spent)) => spent.height.plus(KEPT_FOR),
            _ => tip.plus(1),
        };
        let known = last.entry(peer.serialize().to_vec()).or_insert(until);
        *known = until.max(*known);
    }
    let kept = services.store.scan(Table::PeerStorage, &KeyRange::all(), usize::MAX, false)?;
    let mut unit = Unit::new();
    for (peer, _) in kept {
        if last.get(&peer).is_none_or(|until| *until <= tip) {
            unit.delete(Table::PeerStorage, peer);
        }
    }
    if unit.is_empty() {
        return Ok(());
    }
    services.store.commit(unit).await
}
