//! Whole nodes on a regtest chain: a bitcoind, daemons of ours, and the verbs of a story.

mod cluster;
mod daemon;
mod peer;
mod verbs;
mod wire;

pub use cluster::Cluster;
pub use daemon::Daemon;
pub use peer::Peer;
pub use verbs::{is_ended, DEEP};
pub use wire::{Lightning, Router, State, Unlocker, WalletKit, Wire};
