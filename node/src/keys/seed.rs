//! The seed: 24 words of BIP 39, or a BIP 32 master key that was made elsewhere.

use super::KeyError;
use bip39::{Language, Mnemonic};
use bitcoin::bip32::Xpriv;
use bitcoin::hashes::{sha256, Hash};
use bitcoin::Network;
use rand::rngs::OsRng;
use rand::RngCore;
use std::fmt;
use std::str::FromStr;

/// That from which all keys come, and the day it was drawn.
#[derive(Clone, PartialEq, Eq)]
pub struct Seed {
    pub(super) root: Root,
    pub(super) birthday: u64,
}

#[derive(Clone, PartialEq, Eq)]
pub(super) enum Root {
    /// 256 bits.
    Entropy([u8; 32]),
    /// BIP 32's serialization.
    Master([u8; 78]),
}

impl Seed {
    /// A new seed, drawn now (`now` in seconds since 1970).
    pub fn generate(now: u64) -> Seed {
        let mut entropy = [0; 32];
        OsRng.fill_bytes(&mut entropy);
        Seed::from_entropy(entropy, now)
    }

    /// The seed of somebody else's 256 bits.
    pub fn from_entropy(entropy: [u8; 32], birthday: u64) -> Seed {
        Seed { root: Root::Entropy(entropy), birthday }
    }

    /// The seed of 24 words, first used after `birthday` (seconds since 1970, 0 if not known).
    pub fn from_words<W: AsRef<str>>(words: &[W], birthday: u64) -> Result<Seed, KeyError> {
        let words: Vec<String> = words.iter().map(|word| word.as_ref().to_lowercase()).collect();
        if words.len() != 24 {
            return Err(KeyError::Words(format!("there are {}, not 24", words.len())));
        }
        let mnemonic = Mnemonic::parse_in_normalized(Language::English, &words.join(" "))
            .map_err(|error| KeyError::Words(explain(&error, &words)))?;
        let entropy = mnemonic.to_entropy().try_into();
        let entropy = entropy.map_err(|_| KeyError::Words("not 256 bits".into()))?;
        Ok(Seed::from_entropy(entropy, birthday))
    }

    /// A BIP 32 master key as xprv or tprv, first used after `birthday`.
    pub fn from_master_key(text: &str, birthday: u64) -> Result<Seed, KeyError> {
        let key = Xpriv::from_str(text.trim()).map_err(|e| KeyError::MasterKey(e.to_string()))?;
        if key.depth != 0 {
            return Err(KeyError::MasterKey(format!("it is {} steps below the root", key.depth)));
        }
        Ok(Seed { root: Root::Master(key.encode()), birthday })
    }

    /// Its 24 words; none of a master key.
    pub fn words(&self) -> Vec<&'static str> {
        match &self.root {
            Root::Entropy(entropy) => mnemonic(entropy).words().collect(),
            Root::Master(_) => Vec::new(),
        }
    }

    /// The 264 bits that the words stand for: 256 bits of chance and the check sum. Empty for a
    /// master key.
    pub fn word_bytes(&self) -> Vec<u8> {
        let Root::Entropy(entropy) = &self.root else { return Vec::new() };
        let mut bytes = entropy.to_vec();
        bytes.extend(sha256::Hash::hash(entropy).as_byte_array().first());
        bytes
    }

    /// When it was drawn, in seconds since 1970: no coin of it is older. 0 if that is not known.
    pub fn birthday(&self) -> u64 {
        self.birthday
    }

    /// Whether it has the keys of `other`.
    pub fn is_same(&self, other: &Seed) -> bool {
        self.root == other.root
    }

    /// BIP 32's master key.
    pub fn master(&self, network: Network) -> Result<Xpriv, KeyError> {
        let made = match &self.root {
            Root::Entropy(entropy) => {
                Xpriv::new_master(network, &mnemonic(entropy).to_seed_normalized(""))
            }
            Root::Master(key) => Xpriv::decode(key),
        };
        let key = made.map_err(|error| KeyError::MasterKey(error.to_string()))?;
        if key.network != network.into() {
            return Err(KeyError::MasterKey(format!("it is not one of {network}")));
        }
        Ok(key)
    }
}

fn mnemonic(entropy: &[u8; 32]) -> Mnemonic {
    #[allow(clippy::expect_used)] // only lengths that BIP 39 does not know are refused
    Mnemonic::from_entropy_in(Language::English, entropy).expect("32 bytes are 24 words")
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seed(secret)")
    }
}

/// lnd's seeds use the same words, so the likeliest mistake gets an answer of its own.
fn explain(error: &bip39::Error, words: &[String]) -> String {
    match error {
        bip39::Error::UnknownWord(at) => {
            let word = words.get(*at).map_or("", String::as_str);
            format!("\"{word}\" is not in the list of BIP 39")
        }
        bip39::Error::InvalidChecksum => {
            "their check sum is wrong: a word is mistyped or out of order, or it is an aezeed \
             phrase of lnd, which fulmen cannot read"
                .into()
        }
        other => other.to_string(),
    }
}
