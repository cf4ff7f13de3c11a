//! Stories about the parts of the daemon.

mod invoices;
mod keys;
mod onion;
mod store;
