//! What decides without a socket: features, messages, the session, the delays of reconnecting.

use std::time::Duration;

use bitcoin::constants::ChainHash;
use fulmen_channel::message::{BadMessage, Message};
use fulmen_node::peer::features::{check, features, our_features, Incompatible, Protocol};
use fulmen_node::peer::reconnect::Backoff;
use fulmen_node::peer::session::{Session, Step};
use fulmen_node::peer::wire::WireError;
use fulmen_node::peer::{CloseReason, Patience, WireMessage};
use lightning::ln::msgs;
use lightning::types::features::InitFeatures;
use serde_json::Value;

use super::{init, init_with, numbered, patience};

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

const PATIENCE: Patience = Patience { init: secs(30), ping_every: secs(60), pong_within: secs(20) };

fn with_bits(bits: &[usize]) -> InitFeatures {
    let mut flags = vec![0; 32];
    bits.iter().for_each(|bit| flags[bit / 8] |= 1u8 << (bit % 8));
    InitFeatures::from_le_bytes(flags)
}

#[test]
fn our_features_are_the_built_ones() {
    assert_eq!(our_features(), with_bits(&[0, 5, 8, 12, 14, 23, 27, 43, 45, 61]));
}

#[test]
fn features_are_offered_as_the_operator_switches_them() {
    let on =
        |anchors, scid_alias, zero_conf| features(&Protocol { anchors, scid_alias, zero_conf });
    assert_eq!(on(true, false, false), our_features());
    let bare = [0, 5, 8, 12, 14, 27, 43, 45, 61];
    assert_eq!(on(false, false, false), with_bits(&bare));
    assert_eq!(on(false, true, false), with_bits(&[&bare[..], &[47]].concat()));
    assert_eq!(on(false, true, true), with_bits(&[&bare[..], &[47, 51]].concat()));
}

#[test]
fn features_we_lack_may_be_offered_but_not_required() {
    let check = |bits: &[usize]| check(&our_features(), &with_bits(bits));
    assert_eq!(check(&[]), Ok(()));
    assert_eq!(check(&[0, 8, 12, 14, 44, 22, 26, 4]), Ok(()));
    assert_eq!(check(&[3, 7, 11, 29, 35, 39, 63, 101, 255]), Ok(()));
    assert_eq!(check(&[28, 29, 100]), Err(Incompatible::Unknown(vec![28, 100])));
    for bit in [2, 6, 10, 18, 20, 24, 28, 34, 36, 38, 40, 46, 62, 254] {
        assert_eq!(check(&[bit]), Err(Incompatible::Unknown(vec![bit as u64])));
    }
}

#[test]
fn assumed_features_are_known_even_if_we_offer_nothing() {
    assert_eq!(check(&with_bits(&[]), &with_bits(&[0, 8, 12, 14, 44])), Ok(()));
}

#[test]
fn a_feature_needs_those_it_builds_on() {
    let check = |bits: &[usize]| check(&our_features(), &with_bits(bits));
    let lacks = |feature, needs| Err(Incompatible::Dependency { feature, needs });
    assert_eq!(check(&[51]), lacks(50, 46));
    assert_eq!(check(&[51, 47]), Ok(()));
    assert_eq!(check(&[61]), lacks(60, 26));
    assert_eq!(check(&[61, 26]), Ok(()));
    assert_eq!(check(&[17]), Ok(())); // what basic_mpp needs is assumed
}

