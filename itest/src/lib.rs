//! Whole nodes for tests: a real bitcoind, and harnesses around real daemons.

pub mod bitcoind;
pub mod build;
pub mod chainbox;
pub mod disk;
pub mod failure;
pub mod fixture;
pub mod ldk;
pub mod node_js;
pub mod places;
pub mod port;
pub mod process;
pub mod proxy;
pub mod python;
pub mod regtest;
pub mod show;
pub mod tower;
pub mod wait;
