//! The six keychains: receiving and change, for each kind of address.

use crate::keys::{KeyRing, Purpose};
use bdk_chain::keychain_txout::KeychainTxOutIndex;
use bdk_chain::miniscript::{Descriptor, DescriptorPublicKey};
use bitcoin::bip32::{ChildNumber, Xpriv, Xpub};
use bitcoin::secp256k1::{All, Secp256k1, SecretKey};

use super::WalletError;

/// A chain of keys, `m/purpose'/coin'/0'/{0 or 1}/index`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Keychain {
    /// The kind of address.
    pub purpose: Purpose,
    /// Change, not given away to receive.
    pub change: bool,
}

/// The kinds of address, in the order of their numbers.
const PURPOSES: [Purpose; 3] =
    [Purpose::NestedWitnessKeyHash, Purpose::WitnessKeyHash, Purpose::Taproot];

impl Keychain {
    /// Change goes here, whatever it comes from.
    pub const CHANGE: Keychain = Keychain { purpose: Purpose::WitnessKeyHash, change: true };

    /// All six.
    pub fn all() -> impl Iterator<Item = Keychain> {
        PURPOSES
            .into_iter()
            .flat_map(|purpose| [false, true].map(|change| Keychain { purpose, change }))
    }

    /// Its name in the store.
    pub(super) fn to_bytes(self) -> [u8; 2] {
        [self.purpose.number().to_le_bytes()[0], u8::from(self.change)]
    }
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Keychain> {
        Keychain::all().find(|keychain| keychain.to_bytes() == bytes)
    }

    /// Weight of the script signature and witness that spend an output of this chain. Signatures
    /// are made with a low R (71 bytes with the sighash byte), a few are shorter still.
    pub fn satisfaction_weight(self) -> u64 {
        const KEY_HASH_WITNESS: u64 = 1 + 1 + 71 + 1 + 33;
        match self.purpose {
            Purpose::NestedWitnessKeyHash => KEY_HASH_WITNESS + 4 * 23,
            Purpose::WitnessKeyHash => KEY_HASH_WITNESS,
            Purpose::Taproot => 1 + 1 + 64,
        }
    }
}

/// The private side: one account key for each kind of address.
pub(super) struct Accounts {
    pub secp: Secp256k1<All>,
    accounts: [(Purpose, Xpriv); 3],
}

impl Accounts {
    pub fn new(ring: &KeyRing) -> Result<Accounts, WalletError> {
        let account = |purpose| {
            let key = ring.account(purpose).map_err(|e| WalletError::Keys(e.to_string()))?;
            Ok::<_, WalletError>((purpose, key))
        };
        let [nested, plain, taproot] = PURPOSES;
        let accounts = [account(nested)?, account(plain)?, account(taproot)?];
        Ok(Accounts { secp: Secp256k1::new(), accounts })
    }

    /// The key of an output.
    pub fn key(&self, keychain: Keychain, index: u32) -> Result<SecretKey, WalletError> {
        let child = |number| ChildNumber::from_normal_idx(number).map_err(keys);
        let path = [child(u32::from(keychain.change))?, child(index)?];
        let account = self.account(keychain.purpose)?;
        Ok(account.derive_priv(&self.secp, &path).map_err(keys)?.private_key)
    }

    /// An index that knows the scripts of all six keychains, and of each `lookahead` more than were
    /// given away.
    pub fn index(&self, lookahead: u32) -> Result<KeychainTxOutIndex<Keychain>, WalletError> {
        let mut index = KeychainTxOutIndex::new(lookahead, false);
        for keychain in Keychain::all() {
            let descriptor = self.descriptor(keychain)?;
            index.insert_descriptor(keychain, descriptor).map_err(keys)?;
        }
        Ok(index)
    }

    fn descriptor(
        &self,
        keychain: Keychain,
    ) -> Result<Descriptor<DescriptorPublicKey>, WalletError> {
        let account = Xpub::from_priv(&self.secp, self.account(keychain.purpose)?);
        let key = format!("{account}/{}/*", u32::from(keychain.change));
        let text = match keychain.purpose {
            Purpose::NestedWitnessKeyHash => format!("sh(wpkh({key}))"),
            Purpose::WitnessKeyHash => format!("wpkh({key})"),
            Purpose::Taproot => format!("tr({key})"),
        };
        text.parse().map_err(keys)
    }

    fn account(&self, purpose: Purpose) -> Result<&Xpriv, WalletError> {
        let found = self.accounts.iter().find(|(kind, _)| *kind == purpose);
        Ok(&found.ok_or_else(|| WalletError::Keys("no such account".into()))?.1)
    }
}

fn keys(error: impl std::fmt::Display) -> WalletError {
    WalletError::Keys(error.to_string())
}
