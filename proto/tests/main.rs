//! The generated interface against tables of facts, on the wire and as JSON.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod facts;
mod json;
mod wire;
