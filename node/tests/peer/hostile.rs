//! Strangers who send garbage, nothing, too much, or break the rules. The node closes what it must
//! and goes on with the others.

use bitcoin::constants::ChainHash;
use fulmen_channel::message::{BadMessage, Message};
use fulmen_node::peer::noise::{FrameError, Initiator};
use fulmen_node::peer::wire::WireError;
use fulmen_node::peer::{CloseReason, Limits, PeerEvent, WireMessage};
use lightning::ln::msgs;
use lightning::ln::types::ChannelId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{init, init_with, numbered, patience, public, secret, Node, Stranger, LONG, SHORT};

/// The node hangs up on a stream; how many bytes it sent before. A reset is hanging up, too.
async fn hung_up(mut stream: TcpStream) -> usize {
    let mut read = Vec::new();
    let _ = timeout(LONG, stream.read_to_end(&mut read)).await.expect("still connected");
    read.len()
}

/// No trace of what came before: an honest peer is the first that the node hears of.
async fn still_well(mut node: Node) {
    let mut friend = Node::start(99).await;
    friend.connect(&node).await;
    assert_eq!(node.connected().await, (friend.id, false));
    friend.connected().await;
    friend.peers.send(node.id, numbered(1)).await.unwrap();
    assert_eq!(node.message().await, numbered(1));
}

#[tokio::test]
async fn garbage_instead_of_a_handshake_is_hung_up_on() {
    let node = Node::start(1).await;
    let (_, act_one) = Initiator::start(&secret(9), &node.id, secret(3)).unwrap();
    let (mut version, mut key, mut mac) = (act_one, act_one, act_one);
    version[0] = 1;
    key[1] = 4;
    mac[49] ^= 1;
    for act in [
        version,
        key,
        mac,
        [0; 50],
        [0xff; 50],
        *b"GET / HTTP/1.1\r\nHost: lightning.example.com:9735\r\n",
    ] {
        let mut stream = TcpStream::connect(node.socket()).await.unwrap();
        stream.write_all(&act).await.unwrap();
        assert_eq!(hung_up(stream).await, 0);
    }
    still_well(node).await;
}

#[tokio::test]
async fn a_handshake_cut_short_or_ended_wrongly_is_hung_up_on() {
    let node = Node::start(1).await;
    let start = || Initiator::start(&secret(9), &node.id, secret(3)).unwrap();
    let mut short = TcpStream::connect(node.socket()).await.unwrap();
    short.write_all(&start().1[..49]).await.unwrap();
    short.shutdown().await.unwrap();
    assert_eq!(hung_up(short).await, 0);
    for wrong_at in [0, 1, 48, 65] {
        let mut stream = TcpStream::connect(node.socket()).await.unwrap();
        let (state, act_one) = start();
        stream.write_all(&act_one).await.unwrap();
        let mut act_two = [0; 50];
        stream.read_exact(&mut act_two).await.unwrap();
        let (_, mut act_three) = state.finish(&act_two).unwrap();
        act_three[wrong_at] ^= 1;
        stream.write_all(&act_three).await.unwrap();
        assert_eq!(hung_up(stream).await, 0);
    }
    still_well(node).await;
}

#[tokio::test]
async fn silence_in_the_handshake_is_hung_up_on() {
    let node = Node::with(1, Limits { handshake: SHORT, ..Limits::default() }).await;
    let mute = TcpStream::connect(node.socket()).await.unwrap();
    assert_eq!(hung_up(mute).await, 0);
    let mut half = TcpStream::connect(node.socket()).await.unwrap();
    half.write_all(&Initiator::start(&secret(9), &node.id, secret(3)).unwrap().1).await.unwrap();
    assert!(hung_up(half).await <= 50);
}

