//! Stories about the parts of the daemon.

mod auth;
mod backup;
mod chain;
mod config;
mod desk;
mod disk;
mod invoices;
mod keys;
mod onion;
mod payments;
mod peer;
mod store;
mod sweeper;
mod switch;
mod wallet;
