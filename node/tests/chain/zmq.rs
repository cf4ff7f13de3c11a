//! The ZMQ thread against a real publisher on the loopback.

use super::fake::stray;
use bitcoin::consensus::encode::serialize;
use bitcoin::Transaction;
use fulmen_node::chain::zmq::{Listener, Notice};
use tokio::sync::mpsc;

struct Publisher {
    socket: zmq::Socket,
    endpoint: String,
}

impl Publisher {
    fn new() -> Publisher {
        let socket = zmq::Context::new().socket(zmq::XPUB).unwrap();
        socket.bind("tcp://127.0.0.1:*").unwrap();
        let endpoint = socket.get_last_endpoint().unwrap().unwrap();
        Publisher { socket, endpoint }
    }
    /// An XPUB socket is told of each subscription, so nothing has to sleep.
    fn wait_for_subscriptions(&self, count: usize) {
        (0..count).for_each(|_| drop(self.socket.recv_bytes(0).unwrap()));
    }
    fn publish(&self, topic: &str, body: &[u8], sequence: u32) {
        let parts = [topic.as_bytes(), body, &sequence.to_le_bytes()];
        self.socket.send_multipart(parts, 0).unwrap();
    }
    fn publish_tx(&self, tx: &Transaction, sequence: u32) {
        self.publish("rawtx", &serialize(tx), sequence);
    }
}

#[test]
fn blocks_and_transactions_are_announced() {
    let publisher = Publisher::new();
    let (to_us, mut notices) = mpsc::channel(10);
    let endpoint = Some(publisher.endpoint.as_str());
    let listener = Listener::start(endpoint, endpoint, to_us).unwrap();
    publisher.wait_for_subscriptions(3);
    publisher.publish("hashblock", &[7; 32], 0);
    publisher.publish_tx(&stray(1), 0);
    publisher.publish("rawtx", b"not a transaction", 1);
    publisher.publish_tx(&stray(2), 2);
    let mut got: Vec<_> = (0..3).map(|_| notices.blocking_recv().unwrap()).collect();
    // Two subscriptions are two sockets: only the order within one is certain.
    let block = got.iter().position(|notice| *notice == Notice::Block).unwrap();
    got.remove(block);
    assert_eq!(got, [1, 2].map(|number| Notice::Transaction(stray(number))));
    drop(listener);
    assert!(notices.blocking_recv().is_none(), "the thread has ended");
}

#[test]
fn a_gap_in_the_numbering_is_told() {
    let publisher = Publisher::new();
    let (to_us, mut notices) = mpsc::channel(10);
    let _listener = Listener::start(None, Some(&publisher.endpoint), to_us).unwrap();
    publisher.wait_for_subscriptions(1);
    publisher.publish_tx(&stray(1), 5);
    publisher.publish_tx(&stray(2), 7);
    let got: Vec<_> = (0..3).map(|_| notices.blocking_recv().unwrap()).collect();
    let tx = |number| Notice::Transaction(stray(number));
    assert_eq!(got, [tx(1), tx(2), Notice::Lost]);
}

#[test]
fn notices_that_nobody_takes_are_dropped_and_the_loss_is_told() {
    let publisher = Publisher::new();
    let (to_us, mut notices) = mpsc::channel(1);
    let _listener = Listener::start(None, Some(&publisher.endpoint), to_us).unwrap();
    publisher.wait_for_subscriptions(1);
    for sequence in 0..50 {
        publisher.publish_tx(&stray(1), sequence);
    }
    let mut until_lost = std::iter::from_fn(|| notices.blocking_recv());
    assert!(until_lost.any(|notice| notice == Notice::Lost));
}

#[test]
fn a_publisher_that_is_away_hinders_neither_start_nor_stop() {
    let (to_us, mut notices) = mpsc::channel(1);
    drop(Listener::start(Some("tcp://127.0.0.1:1"), None, to_us).unwrap());
    assert!(notices.blocking_recv().is_none());
}

#[test]
fn a_malformed_endpoint_is_refused() {
    let (to_us, _notices) = mpsc::channel(1);
    assert!(Listener::start(Some("127.0.0.1:28332"), None, to_us).is_err());
}
