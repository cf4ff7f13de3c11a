//! Peers: the handshake, the rules of a connection, whole nodes over loopback, hostile strangers.
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod hostile;
mod keeping;
mod ldk;
mod noise;
mod pure;
mod stories;

use std::net::SocketAddr;
use std::time::Duration;

use bitcoin::constants::ChainHash;
use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};
use fulmen_channel::message::Message;
use fulmen_node::peer::features::our_features;
use fulmen_node::peer::noise::{Initiator, Transport, ACT_TWO, HEADER, MAC};
use fulmen_node::peer::{
    Address, CloseReason, Limits, Patience, PeerEvent, Peers, PeersConfig, WireMessage,
};
use lightning::ln::msgs;
use lightning::ln::types::ChannelId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// What never takes this long unless it is broken.
const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(60);

fn secret(n: u8) -> SecretKey {
    SecretKey::from_slice(&[n; 32]).unwrap()
}

fn public(n: u8) -> PublicKey {
    secret(n).public_key(&Secp256k1::signing_only())
}

/// A message that can be told from others by its number.
fn numbered(n: u32) -> WireMessage {
    let channel_id = ChannelId([1; 32]);
    WireMessage::Channel(Message::UpdateFee(msgs::UpdateFee { channel_id, feerate_per_kw: n }))
}

fn patience(init: Duration, ping_every: Duration, pong_within: Duration) -> Patience {
    Patience { init, ping_every, pong_within }
}

/// A node of ours.
struct Node {
    peers: Peers,
    events: mpsc::Receiver<PeerEvent>,
    id: PublicKey,
}

impl Node {
    async fn start(n: u8) -> Self {
        Self::with(n, Limits::default()).await
    }

    async fn with(n: u8, limits: Limits) -> Self {
        Self::at(n, limits, "127.0.0.1:0".parse().unwrap(), 16).await
    }

    async fn at(n: u8, limits: Limits, listen: SocketAddr, queue: usize) -> Self {
        let (sender, events) = mpsc::channel(queue);
        let config = PeersConfig {
            node_secret: secret(n),
            listen: vec![listen],
            features: our_features(),
            chain: ChainHash::REGTEST,
            limits,
        };
        let peers = Peers::new(config, sender);
        peers.listen().await.unwrap();
        let id = peers.node_id();
        Self { peers, events, id }
    }

    fn socket(&self) -> SocketAddr {
        self.peers.listening()[0]
    }

    fn address(&self) -> Address {
        self.socket().into()
    }

    async fn connect(&self, other: &Node) {
        self.peers.connect(other.id, other.address(), LONG).await.unwrap();
    }

    async fn event(&mut self) -> PeerEvent {
        timeout(LONG, self.events.recv()).await.expect("no event").expect("no more events")
    }

    /// The next event is a connection: whose, and whether it is outbound.
    async fn connected(&mut self) -> (PublicKey, bool) {
        match self.event().await {
            PeerEvent::Connected { node, outbound, .. } => (node, outbound),
            other => panic!("not Connected: {other:?}"),
        }
    }

    async fn disconnected(&mut self) -> (PublicKey, CloseReason) {
        match self.event().await {
            PeerEvent::Disconnected { node, reason } => (node, reason),
            other => panic!("not Disconnected: {other:?}"),
        }
    }

    async fn message(&mut self) -> WireMessage {
        match self.event().await {
            PeerEvent::Message { message, .. } => message,
            other => panic!("not a Message: {other:?}"),
        }
    }
}

/// Waits until two nodes that dialed each other hold the same one connection, and talks over it.
async fn settle(alice: &mut Node, bob: &mut Node) {
    let outbound = |node: &Node| match &node.peers.list()[..] {
        [peer] => Some(!peer.inbound),
        _ => None,
    };
    loop {
        // There were only two: one out of each. If one's is outbound and the other's inbound, they
        // are the same.
        if let (Some(one), Some(two)) = (outbound(alice), outbound(bob)) {
            if one != two {
                break;
            }
        }
        tokio::select! {
            event = alice.event() => drop(event),
            event = bob.event() => drop(event),
        }
    }
    alice.peers.send(bob.id, numbered(1)).await.unwrap();
    bob.peers.send(alice.id, numbered(2)).await.unwrap();
    for node in [alice, bob] {
        while !matches!(node.event().await, PeerEvent::Message { .. }) {}
    }
}

/// Someone with a node key who speaks to a node as it pleases.
struct Stranger {
    stream: TcpStream,
    transport: Transport,
}

impl Stranger {
    /// Connects with the key `n` and shakes hands.
    async fn meet(n: u8, node: &Node) -> Self {
        let mut stream = TcpStream::connect(node.socket()).await.unwrap();
        let (state, act_one) = Initiator::start(&secret(n), &node.id, secret(200)).unwrap();
        stream.write_all(&act_one).await.unwrap();
        let mut act_two = [0; ACT_TWO];
        stream.read_exact(&mut act_two).await.unwrap();
        let (transport, act_three) = state.finish(&act_two).unwrap();
        stream.write_all(&act_three).await.unwrap();
        Self { stream, transport }
    }

    /// Connects, shakes hands, and exchanges `init`.
    async fn greet(n: u8, node: &Node) -> Self {
        let mut stranger = Self::meet(n, node).await;
        stranger.send(&init().encode()).await;
        assert!(matches!(stranger.receive().await, Some(WireMessage::Init(_))));
        stranger
    }

    fn frame(&mut self, message: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        self.transport.sealer.seal(message, &mut frame).unwrap();
        frame
    }

    async fn send(&mut self, message: &[u8]) {
        let frame = self.frame(message);
        self.stream.write_all(&frame).await.unwrap();
    }

    /// The next message; `None` when the node has hung up.
    async fn receive(&mut self) -> Option<WireMessage> {
        let mut header = [0; HEADER];
        let read = timeout(LONG, self.stream.read_exact(&mut header)).await.expect("nothing came");
        read.ok()?;
        let len = self.transport.opener.length(&header).unwrap();
        let mut body = vec![0; len + MAC];
        self.stream.read_exact(&mut body).await.unwrap();
        let message = self.transport.opener.message(&body).unwrap();
        Some(WireMessage::decode(&message).unwrap().expect("a message we know"))
    }

    /// The node says why in a warning, then hangs up; so do we.
    async fn warning(mut self) -> String {
        match self.receive().await {
            Some(WireMessage::Channel(Message::Warning(warning))) => {
                assert_eq!(self.receive().await, None);
                warning.data
            }
            other => panic!("not a warning: {other:?}"),
        }
    }
}

/// An `init` that our nodes like.
fn init() -> WireMessage {
    init_with(|_| ())
}

fn init_with(change: impl FnOnce(&mut msgs::Init)) -> WireMessage {
    let mut init = msgs::Init {
        features: our_features(),
        networks: Some(vec![ChainHash::REGTEST]),
        remote_network_address: None,
    };
    change(&mut init);
    WireMessage::Init(Box::new(init))
}
