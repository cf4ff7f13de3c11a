//! The Lightning contract (RSMC and HTLC) as pure values: what goes in is a value, what comes out
//! is a value. No clock, file, socket or randomness of its own, so every run can be replayed.

pub mod amount;
pub mod keys;
pub mod message;
pub mod params;
pub mod payment;
pub mod script;
pub mod transactions;
