//! The built fulmen-cli against a daemon that plays back answers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(clippy::arithmetic_side_effects)]

mod calls;
mod compared;
mod mock;
mod paying;
mod pty;
mod startup;
