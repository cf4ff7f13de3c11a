//! fulmend.
fn main() {}
