//! The chain in a box beside bitcoind: the same transactions and blocks get the same answers, and
//! fulmend cannot tell the two apart.

mod beside;
mod blocks;
mod claims;
mod daemons;
mod drawing;
mod relay;
mod replacing;
mod scripts;
