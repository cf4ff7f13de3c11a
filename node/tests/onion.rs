//! The onion against the vectors of BOLT 4 and eclair, and against lightning's own builder.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(clippy::arithmetic_side_effects)]

use bitcoin::hashes::{sha256, Hash, HashEngine, Hmac, HmacEngine};
use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};
use fulmen_channel::amount::{Height, Msat};
use fulmen_node::onion::failure::{open, seal, wrap, Opened};
use fulmen_node::onion::{build, peel, sphinx, FailureMessage, OnionError, Payload, PaymentData};
use fulmen_node::onion::{Peeled, SharedSecret};
use lightning::ln::msgs::OnionPacket;
use lightning::util::ser::{BigSize, Readable, Writeable};
use serde_json::Value;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn secret(byte: u8) -> SecretKey {
    SecretKey::from_slice(&[byte; 32]).unwrap()
}

fn node(byte: u8) -> PublicKey {
    secret(byte).public_key(&Secp256k1::new())
}

/// A payload of the vectors without the length before it.
fn unframed(framed: &[u8]) -> Vec<u8> {
    let mut rest = framed;
    let length = BigSize::read(&mut rest).unwrap().0;
    assert_eq!(length, rest.len() as u64);
    rest.to_vec()
}

fn relay(scid: u64) -> Payload {
    Payload {
        amt_to_forward: Msat::new(1_000 + scid),
        outgoing_cltv: Height::new(600),
        short_channel_id: Some(scid),
        ..Payload::default()
    }
}

fn last() -> Payload {
    Payload {
        amt_to_forward: Msat::new(1_000),
        outgoing_cltv: Height::new(500),
        payment_data: Some(PaymentData { payment_secret: [9; 32], total: Msat::new(1_000) }),
        payment_metadata: Some(vec![1, 2, 3]),
        ..Payload::default()
    }
}

#[test]
fn official_onion_is_wound_and_peeled() {
    let vector = json(include_str!("vectors/bolt04-onion-test.json"));
    let generate = &vector["generate"];
    let session_key = SecretKey::from_slice(&bytes(&generate["session_key"])).unwrap();
    let associated = <[u8; 32]>::try_from(bytes(&generate["associated_data"])).unwrap();
    let hops: Vec<(PublicKey, Vec<u8>)> = generate["hops"]
        .as_array()
        .unwrap()
        .iter()
        .map(|hop| {
            let node = PublicKey::from_slice(&bytes(&hop["pubkey"])).unwrap();
            (node, unframed(&bytes(&hop["payload"])))
        })
        .collect();
    let read: Vec<_> = hops
        .iter()
        .map(|(node, payload)| (*node, Payload::decode(payload, 0, &[0; 32]).unwrap()))
        .collect();
    for ((_, raw), (_, payload)) in hops.iter().zip(&read) {
        assert_eq!(raw, &payload.encode());
    }
    let (mut packet, secrets) = build(&session_key, &read, &associated).unwrap();
    assert_eq!(hex::encode(packet.encode()), vector["onion"].as_str().unwrap());
    assert_eq!(packet.encode().len(), 1366);

    for (i, key) in vector["decode"].as_array().unwrap().iter().enumerate() {
        let key = SecretKey::from_slice(&bytes(key)).unwrap();
        match peel(&key, &packet, &associated).unwrap() {
            Peeled::Forward { payload, next, shared_secret } => {
                assert!(i < 4);
                assert_eq!((&payload, shared_secret), (&read[i].1, secrets[i]));
                packet = *next;
            }
            Peeled::Final { payload, shared_secret } => {
                assert_eq!(i, 4);
                assert_eq!((&payload, shared_secret), (&read[i].1, secrets[i]));
            }
            Peeled::Bad { failure, .. } => panic!("{failure:?}"),
        }
    }
}

