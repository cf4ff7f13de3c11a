//! The generated interface against tables of facts, on the wire and as JSON.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod facts;
mod json;
mod wire;
