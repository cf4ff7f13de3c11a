//! Words typed at a running bitcoind: `mine 6`, `send ADDRESS SATOSHIS`.

use bitcoin::{Address, Network};
use fulmen_channel::amount::Sat;

use super::Bitcoind;
use crate::failure::{Failure, Result};

/// What can be typed, for people.
pub const WORDS: &str = "mine BLOCKS | send ADDRESS SATOSHIS";

impl Bitcoind {
    /// Does what `line` says, and tells what came of it.
    ///
    /// # Errors
    /// When the words are others than [`WORDS`], or bitcoind refuses.
    pub fn obeys(&self, line: &str) -> Result<String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["mine", blocks] => {
                self.mine(blocks.parse()?)?;
                Ok(format!("height {}", self.height()?))
            }
            ["send", address, amount] => {
                let address = address.parse::<Address<_>>()?.require_network(Network::Regtest)?;
                let outpoint = self.send_to(&address, Sat::new(amount.parse()?))?;
                Ok(format!("txid {}", outpoint.txid))
            }
            _ => Err(Failure::new(format!("type one of: {WORDS}"))),
        }
    }
}
