//! The seed: 24 words of BIP 39.

use super::KeyError;
use bip39::{Language, Mnemonic};
use rand::rngs::OsRng;
use rand::RngCore;
use std::fmt;

/// 256 bits and the day they were drawn, from which all keys come.
#[derive(Clone, PartialEq, Eq)]
pub struct Seed {
    pub(super) entropy: [u8; 32],
    pub(super) birthday: u64,
}

impl Seed {
    /// A new seed, drawn now (`now` in seconds since 1970).
    pub fn generate(now: u64) -> Seed {
        let mut entropy = [0; 32];
        OsRng.fill_bytes(&mut entropy);
        Seed { entropy, birthday: now }
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
        Ok(Seed { entropy, birthday })
    }

    /// Its 24 words.
    pub fn words(&self) -> Vec<&'static str> {
        self.mnemonic().words().collect()
    }

    /// When it was drawn, in seconds since 1970: no coin of it is older. 0 if that is not known.
    pub fn birthday(&self) -> u64 {
        self.birthday
    }

    /// What BIP 32's master key is made of.
    pub fn bip32_seed(&self) -> [u8; 64] {
        self.mnemonic().to_seed_normalized("")
    }

    fn mnemonic(&self) -> Mnemonic {
        #[allow(clippy::expect_used)] // only lengths that BIP 39 does not know are refused
        Mnemonic::from_entropy_in(Language::English, &self.entropy).expect("32 bytes are 24 words")
    }
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