#[tokio::test]
async fn silence_instead_of_init_is_hung_up_on() {
    let limits = Limits { patience: patience(SHORT, LONG, LONG), ..Limits::default() };
    let node = Node::with(1, limits).await;
    let mut stranger = Stranger::meet(9, &node).await;
    assert_eq!(stranger.receive().await, Some(init()));
    assert_eq!(stranger.warning().await, "the peer did not send init in time");
    assert!(node.peers.list().is_empty());
}

#[tokio::test]
async fn a_half_open_socket_is_given_up_after_a_ping() {
    let limits = Limits { patience: patience(LONG, LONG, SHORT), ..Limits::default() };
    let mut node = Node::with(1, limits).await;
    let mut stranger = Stranger::greet(9, &node).await;
    node.connected().await;
    assert!(matches!(stranger.receive().await, Some(WireMessage::Ping(_))));
    assert_eq!(node.disconnected().await, (public(9), CloseReason::Silent));
    assert_eq!(stranger.receive().await, None);
}

#[tokio::test]
async fn pings_are_answered_and_answers_are_timed() {
    let mut node = Node::start(1).await;
    let mut stranger = Stranger::greet(9, &node).await;
    let Some(WireMessage::Ping(ping)) = stranger.receive().await else { panic!("no ping") };
    node.connected().await;
    assert_eq!(node.peers.list()[0].ping_micros, 0);
    let pong = WireMessage::Pong(msgs::Pong { byteslen: ping.ponglen });
    stranger.send(&pong.encode()).await;
    for ponglen in [65_532, 65_535] {
        stranger.send(&WireMessage::Ping(msgs::Ping { ponglen, byteslen: 1 }).encode()).await;
    }
    stranger.send(&[0, 18, 0, 5, 0, 2, 0xab, 0xcd]).await;
    let answer = WireMessage::Pong(msgs::Pong { byteslen: 5 });
    assert_eq!(stranger.receive().await, Some(answer));
    assert!(node.peers.list()[0].ping_micros > 0);
    assert_eq!(node.peers.list()[0].last_ping_payload, [0xab, 0xcd]);
}

/// What the node does when, after init, a stranger sends these messages.
async fn answer_to(messages: &[&[u8]]) -> (CloseReason, String) {
    let mut node = Node::start(1).await;
    let mut stranger = Stranger::greet(9, &node).await;
    node.connected().await;
    assert!(matches!(stranger.receive().await, Some(WireMessage::Ping(_))));
    for message in messages {
        stranger.send(message).await;
    }
    let warning = stranger.warning().await;
    let (who, reason) = node.disconnected().await;
    assert_eq!(who, public(9));
    still_well(node).await;
    (reason, warning)
}

#[tokio::test]
async fn messages_that_break_the_rules_end_the_connection_with_a_warning() {
    let unknown = answer_to(&[&[0x80, 0x00, 1, 2, 3]]).await;
    assert_eq!(unknown.0, CloseReason::Wire(WireError::UnknownType(0x8000)));
    assert_eq!(unknown.1, "the peer sent a message of the unknown, required type 32768");
    assert_eq!(answer_to(&[&[]]).await.0, CloseReason::Wire(WireError::NoType));
    assert_eq!(answer_to(&[&[7]]).await.0, CloseReason::Wire(WireError::NoType));
    assert_eq!(answer_to(&[&init().encode()]).await.0, CloseReason::InitTwice);

    let fee = numbered(1).encode();
    let bad = |why| CloseReason::Wire(WireError::Bad(BadMessage { type_id: 134, why }));
    assert_eq!(answer_to(&[&fee[..20]]).await.0, bad("ends too early"));
    let long = [&fee[..], &[2, 0]].concat();
    assert_eq!(answer_to(&[&long]).await.0, bad("has a required field that we do not know"));
    let largest = [&fee[..], &vec![0; 65_535 - fee.len()]].concat();
    assert_eq!(answer_to(&[&largest]).await.0, bad("has a required field that we do not know"));
}

