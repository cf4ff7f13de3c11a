//! The stories of the tower, one program.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod carrier;
#[allow(dead_code)] // the contract's own stories use the rest
#[path = "../../channel/tests/onchain/chain.rs"]
mod chain;
mod hostile;
mod pure;
#[allow(dead_code)]
#[path = "../../channel/tests/support/mod.rs"]
mod support;
mod towers;
mod world;
