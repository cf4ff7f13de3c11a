//! `chainbox`: the chain in a box as a program that takes bitcoind's place, with its flags.

use fulmen_itest::chainbox::shell;
use fulmen_itest::failure::Result;

fn main() -> Result<()> {
    shell::run(std::env::args().skip(1))
}
