//! The stories, rules and vectors of the contract, one program.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod codec;
mod opening;
mod reestablish;
mod support;
mod transactions;
mod updating;
