//! Stories about the parts of the daemon.

mod store;
