//! Who may call: the TLS certificate, and macaroons in lnd's format.
//!
//! ```text
//!   root key (store, sealed) ─ HMAC over identifier ─ HMAC over caveat ─ … ─ signature
//!                                        │                   │
//!                              which ops it allows    when, from where
//! ```
//!
//! A macaroon is a list of permissions and a chain of HMACs over it: whoever holds one can add
//! caveats that narrow it, and nobody without the root key can take one away.

mod bakery;
mod caveat;
mod identifier;
mod macaroon;
mod permissions;
pub mod tls;
mod verify;

pub use bakery::{put_root_key, remove_files, Bakery, BakeryError};
pub use identifier::{Identifier, Ops};
pub use macaroon::{Caveat, Macaroon, RootKey};
pub use permissions::{admin, invoice, needs, readonly, Needs, ACTIONS, ENTITIES};
pub use verify::{verify, Denied, URI};

/// An entity and an action: `("invoices", "read")`.
pub type Op = (&'static str, &'static str);
