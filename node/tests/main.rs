//! stories

mod store;
