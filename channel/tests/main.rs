//! The stories, rules and vectors of the contract, one program.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod closing;
mod codec;
mod deadline;
mod exposure;
mod force_close;
mod hostile;
mod limits;
mod old_copy;
mod onchain;
mod opening;
mod opening_rules;
mod reestablish;
mod restored;
mod simple_close;
mod simple_close_rules;
mod simulator;
mod support;
mod transactions;
mod unknown;
mod updating;
mod zero_conf;
