//! The bakery: root keys in the store, macaroon files for clients, the check of a call.

use super::verify::{allows, open};
use super::RootKey;
use super::{admin, invoice, needs, readonly, verify, Denied, Identifier, Macaroon, Needs, Ops};
use crate::files;
use crate::store::{KeyRange, Store, StoreError, Table, Unit};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use rand::{rngs::OsRng, RngCore};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::SystemTime;

/// What lnd's macaroons say where they are from; clients do not look at it.
const LOCATION: &str = "lnd";
/// The id of the root key that is always there.
const DEFAULT_ID: &[u8] = b"0";
/// More than any macaroon that was ever baked; what is longer is not looked at.
const MOST_HEX: usize = 65_536;
const NONCE: usize = 24;

/// Why there are no macaroons.
#[derive(Debug, thiserror::Error)]
pub enum BakeryError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A root key in the store was sealed under another seed, or altered.
    #[error("macaroon root key {0} was made under another seed, or altered")]
    OtherSeed(String),
    /// A root key could not be sealed.
    #[error("a macaroon root key could not be encrypted")]
    Seal,
    /// The text is lnd's.
    #[error("the specified ID cannot be deleted")]
    DefaultStays,
    /// A macaroon's file could not be written.
    #[error("cannot write {path}: {why}")]
    File {
        /// The file.
        path: String,
        /// What the system said.
        why: std::io::Error,
    },
}

/// The root keys, opened.
pub struct Bakery {
    store: Store,
    storage_key: [u8; 32],
    default: RootKey,
    root_keys: RwLock<BTreeMap<Vec<u8>, RootKey>>,
    /// Held while the root keys change: they change on disk first.
    changing: tokio::sync::Mutex<()>,
}

impl Bakery {
    /// Reads the root keys, sealed under `storage_key`, and makes the first one if there is none.
    /// Blocks: for start-up.
    pub fn open(store: &Store, storage_key: &[u8; 32]) -> Result<Bakery, BakeryError> {
        let mut root_keys = BTreeMap::new();
        for (id, sealed) in store.scan(Table::RootKey, &KeyRange::all(), usize::MAX, false)? {
            let name = || BakeryError::OtherSeed(String::from_utf8_lossy(&id).into_owned());
            let key = unseal(storage_key, &id, &sealed).ok_or_else(name)?;
            root_keys.insert(id, key);
        }
        let default = match root_keys.get(DEFAULT_ID) {
            Some(key) => *key,
            None => {
                let mut key = [0; 32];
                OsRng.fill_bytes(&mut key);
                let mut unit = Unit::new();
                put_root_key(storage_key, &key, &mut unit)?;
                store.commit_blocking(unit)?;
                root_keys.insert(DEFAULT_ID.to_vec(), key);
                key
            }
        };
        Ok(Bakery {
            store: store.clone(),
            storage_key: *storage_key,
            default,
            root_keys: RwLock::new(root_keys),
            changing: tokio::sync::Mutex::default(),
        })
    }

    /// A macaroon that allows `ops`, under the first root key.
    pub fn bake(&self, ops: Ops) -> Vec<u8> {
        bake(&self.default, DEFAULT_ID, ops)
    }

    /// A macaroon that allows `ops`, under the root key `id`, which is made if there is none.
    pub async fn bake_under(&self, id: u64, ops: Ops) -> Result<Vec<u8>, BakeryError> {
        let id = id.to_string().into_bytes();
        let _one_at_a_time = self.changing.lock().await;
        let key = match self.root_key(&id) {
            Some(key) => key,
            None => {
                let mut key = [0; 32];
                OsRng.fill_bytes(&mut key);
                let sealed = seal(&self.storage_key, &id, &key).ok_or(BakeryError::Seal)?;
                let mut unit = Unit::new();
                unit.put(Table::RootKey, id.clone(), sealed);
                self.store.commit(unit).await?;
                self.write().insert(id.clone(), key);
                key
            }
        };
        Ok(bake(&key, &id, ops))
    }

    /// The ids of the root keys, in order.
    pub fn ids(&self) -> Vec<u64> {
        let keys = self.read();
        let number = |id: &Vec<u8>| std::str::from_utf8(id).ok()?.parse().ok();
        let mut ids: Vec<u64> = keys.keys().filter_map(number).collect();
        ids.sort_unstable();
        ids
    }

