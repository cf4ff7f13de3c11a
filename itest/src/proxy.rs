//! A proxy between a daemon and its bitcoind, or a peer, that holds, cuts or garbles the answers,
//! or gives those of a bitcoind that is starting or that estimates another feerate.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use serde_json::{json, Value};

use crate::failure::Result;

/// What becomes of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    /// It passes.
    Pass,
    /// It waits until the proxy is set to something else.
    Hold,
    /// The connection ends in the middle of it.
    Cut,
    /// Some of its bytes are others.
    Garble,
    /// The call is answered, in place of bitcoind, as bitcoind does while it loads its blocks.
    WarmingUp,
    /// It passes, but estimates are this many satoshi for a vbyte, for any number of blocks.
    Estimate(u32),
}

/// What bitcoind says then.
pub const WARMING_UP: &str = "Loading block index…";

/// A running proxy. Its threads end with the connections.
#[derive(Clone, Debug)]
pub struct Proxy {
    address: SocketAddr,
    mode: Arc<(Mutex<Answers>, Condvar)>,
    is_http: bool,
}

impl Proxy {
    /// A proxy to the bitcoind at `to` (`IP:PORT`) on a free port.
    ///
    /// # Errors
    /// When it has no port.
    pub fn to(to: String) -> Result<Self> {
        Self::start(to, true)
    }

    /// A proxy to the peer at `to`, who does not speak HTTP: it knows neither `WarmingUp` nor
    /// `Estimate`.
    ///
    /// # Errors
    /// When it has no port.
    pub fn to_peer(to: String) -> Result<Self> {
        Self::start(to, false)
    }

    fn start(to: String, is_http: bool) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let mode = Arc::new((Mutex::new(Answers::Pass), Condvar::new()));
        let proxy = Proxy { address: listener.local_addr()?, mode, is_http };
        let accepting = proxy.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(std::result::Result::ok) {
                let (proxy, to) = (accepting.clone(), to.clone());
                thread::spawn(move || drop(proxy.serve(client, &to)));
            }
        });
        Ok(proxy)
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// What becomes of answers from now on, those on hold included.
    pub fn set(&self, answers: Answers) {
        let (mode, changed) = &*self.mode;
        *mode.lock().unwrap_or_else(PoisonError::into_inner) = answers;
        changed.notify_all();
    }

    fn serve(&self, mut client: TcpStream, to: &str) -> std::io::Result<()> {
        let mut server = TcpStream::connect(to)?;
        let (mut asked, mut asks) = (client.try_clone()?, server.try_clone()?);
        let proxy = self.clone();
        thread::spawn(move || {
            let _ = match proxy.is_http {
                true => proxy.ask(&asked, &mut asks),
                false => std::io::copy(&mut asked, &mut asks).map(drop),
            };
            let _ = asks.shutdown(Shutdown::Both);
        });
        let mut buffer = vec![0; 1 << 16];
        loop {
            let read = server.read(&mut buffer)?;
            let answer = buffer.get_mut(..read).unwrap_or_default();
            match (answer.is_empty(), self.wait()) {
                (true, _) => break,
                (_, Answers::Cut) => {
                    client.write_all(answer.get(..read / 2).unwrap_or_default())?;
                    break;
                }
                // Behind the head of HTTP, so that the body is what makes no sense.
                (_, Answers::Garble) => {
                    answer.iter_mut().skip(150).step_by(7).for_each(|byte| *byte ^= 0x15);
                }
                _ => {}
            }
            client.write_all(answer)?;
        }
        client.shutdown(Shutdown::Both)
    }

    /// Hands on the calls that are not answered here.
    fn ask(&self, mut client: &TcpStream, server: &mut TcpStream) -> std::io::Result<()> {
        let mut calls = BufReader::new(client);
        loop {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                if calls.read_line(&mut head)? == 0 {
                    return Ok(());
                }
            }
            let length = head.to_lowercase().lines().find_map(|line| {
                line.strip_prefix("content-length:").and_then(|length| length.trim().parse().ok())
            });
            let mut body = vec![0; length.unwrap_or(0)];
            calls.read_exact(&mut body)?;
            match instead(self.answers(), &body)? {
                Some(answer) => client.write_all(answer.as_bytes())?,
                None => server.write_all(&[head.as_bytes(), &body].concat())?,
            }
        }
    }

    fn answers(&self) -> Answers {
        *self.mode.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits as long as answers are on hold.
    fn wait(&self) -> Answers {
        let (mode, changed) = &*self.mode;
        let mode = mode.lock().unwrap_or_else(PoisonError::into_inner);
        let held = |mode: &mut Answers| *mode == Answers::Hold;
        *changed.wait_while(mode, held).unwrap_or_else(PoisonError::into_inner)
    }
}

/// The answer to `call` that is given in place of bitcoind's, as HTTP.
fn instead(answers: Answers, call: &[u8]) -> std::io::Result<Option<String>> {
    let call: Value = serde_json::from_slice(call)?;
    let method = call.get("method").and_then(Value::as_str);
    let (status, result, error) = match answers {
        Answers::WarmingUp => {
            let error = json!({ "code": -28, "message": WARMING_UP });
            ("500 Internal Server Error", Value::Null, error)
        }
        Answers::Estimate(rate) if method == Some("estimatesmartfee") => {
            // In bitcoin for 1,000 vbytes.
            let estimate = json!({ "feerate": f64::from(rate) / 100_000.0, "blocks": 2 });
            ("200 OK", estimate, Value::Null)
        }
        _ => return Ok(None),
    };
    let answer = json!({ "result": result, "error": error, "id": call.get("id") }).to_string();
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json");
    Ok(Some(format!("{head}\r\nContent-Length: {}\r\n\r\n{answer}", answer.len())))
}
