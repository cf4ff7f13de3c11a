//! Channel messages as bytes: other implementations' vectors, and what a hostile peer may send.
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use fulmen_channel::message::{Message, UpdateFailHtlc, UpdateFailMalformedHtlc, MAX_MESSAGE_LEN};
use lightning::ln::msgs;
use lightning::ln::types::ChannelId;
use serde_json::Value;

const TYPES: &[(u16, &[&str])] = &[
    (1, &["Warning", "WarningMessage"]),
    (17, &["ErrorMessage"]),
    (32, &["OpenChannel"]),
    (33, &["AcceptChannel"]),
    (34, &["FundingCreated"]),
    (35, &["FundingSigned"]),
    (36, &["ChannelReady"]),
    (38, &["Shutdown"]),
    (39, &["ClosingSigned"]),
    (40, &["ClosingComplete"]),
    (41, &["ClosingSig"]),
    (128, &["UpdateAddHTLC", "UpdateAddHtlc"]),
    (130, &["UpdateFulfillHTLC"]),
    (131, &["UpdateFailHTLC"]),
    (132, &["CommitmentSigned", "CommitSig"]),
    (133, &["RevokeAndACK", "RevokeAndAck"]),
    (134, &["UpdateFee"]),
    (135, &["UpdateFailMalformedHTLC"]),
    (136, &["ChannelReestablish"]),
    (259, &["AnnouncementSignatures"]),
];

/// A published message: its type, its body, and the whole entry.
fn published() -> Vec<(u16, Vec<u8>, Value)> {
    let files =
        [include_str!("vectors/eclair-messages.json"), include_str!("vectors/ldk-messages.json")];
    let mut found = Vec::new();
    for file in files {
        let file: Value = serde_json::from_str(file).unwrap();
        for case in file["cases"].as_array().unwrap() {
            let name = case["message"].as_str().unwrap_or_default();
            let Some((type_id, _)) = TYPES.iter().find(|(_, names)| names.contains(&name)) else {
                continue;
            };
            let bytes = hex::decode(case["hex"].as_str().unwrap()).unwrap();
            let skip = if case["type"].is_null() { 0 } else { 2 };
            found.push((*type_id, bytes[skip..].to_vec(), case.clone()));
        }
    }
    found
}

fn decode(type_id: u16, body: &[u8]) -> Message {
    Message::decode(type_id, body).unwrap().unwrap()
}

fn why(type_id: u16, body: &[u8]) -> &'static str {
    Message::decode(type_id, body).unwrap_err().why
}

/// The numbers of the TLV fields of a published message that we do not know; `None` if not even its
/// publisher's schema could read it. A failure's attribution data is one: it is not built yet.
fn unknown_fields(case: &Value) -> Option<Vec<u64>> {
    let fields = case["decoded_by_spec_schema"].as_object()?;
    let known = fields.get("tlvs").and_then(Value::as_object).into_iter().flatten();
    let named = known.filter_map(|(name, _)| match (name.as_str(), &case["message"]) {
        ("attribution_data", name) if name == "UpdateFailHTLC" => Some(1),
        (name, _) => name.strip_prefix("unknown_")?.parse().ok(),
    });
    let bare = fields.get("ext").and_then(Value::as_array).into_iter().flatten();
    Some(named.chain(bare.map(|field| field[0].as_u64().unwrap())).collect())
}

#[test]
fn published_messages_survive_the_round_trip() {
    let (mut exact, mut extended, mut refused) = (0, 0, 0);
    for (type_id, body, case) in published() {
        let unknown = unknown_fields(&case);
        if unknown.as_ref().is_none_or(|fields| fields.iter().any(|field| field % 2 == 0)) {
            Message::decode(type_id, &body).expect_err(&case.to_string());
            refused += 1;
            continue;
        }
        let message = decode(type_id, &body);
        assert_eq!(message.type_id(), type_id);
        let again = message.encode();
        assert_eq!(again[..2], type_id.to_be_bytes());
        assert_eq!(decode(type_id, &again[2..]), message);
        if unknown == Some(vec![]) {
            assert_eq!(again[2..], body, "{case}");
            exact += 1;
        } else {
            assert!(again.len() - 2 < body.len());
            extended += 1;
        }
    }
    assert!(exact > 40 && extended > 5 && refused > 10, "{exact} {extended} {refused}");
}

#[test]
fn every_type_has_a_published_message() {
    let seen = published();
    for (type_id, _) in TYPES {
        assert!(seen.iter().any(|(seen, _, _)| seen == type_id), "no message of type {type_id}");
    }
}

#[test]
fn a_message_cut_anywhere_is_refused_or_was_complete_there() {
    for (type_id, body, case) in published() {
        for cut in 0..body.len() {
            // Where only optional fields are cut off, what is left is a message of its own.
            if let Ok(message) = Message::decode(type_id, &body[..cut]) {
                let complete = decode(type_id, &message.unwrap().encode()[2..]);
                assert!(cut >= 32 && complete.type_id() == type_id, "cut at {cut}: {case}");
                assert!(Message::decode(type_id, &body[..cut - 1]).is_err(), "{cut}: {case}");
            }
        }
    }
}

