//! A proxy between a daemon and its bitcoind that holds, cuts or garbles the answers.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

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
}

/// A running proxy. Its threads end with the connections.
#[derive(Clone, Debug)]
pub struct Proxy {
    address: SocketAddr,
    mode: Arc<(Mutex<Answers>, Condvar)>,
}

impl Proxy {
    /// A proxy to `to` (`IP:PORT`) on a free port.
    ///
    /// # Errors
    /// When it has no port.
    pub fn to(to: String) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let mode = Arc::new((Mutex::new(Answers::Pass), Condvar::new()));
        let proxy = Proxy { address: listener.local_addr()?, mode };
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
        thread::spawn(move || {
            let _ = std::io::copy(&mut asked, &mut asks);
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

    /// Waits as long as answers are on hold.
    fn wait(&self) -> Answers {
        let (mode, changed) = &*self.mode;
        let mode = mode.lock().unwrap_or_else(PoisonError::into_inner);
        let held = |mode: &mut Answers| *mode == Answers::Hold;
        *changed.wait_while(mode, held).unwrap_or_else(PoisonError::into_inner)
    }
}
