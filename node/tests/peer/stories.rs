//! Two of our nodes over loopback.

use bitcoin::constants::ChainHash;
use fulmen_node::peer::features::our_features;
use fulmen_node::peer::{
    Address, CloseReason, ConnectError, Limits, NotConnected, PeerEvent, Peers, PeersConfig,
};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::{numbered, public, secret, settle, Node, LONG, SHORT};

#[tokio::test]
async fn two_nodes_meet_and_know_each_other() {
    let (mut alice, mut bob) = (Node::start(1).await, Node::start(2).await);
    alice.connect(&bob).await;
    let address = bob.socket().to_string();
    let (node, features) = (bob.id, our_features());
    let seen = alice.event().await;
    let PeerEvent::Connected { node: who, features: offers, outbound, address: at, .. } = seen
    else {
        panic!("{seen:?}")
    };
    assert_eq!((who, offers, outbound, at), (node, features, true, address));
    assert_eq!(bob.connected().await, (alice.id, false));
    assert!(alice.peers.is_connected(bob.id) && bob.peers.is_connected(alice.id));
    assert_eq!(alice.peers.node_id(), public(1));

    let [seen] = &alice.peers.list()[..] else { panic!("one peer") };
    assert_eq!((seen.node, seen.inbound, seen.flap_count), (bob.id, false, 0));
    assert_eq!((&seen.address, &seen.features), (&bob.socket().to_string(), &our_features()));
    assert!(seen.bytes_sent > 0 && seen.bytes_received > 0 && seen.last_fault.is_none());
    assert!(bob.peers.list()[0].inbound);
}

#[tokio::test]
async fn messages_arrive_once_and_in_order_both_ways() {
    let (mut alice, mut bob) = (Node::start(1).await, Node::start(2).await);
    alice.connect(&bob).await;
    alice.connected().await;
    bob.connected().await;
    // More than all the queues between them hold.
    let send = |from: &Node, to: &Node| {
        let (peers, to) = (from.peers.clone(), to.id);
        tokio::spawn(async move {
            for n in 0..3000 {
                peers.send(to, numbered(n)).await.unwrap();
            }
        })
    };
    let sending = [send(&alice, &bob), send(&bob, &alice)];
    for n in 0..3000 {
        assert_eq!(alice.message().await, numbered(n));
        assert_eq!(bob.message().await, numbered(n));
    }
    for task in sending {
        task.await.unwrap();
    }
    let frame = numbered(0).encode().len() as u64 + 34;
    assert!(alice.peers.list()[0].bytes_received >= 3000 * frame);
    assert!(bob.peers.list()[0].bytes_sent >= 3000 * frame);
}

#[tokio::test]
async fn what_was_queued_leaves_before_a_disconnection() {
    let (mut alice, mut bob) = (Node::start(1).await, Node::start(2).await);
    alice.connect(&bob).await;
    alice.connected().await;
    bob.connected().await;
    for n in 0..100 {
        alice.peers.send(bob.id, numbered(n)).await.unwrap();
    }
    assert!(alice.peers.disconnect(bob.id));
    assert!(!alice.peers.is_connected(bob.id) && !alice.peers.disconnect(bob.id));
    assert_eq!(alice.peers.send(bob.id, numbered(0)).await, Err(NotConnected));
    for n in 0..100 {
        assert_eq!(bob.message().await, numbered(n));
    }
    assert_eq!(bob.disconnected().await, (alice.id, CloseReason::Closed));
    assert_eq!(alice.disconnected().await, (bob.id, CloseReason::Asked));
    assert!(alice.peers.list().is_empty() && bob.peers.list().is_empty());
}

#[tokio::test]
async fn a_peer_is_connected_to_once_and_never_oneself() {
    let (alice, bob) = (Node::start(1).await, Node::start(2).await);
    alice.connect(&bob).await;
    let again = alice.peers.connect(bob.id, bob.address(), LONG).await.unwrap_err();
    let text = format!("already connected to peer: {}@{}", bob.id, bob.socket());
    assert_eq!(again.to_string(), text);
    let own = alice.peers.connect(alice.id, alice.address(), LONG).await.unwrap_err();
    assert_eq!(own.to_string(), "cannot make connection to self");
}

