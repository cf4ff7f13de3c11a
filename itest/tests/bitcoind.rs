//! A bitcoind of one's own: it mines, pays, survives a kill, and dies with its owner.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use bitcoin::{Network, OutPoint};
use bitcoincore_rpc::RpcApi;
use fulmen_channel::amount::Sat;
use fulmen_itest::bitcoind::Bitcoind;
use fulmen_itest::failure::Result;
use fulmen_itest::process::Process;
use fulmen_itest::wait::{self, PATIENCE};

#[test]
fn mines_a_block() -> Result<()> {
    let bitcoind = Bitcoind::start()?;
    let blocks = bitcoind.mine(1)?;
    assert_eq!(bitcoind.height()?, 1);
    assert_eq!(bitcoind.rpc().get_best_block_hash()?, blocks[0]);
    Ok(())
}

#[test]
fn pays_and_keeps_its_chain_and_mempool_when_restarted() -> Result<()> {
    let bitcoind = Bitcoind::start()?;
    let address = bitcoind.rpc().get_new_address(None, None);
    assert!(address.is_err(), "there is no wallet before the first block is mined");
    bitcoind.mine(1)?;
    let address = bitcoind.rpc().get_new_address(None, None)?.require_network(Network::Regtest)?;

    let paid = bitcoind.send_to(&address, Sat::new(123_456))?;
    assert_eq!(bitcoind.mempool()?, [paid.txid]);
    bitcoind.restart()?;
    assert_eq!(bitcoind.mempool()?, [paid.txid]);

    bitcoind.mine(1)?;
    assert_eq!(bitcoind.mempool()?, []);
    assert_eq!(value(&bitcoind, paid)?, Sat::new(123_456));
    Ok(())
}

#[test]
fn two_at_once_do_not_meet_and_neither_outlives_its_owner() -> Result<()> {
    let (one, two) = (Bitcoind::start()?, Bitcoind::start()?);
    one.mine(3)?;
    assert_eq!(two.height()?, 0);
    one.kill()?;
    assert!(one.height().is_err());
    one.restart()?;
    assert_eq!(one.height()?, 3);

    let process = format!("/proc/{}", one.id().unwrap());
    assert!(Path::new(&process).exists());
    drop(one);
    assert!(!Path::new(&process).exists());
    Ok(())
}

#[test]
fn the_kernel_ends_it_when_its_owner_is_killed() -> Result<()> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bitcoind"));
    command.arg("start").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut owner = Process::spawn("the owner", command)?;
    let stdout = BufReader::new(owner.child().stdout.take().unwrap());
    let said = stdout.lines().map_while(std::result::Result::ok);
    let id = said.filter_map(|line| Some(line.split_once("process")?.1.trim().to_owned())).next();
    let status = format!("/proc/{}/status", id.unwrap());
    assert!(Path::new(&status).exists());
    owner.kill();
    wait::until("bitcoind has ended", PATIENCE, || {
        let status = std::fs::read_to_string(&status).unwrap_or_else(|_| "State:\tZ".into());
        Ok(status.contains("State:\tZ").then_some(()))
    })
}

fn value(bitcoind: &Bitcoind, output: OutPoint) -> Result<Sat> {
    let found = bitcoind.rpc().get_tx_out(&output.txid, output.vout, None)?;
    Ok(found.map(|out| out.value.into()).unwrap_or(Sat::ZERO))
}