    /// Deletes a root key, and with it every macaroon under it; says whether there was one. The
    /// first one stays: `DefaultStays`.
    pub async fn delete(&self, id: u64) -> Result<bool, BakeryError> {
        let id = id.to_string().into_bytes();
        if id == DEFAULT_ID {
            return Err(BakeryError::DefaultStays);
        }
        let _one_at_a_time = self.changing.lock().await;
        if self.root_key(&id).is_none() {
            return Ok(false);
        }
        let mut unit = Unit::new();
        unit.delete(Table::RootKey, id.clone());
        self.store.commit(unit).await?;
        self.write().remove(&id);
        Ok(true)
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<Vec<u8>, RootKey>> {
        self.root_keys.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<Vec<u8>, RootKey>> {
        self.root_keys.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn root_key(&self, id: &[u8]) -> Option<RootKey> {
        self.read().get(id).copied()
    }

    /// Writes admin, readonly and invoice macaroons into `directory`, those that are not there
    /// or are not ours (left over from another wallet).
    pub fn write_files(&self, directory: &Path) -> Result<(), BakeryError> {
        for (name, ops, mode) in usual() {
            let path = directory.join(name);
            if std::fs::read(&path).is_ok_and(|bytes| self.is_ours(&bytes)) {
                continue;
            }
            files::make_private_directory(directory)
                .and_then(|()| files::write_atomically(&path, &self.bake(ops), mode))
                .map_err(|why| BakeryError::File { path: path.display().to_string(), why })?;
        }
        Ok(())
    }

    /// Whether a call of `method` (`/package.Service/Method`) with these `macaroon` entries of
    /// its metadata, in hex, is allowed now from `peer`.
    pub fn check(
        &self,
        macaroons: &[&str],
        method: &str,
        now: SystemTime,
        peer: Option<IpAddr>,
    ) -> Result<(), Denied> {
        let needs = needs(method).ok_or_else(|| Denied::UnknownMethod(method.to_owned()))?;
        if needs == Needs::Nothing {
            return Ok(());
        }
        let [macaroon] = macaroons else { return Err(Denied::Count(macaroons.len())) };
        if macaroon.len() > MOST_HEX {
            return Err(Denied::Unreadable("it is too long"));
        }
        let macaroon = hex::decode(macaroon).map_err(|_| Denied::Unreadable("it is not hex"))?;
        verify(&macaroon, method, needs, now, peer, |id| self.root_key(id))
    }

    /// Whether a macaroon, in binary, is good now from `peer`, and allows all of `ops`, or `method`
    /// by name.
    pub fn has(
        &self,
        macaroon: &[u8],
        ops: &[(&str, &str)],
        method: &str,
        now: SystemTime,
        peer: Option<IpAddr>,
    ) -> Result<(), Denied> {
        let identifier = open(macaroon, now, peer, |id| self.root_key(id))?;
        allows(&identifier, method, ops)
    }

    fn is_ours(&self, bytes: &[u8]) -> bool {
        let Ok(macaroon) = Macaroon::decode(bytes) else { return false };
        let Ok(identifier) = Identifier::decode(&macaroon.identifier) else { return false };
        let key = self.root_key(&identifier.storage_id);
        key.is_some_and(|key| macaroon.is_signed_by(&key))
    }
}

fn bake(key: &RootKey, id: &[u8], ops: Ops) -> Vec<u8> {
    let mut nonce = vec![0; 16];
    OsRng.fill_bytes(&mut nonce);
    let identifier = Identifier { nonce, storage_id: id.to_vec(), ops };
    Macaroon::new(key, LOCATION, identifier.encode()).encode()
}

/// Makes `key` the first root key: macaroons of the one before it are void.
pub fn put_root_key(
    storage_key: &[u8; 32],
    key: &RootKey,
    unit: &mut Unit,
) -> Result<(), BakeryError> {
    let sealed = seal(storage_key, DEFAULT_ID, key).ok_or(BakeryError::Seal)?;
    unit.put(Table::RootKey, DEFAULT_ID, sealed);
    Ok(())
}

/// Removes the files that [`Bakery::write_files`] writes.
pub fn remove_files(directory: &Path) -> Result<(), BakeryError> {
    for (name, ..) in usual() {
        let path = directory.join(name);
        files::remove_if_there(&path)
            .map_err(|why| BakeryError::File { path: path.display().to_string(), why })?;
    }
    Ok(())
}

/// The macaroons that lie in files: names, what they allow, and access modes.
fn usual() -> [(&'static str, Ops, u32); 3] {
    [
        ("admin.macaroon", admin(), 0o640),
        ("readonly.macaroon", readonly(), 0o644),
        ("invoice.macaroon", invoice(), 0o644),
    ]
}

fn seal(storage_key: &[u8; 32], id: &[u8], key: &RootKey) -> Option<Vec<u8>> {
    let mut nonce = [0; NONCE];
    OsRng.fill_bytes(&mut nonce);
    let payload = Payload { msg: key, aad: id };
    let cipher = XChaCha20Poly1305::new(storage_key.into());
    let sealed = cipher.encrypt(XNonce::from_slice(&nonce), payload).ok()?;
    Some([nonce.as_slice(), &sealed].concat())
}

fn unseal(storage_key: &[u8; 32], id: &[u8], sealed: &[u8]) -> Option<RootKey> {
    let (nonce, sealed) = sealed.split_at_checked(NONCE)?;
    let payload = Payload { msg: sealed, aad: id };
    let cipher = XChaCha20Poly1305::new(storage_key.into());
    cipher.decrypt(XNonce::from_slice(nonce), payload).ok()?.try_into().ok()
}
