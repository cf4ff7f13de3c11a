//! Staying connected.

use std::time::Duration;

use fulmen_node::peer::{CloseReason, Limits};
use tokio::net::TcpListener;

use super::{settle, Node, SHORT};

fn eager() -> Limits {
    Limits { first_retry: Duration::from_millis(5), longest_retry: SHORT, ..Limits::default() }
}

#[tokio::test]
async fn a_kept_peer_is_connected_to_and_again_when_it_hangs_up() {
    let (mut alice, mut bob) = (Node::with(1, eager()).await, Node::start(2).await);
    alice.peers.keep_connected(bob.id, vec![bob.address()]);
    for flaps in 0..3 {
        assert_eq!(alice.connected().await, (bob.id, true));
        assert_eq!(bob.connected().await, (alice.id, false));
        assert_eq!(alice.peers.list()[0].flap_count, flaps);
        assert_eq!(alice.peers.list()[0].last_flap.is_some(), flaps > 0);
        assert!(bob.peers.disconnect(alice.id));
        assert_eq!(alice.disconnected().await, (bob.id, CloseReason::Closed));
        assert_eq!(bob.disconnected().await, (alice.id, CloseReason::Asked));
    }
}

#[tokio::test]
async fn a_kept_peer_is_found_again_after_its_restart() {
    let (mut alice, mut bob) = (Node::with(1, eager()).await, Node::start(2).await);
    alice.peers.keep_connected(bob.id, vec![bob.address()]);
    alice.connected().await;
    bob.connected().await;
    bob.peers.stop().await;
    alice.disconnected().await;
    let mut bob = Node::at(2, Limits::default(), bob.socket(), 16).await;
    assert_eq!(alice.connected().await, (bob.id, true));
    assert_eq!(bob.connected().await, (alice.id, false));
}

#[tokio::test]
async fn each_address_is_tried() {
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (mut alice, bob) = (Node::with(1, eager()).await, Node::start(2).await);
    alice.peers.keep_connected(bob.id, vec![dead.into(), bob.address()]);
    assert_eq!(alice.connected().await, (bob.id, true));
}

#[tokio::test]
async fn new_addresses_are_tried_at_once() {
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    // The second attempt at the old address would be due in an hour.
    let hour = Duration::from_secs(3600);
    let patient = Limits { first_retry: hour, longest_retry: hour, ..Limits::default() };
    let (mut alice, bob) = (Node::with(1, patient).await, Node::start(2).await);
    alice.peers.keep_connected(bob.id, vec![dead.into()]);
    alice.peers.keep_connected(bob.id, vec![bob.address()]);
    assert_eq!(alice.connected().await, (bob.id, true));
}

#[tokio::test]
async fn a_peer_that_came_by_itself_is_kept_too() {
    let (mut alice, mut bob) = (Node::with(1, eager()).await, Node::start(2).await);
    bob.connect(&alice).await;
    assert_eq!(alice.connected().await, (bob.id, false));
    bob.connected().await;
    alice.peers.keep_connected(bob.id, vec![bob.address()]);
    assert!(bob.peers.disconnect(alice.id));
    alice.disconnected().await;
    assert_eq!(alice.connected().await, (bob.id, true));
}

#[tokio::test]
async fn a_forgotten_peer_is_left_alone() {
    let (mut alice, mut bob) = (Node::with(1, eager()).await, Node::start(2).await);
    alice.peers.keep_connected(bob.id, vec![bob.address()]);
    alice.connected().await;
    bob.connected().await;
    alice.peers.forget(bob.id);
    assert!(alice.peers.is_connected(bob.id));
    assert!(bob.peers.disconnect(alice.id));
    alice.disconnected().await;
    bob.disconnected().await;
    // Carol is connected to again and again, with the same delays; Bob is not.
    let mut carol = Node::start(3).await;
    alice.peers.keep_connected(carol.id, vec![carol.address()]);
    for _ in 0..10 {
        assert_eq!(alice.connected().await, (carol.id, true));
        carol.connected().await;
        assert!(carol.peers.disconnect(alice.id));
        assert_eq!(alice.disconnected().await.0, carol.id);
        carol.disconnected().await;
    }
}

#[tokio::test]
async fn two_nodes_that_keep_each_other_settle_on_one_connection() {
    let (mut alice, mut bob) = (Node::with(1, eager()).await, Node::with(2, eager()).await);
    alice.peers.keep_connected(bob.id, vec![bob.address()]);
    bob.peers.keep_connected(alice.id, vec![alice.address()]);
    settle(&mut alice, &mut bob).await;
}
