//! What is told of the towers: their sessions, what was handed in, and what they cover.

use super::carry::{channel_of, public};
use super::{key, Progress, Tower, TowerClient, TowerError};
use crate::channels::record::load_row;
use crate::store::{KeyRange, Table, Unit};
use bitcoin::secp256k1::PublicKey;
use fulmen_channel::changeset::{encode, Row};
use fulmen_channel::params::{ChannelParams, CommitmentFormat};
use std::sync::atomic::{AtomicU64, Ordering};

/// A session with a tower.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The key that the tower knows us by in it.
    pub id: PublicKey,
    /// The format of the channel that it serves.
    pub format: CommitmentFormat,
    /// Records that the tower keeps.
    pub backups: u64,
    /// Records that wait.
    pub pending: u64,
    /// How many it may have.
    pub max: u64,
    /// Another one is used instead.
    pub exhausted: bool,
}

/// What happened since the start, and what waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Records and channels that towers took.
    pub backups: u64,
    /// What waits for towers.
    pub pending: u64,
    /// States that are in no record, being too large.
    pub failed: u64,
    /// Sessions begun.
    pub acquired: u64,
    /// Sessions that are full.
    pub exhausted: u64,
}

/// How far a channel is with a tower.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Covered {
    /// The tower.
    pub tower: Tower,
    /// What it has.
    pub progress: Progress,
    /// How much waits for it.
    pub pending: u64,
}

impl TowerClient {
    /// The sessions with an altruist tower, in the order of their ids.
    ///
    /// # Errors
    /// [`TowerError`] when rows cannot be read.
    pub fn sessions(&self, tower: &Tower) -> Result<Vec<Session>, TowerError> {
        let mut sessions = Vec::new();
        if tower.private {
            return Ok(sessions);
        }
        for (channel, progress) in self.progresses(&tower.id)? {
            let params: Option<ChannelParams> = load_row(&self.store, channel, Row::Params)?;
            let format = params.map_or(CommitmentFormat::Anchors, |params| params.format);
            let pending = self.waiting(&tower.id, channel)?;
            let max = u64::from(self.policy.max_updates);
            for number in 0..=progress.full {
                let exhausted = number < progress.full;
                let before = usize::try_from(number).ok().and_then(|at| progress.before.get(at));
                let backups = match exhausted {
                    true => before.copied().unwrap_or_default(),
                    false => progress.standing.states,
                };
                sessions.push(Session {
                    id: public(&self.session(&tower.id, channel, number)),
                    format,
                    backups,
                    pending: if exhausted { 0 } else { pending },
                    max: match progress.max_states {
                        0 => max,
                        granted => granted,
                    },
                    exhausted,
                });
            }
        }
        sessions.sort_by_key(|session| session.id);
        Ok(sessions)
    }

    /// Uses a session no longer. What is in it stays with its tower.
    ///
    /// # Errors
    /// [`TowerError`]
    pub async fn terminate(&self, id: &PublicKey) -> Result<(), TowerError> {
        if !self.is_on() {
            return Err(TowerError::NotActive);
        }
        for tower in self.towers().iter().filter(|tower| !tower.private) {
            let turn = self.turn(&tower.id);
            let _held = turn.lock().await;
            for (channel, mut progress) in self.progresses(&tower.id)? {
                let is_it =
                    |number: &u32| public(&self.session(&tower.id, channel, *number)) == *id;
                let Some(number) = (0..=progress.full).find(is_it) else { continue };
                if number == progress.full {
                    progress.next_session();
                    let mut unit = Unit::new();
                    unit.put(Table::TowerSession, key(&tower.id, channel), encode(&progress));
                    self.store.commit(unit).await?;
                }
                return Ok(());
            }
        }
        Err(TowerError::NoSession)
    }

    /// What happened since the start, and what waits.
    ///
    /// # Errors
    /// [`TowerError`] when rows cannot be read.
    pub fn stats(&self) -> Result<Stats, TowerError> {
        let waiting = self.store.scan(Table::TowerQueue, &KeyRange::all(), usize::MAX, false)?;
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Ok(Stats {
            backups: count(&self.counts.backups),
            pending: u64::try_from(waiting.len()).unwrap_or(u64::MAX),
            failed: count(&self.counts.failed),
            acquired: count(&self.counts.acquired),
            exhausted: count(&self.counts.exhausted),
        })
    }

    /// How far a channel is with each tower.
    ///
    /// # Errors
    /// [`TowerError`] when rows cannot be read.
    pub fn covered(&self, channel: u64) -> Result<Vec<Covered>, TowerError> {
        let of = |tower: Tower| {
            let progress = self.progress(&tower.id, channel).map_err(TowerError::Row)?;
            let pending = self.waiting(&tower.id, channel)?;
            Ok(Covered { tower, progress, pending })
        };
        self.towers().into_iter().map(of).collect()
    }

    /// The channels that are with this tower, and how far.
    fn progresses(&self, tower: &PublicKey) -> Result<Vec<(u64, Progress)>, TowerError> {
        let of_tower = KeyRange::prefix(&tower.serialize());
        let rows = self.store.scan(Table::TowerSession, &of_tower, usize::MAX, false)?;
        let read = |(key, row): &(Vec<u8>, Vec<u8>)| {
            let channel = channel_of(key).ok_or("a session's row has no channel".to_owned())?;
            Ok((channel, Progress::read(row)?))
        };
        rows.iter().map(read).collect::<Result<_, _>>().map_err(TowerError::Row)
    }
}
