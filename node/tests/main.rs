//! Stories about the parts of the daemon.


mod auth;
mod chain;
mod config;
mod disk;
mod invoices;
mod keys;
mod onion;
mod peer;
mod store;
mod wallet;