#[tokio::test]
async fn odd_messages_that_we_do_not_know_are_passed_over() {
    let mut node = Node::start(1).await;
    let mut stranger = Stranger::greet(9, &node).await;
    node.connected().await;
    stranger.send(&[0x80, 0x01]).await;
    stranger.send(&[0xff; 65_535]).await;
    stranger.send(&numbered(4).encode()).await;
    assert_eq!(node.message().await, numbered(4));
}

/// What the node says to a stranger whose first message is this.
async fn answer_to_first(message: WireMessage) -> String {
    let node = Node::start(1).await;
    let mut stranger = Stranger::meet(9, &node).await;
    assert_eq!(stranger.receive().await, Some(init()));
    stranger.send(&message.encode()).await;
    let warning = stranger.warning().await;
    still_well(node).await;
    warning
}

#[tokio::test]
async fn who_does_not_fit_is_told_why() {
    let first = answer_to_first(numbered(1)).await;
    assert_eq!(first, "the peer sent another message before init");
    let other = init_with(|init| init.networks = Some(vec![ChainHash::BITCOIN]));
    let chain = answer_to_first(other).await;
    assert_eq!(chain, "the peer has no blockchain in common with us");
    let future = init_with(|init| init.features.set_required_custom_bit(1000).unwrap());
    let future = answer_to_first(future).await;
    assert_eq!(future, "the peer requires features that we do not have: bits [1000]");
    let lame = init_with(|init| init.features.set_zero_conf_optional());
    let lame = answer_to_first(lame).await;
    assert_eq!(lame, "the peer offers feature 50 without feature 46, which that one needs");
}

#[tokio::test]
async fn a_frame_with_a_wrong_mac_ends_the_connection() {
    for wrong_at in [0, 17, 18, 40] {
        let mut node = Node::start(1).await;
        let mut stranger = Stranger::greet(9, &node).await;
        node.connected().await;
        let mut frame = stranger.frame(&numbered(1).encode());
        frame[wrong_at] ^= 1;
        stranger.stream.write_all(&frame).await.unwrap();
        let reason = CloseReason::Frame(FrameError::BadMac);
        assert_eq!(node.disconnected().await, (public(9), reason));
        still_well(node).await;
    }
}

#[tokio::test]
async fn a_frame_cut_short_is_not_delivered() {
    let mut node = Node::start(1).await;
    let mut stranger = Stranger::greet(9, &node).await;
    node.connected().await;
    let frame = stranger.frame(&numbered(1).encode());
    stranger.stream.write_all(&frame[..frame.len() - 1]).await.unwrap();
    stranger.stream.shutdown().await.unwrap();
    assert_eq!(node.disconnected().await, (public(9), CloseReason::Closed));
}

