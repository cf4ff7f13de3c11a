//! The tower and a bitcoind in trouble.

use crate::towers::tower_in;
use bitcoin::hashes::Hash;
use bitcoin::BlockHash;
use fulmen_channel::amount::Height;
use fulmen_watchtower::carrier::{turn, CarrierError};
use fulmen_watchtower::rpc::{Rpc, RpcAuth};
use serde_json::{json, Value};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;
use tempfile::TempDir;

/// A bitcoind that knows block 10 as its best, has no block above it, and is `loading` its blocks
/// or not.
fn bitcoind(loading: bool) -> Rpc {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let best = BlockHash::from_byte_array([10; 32]);
    let answer = move |asked: Value| match asked["method"].as_str() {
        Some("getblockchaininfo") => json!({ "id": asked["id"], "result": {
            "chain": "regtest", "blocks": 10, "headers": 500, "bestblockhash": best,
            "initialblockdownload": loading,
        }}),
        _ => json!({ "id": asked["id"], "error": { "code": -8, "message": "out of range" } }),
    };
    std::thread::spawn(move || {
        for mut connection in listener.incoming().map_while(Result::ok) {
            let body = answer(question(&mut connection)).to_string();
            let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: ";
            let answer = format!("{head}{}\r\n\r\n{body}", body.len());
            connection.write_all(answer.as_bytes()).unwrap();
        }
    });
    let auth = RpcAuth::UserPass { user: "a".into(), password: "b".into() };
    Rpc::new(&host, auth, Duration::from_secs(20))
}

/// The body of what is asked, once all of it has come.
fn question(connection: &mut TcpStream) -> Value {
    let (mut all, mut part) = (String::new(), [0; 4_096]);
    loop {
        let length = connection.read(&mut part).unwrap();
        all.push_str(std::str::from_utf8(&part[..length]).unwrap());
        let body = all.split_once("\r\n\r\n").and_then(|(_, body)| serde_json::from_str(body).ok());
        if let Some(question) = body {
            return question;
        }
        assert!(length > 0, "it broke off: {all}");
    }
}

#[test]
fn a_bitcoind_that_reads_its_blocks_anew_is_waited_for() {
    let dir = TempDir::new().unwrap();
    let tower = tower_in(dir.path());
    let (height, hash) = (Height::new(400), BlockHash::from_byte_array([4; 32]));
    tower.begin(height, hash).unwrap();
    let waits = turn(&tower, &bitcoind(true), true).unwrap_err();
    assert!(matches!(waits, CarrierError::Behind), "{waits}");
    assert_eq!(tower.tip().unwrap(), Some((height, hash)), "nothing is taken back");
    // What is not loading, and does not have our blocks, is on another chain.
    let lost = turn(&tower, &bitcoind(false), true).unwrap_err();
    assert!(matches!(lost, CarrierError::TooDeep), "{lost}");
}
