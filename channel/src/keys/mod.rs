//! Keys: how each commitment's keys follow from two sets of basepoints (BOLT 3), who signs with
//! them, and where the other side's revealed secrets are kept.

pub mod commitment_keys;
pub mod curve;
pub mod derive;
pub mod revocation_store;
pub mod signer;

pub use commitment_keys::CommitmentKeys;
pub use curve::{Curve, Inline};
pub use revocation_store::{RevocationStore, WrongSecret};
pub use signer::{InMemorySigner, Secrets, Signer};
