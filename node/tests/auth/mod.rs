//! TLS and macaroons: who may call what, when, from where.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(clippy::arithmetic_side_effects)]

mod bakery;
mod macaroon;
mod tls;
