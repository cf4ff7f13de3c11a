//! Following bitcoind's chain, without a bitcoind.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod broadcast;
pub mod fake;
mod follow;
mod http;
mod watch;
mod zmq;
