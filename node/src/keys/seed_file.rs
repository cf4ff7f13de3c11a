//! The seed on disk, encrypted: argon2id stretches the password, XChaCha20-Poly1305 seals.

use super::seed::Root;
use super::{KeyError, Seed, NO_SEED_BACKUP_PASSWORD};
use crate::files;
use argon2::{Algorithm, Argon2, Params, Version};
use bitcoin::hashes::{sha256, Hash};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use rand::{rngs::OsRng, RngCore};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// What is sealed is a [`Secret`].
const WORDS: u32 = 1;
/// What is sealed is a [`MasterSecret`].
const MASTER_KEY: u32 = 2;
/// Above this a file does not get to say how much memory we use, in KiB.
const MOST_MEMORY: u32 = 1 << 20;

/// What a guess at the password costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
}

impl Cost {
    /// For a password that protects: 64 MiB, three passes.
    pub const FULL: Cost = Cost { memory_kib: 65_536, passes: 3 };
    /// For a password that everybody knows.
    pub const LEAST: Cost = Cost { memory_kib: 8, passes: 1 };
}

/// The file, as JSON. The bytes are hex.
#[derive(Serialize, Deserialize)]
struct Sealed {
    version: u32,
    #[serde(flatten)]
    cost: Cost,
    salt: String,
    nonce: String,
    sealed: String,
    /// Tells a flipped byte from a wrong password.
    check: String,
}

/// What is sealed.
#[derive(Serialize, Deserialize)]
struct Secret {
    entropy: [u8; 32],
    birthday: u64,
}

/// The same of a wallet made of a BIP 32 master key.
#[derive(Serialize, Deserialize)]
struct MasterSecret {
    key: Vec<u8>,
    birthday: u64,
}

fn pack(seed: &Seed) -> Result<Vec<u8>, postcard::Error> {
    let birthday = seed.birthday;
    match &seed.root {
        Root::Entropy(entropy) => postcard::to_stdvec(&Secret { entropy: *entropy, birthday }),
        Root::Master(key) => postcard::to_stdvec(&MasterSecret { key: key.to_vec(), birthday }),
    }
}

fn unpack(version: u32, bytes: &[u8]) -> Option<Seed> {
    if version == WORDS {
        let Secret { entropy, birthday } = postcard::from_bytes(bytes).ok()?;
        return Some(Seed { root: Root::Entropy(entropy), birthday });
    }
    let MasterSecret { key, birthday } = postcard::from_bytes(bytes).ok()?;
    Some(Seed { root: Root::Master(key.try_into().ok()?), birthday })
}

/// Whether `password` is long enough to protect anything.
pub fn check_new_password(password: &[u8]) -> Result<(), KeyError> {
    if password.len() < 8 {
        return Err(KeyError::ShortPassword);
    }
    Ok(())
}

/// Writes `seed` to the new file `path`, encrypted under `password`. There must be none yet.
pub fn create(path: &Path, seed: &Seed, password: &[u8], cost: Cost) -> Result<(), KeyError> {
    if path.exists() {
        return Err(KeyError::Exists);
    }
    files::make_private_directory(files::directory_of(path)).map_err(|e| unusable(path, e))?;
    replace(path, seed, password, cost)
}

/// Reads and decrypts the seed.
pub fn open(path: &Path, password: &[u8]) -> Result<Seed, KeyError> {
    let bytes = std::fs::read(path).map_err(|error| unusable(path, error))?;
    let damaged = |why: &str| KeyError::Damaged { path: display(path), why: why.into() };
    let file: Sealed = serde_json::from_slice(&bytes).map_err(|e| damaged(&e.to_string()))?;
    if file.check != file.sum() {
        return Err(damaged("its check sum is wrong"));
    }
    if ![WORDS, MASTER_KEY].contains(&file.version) {
        let why = format!("it has version {}, this build knows {MASTER_KEY}", file.version);
        return Err(unusable(path, why));
    }
    let bytes =
        |text: &str| hex::decode(text).map_err(|_| damaged("it has a field that is no hex"));
    let nonce: [u8; 24] = bytes(&file.nonce)?.try_into().map_err(|_| damaged("no nonce"))?;
    let sealed = bytes(&file.sealed)?;
    let key = stretch(password, &bytes(&file.salt)?, file.cost).map_err(|why| damaged(&why))?;
    let header = file.header();
    let payload = Payload { msg: &sealed, aad: header.as_bytes() };
    let opened = XChaCha20Poly1305::new(&key.into())
        .decrypt(XNonce::from_slice(&nonce), payload)
        .map_err(|_| KeyError::WrongPassword)?;
    unpack(file.version, &opened).ok_or_else(|| damaged("no seed in it"))
}

