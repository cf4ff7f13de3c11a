//! The Lightning contract (RSMC and HTLC) as pure values: what goes in is a value, what comes out
//! is a value. No clock, file, socket or randomness of its own, so every run can be replayed.
//!
//! ```text
//!   channel      two doors: handle(Input), poll() -> Output
//!   protocol     whose turn it is            onchain   what happens if it is published
//!   contract     who owns what
//!   transactions what is signed
//!   script keys  of what it is made
//! ```

pub mod amount;
pub mod changeset;
pub mod channel;
pub mod contract;
pub mod error;
pub mod input;
pub mod keys;
pub mod message;
pub mod onchain;
mod outbox;
pub mod output;
pub mod params;
pub mod payment;
pub mod protocol;
pub mod script;
pub mod transactions;
