//! What `cargo demo` shows: a channel's transactions as a picture, from what is on chain and what
//! both daemons say.

pub mod facts;
pub mod picture;
