//! The store: group commit, order, crashes, damage, a full disk.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod damage;
mod earlier;
mod group_commit;
mod reading;
