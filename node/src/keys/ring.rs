//! Keys by their paths.

use super::{KeyError, Seed};
use bitcoin::bip32::{ChildNumber, Xpriv};
use bitcoin::hashes::{hmac, sha256, Hash, HashEngine};
use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};
use bitcoin::Network;

/// The key family of the node's identity, as lnd numbers them.
pub const NODE_KEY_FAMILY: u32 = 6;
const CHANNEL_FAMILY: u32 = 5;
const STORAGE_FAMILY: u32 = 7;

/// A wallet account: which addresses it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// np2wkh, BIP 49.
    NestedWitnessKeyHash,
    /// p2wkh, BIP 84.
    WitnessKeyHash,
    /// p2tr, BIP 86.
    Taproot,
}

impl Purpose {
    /// Its number in the path.
    pub const fn number(self) -> u32 {
        match self {
            Purpose::NestedWitnessKeyHash => 49,
            Purpose::WitnessKeyHash => 84,
            Purpose::Taproot => 86,
        }
    }
}

/// The keys of one seed on one network.
#[derive(Clone)]
pub struct KeyRing {
    master: Xpriv,
    coin: u32,
    node: SecretKey,
    channels: [u8; 32],
    storage: [u8; 32],
    backup: [u8; 32],
}

impl KeyRing {
    /// The keys of `seed` on `network`.
    pub fn new(seed: &Seed, network: Network) -> Result<KeyRing, KeyError> {
        Self::from_master(seed.master(network)?, network)
    }

    /// The keys under a BIP 32 master key.
    pub fn from_master(master: Xpriv, network: Network) -> Result<KeyRing, KeyError> {
        let coin = if network == Network::Bitcoin { 0 } else { 1 };
        let key = |family| family_key(&master, coin, family, 0);
        Ok(KeyRing {
            master,
            coin,
            node: key(NODE_KEY_FAMILY)?,
            channels: key(CHANNEL_FAMILY)?.secret_bytes(),
            storage: named(&key(STORAGE_FAMILY)?.secret_bytes(), b"fulmen storage"),
            backup: named(&key(STORAGE_FAMILY)?.secret_bytes(), b"fulmen backup"),
        })
    }

    /// The node's identity, with which it signs announcements, invoices and handshakes.
    pub fn node_secret(&self) -> SecretKey {
        self.node
    }

    /// The node's public name.
    pub fn node_id(&self) -> PublicKey {
        self.node.public_key(&Secp256k1::signing_only())
    }

    /// The secret from which a channel's signer is made. It tells nothing about other channels'.
    pub fn channel_seed(&self, index: u64) -> [u8; 32] {
        named(&self.channels, &[b"fulmen channel ", index.to_be_bytes().as_slice()].concat())
    }

    /// The key under which secrets in the database are encrypted.
    pub fn storage_key(&self) -> [u8; 32] {
        self.storage
    }

    /// The key under which backups of channels are sealed.
    pub fn backup_key(&self) -> [u8; 32] {
        self.backup
    }

    /// The wallet account `m/purpose'/coin'/0'`.
    pub fn account(&self, purpose: Purpose) -> Result<Xpriv, KeyError> {
        derive(&self.master, &[hard(purpose.number())?, hard(self.coin)?, hard(0)?])
    }

    /// The key `m/1017'/coin'/family'/0/index`, as lnd lays them out. `index` below 2^31.
    pub fn family_key(&self, family: u32, index: u32) -> Result<SecretKey, KeyError> {
        family_key(&self.master, self.coin, family, index)
    }
}

impl std::fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyRing({})", self.node_id())
    }
}

fn family_key(master: &Xpriv, coin: u32, family: u32, index: u32) -> Result<SecretKey, KeyError> {
    let path = [hard(1017)?, hard(coin)?, hard(family)?, soft(0)?, soft(index)?];
    Ok(derive(master, &path)?.private_key)
}

fn derive(master: &Xpriv, path: &[ChildNumber]) -> Result<Xpriv, KeyError> {
    master.derive_priv(&Secp256k1::signing_only(), &path).map_err(failed)
}

fn hard(index: u32) -> Result<ChildNumber, KeyError> {
    ChildNumber::from_hardened_idx(index).map_err(failed)
}

fn soft(index: u32) -> Result<ChildNumber, KeyError> {
    ChildNumber::from_normal_idx(index).map_err(failed)
}

fn failed(error: bitcoin::bip32::Error) -> KeyError {
    KeyError::Derivation(error.to_string())
}

/// A secret for one use out of another: HMAC-SHA256 with `secret` as key over `name`.
fn named(secret: &[u8; 32], name: &[u8]) -> [u8; 32] {
    let mut engine = hmac::HmacEngine::<sha256::Hash>::new(secret);
    engine.input(name);
    hmac::Hmac::from_engine(engine).to_byte_array()
}
