//! Everything secret comes from one seed.
//!
//! ```text
//! 24 words ── m ─┬─ m/1017'/coin'/6'/0/0   node key
//!                ├─ m/1017'/coin'/5'/0/0   root of the channels' seeds, one a channel by index
//!                ├─ m/1017'/coin'/7'/0/0   keys for secrets in the database and for backups
//!                └─ m/84'/coin'/0'         wallet accounts: BIP 84, 49, 86
//! ```
//!
//! The seed lies encrypted in a file ([`seed_file`]); the words are the copy that its owner keeps.

mod ring;
mod seed;
pub mod seed_file;

pub use ring::{KeyRing, Purpose, NODE_KEY_FAMILY};
pub use seed::Seed;

/// The password of a wallet that `--noseedbackup` made.
pub const NO_SEED_BACKUP_PASSWORD: &[u8] = b"hello";

/// Why there are no keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The words are not a seed.
    #[error("these words are not a seed of fulmen: {0}")]
    Words(String),
    /// The master key is none, or one of another network.
    #[error("this is not a master key for the wallet: {0}")]
    MasterKey(String),
    /// The seed was not encrypted under this password. The text is lnd's.
    #[error("invalid passphrase for master public key")]
    WrongPassword,
    /// The text is lnd's.
    #[error("password must have at least 8 characters")]
    ShortPassword,
    /// The text is lnd's.
    #[error("wallet already exists")]
    Exists,
    /// The seed's file cannot be read or written.
    #[error("cannot use the seed's file {path}: {why}")]
    File {
        /// The file.
        path: String,
        /// What the system said.
        why: String,
    },
    /// The seed's file is not what was written.
    #[error(
        "the seed's file {path} is damaged and was left untouched: {why}. Restore the wallet from \
         its 24 words, or the file from a copy"
    )]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// BIP 32 has no key there: the index is too large, or luck beyond imagination.
    #[error("no key can be derived: {0}")]
    Derivation(String),
}
