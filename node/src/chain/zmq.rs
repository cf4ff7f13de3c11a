//! bitcoind's ZMQ notifications, on a thread of their own.
//!
//! They are only hints: a block wakes the watcher, a transaction is handed over as it is. What
//! is lost here (ZMQ promises nothing) is made up by the watcher's polling.

use bitcoin::consensus::encode::deserialize;
use bitcoin::Transaction;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::mpsc;

/// What bitcoind announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// There is a new best block.
    Block,
    /// A transaction entered the mempool, or was in a block that came or went.
    Transaction(Transaction),
    /// Notices were lost; look for yourself.
    Lost,
}

/// The running thread.
pub struct Listener {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// How often the thread looks whether it should stop.
const STOP_CHECK_MS: i64 = 100;

impl Listener {
    /// Subscribes to blocks (`rawblock`, `hashblock`) at `block` and to `rawtx` at `tx`, and sends
    /// what comes to `notices`. When that is full, notices are dropped and [`Notice::Lost`]
    /// follows. ZMQ connects in the background, again and again, so bitcoind may be down.
    pub fn start(
        block: Option<&str>,
        tx: Option<&str>,
        notices: mpsc::Sender<Notice>,
    ) -> Result<Listener, zmq::Error> {
        let context = zmq::Context::new();
        let mut sockets = Vec::new();
        for (endpoint, topics) in [(block, &["rawblock", "hashblock"][..]), (tx, &["rawtx"][..])] {
            if let Some(endpoint) = endpoint {
                sockets.push(subscribe(&context, endpoint, topics)?);
            }
        }
        let stop = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut hub = Hub { notices, last_sequence: None, lost: false };
            while !flag.load(Ordering::Relaxed) && hub.listen(&sockets) {}
        });
        Ok(Listener { stop, thread: Some(thread) })
    }
}

impl Drop for Listener {
    /// Ends the thread; takes at most about 100 ms.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It cannot panic; and if it did, there would be nothing left to end.
            let _ = thread.join();
        }
    }
}

fn subscribe(
    context: &zmq::Context,
    endpoint: &str,
    topics: &[&str],
) -> Result<zmq::Socket, zmq::Error> {
    let socket = context.socket(zmq::SUB)?;
    socket.set_linger(0)?;
    // Notices of a bitcoind whose machine vanished must not be waited for on a dead connection.
    socket.set_tcp_keepalive(1)?;
    socket.set_rcvhwm(10_000)?;
    socket.connect(endpoint)?;
    topics.iter().try_for_each(|topic| socket.set_subscribe(topic.as_bytes()))?;
    Ok(socket)
}

struct Hub {
    notices: mpsc::Sender<Notice>,
    last_sequence: Option<u32>,
    lost: bool,
}

impl Hub {
    /// Waits for notices and hands on what is there. False when nobody listens to us any more.
    fn listen(&mut self, sockets: &[zmq::Socket]) -> bool {
        let mut items: Vec<_> = sockets.iter().map(|s| s.as_poll_item(zmq::POLLIN)).collect();
        if zmq::poll(&mut items, STOP_CHECK_MS).is_err() {
            // Interrupted by a signal: the next round polls again.
            return true;
        }
        let readable: Vec<bool> = items.iter().map(|item| item.is_readable()).collect();
        for (socket, _) in sockets.iter().zip(readable).filter(|(_, readable)| *readable) {
            while let Ok(parts) = socket.recv_multipart(zmq::DONTWAIT) {
                if self.receive(&parts).is_none() {
                    return false;
                }
            }
        }
        self.lost = self.lost && self.notices.try_send(Notice::Lost).is_err();
        !self.notices.is_closed()
    }

    /// One message: topic, body, sequence number. Nothing when the receiver is gone.
    fn receive(&mut self, parts: &[Vec<u8>]) -> Option<()> {
        let (topic, body, sequence) = match parts {
            [topic, body, sequence] => (topic.as_slice(), body, sequence),
            _ => return Some(()),
        };
        let notice = if topic == b"rawtx" {
            self.check_sequence(sequence);
            match deserialize(body) {
                Ok(tx) => Notice::Transaction(tx),
                Err(_) => return Some(()),
            }
        } else {
            Notice::Block
        };
        match self.notices.try_send(notice) {
            Err(mpsc::error::TrySendError::Closed(_)) => None,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.lost = true;
                Some(())
            }
            Ok(()) => Some(()),
        }
    }

    /// bitcoind numbers a topic's messages from 0 at its start; a gap means that some were lost
    /// (or that it has restarted, and its mempool may be another).
    fn check_sequence(&mut self, bytes: &[u8]) {
        let Ok(sequence) = <[u8; 4]>::try_from(bytes).map(u32::from_le_bytes) else { return };
        let expected = self.last_sequence.map(|last| last.wrapping_add(1));
        self.lost |= expected.is_some_and(|expected| sequence != expected);
        self.last_sequence = Some(sequence);
    }
}