#[test]
fn official_failure_is_sealed_wrapped_and_opened() {
    let vector = json(include_str!("vectors/bolt04-onion-error-test.json"));
    let generate = &vector["generate"];
    let session_key = SecretKey::from_slice(&bytes(&generate["session_key"])).unwrap();
    let hops = generate["hops"].as_array().unwrap();
    let nodes: Vec<_> =
        hops.iter().map(|hop| PublicKey::from_slice(&bytes(&hop["pubkey"])).unwrap()).collect();
    let secrets = sphinx::shared_secrets(&session_key, &nodes).unwrap();
    for (hop, secret) in hops.iter().zip(&secrets) {
        assert_eq!(bytes(&hop["hop_shared_secret"]), secret.0);
    }
    let mut reason = seal(&secrets[4], &FailureMessage::TemporaryNodeFailure);
    for secret in secrets[..4].iter().rev() {
        wrap(secret, &mut reason);
    }
    assert_eq!(hex::encode(&reason), vector["errorpacket"].as_str().unwrap());
    let failure = Some(FailureMessage::TemporaryNodeFailure);
    assert_eq!(open(&secrets, &reason), Opened::From { hop: 4, failure });

    reason[100] ^= 1;
    assert_eq!(open(&secrets, &reason), Opened::Unreadable);
    assert_eq!(open(&secrets, &[]), Opened::Unreadable);
    assert_eq!(open(&secrets, &[7; 31]), Opened::Unreadable);
    assert_eq!(open(&secrets, &vec![7; 65_000]), Opened::Unreadable);
}

#[test]
fn every_hop_of_a_long_route_can_fail() {
    let nodes: Vec<_> = (1..=20).map(node).collect();
    let secrets = sphinx::shared_secrets(&secret(77), &nodes).unwrap();
    for failing in 0..secrets.len() {
        let sent = FailureMessage::ChannelDisabled { flags: 0, update: vec![failing as u8; 138] };
        let mut reason = seal(&secrets[failing], &sent);
        assert_eq!(reason.len(), 292);
        secrets[..failing].iter().rev().for_each(|secret| wrap(secret, &mut reason));
        assert_eq!(open(&secrets, &reason), Opened::From { hop: failing, failure: Some(sent) });
    }
    // A hop that is not on the route, but knows the key of an empty place, is not believed.
    let zero = SharedSecret([0; 32]);
    let mut reason = seal(&zero, &FailureMessage::MppTimeout);
    secrets.iter().rev().for_each(|secret| wrap(secret, &mut reason));
    assert_eq!(open(&secrets, &reason), Opened::Unreadable);
}

#[test]
fn same_onion_as_lightnings() {
    use lightning::ln::channelmanager::RecipientOnionFields;
    use lightning::routing::router::{Path, RouteHop};
    use lightning::types::features::{ChannelFeatures, NodeFeatures};
    use lightning::types::payment::{PaymentHash, PaymentSecret};

    for count in [1usize, 2, 7, 18] {
        let session_key = secret(41);
        let route: Vec<_> = (1..=count)
            .map(|i| RouteHop {
                pubkey: node(i as u8),
                node_features: NodeFeatures::empty(),
                short_channel_id: i as u64 * 1_000_003,
                channel_features: ChannelFeatures::empty(),
                fee_msat: if i == count { 50_000 } else { 70 + i as u64 },
                cltv_expiry_delta: if i == count { 18 } else { 40 },
                maybe_announced_channel: true,
            })
            .collect();
        let mut amount = 50_000;
        let mut cltv = 700_000 + 18;
        let mut hops = Vec::new();
        for (i, hop) in route.iter().enumerate().rev() {
            let mut payload = if i + 1 == count { last() } else { relay(0) };
            payload.amt_to_forward = Msat::new(amount);
            payload.outgoing_cltv = Height::new(cltv);
            if let Some(data) = &mut payload.payment_data {
                data.total = Msat::new(50_000);
            }
            payload.short_channel_id = route.get(i + 1).map(|next| next.short_channel_id);
            hops.push((hop.pubkey, payload));
            if i + 1 != count {
                amount += hop.fee_msat;
                cltv += hop.cltv_expiry_delta;
            }
        }
        hops.reverse();
        let mut engine = HmacEngine::<sha256::Hash>::new(b"pad");
        engine.input(&session_key.secret_bytes());
        let pad = Hmac::from_engine(engine).to_byte_array();
        let mut fields = RecipientOnionFields::secret_only(PaymentSecret([9; 32]));
        fields.payment_metadata = Some(vec![1, 2, 3]);
        let (theirs, ..) = lightning::ln::create_payment_onion(
            &Secp256k1::new(),
            &Path { hops: route, blinded_tail: None },
            &session_key,
            50_000,
            &fields,
            700_000,
            &PaymentHash([3; 32]),
            &None,
            None,
            pad,
        )
        .unwrap();
        let (ours, _) = build(&session_key, &hops, &[3; 32]).unwrap();
        assert_eq!(hex::encode(ours.encode()), hex::encode(theirs.encode()), "{count} hops");
    }
}

