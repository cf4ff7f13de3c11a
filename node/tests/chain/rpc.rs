//! The RPC client against a server that answers what it is told to.

use bitcoin::Network;
use fulmen_node::chain::rpc::Rpc;
use fulmen_node::chain::{Chain, ChainConfig, ChainError, RpcAuth, RpcError};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

const INFO: &str = r#"{"chain":"regtest","blocks":7,"headers":9,"initialblockdownload":false,
    "bestblockhash":"0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206"}"#;

/// Answers each request with a status and a body that `answer` makes of what was asked.
fn serve(mut answer: impl FnMut(&Asked) -> (u16, String) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            while let Some(asked) = Asked::read(&mut stream) {
                let (status, body) = answer(&asked);
                let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n", body.len());
                let whole = head + &body;
                if stream.get_mut().write_all(whole.as_bytes()).is_err() {
                    break;
                }
            }
        }
    });
    host
}

struct Asked {
    authorization: String,
    id: serde_json::Value,
}

impl Asked {
    fn read(stream: &mut BufReader<TcpStream>) -> Option<Asked> {
        let (mut length, mut authorization) = (0, String::new());
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).ok()? == 0 {
                return None;
            }
            match line.trim_end().split_once(": ") {
                Some(("Content-Length", value)) => length = value.parse().unwrap(),
                Some(("Authorization", value)) => authorization = value.to_string(),
                _ if line == "\r\n" => break,
                _ => {}
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).ok()?;
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        Some(Asked { authorization, id: body["id"].clone() })
    }

    fn result(&self, result: &str) -> (u16, String) {
        (200, format!(r#"{{"result":{result},"error":null,"id":{}}}"#, self.id))
    }

    fn error(&self, code: i32, message: &str) -> (u16, String) {
        let error = format!(r#"{{"code":{code},"message":"{message}"}}"#);
        (500, format!(r#"{{"result":null,"error":{error},"id":{}}}"#, self.id))
    }
}

fn password() -> RpcAuth {
    RpcAuth::UserPass { user: "u".into(), password: "p".into() }
}

fn connect(network: Network, host: &str) -> Result<Chain, ChainError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(Chain::connect(ChainConfig::new(network, host, password())))
}

#[test]
fn a_bitcoind_that_is_still_starting_is_waited_for() {
    let mut refusals = 2;
    let host = serve(move |asked| {
        if refusals == 0 {
            return asked.result(INFO);
        }
        refusals -= 1;
        asked.error(-28, "Loading block index…")
    });
    let chain = connect(Network::Regtest, &host).unwrap();
    assert_eq!((chain.tip().height.number(), chain.best_height().number()), (7, 9));
    assert!(!chain.synced(), "not before it is followed");
}

#[test]
fn the_wrong_network_is_named() {
    let host = serve(|asked| asked.result(INFO));
    let error = connect(Network::Signet, &host).err().unwrap();
    assert!(matches!(error, ChainError::WrongNetwork(_)));
    assert!(error.to_string().contains("regtest, but we are set to signet"), "{error}");
}

#[test]
fn refused_credentials_are_an_error_at_once() {
    let host = serve(|_| (401, String::new()));
    let error = connect(Network::Regtest, &host).err().unwrap();
    assert!(matches!(error, ChainError::Rpc(RpcError::Credentials { .. })));
    assert!(error.to_string().contains("--bitcoind.rpcpass"), "{error}");
}

#[test]
fn a_new_cookie_is_read_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(".cookie");
    let cookie = |path: &Path, secret: &str| std::fs::write(path, secret).unwrap();
    cookie(&path, "__cookie__:old");
    let server_path = path.clone();
    let host = serve(move |asked| {
        // What the file says is what the server wants, as after each start of bitcoind.
        let now = std::fs::read_to_string(&server_path).unwrap();
        let wanted =
            if now.ends_with("old") { "X19jb29raWVfXzpvbGQ=" } else { "X19jb29raWVfXzpuZXc=" };
        match asked.authorization == format!("Basic {wanted}") {
            true => asked.result(INFO),
            false => (401, String::new()),
        }
    });
    let rpc = Rpc::new(&host, RpcAuth::Cookie(path.clone()), Duration::from_secs(10));
    rpc.chain_info().unwrap();
    cookie(&path, "__cookie__:new");
    rpc.chain_info().unwrap();
}

#[test]
fn an_answer_that_makes_no_sense_is_an_error() {
    let host = serve(|asked| asked.result(r#"{"chain":5}"#));
    let error = Rpc::new(&host, password(), Duration::from_secs(10)).chain_info().unwrap_err();
    assert!(error.to_string().contains("answer to getblockchaininfo makes no sense"), "{error}");
    let host = serve(|_| (503, "Work queue depth exceeded".into()));
    let error = Rpc::new(&host, password(), Duration::from_secs(10)).chain_info().unwrap_err();
    assert!(error.is_down(), "busy is not forever: {error}");
}

#[test]
fn a_server_that_never_answers_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let error = Rpc::new(&host, password(), Duration::from_millis(50)).chain_info().unwrap_err();
    assert!(error.is_down(), "{error}");
}

#[test]
fn bitcoinds_own_errors_keep_their_code_and_words() {
    let host = serve(|asked| asked.error(-8, "Block height out of range"));
    let rpc = Rpc::new(&host, password(), Duration::from_secs(10));
    assert_eq!(rpc.block_hash(fulmen_channel::amount::Height::new(9)).unwrap(), None);
    let error = rpc.chain_info().unwrap_err();
    assert_eq!(error.code(), Some(-8));
    assert!(error.to_string().contains("Block height out of range (code -8)"), "{error}");
}
