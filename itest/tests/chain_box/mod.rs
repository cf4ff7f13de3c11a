//! The chain in a box beside bitcoind: the same transactions and blocks get the same answers, and
//! fulmend cannot tell the two apart.

mod beside;
mod blocks;
mod daemons;
mod relay;
mod replacing;
mod scripts;