#[test]
fn too_long_or_no_route_is_refused() {
    assert_eq!(build(&secret(1), &[], &[0; 32]).unwrap_err(), OnionError::NoHops);
    let mut long = last();
    // Length, type and value's length take 6 bytes, the hmac 32.
    let overhead = long.encode().len() + 3 + 32 + 6;
    long.records.insert(301, vec![0; 1300 - overhead]);
    assert!(build(&secret(1), &[(node(2), long.clone())], &[0; 32]).is_ok());
    long.records.insert(301, vec![0; 1300 - overhead + 1]);
    let refused = build(&secret(1), &[(node(2), long)], &[0; 32]).unwrap_err();
    assert_eq!(refused, OnionError::TooLong);
}

#[test]
fn malformed_onions_are_named() {
    let (good, _) = build(&secret(7), &[(node(2), last())], &[5; 32]).unwrap();
    let code = |packet: &OnionPacket, hash: [u8; 32]| {
        let malformed = peel(&secret(2), packet, &hash).unwrap_err();
        let expected = sha256::Hash::hash(&packet.encode()).to_byte_array();
        assert_eq!(malformed.sha256_of_onion, expected);
        malformed.failure_code
    };
    assert_eq!(code(&OnionPacket { version: 1, ..good.clone() }, [5; 32]), 0xc004);
    assert_eq!(code(&good, [6; 32]), 0xc005);
    let mut hop_data = good.hop_data;
    hop_data[1299] ^= 1;
    assert_eq!(code(&OnionPacket { hop_data, ..good.clone() }, [5; 32]), 0xc005);
    let public_key = Err(bitcoin::secp256k1::Error::InvalidPublicKey);
    assert_eq!(code(&OnionPacket { public_key, ..good.clone() }, [5; 32]), 0xc006);
    assert!(peel(&secret(3), &good, &[5; 32]).is_err(), "only for the node it was made for");
}

/// What the payee finds in an authentic onion that holds `stream`.
fn peel_raw(stream: &[u8]) -> Peeled {
    let hops = [(node(2), stream.to_vec())];
    let (packet, _) = sphinx::wind(&secret(8), &hops, &[0; 32]).unwrap();
    peel(&secret(2), &packet, &[0; 32]).unwrap()
}

#[test]
fn bad_payloads_are_answered_with_type_and_offset() {
    let cases = [
        ("", 0, 0),                                             // length 0 is reserved
        ("02", 0, 0),                                           // and so is 1
        ("020a04012a", 2, 1),                                   // value longer than the stream
        ("02012a0401", 4, 4),                                   // no value
        ("0202002a04012a", 2, 1),                               // leading zero
        ("02090102030405060708090401ff", 2, 1),                 // 9 bytes
        ("02012a04050102030405", 4, 4),                         // 5 bytes
        ("04012a02012a", 2, 4),                                 // out of order
        ("02012a02012a04012a", 2, 4),                           // twice
        ("02012a04012a060100", 6, 7),                           // a channel id of one byte
        ("02012a04012a080100", 8, 7),                           // payment data too short
        ("02012a04012a0a0100", 10, 7), // a blinded payment without path key
        ("02012a04012a14020000", 20, 7), // unknown even type
        ("02012a04012afd00fd00", 0, 7), // type 253 is fine, but
        ("02012a04012afd00fc00", 0, 7), // 252 has a shorter form
        ("04012a", 2, 0),              // no amount
        ("02012a", 4, 0),              // no expiry
        ("02012a04012aff0000000146c6616c0100", 0x146c6616c, 7), // keysend, even type
    ];
    for (stream, kind, offset) in cases {
        let peeled = peel_raw(&hex::decode(stream).unwrap());
        if stream == "02012a04012afd00fd00" {
            assert!(matches!(peeled, Peeled::Final { .. }));
            continue;
        }
        let Peeled::Bad { failure, .. } = peeled else { panic!("{stream}: {peeled:?}") };
        assert_eq!(failure, FailureMessage::InvalidOnionPayload { kind, offset }, "{stream}");
    }
    // A blinded payment, which we do not take: whoever sent it learns no more than that.
    let blinded = "0a01000c21036d6caac248af96f6afa7f904f550253a0f3ef3f5aa2fe6838a95b216691468e2";
    let peeled = peel_raw(&hex::decode(blinded).unwrap());
    let Peeled::Bad { failure: FailureMessage::InvalidOnionBlinding(_), .. } = peeled else {
        panic!("{peeled:?}")
    };
}

