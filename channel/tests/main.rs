//! stories

mod codec;
