//! Towers as witnesses against an old copy of the database: with each state that a tower gets goes
//! a note of how far our own commitments were, sealed so that only we can have written it (rules
//! 4.4). At the start the notes are asked for; one that tells of a later state than the database
//! shows that the database is old.

use super::{Tower, TowerClient};
use crate::backup::vault::{Kind, Vault};
use crate::channels::services::Services;
use crate::channels::ToChannel;
use crate::desk::{decode_as, encode};
use bitcoin::secp256k1::PublicKey;
use bitcoin::OutPoint;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

/// How long the start waits for towers. One that answers later is heard all the same.
const PATIENCE: Duration = Duration::from_secs(5);

/// In how many sessions a later note is looked for: the first states after an old copy may be of
/// the same commitment of ours, and each in a session of its own.
const LATER_SESSIONS: u32 = 4;

#[derive(Serialize, Deserialize)]
struct Note {
    tower: PublicKey,
    channel: u64,
    /// The number of our commitment.
    local: u64,
}

/// What a tower keeps beside a channel's records: the number of our commitment.
pub(super) fn seal_note(
    vault: &Vault,
    (tower, channel): (&PublicKey, u64),
    local: u64,
) -> Result<Vec<u8>, String> {
    let note = Note { tower: *tower, channel, local };
    vault.seal(Kind::TowerNote, &encode(&note)).map_err(|error| error.to_string())
}

/// The number in a note; none if it is not one of ours for this tower and channel.
fn open_note(vault: &Vault, of: (&PublicKey, u64), note: &[u8]) -> Option<u64> {
    let plain = vault.open(Kind::TowerNote, note).ok()?;
    let note: Note = decode_as("a tower's note", &plain).ok()?;
    ((&note.tower, note.channel) == of).then_some(note.local)
}

impl TowerClient {
    /// The number of our commitment that this tower has a note of.
    async fn witnessed(
        &self,
        tower: &Tower,
        (channel, funding): (u64, OutPoint),
    ) -> Result<Option<u64>, String> {
        if tower.private {
            let note = self.recall(tower, &self.keys.node_secret(), Some(funding)).await?;
            return Ok(self.reads((tower, channel), &note));
        }
        // The session of an old copy may be one that was full then: it has no later note.
        let (first, mut last) = (self.progress(&tower.id, channel)?.full, None);
        for session in first..first.saturating_add(LATER_SESSIONS) {
            let secret = self.session(&tower.id, channel, session);
            let note = self.recall(tower, &secret, None).await?;
            match self.reads((tower, channel), &note) {
                Some(number) => last = last.max(Some(number)),
                None => break,
            }
        }
        Ok(last)
    }

    fn reads(&self, (tower, channel): (&Tower, u64), note: &[u8]) -> Option<u64> {
        let number = open_note(&self.vault, (&tower.id, channel), note);
        if number.is_none() && !note.is_empty() {
            tracing::warn!(channel, "watchtower {}: its note is none of ours", tower.id);
        }
        number
    }

    fn unasked(&self) -> MutexGuard<'_, BTreeMap<PublicKey, BTreeMap<u64, OutPoint>>> {
        self.unasked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks this tower, once after a start, how far it knows our channels to be, and tells them.
    ///
    /// # Errors
    /// In words, when it does not answer: what it was not asked yet is left for the next time.
    pub(super) async fn ask_notes(&self, tower: &Tower) -> Result<(), String> {
        loop {
            let left = self.unasked().get(&tower.id).and_then(|left| {
                left.first_key_value().map(|(channel, funding)| (*channel, *funding))
            });
            let Some((channel, funding)) = left else { return Ok(()) };
            let number = self.witnessed(tower, (channel, funding)).await?;
            let handle = self.registry.get().and_then(|registry| registry.by_index(channel));
            if let (Some(number), Some(handle)) = (number, handle) {
                handle.tell(ToChannel::Witnessed(number)).await;
            }
            if let Some(left) = self.unasked().get_mut(&tower.id) {
                left.remove(&channel);
            }
        }
    }
}

/// Asks every tower how far it knows our channels to be, and tells them. Returns when all have
/// answered, or after a while: no answer holds up the start. Who does not answer is asked again
/// before it is told anything.
pub async fn ask_towers(services: &Arc<Services>) {
    let channels: BTreeMap<u64, OutPoint> = (services.registry.all().iter())
        .filter_map(|handle| Some((handle.index, handle.outpoint?)))
        .collect();
    let towers = services.towers.towers();
    // It is started once.
    let _ = services.towers.registry.set(services.registry.clone());
    *services.towers.unasked() = towers.iter().map(|it| (it.id, channels.clone())).collect();
    let asked = towers.into_iter().filter(|tower| tower.active).map(|tower| {
        let services = services.clone();
        tokio::spawn(async move {
            if let Err(why) = services.towers.ask_notes(&tower).await {
                tracing::warn!("watchtower {} bears no witness yet: {why}", tower.id);
            }
        })
    });
    let asked: Vec<_> = asked.collect();
    let all = async {
        for tower in asked {
            // What went wrong there is told there.
            let _ = tower.await;
        }
    };
    if tokio::time::timeout(PATIENCE, all).await.is_err() {
        tracing::warn!("not all watchtowers answer: the start does not wait for them");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::keys::{KeyRing, Seed};
    use bitcoin::Network;
    use fulmen_watchtower::api::message::MAX_NOTE;

    #[test]
    fn a_note_is_for_one_tower_and_one_channel() {
        let vault = |n: u8| {
            let keys = KeyRing::new(&Seed::from_entropy([n; 32], 0), Network::Regtest).unwrap();
            (Vault::new(&keys), keys.node_id())
        };
        let ((ours, tower), (theirs, other)) = (vault(1), vault(2));
        let note = seal_note(&ours, (&tower, u64::MAX), u64::MAX).unwrap();
        assert!(note.len() <= MAX_NOTE, "{}", note.len());
        assert_eq!(open_note(&ours, (&tower, u64::MAX), &note), Some(u64::MAX));
        assert_eq!(open_note(&ours, (&other, u64::MAX), &note), None);
        assert_eq!(open_note(&ours, (&tower, 7), &note), None);
        assert_eq!(open_note(&theirs, (&tower, u64::MAX), &note), None);
        assert_eq!(open_note(&ours, (&tower, u64::MAX), &[]), None);
    }
}
