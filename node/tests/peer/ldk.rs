//! LDK's own transport at the other end: its handshake, frames, `init` and pings against ours. It
//! answers every channel message with an error for that channel.

use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use bitcoin::secp256k1::PublicKey;
use fulmen_channel::message::Message;
use fulmen_node::peer::features::{check, our_features};
use fulmen_node::peer::{PeerEvent, WireMessage};
use lightning::ln::channelmanager::provided_init_features;
use lightning::ln::peer_handler::{
    ErroringMessageHandler, IgnoringMessageHandler, PeerManager, SocketDescriptor,
};
use lightning::sign::{KeysManager, NodeSigner, Recipient};
use lightning::util::config::UserConfig;
use lightning::util::logger::{Logger, Record};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::{numbered, Node, LONG};

/// LDK's log is of no use here.
struct Quiet;

impl Logger for Quiet {
    fn log(&self, _: Record) {}
}

/// LDK's end of a socket.
#[derive(Clone)]
struct Pipe(mpsc::UnboundedSender<Option<Vec<u8>>>);

impl PartialEq for Pipe {
    fn eq(&self, other: &Self) -> bool {
        self.0.same_channel(&other.0)
    }
}

impl Eq for Pipe {}

impl Hash for Pipe {
    fn hash<H: Hasher>(&self, _: &mut H) {} // there is only one
}

impl SocketDescriptor for Pipe {
    fn send_data(&mut self, data: &[u8], _: bool) -> usize {
        let _ = self.0.send(Some(data.to_vec()));
        data.len()
    }
    fn disconnect_socket(&mut self) {
        let _ = self.0.send(None);
    }
}

type Manager = PeerManager<
    Pipe,
    ErroringMessageHandler,
    IgnoringMessageHandler,
    IgnoringMessageHandler,
    Arc<Quiet>,
    IgnoringMessageHandler,
    Arc<KeysManager>,
    IgnoringMessageHandler,
>;

struct Ldk {
    manager: Arc<Manager>,
    id: PublicKey,
}

impl Deref for Ldk {
    type Target = Manager;
    fn deref(&self) -> &Manager {
        &self.manager
    }
}

fn ldk() -> Ldk {
    let keys = Arc::new(KeysManager::new(&[7; 32], 1, 2, true));
    let id = keys.get_node_id(Recipient::Node).unwrap();
    let ignore = IgnoringMessageHandler {};
    let manager = PeerManager::new_routing_only(ignore, 1, &[8; 32], Arc::new(Quiet), keys);
    Ldk { manager: Arc::new(manager), id }
}

/// Runs LDK's end of a connection until either side hangs up.
async fn serve(manager: Arc<Manager>, mut stream: TcpStream, dialed: Option<PublicKey>) {
    let (out, mut queued) = mpsc::unbounded_channel();
    let mut pipe = Pipe(out);
    match dialed {
        Some(node) => {
            let act_one = manager.new_outbound_connection(node, pipe.clone(), None).unwrap();
            stream.write_all(&act_one).await.unwrap();
        }
        None => manager.new_inbound_connection(pipe.clone(), None).unwrap(),
    }
    let mut buffer = [0; 4096];
    loop {
        tokio::select! {
            read = stream.read(&mut buffer) => {
                let read = read.unwrap_or(0);
                if read == 0 || manager.read_event(&mut pipe, &buffer[..read]).is_err() {
                    return manager.socket_disconnected(&pipe);
                }
                manager.process_events();
            }
            sent = queued.recv() => match sent.flatten() {
                Some(bytes) => stream.write_all(&bytes).await.unwrap(),
                None => return,
            }
        }
    }
}

/// Over a thousand messages each way, so that both sides change their keys; then a ping.
async fn they_understand_each_other(mut node: Node, ldk: &Ldk, outbound: bool) {
    assert_eq!(node.connected().await, (ldk.id, outbound));
    let (peers, to) = (node.peers.clone(), ldk.id);
    let sending = tokio::spawn(async move {
        for n in 0..1100 {
            peers.send(to, numbered(n)).await.unwrap();
        }
    });
    for _ in 0..1100 {
        match node.message().await {
            WireMessage::Channel(Message::Error(error)) => {
                assert_eq!(error.channel_id.0, [1; 32]);
                assert_eq!(error.data, "We do not support channel messages, sorry.");
            }
            other => panic!("{other:?}"),
        }
    }
    sending.await.unwrap();
    let [peer] = &ldk.list_peers()[..] else { panic!("one peer") };
    assert_eq!(peer.counterparty_node_id, node.id);
    assert_eq!(peer.init_features, our_features());
    assert!(node.peers.list()[0].ping_micros > 0);
    // LDK drops who does not answer its pings between two of its ticks.
    for n in 0..3 {
        ldk.timer_tick_occurred();
        node.peers.send(ldk.id, numbered(n)).await.unwrap();
        assert!(matches!(node.event().await, PeerEvent::Message { .. }));
    }
    ldk.disconnect_by_node_id(node.id);
    assert_eq!(node.disconnected().await.0, ldk.id);
}

#[tokio::test]
async fn we_connect_to_ldk() {
    let (node, ldk) = (Node::start(1).await, ldk());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().into();
    let manager = ldk.manager.clone();
    tokio::spawn(async move { serve(manager, listener.accept().await.unwrap().0, None).await });
    node.peers.connect(ldk.id, address, LONG).await.unwrap();
    they_understand_each_other(node, &ldk, true).await;
}

#[tokio::test]
async fn ldk_connects_to_us() {
    let (node, ldk) = (Node::start(1).await, ldk());
    let stream = TcpStream::connect(node.socket()).await.unwrap();
    tokio::spawn(serve(ldk.manager.clone(), stream, Some(node.id)));
    they_understand_each_other(node, &ldk, false).await;
}

#[test]
fn what_an_ldk_node_with_channels_requires_we_offer() {
    let theirs = provided_init_features(&UserConfig::default());
    assert_eq!(check(&our_features(), &theirs), Ok(()));
    assert!(!theirs.requires_unknown_bits_from(&our_features()));
    assert!(!our_features().requires_unknown_bits_from(&theirs));
}
