//! The daemon around the contract: disk, sockets, chain, policy.

pub mod assemble;
pub mod auth;
pub mod chain;
pub mod channels;
pub mod clock;
pub mod config;
pub mod desk;
pub mod files;
pub mod invoices;
pub mod keys;
pub mod log;
pub mod money;
pub mod node;
pub mod onion;
pub mod payments;
pub mod peer;
pub mod recovery;
pub mod rpc;
pub mod run;
pub mod sends;
pub mod store;
pub mod sweeper;
pub mod switch;
pub mod switchboard;
pub mod unlock;
pub mod wallet;
