//! The daemon around the contract: disk, sockets, chain, policy.

pub mod store;