#[test]
fn published_inits_are_read_or_refused_as_published() {
    let file: Value =
        serde_json::from_str(include_str!("../vectors/bolt01-init-extension.json")).unwrap();
    let cases = file["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 5);
    for case in cases {
        let bytes = hex::decode(case["message"].as_str().unwrap()).unwrap();
        let decoded = WireMessage::decode(&bytes);
        assert_eq!(decoded.is_ok(), case["valid"].as_bool().unwrap(), "{case}: {decoded:?}");
    }
}

#[test]
fn both_feature_fields_of_init_count() {
    let bytes = hex::decode("0010000202000002088a").unwrap();
    let Ok(Some(WireMessage::Init(init))) = WireMessage::decode(&bytes) else { panic!() };
    assert_eq!(init.features, with_bits(&[1, 3, 7, 9, 11]));
}

#[test]
fn messages_survive_the_round_trip() {
    let ping = WireMessage::Ping(msgs::Ping { ponglen: 7, byteslen: 3 });
    assert_eq!(ping.encode(), hex::decode("001200070003000000").unwrap());
    let pong = WireMessage::Pong(msgs::Pong { byteslen: 65_531 });
    let blob = vec![7; 65_531];
    let keep = msgs::PeerStorage { data: blob.clone() };
    let keep = WireMessage::PeerStorage(Box::new(keep));
    let back = msgs::PeerStorageRetrieval { data: blob };
    let back = WireMessage::PeerStorageRetrieval(Box::new(back));
    assert_eq!(keep.encode()[..5], [0, 7, 0xff, 0xfb, 7]);
    assert_eq!((keep.encode().len(), back.encode()[1]), (65_535, 9), "as long as can be");
    for message in [init(), ping, pong, numbered(5), keep, back] {
        let bytes = message.encode();
        assert_eq!(WireMessage::decode(&bytes), Ok(Some(message)));
        for cut in 2..bytes.len().min(100) {
            if let Ok(cut) = WireMessage::decode(&bytes[..cut]) {
                assert!(matches!(cut, Some(WireMessage::Init(_))), "its TLVs are optional");
            }
        }
    }
}

#[test]
fn a_queue_of_messages_stays_small() {
    assert!(size_of::<WireMessage>() <= 80, "{}", size_of::<WireMessage>());
}

#[test]
fn odd_unknown_types_are_ignored_and_even_ones_are_not() {
    assert_eq!(WireMessage::decode(&[]), Err(WireError::NoType));
    assert_eq!(WireMessage::decode(&[0]), Err(WireError::NoType));
    for odd in [5u16, 261, 263, 265, 513, 32_769, 65_535] {
        assert_eq!(WireMessage::decode(&odd.to_be_bytes()), Ok(None));
    }
    for even in [0u16, 2, 42, 64, 80, 262, 32_768, 65_534] {
        assert_eq!(WireMessage::decode(&even.to_be_bytes()), Err(WireError::UnknownType(even)));
    }
}

/// A published announcement's type and body, from the channel crate's vectors.
fn published_gossip() -> Vec<(u16, Vec<u8>)> {
    let file = include_str!("../../../channel/tests/vectors/ldk-messages.json");
    let file: Value = serde_json::from_str(file).unwrap();
    let cases = file["cases"].as_array().unwrap().iter();
    let typed = cases.filter_map(|case| {
        let type_id = match case["message"].as_str().unwrap() {
            "ChannelAnnouncement" => 256,
            "NodeAnnouncement" => 257,
            "ChannelUpdate" => 258,
            _ => return None,
        };
        Some((type_id, hex::decode(case["hex"].as_str().unwrap()).unwrap()))
    });
    typed.collect()
}

#[test]
fn announcements_survive_the_round_trip() {
    let gossip = published_gossip();
    assert_eq!(gossip.len(), 22);
    for (type_id, body) in gossip {
        let bytes = [&type_id.to_be_bytes()[..], &body].concat();
        let message = WireMessage::decode(&bytes).unwrap().unwrap();
        assert_eq!(message.encode(), bytes);
        let short = WireMessage::decode(&bytes[..60]);
        assert_eq!(short, Err(BadMessage { type_id, why: "ends too early" }.into()));
    }
}

#[test]
fn an_announcement_with_an_impossible_value_is_passed_over() {
    let (_, mut body) =
        published_gossip().into_iter().find(|(type_id, _)| *type_id == 258).unwrap();
    body[64 + 32 + 8 + 4] = 0; // message_flags without must_be_one
    assert_eq!(WireMessage::decode(&[&[1, 2][..], &body].concat()), Ok(None));
}

/// A session that is open since second 0.
fn open_session() -> Session {
    let mut session = Session::new(our_features(), ChainHash::REGTEST, PATIENCE, Duration::ZERO);
    let step = session.receive(Duration::ZERO, &init().encode());
    assert_eq!(step, Ok(Step::Open(our_features())));
    session
}

fn closed(session_input: &[WireMessage]) -> CloseReason {
    let mut session = Session::new(our_features(), ChainHash::REGTEST, PATIENCE, Duration::ZERO);
    let mut steps = session_input.iter().map(|m| session.receive(secs(1), &m.encode()));
    steps.find_map(Result::err).unwrap()
}

#[test]
fn init_comes_first_once_and_fits() {
    assert_eq!(closed(&[numbered(1)]), CloseReason::InitFirst);
    assert_eq!(closed(&[init(), init()]), CloseReason::InitTwice);
    let chain = |chains| init_with(|init| init.networks = chains);
    assert_eq!(closed(&[chain(Some(vec![ChainHash::BITCOIN]))]), CloseReason::OtherChain);
    assert_eq!(closed(&[chain(Some(vec![]))]), CloseReason::OtherChain);
    let both = vec![ChainHash::BITCOIN, ChainHash::REGTEST];
    assert_eq!(closed(&[chain(Some(both)), init()]), CloseReason::InitTwice);
    assert_eq!(closed(&[chain(None), init()]), CloseReason::InitTwice);
    let splicer = init_with(|init| init.features = with_bits(&[62]));
    let reason = closed(&[splicer]);
    assert_eq!(reason, CloseReason::Features(Incompatible::Unknown(vec![62])));
    assert!(matches!(reason.farewell(), Some(WireMessage::Channel(Message::Warning(_)))));
}

#[test]
fn our_init_names_our_features_and_chain() {
    let session = Session::new(our_features(), ChainHash::REGTEST, PATIENCE, Duration::ZERO);
    assert_eq!(session.init(None), init());
}

#[test]
fn pings_are_answered_unless_they_ask_for_nothing() {
    let mut session = open_session();
    let mut ping = |ponglen| {
        let ping = WireMessage::Ping(msgs::Ping { ponglen, byteslen: 2 });
        session.receive(secs(1), &ping.encode()).unwrap()
    };
    for byteslen in [0, 1, 65_531] {
        assert_eq!(ping(byteslen), Step::Send(WireMessage::Pong(msgs::Pong { byteslen })));
    }
    assert_eq!(ping(65_532), Step::Nothing);
    assert_eq!(ping(65_535), Step::Nothing);
}

#[test]
fn other_messages_are_the_nodes() {
    let step = open_session().receive(secs(1), &numbered(3).encode());
    assert_eq!(step, Ok(Step::Deliver(numbered(3))));
}

fn sent_ping(session: &mut Session, at: Duration) -> u16 {
    assert_eq!(session.wake_at(), at);
    match session.tick(at) {
        Ok(Some(WireMessage::Ping(ping))) => ping.ponglen,
        other => panic!("no ping: {other:?}"),
    }
}

#[test]
fn a_ping_goes_out_each_minute_and_its_answer_is_timed() {
    let mut session = open_session();
    let pong = |byteslen| WireMessage::Pong(msgs::Pong { byteslen }).encode();
    let first = sent_ping(&mut session, secs(0));
    assert_eq!(session.wake_at(), secs(20));
    assert_eq!(session.tick(secs(19)), Ok(None));
    session.receive(secs(2), &pong(first + 9)).unwrap();
    assert_eq!(session.round_trip(), None);
    session.receive(secs(3), &pong(first)).unwrap();
    assert_eq!(session.round_trip(), Some(secs(3)));
    let second = sent_ping(&mut session, secs(60));
    session.receive(secs(61), &pong(first)).unwrap();
    assert_eq!(session.round_trip(), Some(secs(3)));
    session.receive(secs(62), &pong(second)).unwrap();
    assert_eq!(session.round_trip(), Some(secs(2)));
}

#[test]
fn a_peer_that_stays_silent_after_a_ping_is_given_up() {
    let mut session = open_session();
    sent_ping(&mut session, secs(0));
    assert_eq!(session.tick(secs(20)), Err(CloseReason::Silent));
}

#[test]
fn any_message_after_a_ping_is_a_sign_of_life() {
    let mut session = open_session();
    sent_ping(&mut session, secs(0));
    session.receive(secs(5), &numbered(1).encode()).unwrap();
    assert_eq!(session.tick(secs(20)), Ok(None));
    sent_ping(&mut session, secs(60));
    assert_eq!(session.tick(secs(80)), Err(CloseReason::Silent));
}

#[test]
fn init_is_not_waited_for_for_ever() {
    let limits = patience(secs(4), secs(1), secs(1));
    let mut session = Session::new(our_features(), ChainHash::REGTEST, limits, secs(2));
    assert_eq!(session.wake_at(), secs(6));
    assert_eq!(session.tick(secs(5)), Ok(None));
    assert_eq!(session.tick(secs(6)), Err(CloseReason::InitTimeout));
}

#[test]
fn delays_double_to_the_longest_and_start_anew_after_a_good_connection() {
    let mut backoff = Backoff::new(secs(1), secs(300));
    let mut delays = (0..12).map(|_| backoff.next(None, 1000).as_secs());
    let wanted = [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300];
    assert!(delays.by_ref().eq(wanted));
    drop(delays);
    assert_eq!(backoff.next(Some(secs(59)), 1000), secs(300));
    assert_eq!(backoff.next(Some(secs(60)), 1000), secs(1));
    assert_eq!(backoff.next(None, 0), secs(1)); // half of two
    (0..100).for_each(|_| assert!(backoff.next(None, 1000) <= secs(300)));
}
