//! fulmen-cli.
fn main() {}
