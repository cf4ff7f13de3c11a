//! `cargo bitcoind`: says where bitcoind is, or with `start` runs one on regtest until Enter, which
//! mines and sends as it is told.

use std::io::stdin;

use fulmen_itest::bitcoind::{Bitcoind, Program, RPC_LOGIN, WORDS};
use fulmen_itest::failure::{Failure, Result};

fn main() -> Result<()> {
    match std::env::args().nth(1).as_deref() {
        None => {
            println!("{:?}", Program::find()?.command());
            Ok(())
        }
        Some("start") => start(),
        Some(other) => Err(Failure::new(format!("unknown word {other}; say nothing or `start`"))),
    }
}

fn start() -> Result<()> {
    let bitcoind = Bitcoind::start()?;
    bitcoind.mine(101)?;
    println!("bitcoind on regtest, {} blocks mined", bitcoind.height()?);
    println!("  rpc      http://{RPC_LOGIN}:{RPC_LOGIN}@{}", bitcoind.rpc_address());
    println!("  rawblock {}", bitcoind.zmq_block());
    println!("  rawtx    {}", bitcoind.zmq_tx());
    println!("  process  {}", bitcoind.id().unwrap_or_default());
    println!("  folder   {}", bitcoind.dir().display());
    println!("Type {WORDS}, or Enter to end it.");
    for line in stdin().lines() {
        let line = line?;
        if line.trim().is_empty() {
            break;
        }
        match bitcoind.obeys(&line) {
            Ok(text) => println!("{text}"),
            Err(failure) => println!("{failure}"),
        }
    }
    bitcoind.stop()
}
