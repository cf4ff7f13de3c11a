//! The wallet, fed with blocks made in memory.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod addresses;
mod coins;
mod fund;
mod history;
mod purse;
mod recovery;
mod select;
