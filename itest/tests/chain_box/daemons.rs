//! fulmend cannot tell the chain in a box from bitcoind: stories told on bitcoind are told on it
//! again, and it keeps its chain as a process.

use bitcoin::consensus::encode::deserialize;
use bitcoin::{Block, Network, Transaction};
use bitcoincore_rpc::{Auth, Client, RpcApi};
use fulmen_channel::amount::Sat;
use fulmen_itest::bitcoind::{Bitcoind, Program, RPC_LOGIN};
use fulmen_itest::failure::Result;
use fulmen_itest::places;
use fulmen_itest::port::Port;
use fulmen_itest::process::Process;
use fulmen_itest::regtest::Cluster;
use fulmen_itest::wait::{self, PATIENCE};
use serde_json::Value;

use crate::{killed, two_daemons};

fn program() -> Program {
    Program::standing_in(env!("CARGO_BIN_EXE_chainbox").into(), &[])
}

pub fn cluster() -> Result<Cluster> {
    let cluster = Cluster::start_on(program())?;
    let who = cluster.bitcoind().rpc().get_network_info()?.subversion;
    assert_eq!(who, "/fulmen:chainbox/");
    Ok(cluster)
}

#[tokio::test(flavor = "multi_thread")]
async fn they_open_pay_each_other_and_close() -> Result<()> {
    two_daemons::open_pay_close(cluster()?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_channel_works_as_well_and_the_other_side_may_close() -> Result<()> {
    two_daemons::private_and_closed_by_the_other(cluster()?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orderly_restart_of_both_keeps_everything() -> Result<()> {
    two_daemons::orderly_restart(cluster()?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forced_close_publishes_and_waits() -> Result<()> {
    two_daemons::forced_close(cluster()?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_box_is_killed_and_payments_go_on() -> Result<()> {
    killed::bitcoind_is_down(cluster()?).await
}

#[test]
fn it_keeps_its_chain_when_killed_and_its_mempool_when_stopped() -> Result<()> {
    let chain_box = Bitcoind::start_as(program())?;
    chain_box.mine(101)?;
    let address = chain_box.rpc().get_new_address(None, None)?;
    let address = address.require_network(Network::Regtest)?;
    let paid = chain_box.send_to(&address, Sat::new(123_456))?;
    chain_box.restart()?;
    assert_eq!(chain_box.mempool()?, [paid.txid]);
    let best = chain_box.mine(2)?[1];
    chain_box.rpc().invalidate_block(&best)?;
    chain_box.kill()?;
    chain_box.restart()?;
    assert_eq!(chain_box.height()?, 102);
    let found = chain_box.rpc().get_tx_out(&paid.txid, paid.vout, None)?.unwrap();
    assert_eq!(found.value.to_sat(), 123_456);
    chain_box.rpc().reconsider_block(&best)?;
    assert_eq!(chain_box.rpc().get_best_block_hash()?, best);
    Ok(())
}

#[test]
fn it_publishes_what_bitcoind_publishes() -> Result<()> {
    let mut heard = Vec::new();
    for program in [Program::find()?, program()] {
        let node = Bitcoind::start_as(program)?;
        node.mine(101)?;
        let context = zmq::Context::new();
        let blocks = subscribed(&context, &node.zmq_block())?;
        let txs = subscribed(&context, &node.zmq_tx())?;
        // A subscription takes effect a moment after it was asked for.
        wait::until("the first notices", PATIENCE, || {
            node.mine(1)?;
            let both = blocks.poll(zmq::POLLIN, 50)? > 0 && txs.poll(zmq::POLLIN, 50)? > 0;
            Ok(both.then_some(()))
        })?;
        let mut last: Vec<(String, u32)> = Vec::new();
        let mut drain = |socket: &zmq::Socket| -> Result<Vec<(String, Vec<u8>)>> {
            let mut found = Vec::new();
            while socket.poll(zmq::POLLIN, 500)? > 0 {
                let parts = socket.recv_multipart(0)?;
                let topic = String::from_utf8(parts[0].clone())?;
                let sequence = u32::from_le_bytes(parts[2].as_slice().try_into()?);
                if let Some((_, before)) = last.iter().rev().find(|(name, _)| *name == topic) {
                    assert_eq!(sequence, before + 1, "{topic}");
                }
                last.push((topic.clone(), sequence));
                found.push((topic, parts[1].clone()));
            }
            Ok(found)
        };
        drain(&blocks)?;
        drain(&txs)?;
        let address = node.rpc().get_new_address(None, None)?.require_network(Network::Regtest)?;
        let paid = node.send_to(&address, Sat::new(50_000))?;
        let hash = node.mine(1)?[0];
        node.rpc().invalidate_block(&hash)?;
        let mut said = Vec::new();
        for (topic, body) in drain(&blocks)?.into_iter().chain(drain(&txs)?) {
            said.push(match topic.as_str() {
                "hashblock" => format!("{topic} {}", hex::encode(&body) == hash.to_string()),
                "rawblock" => {
                    format!("{topic} {}", deserialize::<Block>(&body)?.block_hash() == hash)
                }
                _ => {
                    let tx = deserialize::<Transaction>(&body)?;
                    let ours = tx.compute_txid() == paid.txid;
                    format!("{topic} ours {ours} coinbase {}", tx.is_coinbase())
                }
            });
        }
        said.sort();
        heard.push(said);
    }
    assert!(heard[0].len() > 5, "{heard:?}");
    assert_eq!(heard[0], heard[1]);
    Ok(())
}

fn subscribed(context: &zmq::Context, endpoint: &str) -> Result<zmq::Socket> {
    let socket = context.socket(zmq::SUB)?;
    socket.set_subscribe(b"")?;
    socket.connect(endpoint)?;
    Ok(socket)
}

#[test]
fn only_who_may_is_answered() -> Result<()> {
    let dir = places::temporary("chainbox")?;
    let port = Port::free()?;
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_chainbox"));
    command.arg(format!("-datadir={}", dir.path().display()));
    command.arg(format!("-rpcport={}", port.number()));
    let _process = Process::spawn("chainbox", command)?;
    let url = format!("http://{}", port.address());
    let cookie = dir.path().join("regtest/.cookie");
    let client = wait::until("it answers to its cookie", PATIENCE, || {
        let client = Client::new(&url, Auth::CookieFile(cookie.clone()));
        Ok(client.ok().filter(|client| client.get_block_count().is_ok()))
    })?;
    assert!(client.call::<Value>("uptime", &[])?.as_u64().unwrap() < 60);
    let stranger = Client::new(&url, Auth::UserPass(RPC_LOGIN.into(), RPC_LOGIN.into()))?;
    assert!(stranger.get_block_count().unwrap_err().to_string().contains("401"));
    Ok(())
}
