//! What brings channels back when the data directory is lost: sealed under a key of the seed,
//! small, and written when channels come and go, not when they move.
//!
//! ```text
//!   store ─▶ catalog ─▶ Single ─▶ vault ─┬─▶ file       channel.backup, by atomic rename
//!                                        ├─▶ API        export, subscription
//!                                        └─▶ storage    in peers' hands (BOLT 1)
//!
//!   words + backup ─▶ vault ─▶ restore ─▶ a row for each channel ─▶ channels::restored
//! ```

pub mod blob;
pub mod catalog;
pub mod file;
pub mod keepers;
pub mod record;
pub mod restore;
pub mod shelf;
pub mod single;
pub mod vault;

pub use record::RestoredRecord;
pub use single::Single;
pub use vault::{BackupError, Vault};

use crate::keys::KeyRing;
use crate::store::{Store, StoreError};
use keepers::Keepers;
use shelf::Shelf;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::{watch, Notify};

/// The backups of this node: one for all tasks.
pub struct Backups {
    /// Seals and opens.
    pub vault: Vault,
    store: Store,
    path: PathBuf,
    changed: Notify,
    current: watch::Sender<Vec<Single>>,
    shelf: Mutex<Shelf>,
    keepers: Mutex<Keepers>,
}

impl Backups {
    /// Of the channels in `store`, sealed for the owner of `keys`, and kept in the file `path`.
    pub fn new(keys: &KeyRing, store: Store, path: PathBuf) -> Self {
        let (changed, current) = (Notify::new(), watch::Sender::new(Vec::new()));
        let (shelf, keepers) = (Mutex::default(), Mutex::default());
        Backups { vault: Vault::new(keys), store, path, changed, current, shelf, keepers }
    }

    /// What peers have us keep and is not on disk yet.
    pub fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The peers that keep something for us.
    pub fn keepers(&self) -> MutexGuard<'_, Keepers> {
        self.keepers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Channels came or went, durably: the file and the listeners are to know.
    pub fn changed(&self) {
        self.changed.notify_one();
    }

    /// Every channel of which something may be ours, now.
    ///
    /// # Errors
    /// [`StoreError`] when the database cannot be read.
    pub fn all(&self) -> Result<Vec<Single>, StoreError> {
        catalog::load(&self.store)
    }

    /// All of them, again at each change.
    pub fn subscribe(&self) -> watch::Receiver<Vec<Single>> {
        self.current.subscribe()
    }

    /// Returns when [`Backups::changed`] was called since it last returned.
    pub async fn wait_changed(&self) {
        self.changed.notified().await;
    }

    /// Writes the file and tells the listeners, if there is something else than what was `written`
    /// last.
    ///
    /// # Errors
    /// What cannot be read or written, and why.
    pub async fn catch_up(&self, written: &mut Option<Vec<Single>>) -> Result<(), String> {
        let all = self.all().map_err(|error| error.to_string())?;
        if written.as_ref() == Some(&all) {
            return Ok(());
        }
        let kept: Vec<Single> = all.iter().cloned().chain(self.strangers().await?).collect();
        let sealed = self.vault.seal_multi(&kept).map_err(|error| error.to_string())?;
        file::write(&self.path, sealed).await?;
        // The first is what there was before, and no news.
        let is_news = written.replace(all.clone()).is_some();
        self.current.send_if_modified(|current| {
            *current = all;
            is_news
        });
        Ok(())
    }

    /// What the file holds and the database has never heard of. It stays in the file: whoever lost
    /// the database only has nothing else.
    async fn strangers(&self) -> Result<Vec<Single>, String> {
        let Some(sealed) = file::read(&self.path).await? else { return Ok(Vec::new()) };
        let path = self.path.display();
        let mut known = catalog::Known::load(&self.store).map_err(|error| error.to_string())?;
        match self.vault.open_multi(&sealed) {
            Ok(mut singles) => {
                singles.retain(|single| known.insert(single));
                if !singles.is_empty() {
                    tracing::warn!(
                        "{path} holds {} channels that the database does not know: \
                         `fulmen-cli restorechanbackup --multi_file {path}` restores them",
                        singles.len()
                    );
                }
                Ok(singles)
            }
            Err(error) => {
                let aside = file::set_aside(&self.path).await?;
                tracing::error!("{path} cannot be read and is {} now: {error}", aside.display());
                Ok(Vec::new())
            }
        }
    }
}
