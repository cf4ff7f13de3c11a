//! The chain in a box beside bitcoind: the same transactions and blocks get the same answers, and
//! fulmend cannot tell the two apart.

pub mod beside;
mod blocks;
pub mod claims;
mod daemons;
mod drawing;
mod relay;
mod replacing;
mod scripts;