#[tokio::test]
async fn two_dials_at_once_make_one_connection() {
    let (alice, mut bob) = (Node::start(1).await, Node::start(2).await);
    let dial = || alice.peers.connect(bob.id, bob.address(), LONG);
    let (one, two) = tokio::join!(dial(), dial());
    assert!(one.is_ok() != two.is_ok());
    let refused = one.and(two).unwrap_err();
    assert!(matches!(refused, ConnectError::AlreadyConnected { .. }));
    assert_eq!(bob.connected().await, (alice.id, false));
    alice.peers.send(bob.id, numbered(1)).await.unwrap();
    assert_eq!(bob.message().await, numbered(1));
}

#[tokio::test]
async fn a_wrong_node_id_or_a_dead_port_is_told() {
    let (alice, bob) = (Node::start(1).await, Node::start(2).await);
    let wrong = alice.peers.connect(public(3), bob.address(), LONG).await.unwrap_err();
    assert!(matches!(wrong, ConnectError::Failed { .. }), "{wrong}");
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let dead = alice.peers.connect(bob.id, free.into(), LONG).await.unwrap_err();
    assert!(matches!(dead, ConnectError::Unreachable { .. }), "{dead}");
    assert!(dead.to_string().starts_with(&format!("cannot reach {free}: ")));
    let nowhere = Address { host: "no host".to_owned(), port: 1 };
    let nowhere = alice.peers.connect(bob.id, nowhere, LONG).await.unwrap_err();
    assert!(matches!(nowhere, ConnectError::Unreachable { .. }), "{nowhere}");
}

#[tokio::test]
async fn a_host_that_says_nothing_is_given_up_in_time() {
    let alice = Node::start(1).await;
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address::from(mute.local_addr().unwrap());
    let given_up = alice.peers.connect(public(2), address.clone(), SHORT).await;
    assert_eq!(given_up, Err(ConnectError::TimedOut { address, limit: SHORT }));
    // The socket is closed, not left behind.
    let (mut stream, _) = mute.accept().await.unwrap();
    let mut read = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut read).await.unwrap();
    assert!(read.len() <= 50);
}

#[tokio::test]
async fn when_both_dial_at_once_one_connection_is_left_on_both_sides() {
    for n in 1..30 {
        let (mut alice, mut bob) = (Node::start(n).await, Node::start(n + 100).await);
        let (one, two) = tokio::join!(
            alice.peers.connect(bob.id, bob.address(), LONG),
            bob.peers.connect(alice.id, alice.address(), LONG),
        );
        assert!(one.is_ok() || two.is_ok(), "{one:?} {two:?}");
        settle(&mut alice, &mut bob).await;
    }
}

#[tokio::test]
async fn stopping_says_goodbye_and_frees_the_port() {
    let (mut alice, mut bob) = (Node::start(1).await, Node::start(2).await);
    alice.connect(&bob).await;
    alice.connected().await;
    bob.connected().await;
    alice.peers.send(bob.id, numbered(9)).await.unwrap();
    alice.peers.stop().await;
    assert_eq!(alice.disconnected().await, (bob.id, CloseReason::Stopping));
    assert_eq!(bob.message().await, numbered(9));
    assert_eq!(bob.disconnected().await, (alice.id, CloseReason::Closed));
    TcpListener::bind(alice.socket()).await.unwrap();
    let late = alice.peers.connect(bob.id, bob.address(), LONG).await;
    assert_eq!(late, Err(ConnectError::Stopping));
    alice.peers.stop().await;
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let alice = Node::start(1).await;
    let config = PeersConfig {
        node_secret: secret(2),
        listen: alice.peers.listening(),
        features: our_features(),
        chain: ChainHash::REGTEST,
        limits: Limits::default(),
    };
    let error = Peers::new(config, mpsc::channel(1).0).listen().await.unwrap_err();
    assert!(error.to_string().contains(&alice.socket().to_string()), "{error}");
}
