//! Before there are keys: a wallet is made, opened, or given another password.
//!
//! ```text
//!   GenSeed ─▶ words ─▶ InitWallet ──┐
//!                      UnlockWallet ─┼─▶ Opened ─▶ the daemon goes on ─▶ admin macaroon ─▶ answer
//!                    ChangePassword ─┘
//! ```
//!
//! What was asked for beside the seed is durable before the seed's file is there: a crash in
//! between leaves no wallet that forgot to look for its coins.

use crate::auth::RootKey;
use crate::backup::{restore, BackupError, Vault};
use crate::clock::unix_time;
use crate::keys::seed_file::{self, check_new_password, Cost};
use crate::keys::{KeyError, KeyRing, Seed};
use crate::store::{Store, StoreError, Unit};
use crate::wallet::{ask_recovery, asked_recovery, WalletError};
use bitcoin::Network;
use rand::{rngs::OsRng, RngCore};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, oneshot};

/// What becomes of the macaroon files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Files {
    /// Those that are missing are written.
    Write,
    /// None is written.
    Leave,
    /// None is written, and those that are there go.
    Remove,
}

/// A wallet that its owner has opened.
pub struct Opened {
    /// The keys.
    pub seed: Seed,
    /// The first root key of macaroons from now on, if it is to change.
    pub root_key: Option<RootKey>,
    /// The macaroon files.
    pub files: Files,
    /// Who waits for the admin macaroon, if anybody does.
    pub answer: Option<oneshot::Sender<Vec<u8>>>,
}

impl Opened {
    /// Opened without being asked.
    pub fn by_itself(seed: Seed) -> Opened {
        Opened { seed, root_key: None, files: Files::Write, answer: None }
    }
}

/// Why a wallet is not made or opened. Texts are lnd's where it has one.
#[derive(Debug, thiserror::Error)]
pub enum UnlockError {
    /// The seed and its file.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The wallet's rows.
    #[error(transparent)]
    Wallet(#[from] WalletError),
    /// There is nothing to open.
    #[error("wallet not found")]
    NotFound,
    /// Somebody else was quicker.
    #[error("wallet already unlocked, WalletUnlocker service is no longer available")]
    AlreadyOpen,
    /// What was given for GenSeed.
    #[error(
        "incorrect entropy length: expected 32 bytes, instead got {0}: fulmen's 24 words are those \
         of BIP 39"
    )]
    Entropy(usize),
    /// What was given for InitWallet.
    #[error("macaroon root key must be exactly 32 bytes, instead got {0}")]
    RootKey(usize),
    /// What was given for InitWallet or UnlockWallet.
    #[error("recovery window {0} must not be negative")]
    Window(i32),
    /// What was given for InitWallet or UnlockWallet.
    #[error("channel backups cannot be restored: {0}")]
    Backup(#[from] BackupError),
    /// The daemon stopped meanwhile.
    #[error("the daemon stops; its log tells why")]
    Stopped,
}

/// What InitWallet asks for.
pub struct Init {
    /// The password.
    pub password: Vec<u8>,
    /// Where the keys come from.
    pub source: Source,
    /// See [`ask_recovery`].
    pub recovery_window: i32,
    /// No macaroon files.
    pub stateless: bool,
    /// The first root key of macaroons; empty for a drawn one.
    pub root_key: Vec<u8>,
    /// Channels to restore.
    pub backups: Sealed,
}

/// Backups of channels, as they were exported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sealed {
    /// Of one channel each.
    pub singles: Vec<Vec<u8>>,
    /// Of several channels in one.
    pub multi: Option<Vec<u8>>,
}

/// Where a wallet's keys come from.
pub enum Source {
    /// 24 words.
    Words(Vec<String>),
    /// A BIP 32 master key, as xprv or tprv, and its birthday in unix seconds (0 if not known).
    MasterKey(String, u64),
}

/// See the module. Clones share what they know.
#[derive(Clone)]
pub struct Unlocker {
    path: PathBuf,
    store: Store,
    network: Network,
    /// The last seed that GenSeed gave away: if the wallet is made of it, its birthday is known.
    drawn: Arc<Mutex<Option<Seed>>>,
    /// The first who opens the wallet takes it.
    opened: Arc<tokio::sync::Mutex<Option<mpsc::Sender<Opened>>>>,
}

impl Unlocker {
    /// An unlocker of the wallet whose seed is in the file `path`; it comes through the receiver.
    pub fn new(
        path: PathBuf,
        store: Store,
        network: Network,
    ) -> (Unlocker, mpsc::Receiver<Opened>) {
        let (opened, receiver) = mpsc::channel(1);
        let opened = Arc::new(tokio::sync::Mutex::new(Some(opened)));
        (Unlocker { path, store, network, drawn: Arc::default(), opened }, receiver)
    }

    /// Whether there is a wallet.
    pub fn exists(&self) -> bool {
        self.path.exists()
    }

    /// Draws a seed, or makes it of `entropy` if that is not empty.
    ///
    /// # Errors
    /// When there is a wallet, or the entropy is not 32 bytes long.
    pub fn gen_seed(&self, entropy: &[u8]) -> Result<Seed, UnlockError> {
        if self.exists() {
            return Err(KeyError::Exists.into());
        }
        let seed = match entropy.len() {
            0 => Seed::generate(unix_time()),
            _ => {
                let entropy =
                    entropy.try_into().map_err(|_| UnlockError::Entropy(entropy.len()))?;
                Seed::from_entropy(entropy, unix_time())
            }
        };
        *self.drawn.lock().unwrap_or_else(PoisonError::into_inner) = Some(seed.clone());
        Ok(seed)
    }

