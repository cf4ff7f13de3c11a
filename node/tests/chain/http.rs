//! What our side of bitcoind's RPC survives: answers cut anywhere, too slow, without end, or that
//! answer something else.

use super::fake::{spend, stray};
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, OutPoint, ScriptBuf};
use fulmen_channel::amount::Height;
use fulmen_node::chain::broadcast::package;
use fulmen_node::chain::rpc::Rpc;
use fulmen_node::chain::{RpcAuth, RpcError};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Far more than a call over the loopback needs.
const LONG: Duration = Duration::from_secs(120);

/// A server in bitcoind's place that hands each question to `serve`; false ends the connection.
fn server(mut serve: impl FnMut(&Question, &mut TcpStream) -> bool + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            while let Some(question) = question(&stream) {
                if !serve(&question, &mut stream) {
                    break;
                }
            }
        }
    });
    address
}

/// A request: for the block at a height, or another.
struct Question {
    head: String,
    method: String,
    params: serde_json::Value,
    height: usize,
    id: u64,
}

impl Question {
    /// The block of 32 zeros.
    fn answer(&self) -> String {
        let (hash, id) = ("00".repeat(32), self.id);
        http("200 OK", &format!("{{\"result\":\"{hash}\",\"error\":null,\"id\":{id}}}"))
    }

    fn refuse(&self, code: i32, message: &str) -> String {
        let error = serde_json::json!({"code": code, "message": message});
        let id = self.id;
        http("500 No", &format!("{{\"result\":null,\"error\":{error},\"id\":{id}}}"))
    }
}

/// The next one; none when the client has gone.
fn question(stream: &TcpStream) -> Option<Question> {
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    while !head.ends_with("\r\n\r\n") {
        let from = head.len();
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
        if let Some(given) = head[from..].strip_prefix("Content-Length:") {
            length = given.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    Some(Question {
        head,
        method: body["method"].as_str().unwrap().to_owned(),
        params: body["params"].clone(),
        height: body["params"][0].as_u64().unwrap_or_default() as usize,
        id: body["id"].as_u64().unwrap(),
    })
}

fn http(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn client(address: &str, timeout: Duration) -> Rpc {
    let auth = RpcAuth::UserPass { user: "us".into(), password: "pass".into() };
    Rpc::new(address, auth, timeout)
}

fn ask(rpc: &Rpc, height: u32) -> Result<BlockHash, RpcError> {
    rpc.block_hash(Height::new(height)).map(|found| found.expect("a block"))
}

#[test]
fn an_answer_that_is_cut_anywhere_is_an_error_and_the_next_is_read() {
    const WHOLE: u32 = 1_000;
    let asked = Arc::new(AtomicU32::new(0));
    let count = asked.clone();
    let address = server(move |question, stream| {
        assert!(question.head.contains("Authorization: Basic dXM6cGFzcw==\r\n"));
        count.fetch_add(1, Ordering::SeqCst);
        let answer = question.answer();
        let cut = answer.get(..question.height).unwrap_or(&answer);
        stream.write_all(cut.as_bytes()).unwrap();
        cut == answer
    });
    let rpc = client(&address, LONG);
    for cut in 0..100 {
        assert_eq!(ask(&rpc, WHOLE).unwrap(), BlockHash::all_zeros());
        let error = ask(&rpc, cut).unwrap_err();
        assert!(error.is_down(), "cut at {cut}: {error}");
    }
    // Only where the connection was closed without a word it is asked again, once.
    assert_eq!(asked.load(Ordering::SeqCst), 201);
}

#[test]
fn a_connection_that_was_closed_while_idle_is_made_again() {
    let address = server(|question, stream| {
        stream.write_all(question.answer().as_bytes()).unwrap();
        false
    });
    let rpc = client(&address, LONG);
    for _ in 0..3 {
        assert_eq!(ask(&rpc, 0).unwrap(), BlockHash::all_zeros());
    }
}

#[test]
fn an_answer_that_stops_coming_ends_when_the_time_is_over() {
    let address = server(|question, stream| {
        stream.write_all(&question.answer().as_bytes()[..20]).unwrap();
        // Until the client has gone.
        let _ = stream.read(&mut [0]);
        false
    });
    let error = ask(&client(&address, Duration::from_millis(200)), 0).unwrap_err();
    assert!(error.to_string().contains("no answer in time"), "{error}");
}

#[test]
fn what_is_no_answer_is_told_apart() {
    let answers = |question: &Question| match question.height {
        0 => "HTTP/1.1 200 OK\r\n".to_owned() + &"X-Long: 1\r\n".repeat(10_000),
        1 => "SSH-2.0-OpenSSH\r\n".to_owned(),
        2 => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
        3 => "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n{".to_owned(),
        4 => http("503 Service Unavailable", "Work queue depth exceeded"),
        5 => http("401 Unauthorized", ""),
        6 => http("200 OK", "{}"),
        7 => http("200 OK", "[\"regtest\"]"),
        8 => http("200 OK", "{\"result\":null,\"id\":\"other\"}"),
        9 => question.refuse(-28, "Loading block index…"),
        _ => question.answer().replace("0000", "zz00"),
    };
    let address = server(move |question, stream| {
        // It may hang up before it has read all of it.
        let _ = stream.write_all(answers(question).as_bytes());
        false
    });
    for (height, says) in [
        "head breaks off or does not end",
        "is not HTTP",
        "in pieces",
        "a length that is none",
        "HTTP 503",
        "refuses our RPC credentials",
        "makes no sense: missing field `id`",
        "makes no sense",
        "answers another question",
        "bitcoind is still starting: Loading",
        "makes no sense",
    ]
    .into_iter()
    .enumerate()
    {
        let error = ask(&client(&address, LONG), height as u32).unwrap_err().to_string();
        assert!(error.contains(says), "{height}: {error}");
    }
}

/// A bitcoind before 26 knows no packages: what it says of the child alone is what counts.
#[test]
fn where_packages_are_unknown_the_child_follows_its_parent() {
    let parent = stray(1);
    let outpoint = OutPoint { txid: parent.compute_txid(), vout: 0 };
    let child = spend(&[outpoint], &[(1_000, ScriptBuf::new())]);
    let heard = Arc::new(Mutex::new(Vec::new()));
    let asked = heard.clone();
    let takes_all = Arc::new(AtomicBool::new(true));
    let takes = takes_all.clone();
    let known = serialize_hex(&parent);
    let address = server(move |question, stream| {
        let sent = question.params[0].as_str().unwrap_or("both").to_owned();
        let answer = match question.method.as_str() {
            "submitpackage" => question.refuse(-32601, "Method not found"),
            "sendrawtransaction" if sent == known || takes.load(Ordering::SeqCst) => {
                question.answer()
            }
            _ => question.refuse(-26, "mempool min fee not met, 110 < 500"),
        };
        asked.lock().unwrap().push((question.method.clone(), sent));
        stream.write_all(answer.as_bytes()).unwrap();
        true
    });
    let rpc = client(&address, LONG);
    assert_eq!(package(&rpc, &parent, &child), Ok(()));
    let call = |method: &str, sent: &str| (method.to_owned(), sent.to_owned());
    let alone = |tx| call("sendrawtransaction", &serialize_hex(tx));
    let all = [call("submitpackage", "both"), alone(&parent), alone(&child)];
    assert_eq!(*heard.lock().unwrap(), all);
    takes_all.store(false, Ordering::SeqCst);
    let refused = package(&rpc, &parent, &child).unwrap_err();
    assert!(refused.asks_for_more(), "{refused}");
}
