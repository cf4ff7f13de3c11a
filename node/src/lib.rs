//! The daemon around the contract: disk, sockets, chain, policy.

pub mod auth;
pub mod chain;
pub mod config;
pub mod desk;
pub mod files;
pub mod invoices;
pub mod keys;
pub mod log;
pub mod onion;
pub mod payments;
pub mod peer;
pub mod store;
pub mod switch;
pub mod wallet;
