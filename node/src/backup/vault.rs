//! Sealing: only who has the seed can read a backup, or make one that is taken for ours.

use super::single::{Packed, Single};
use crate::desk::{decode_as, encode};
use crate::keys::KeyRing;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use fulmen_channel::keys::{InMemorySigner, Signer};
use rand::{rngs::OsRng, RngCore};

const VERSION: u8 = 1;
const NONCE: usize = 24;
/// What sealing adds: version, nonce, tag.
pub const OVERHEAD: usize = 1 + NONCE + 16;

/// What is sealed. One kind is never taken for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The backup of one channel.
    Single,
    /// The backups of several.
    Multi,
    /// What lies with peers.
    Storage,
    /// What lies with watchtowers beside a channel's records.
    TowerNote,
}

impl Kind {
    fn name(self) -> &'static [u8] {
        match self {
            Kind::Single => b"fulmen channel backup",
            Kind::Multi => b"fulmen channel backups",
            Kind::Storage => b"fulmen peer storage",
            Kind::TowerNote => b"fulmen tower note",
        }
    }
}

/// Why something is no backup of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackupError {
    /// Too short to be anything.
    #[error("it is too short to be a backup")]
    Short,
    /// Of another program, or of a later version of this one.
    #[error(
        "its version is {0}, this build knows {VERSION}: it is none of fulmen's or a later one"
    )]
    Version(u8),
    /// The seal does not hold.
    #[error("it was made under another seed, altered, or is a backup of another kind")]
    Seal,
    /// What is sealed cannot be read.
    #[error("it cannot be read: {0}")]
    Format(String),
    /// It names keys that are not those of the seed.
    #[error("the keys of channel {0} are not those of this seed")]
    Keys(u64),
}

/// The key that backups are sealed under, and the channels' keys to check them with.
#[derive(Clone)]
pub struct Vault {
    keys: KeyRing,
}

impl Vault {
    /// Of the owner of `keys`.
    pub fn new(keys: &KeyRing) -> Self {
        Vault { keys: keys.clone() }
    }

    /// Seals `plain`.
    ///
    /// # Errors
    /// [`BackupError::Format`] when it is longer than any cipher takes.
    pub fn seal(&self, kind: Kind, plain: &[u8]) -> Result<Vec<u8>, BackupError> {
        let mut nonce = [0; NONCE];
        OsRng.fill_bytes(&mut nonce);
        let sealed = self.cipher().encrypt(
            XNonce::from_slice(&nonce),
            Payload { msg: plain, aad: &label(kind, VERSION) },
        );
        let sealed = sealed.map_err(|error| BackupError::Format(error.to_string()))?;
        Ok([&[VERSION], nonce.as_slice(), &sealed].concat())
    }

    /// What was sealed as this kind.
    ///
    /// # Errors
    /// [`BackupError`] for anything else.
    pub fn open(&self, kind: Kind, sealed: &[u8]) -> Result<Vec<u8>, BackupError> {
        let (version, rest) = sealed.split_first().ok_or(BackupError::Short)?;
        if *version != VERSION {
            return Err(BackupError::Version(*version));
        }
        let (nonce, sealed) = rest.split_at_checked(NONCE).ok_or(BackupError::Short)?;
        let payload = Payload { msg: sealed, aad: &label(kind, VERSION) };
        let opened = self.cipher().decrypt(XNonce::from_slice(nonce), payload);
        opened.map_err(|_| BackupError::Seal)
    }

    /// The backup of one channel.
    ///
    /// # Errors
    /// As [`Vault::seal`].
    pub fn seal_single(&self, single: &Single) -> Result<Vec<u8>, BackupError> {
        self.seal(Kind::Single, &encode(single))
    }

    /// What [`Vault::seal_single`] sealed.
    ///
    /// # Errors
    /// [`BackupError`] for anything else.
    pub fn open_single(&self, sealed: &[u8]) -> Result<Single, BackupError> {
        self.checked(&self.open(Kind::Single, sealed)?)
    }

    /// The backups of several channels in one.
    ///
    /// # Errors
    /// As [`Vault::seal`].
    pub fn seal_multi(&self, singles: &[Single]) -> Result<Vec<u8>, BackupError> {
        let singles: Packed = singles.iter().map(encode).collect();
        self.seal(Kind::Multi, &encode(&singles))
    }

    /// What [`Vault::seal_multi`] sealed.
    ///
    /// # Errors
    /// [`BackupError`] for anything else.
    pub fn open_multi(&self, sealed: &[u8]) -> Result<Vec<Single>, BackupError> {
        let plain = self.open(Kind::Multi, sealed)?;
        let singles: Packed = readable("a channel backup", &plain)?;
        self.all_checked(&singles)
    }

    /// Backups as they were packed, if their keys are ours.
    ///
    /// # Errors
    /// [`BackupError`] for anything else.
    pub fn all_checked(&self, singles: &Packed) -> Result<Vec<Single>, BackupError> {
        singles.iter().map(|single| self.checked(single)).collect()
    }

    fn checked(&self, plain: &[u8]) -> Result<Single, BackupError> {
        let single: Single = readable("a channel backup", plain)?;
        let signer = InMemorySigner::from_seed(self.keys.channel_seed(single.index));
        match signer.basepoints().payment == single.ours {
            true => Ok(single),
            false => Err(BackupError::Keys(single.index)),
        }
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&self.keys.backup_key().into())
    }
}

/// What [`encode`] made bytes of.
pub(super) fn readable<T: serde::de::DeserializeOwned>(
    what: &str,
    plain: &[u8],
) -> Result<T, BackupError> {
    decode_as(what, plain).map_err(|error| BackupError::Format(error.to_string()))
}

fn label(kind: Kind, version: u8) -> Vec<u8> {
    [kind.name(), &[version]].concat()
}
