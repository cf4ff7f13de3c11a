//! bitcoind's ZMQ notifications: topic, body, the topic's sequence number.

use std::collections::BTreeMap;

use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash;
use bitcoin::Transaction;
use serde_json::{json, Value};

use crate::chainbox::chain::Chain;
use crate::chainbox::Event;
use crate::failure::{Context, Result};

/// Messages that wait for a slow subscriber before it loses some.
const QUEUE: i32 = 1_000;

/// The sockets, and which topics go to which.
pub(super) struct Publisher {
    sockets: BTreeMap<String, zmq::Socket>,
    topics: Vec<Topic>,
}

struct Topic {
    name: String,
    endpoint: String,
    sequence: u32,
}

impl Publisher {
    /// Binds each endpoint once, however many topics it has.
    pub fn bind(publish: &[(String, String)]) -> Result<Self> {
        let context = zmq::Context::new();
        let (mut sockets, mut topics) = (BTreeMap::new(), Vec::new());
        for (name, endpoint) in publish {
            if !sockets.contains_key(endpoint) {
                let socket = context.socket(zmq::PUB).context("make a ZMQ socket")?;
                socket.set_sndhwm(QUEUE)?;
                socket.set_linger(0)?;
                socket.bind(endpoint).context(format!("publish at {endpoint}"))?;
                sockets.insert(endpoint.clone(), socket);
            }
            topics.push(Topic { name: name.clone(), endpoint: endpoint.clone(), sequence: 0 });
        }
        Ok(Publisher { sockets, topics })
    }

    /// What `getzmqnotifications` says.
    pub fn listed(&self) -> Value {
        let one = |topic: &Topic| {
            json!({ "type": format!("pub{}", topic.name), "address": topic.endpoint,
                    "hwm": QUEUE })
        };
        self.topics.iter().map(one).collect::<Vec<Value>>().into()
    }

    /// Tells of what happened: a block's transactions when it comes or goes, the block itself
    /// where the chain stays.
    pub fn publish(&mut self, events: &[Event], chain: &Chain) {
        for event in events {
            match event {
                Event::Entered(tx) => self.transaction(tx),
                Event::Connected(_, block) | Event::Disconnected(_, block) => {
                    block.txdata.iter().for_each(|tx| self.transaction(tx));
                }
                Event::Tip(hash) => {
                    self.send("hashblock", || reversed(hash.to_byte_array()));
                    let block = chain.block(hash).map(|(_, block)| block);
                    self.send("rawblock", || block.map(|b| serialize(&**b)).unwrap_or_default());
                }
                Event::Left(_) | Event::Stored(_) | Event::Marked(..) => {}
            }
        }
    }

    fn transaction(&mut self, tx: &Transaction) {
        self.send("hashtx", || reversed(tx.compute_txid().to_byte_array()));
        self.send("rawtx", || serialize(tx));
    }

    fn send(&mut self, name: &str, body: impl Fn() -> Vec<u8>) {
        for topic in self.topics.iter_mut().filter(|topic| topic.name == name) {
            let sequence = topic.sequence.to_le_bytes();
            topic.sequence = topic.sequence.wrapping_add(1);
            let parts = [name.as_bytes(), &body(), &sequence];
            if let Some(socket) = self.sockets.get(&topic.endpoint) {
                // A publisher never waits: what nobody takes is lost, and ZMQ promises no more.
                let _ = socket.send_multipart(parts, zmq::DONTWAIT);
            }
        }
    }
}

/// bitcoind publishes hashes in the order in which they are shown.
fn reversed(mut hash: [u8; 32]) -> Vec<u8> {
    hash.reverse();
    hash.to_vec()
}
