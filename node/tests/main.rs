//! Stories about the parts of the daemon.

mod chain;
mod invoices;
mod config;
mod keys;
mod onion;
mod store;