#[tokio::test]
async fn bytes_may_come_one_by_one_or_all_together() {
    let mut node = Node::start(1).await;
    let mut stranger = Stranger::greet(9, &node).await;
    stranger.stream.set_nodelay(true).unwrap();
    node.connected().await;
    for byte in stranger.frame(&numbered(1).encode()) {
        stranger.stream.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(node.message().await, numbered(1));
    let frames: Vec<u8> = (2..500).flat_map(|n| stranger.frame(&numbered(n).encode())).collect();
    let writing = tokio::spawn(async move {
        stranger.stream.write_all(&frames).await.unwrap();
        stranger
    });
    for n in 2..500 {
        assert_eq!(node.message().await, numbered(n));
    }
    writing.await.unwrap();
}

#[tokio::test]
async fn a_second_connection_of_a_peer_takes_the_first_ones_place() {
    let mut node = Node::start(1).await;
    let mut first = Stranger::greet(9, &node).await;
    assert_eq!(node.connected().await, (public(9), false));
    let mut second = Stranger::greet(9, &node).await;
    assert_eq!(node.disconnected().await, (public(9), CloseReason::Replaced));
    assert_eq!(node.connected().await, (public(9), false));
    while first.receive().await.is_some() {}
    second.send(&numbered(2).encode()).await;
    assert_eq!(node.message().await, numbered(2));
    assert_eq!(node.peers.list()[0].flap_count, 1);
}

#[tokio::test]
async fn strangers_are_counted_but_a_kept_peer_always_gets_in() {
    let mut node = Node::with(1, Limits { max_strangers: 2, ..Limits::default() }).await;
    let nowhere = "127.0.0.1:1".parse().unwrap();
    node.peers.keep_connected(public(50), vec![nowhere]);
    let mut strangers = Vec::new();
    for n in [9, 10] {
        strangers.push(Stranger::greet(n, &node).await);
        assert_eq!(node.connected().await, (public(n), false));
    }
    let third = Stranger::greet(11, &node).await;
    assert_eq!(third.warning().await, "too many peers are connected already");
    let _kept = Stranger::greet(50, &node).await;
    assert_eq!(node.connected().await, (public(50), false));
    drop(strangers.pop());
    assert_eq!(node.disconnected().await.0, public(10));
    let _fourth = Stranger::greet(12, &node).await;
    assert_eq!(node.connected().await, (public(12), false));
}

#[tokio::test]
async fn a_peer_that_reads_nothing_is_given_up() {
    let mut node = Node::with(1, Limits { write: SHORT, ..Limits::default() }).await;
    let _stranger = Stranger::greet(9, &node).await;
    node.connected().await;
    let data = "x".repeat(60_000);
    let warning = msgs::WarningMessage { channel_id: ChannelId([0; 32]), data };
    let large = WireMessage::Channel(Message::Warning(warning));
    while node.peers.send(public(9), large.clone()).await.is_ok() {}
    assert_eq!(node.disconnected().await, (public(9), CloseReason::NotReading));
}

#[tokio::test]
async fn who_pings_without_reading_the_answers_is_given_up() {
    let mut node = Node::start(1).await;
    let mut stranger = Stranger::greet(9, &node).await;
    node.connected().await;
    let ping = WireMessage::Ping(msgs::Ping { ponglen: 65_531, byteslen: 0 }).encode();
    loop {
        let frame = stranger.frame(&ping);
        if stranger.stream.write_all(&frame).await.is_err() {
            break;
        }
    }
    assert_eq!(node.disconnected().await, (public(9), CloseReason::PingFlood));
}

#[tokio::test]
async fn while_the_node_is_busy_nothing_is_lost() {
    let limits = Limits { patience: patience(LONG, SHORT, SHORT), ..Limits::default() };
    let mut node = Node::at(1, limits, "127.0.0.1:0".parse().unwrap(), 1).await;
    let mut stranger = Stranger::greet(9, &node).await;
    for n in 0..200 {
        stranger.send(&numbered(n).encode()).await;
    }
    // The node takes its events late, later than a silent peer of the like of it is given up: that
    // it is busy is not the peer's fault.
    let mut clock = Node::with(2, limits).await;
    let _silent = Stranger::greet(8, &clock).await;
    clock.connected().await;
    assert_eq!(clock.disconnected().await, (public(8), CloseReason::Silent));
    node.connected().await;
    for n in 0..200 {
        assert_eq!(node.message().await, numbered(n));
    }
}

#[tokio::test]
async fn what_a_peer_complains_about_is_kept_in_plain_letters() {
    let mut node = Node::start(1).await;
    let mut stranger = Stranger::greet(9, &node).await;
    node.connected().await;
    let data = "bad \u{1b}[31m signature\n".to_owned();
    let error = msgs::ErrorMessage { channel_id: ChannelId([3; 32]), data };
    let error = WireMessage::Channel(Message::Error(error));
    stranger.send(&error.encode()).await;
    let event = node.event().await;
    assert_eq!(event, PeerEvent::Message { node: public(9), message: error });
    let fault = node.peers.list()[0].last_fault.clone().unwrap();
    assert_eq!(fault.text, "bad ?[31m signature?");
}
