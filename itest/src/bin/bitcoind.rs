//! `cargo bitcoind`: says where bitcoind is, or with `start` runs one on regtest until Enter.

use std::io::{stdin, Read};

use fulmen_itest::bitcoind::{Bitcoind, Program, RPC_LOGIN};
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
    println!("bitcoind on regtest, {} blocks mined; Enter ends it", bitcoind.height()?);
    println!("  rpc      http://{RPC_LOGIN}:{RPC_LOGIN}@{}", bitcoind.rpc_address());
    println!("  rawblock {}", bitcoind.zmq_block());
    println!("  rawtx    {}", bitcoind.zmq_tx());
    println!("  process  {}", bitcoind.id().unwrap_or_default());
    println!("  folder   {}", bitcoind.dir().display());
    let _ = stdin().read(&mut [0])?;
    bitcoind.stop()
}
