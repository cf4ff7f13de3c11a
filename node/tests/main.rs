//! Stories about the parts of the daemon.

mod keys;
mod onion;
mod store;