    /// Makes the wallet. The admin macaroon, once the daemon has gone on.
    ///
    /// # Errors
    /// When there is a wallet, or what is asked for cannot be.
    pub async fn init(&self, init: Init) -> Result<Vec<u8>, UnlockError> {
        let mut turn = self.opened.lock().await;
        if self.exists() {
            return Err(KeyError::Exists.into());
        }
        check_new_password(&init.password)?;
        let window = window(init.recovery_window)?;
        let root_key = match init.root_key.as_slice() {
            [] => None,
            key => Some(key.try_into().map_err(|_| UnlockError::RootKey(key.len()))?),
        };
        let mut seed = match &init.source {
            Source::Words(words) => Seed::from_words(words, 0)?,
            Source::MasterKey(key, birthday) => Seed::from_master_key(key, *birthday)?,
        };
        let drawn = self.drawn.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(drawn) = drawn.filter(|drawn| drawn.is_same(&seed)) {
            seed = drawn;
        }
        let mut unit = Unit::new();
        self.restore(&seed, &init.backups, &mut unit)?;
        ask_recovery(window, &mut unit);
        self.store.commit(unit).await?;
        let (path, new, password) = (self.path.clone(), seed.clone(), init.password);
        blocking(move || seed_file::create(&path, &new, &password, Cost::FULL)).await?;
        let files = if init.stateless { Files::Leave } else { Files::Write };
        go_on(&mut turn, seed, root_key, files).await
    }

    /// Opens the wallet. The admin macaroon, once the daemon has gone on.
    ///
    /// # Errors
    /// When there is none, or the password is wrong.
    pub async fn unlock(
        &self,
        password: Vec<u8>,
        recovery_window: i32,
        stateless: bool,
        backups: &Sealed,
    ) -> Result<Vec<u8>, UnlockError> {
        let mut turn = self.opened.lock().await;
        let window = window(recovery_window)?;
        let seed = self.open(password).await?;
        let mut unit = Unit::new();
        self.restore(&seed, backups, &mut unit)?;
        // A search that goes on already goes on where it is.
        if window > asked_recovery(&self.store)? {
            ask_recovery(window, &mut unit);
        }
        self.store.commit(unit).await?;
        let files = if stateless { Files::Leave } else { Files::Write };
        go_on(&mut turn, seed, None, files).await
    }

    /// Adds a row for each channel of these backups that is not known yet.
    fn restore(&self, seed: &Seed, backups: &Sealed, unit: &mut Unit) -> Result<(), UnlockError> {
        let vault = Vault::new(&KeyRing::new(seed, self.network)?);
        let mut singles = Vec::new();
        for sealed in &backups.singles {
            singles.push(vault.open_single(sealed)?);
        }
        if let Some(sealed) = &backups.multi {
            singles.extend(vault.open_multi(sealed)?);
        }
        restore::plan(&self.store, &singles, unit)?;
        Ok(())
    }

    /// Gives the wallet another password and opens it. The admin macaroon, once the daemon has
    /// gone on.
    ///
    /// # Errors
    /// When there is none, the old password is wrong, or the new one too short.
    pub async fn change_password(
        &self,
        old: Vec<u8>,
        new: Vec<u8>,
        stateless: bool,
        new_root_key: bool,
    ) -> Result<Vec<u8>, UnlockError> {
        let mut turn = self.opened.lock().await;
        if !self.exists() {
            return Err(UnlockError::NotFound);
        }
        let path = self.path.clone();
        let change = move || seed_file::change_password(&path, &old, &new, Cost::FULL);
        let seed = blocking(change).await?;
        let root_key = new_root_key.then(|| {
            let mut key = [0; 32];
            OsRng.fill_bytes(&mut key);
            key
        });
        let files = if stateless { Files::Remove } else { Files::Write };
        go_on(&mut turn, seed, root_key, files).await
    }

    /// The seed, if `password` opens it.
    ///
    /// # Errors
    /// When there is none, or the password is wrong.
    pub async fn open(&self, password: Vec<u8>) -> Result<Seed, UnlockError> {
        if !self.exists() {
            return Err(UnlockError::NotFound);
        }
        let path = self.path.clone();
        blocking(move || seed_file::open(&path, &password)).await
    }
}

async fn go_on(
    turn: &mut Option<mpsc::Sender<Opened>>,
    seed: Seed,
    root_key: Option<RootKey>,
    files: Files,
) -> Result<Vec<u8>, UnlockError> {
    let opened = turn.take().ok_or(UnlockError::AlreadyOpen)?;
    let (answer, macaroon) = oneshot::channel();
    let answer = Some(answer);
    let sent = opened.send(Opened { seed, root_key, files, answer }).await;
    sent.map_err(|_| UnlockError::Stopped)?;
    macaroon.await.map_err(|_| UnlockError::Stopped)
}

/// Stretching a password takes a while.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, KeyError> + Send + 'static,
) -> Result<T, UnlockError> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|_| UnlockError::Stopped)??)
}

fn window(asked: i32) -> Result<u32, UnlockError> {
    u32::try_from(asked).map_err(|_| UnlockError::Window(asked))
}