/// Encrypts the seed under `new`. After a crash one of the two passwords opens it.
pub fn change_password(path: &Path, old: &[u8], new: &[u8], cost: Cost) -> Result<Seed, KeyError> {
    check_new_password(new)?;
    let seed = open(path, old)?;
    replace(path, &seed, new, cost)?;
    Ok(seed)
}

/// For `--noseedbackup`: the seed of `path`, made now if there is none, under a password that is
/// no secret.
pub fn open_without_backup(path: &Path, now: u64) -> Result<Seed, KeyError> {
    if !path.exists() {
        create(path, &Seed::generate(now), NO_SEED_BACKUP_PASSWORD, Cost::LEAST)?;
    }
    open(path, NO_SEED_BACKUP_PASSWORD)
}

fn replace(path: &Path, seed: &Seed, password: &[u8], cost: Cost) -> Result<(), KeyError> {
    let (mut salt, mut nonce) = ([0; 16], [0; 24]);
    OsRng.fill_bytes(&mut salt);
    OsRng.fill_bytes(&mut nonce);
    let mut file = Sealed {
        version: match seed.root {
            Root::Entropy(_) => WORDS,
            Root::Master(_) => MASTER_KEY,
        },
        cost,
        salt: hex::encode(salt),
        nonce: hex::encode(nonce),
        sealed: String::new(),
        check: String::new(),
    };
    let key = stretch(password, &salt, cost).map_err(|why| unusable(path, why))?;
    let secret = pack(seed).map_err(|error| unusable(path, error))?;
    let header = file.header();
    let sealed = XChaCha20Poly1305::new(&key.into())
        .encrypt(XNonce::from_slice(&nonce), Payload { msg: &secret, aad: header.as_bytes() })
        .map_err(|error| unusable(path, error))?;
    file.sealed = hex::encode(sealed);
    file.check = file.sum();
    let text = serde_json::to_string_pretty(&file).map_err(|error| unusable(path, error))?;
    files::write_atomically(path, text.as_bytes(), 0o600).map_err(|error| unusable(path, error))
}

fn stretch(password: &[u8], salt: &[u8], cost: Cost) -> Result<[u8; 32], String> {
    if cost.memory_kib > MOST_MEMORY {
        return Err(format!("it asks for {} KiB of memory", cost.memory_kib));
    }
    let mut key = [0; 32];
    Params::new(cost.memory_kib, cost.passes, 1, None)
        .and_then(|params| {
            Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
                .hash_password_into(password, salt, &mut key)
        })
        .map_err(|error| error.to_string())?;
    Ok(key)
}

impl Sealed {
    /// What is sealed along: nobody may weaken the cost of an existing file.
    fn header(&self) -> String {
        let Cost { memory_kib, passes } = self.cost;
        format!("fulmen seed {} {memory_kib} {passes} {} {}", self.version, self.salt, self.nonce)
    }

    fn sum(&self) -> String {
        let sum = sha256::Hash::hash(format!("{} {}", self.header(), self.sealed).as_bytes());
        sum.to_string().chars().take(8).collect()
    }
}

fn unusable(path: &Path, why: impl ToString) -> KeyError {
    KeyError::File { path: display(path), why: why.to_string() }
}

fn display(path: &Path) -> String {
    path.display().to_string()
}