#[test]
fn a_relay_without_channel_is_answered() {
    let hops = [(node(2), last()), (node(3), last())];
    let (packet, _) = build(&secret(8), &hops, &[0; 32]).unwrap();
    let peeled = peel(&secret(2), &packet, &[0; 32]).unwrap();
    let Peeled::Bad { failure, .. } = peeled else { panic!("{peeled:?}") };
    assert_eq!(failure, FailureMessage::InvalidOnionPayload { kind: 6, offset: 0 });
}

/// eclair's payloads that are neither blinded, trampoline nor keysend: those that can be read are,
/// and come out the same again.
#[test]
fn eclairs_payloads() {
    let vector = json(include_str!("vectors/eclair-onion-payloads.json"));
    let mut seen = (0, 0);
    for case in vector["cases"].as_array().unwrap() {
        let framed = bytes(&case["hex"]);
        let name = format!("{} {} {}", case["test"], case["note"], case["hex"]);
        let foreign =
            ["blinded", "node relay", "AsyncPayment", "packet", "length", "legacy", "user"];
        let foreign = foreign.iter().any(|word| case["test"].as_str().unwrap().contains(word));
        if foreign || case["codec"] != "perHopPayloadCodec" {
            // What follows that case are onion messages.
            if case["test"].as_str().unwrap().contains("AsyncPayment") {
                break;
            }
            continue;
        }
        let mut stream = &framed[..];
        let read = BigSize::read(&mut stream)
            .ok()
            .filter(|size| size.0 >= 2 && size.0 == stream.len() as u64)
            .and_then(|_| Payload::decode(stream, 0, &[0; 32]).ok());
        // A trampoline onion is an even type; these two lack what other layers ask for.
        let trampoline = case["hex"].as_str().unwrap().contains("fe00010234");
        let by_others =
            matches!(case["note"].as_str(), Some("missing payment secret" | "missing channel id"));
        let valid = case["valid"] == true && !trampoline || by_others;
        assert_eq!(read.is_some(), valid, "{name}");
        if let Some(payload) = read {
            assert_eq!(payload.encode(), stream, "{name}");
            seen.0 += 1;
        } else {
            seen.1 += 1;
        }
    }
    assert!(seen.0 >= 10 && seen.1 >= 8, "{seen:?}");
}

#[test]
fn eclairs_failure_messages() {
    let vector = json(include_str!("vectors/eclair-failure-messages.json"));
    let mut seen = 0;
    for case in vector["cases"].as_array().unwrap() {
        if case["codec"] != "failureMessageCodec" {
            continue;
        }
        let raw = bytes(&case["hex"]);
        let failure = FailureMessage::decode(&raw).unwrap();
        let code = u16::from_be_bytes([raw[0], raw[1]]);
        assert_eq!(failure.code(), code);
        let known = !matches!(code, 0x4001 | 0x4010 | 0x4011 | 0x00ff | 0x20ff | 0x60ff)
            && !matches!(code, 0x2033 | 0x2034);
        assert_eq!(!matches!(failure, FailureMessage::Other { .. }), known, "{failure:?}");
        // TLVs behind the data are ignored.
        assert!(raw.starts_with(&failure.encode()), "{failure:?}");
        let with_tlvs = case["decoded"].as_str().unwrap().contains("GenericTlv");
        assert_eq!(raw.len() == failure.encode().len(), !with_tlvs, "{failure:?}");
        seen += 1;
    }
    assert!(seen >= 30);
}