#[test]
fn garbage_after_a_message_is_refused() {
    for (type_id, body, case) in published() {
        if unknown_fields(&case) == Some(vec![]) {
            // The highest field number, even, is nobody's; then one that is not minimal.
            for tail in ["fffffffffffffffffe00", "fd0001", "fffffffffffffffffff0"] {
                let long = [&body[..], &hex::decode(tail).unwrap()].concat();
                Message::decode(type_id, &long).expect_err(&format!("{tail}: {case}"));
            }
        }
    }
}

#[test]
fn every_flipped_byte_is_refused_or_read_back_the_same() {
    for (type_id, body, _) in published() {
        for at in 0..body.len() {
            let mut wrong = body.clone();
            wrong[at] ^= 0xff;
            if let Ok(Some(message)) = Message::decode(type_id, &wrong) {
                assert_eq!(decode(type_id, &message.encode()[2..]), message);
            }
        }
    }
}

#[test]
fn other_types_are_not_channel_messages() {
    for type_id in [0, 2, 16, 18, 19, 37, 64, 77, 127, 256, 257, 258, 261, 513, 32_769, 65_535] {
        assert_eq!(Message::decode(type_id, &[]), Ok(None));
    }
}

fn fail(reason: Vec<u8>) -> Message {
    let channel_id = ChannelId([7; 32]);
    Message::UpdateFailHtlc(Box::new(UpdateFailHtlc { channel_id, htlc_id: 9, reason }))
}

#[test]
fn the_largest_message_passes_and_one_byte_more_does_not() {
    let message = fail(vec![5; MAX_MESSAGE_LEN - 2 - 32 - 8 - 2]);
    let bytes = message.encode();
    assert_eq!(bytes.len(), MAX_MESSAGE_LEN);
    assert_eq!(decode(131, &bytes[2..]), message);
    let long = [&bytes[2..], &[1]].concat();
    assert_eq!(why(131, &long), "is longer than 65535 bytes");
}

#[test]
fn extensions_of_a_failure_follow_the_rule_of_odd_and_even() {
    let malformed = Message::UpdateFailMalformedHtlc(Box::new(UpdateFailMalformedHtlc {
        channel_id: ChannelId([7; 32]),
        htlc_id: 9,
        sha256_of_onion: [3; 32],
        failure_code: 0x8000 | 5,
    }));
    for message in [fail(vec![1, 2, 3]), malformed] {
        let body = message.encode()[2..].to_vec();
        let with = |tail: &str| [&body[..], &hex::decode(tail).unwrap()].concat();
        let type_id = message.type_id();
        for odd in ["", "0100", "0102abcd0300", "fd00ff0101"] {
            assert_eq!(decode(type_id, &with(odd)), message);
        }
        assert_eq!(why(type_id, &with("0200")), "has a required field that we do not know");
        assert_eq!(why(type_id, &with("01000200")), "has a required field that we do not know");
        assert_eq!(why(type_id, &with("03000100")), "has a field with an impossible value");
        assert_eq!(why(type_id, &with("01000100")), "has a field with an impossible value");
        assert_eq!(why(type_id, &with("fd000100")), "has a field with an impossible value");
        assert_eq!(why(type_id, &with("0102ab")), "ends too early");
        assert_eq!(why(type_id, &with("01ffffffffffffffffff")), "ends too early");
    }
}

#[test]
fn an_error_that_is_not_text_is_still_an_error() {
    let mut body = vec![8; 32];
    body.extend([0, 3, b'a', 0xff, b'b']);
    let Message::Error(error) = decode(17, &body) else { panic!("not an error") };
    assert_eq!((error.channel_id, &*error.data), (ChannelId([8; 32]), "a\u{fffd}b"));
}

#[test]
fn a_text_too_long_for_a_message_is_cut_off() {
    let channel_id = ChannelId([0; 32]);
    let data = "x".repeat(70_000);
    let bytes = Message::Warning(msgs::WarningMessage { channel_id, data }).encode();
    assert_eq!(bytes.len(), MAX_MESSAGE_LEN);
    let Message::Warning(warning) = decode(1, &bytes[2..]) else { panic!("not a warning") };
    assert_eq!(warning.data.len(), MAX_MESSAGE_LEN - 36);
}

#[test]
fn messages_name_their_channel() {
    for (type_id, body, case) in published() {
        let Ok(Some(message)) = Message::decode(type_id, &body) else { continue };
        // open_channel has the chain first; all others begin with the channel's id.
        let at = if type_id == 32 { 32 } else { 0 };
        assert_eq!(message.channel_id().0, body[at..at + 32], "{case}");
    }
}
