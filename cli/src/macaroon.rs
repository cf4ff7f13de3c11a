//! Macaroons: what one says, and narrowing it by a first-party caveat added to its bytes.
//!
//! Version 2 of the binary format: 0x02, location, identifier, 0x00, caveats, 0x00, signature. A
//! field is its number, its length as varint and its bytes. The new signature is
//! HMAC-SHA256(old signature, caveat), so nobody can take the caveat away again.

use bitcoin_hashes::{sha256, Hash, HashEngine, Hmac, HmacEngine};
use prost::Message;
use serde::Serialize;

const VERSION: u8 = 2;
const LOCATION: u8 = 1;
const IDENTIFIER: u8 = 2;
const VERIFICATION: u8 = 4;
/// First byte of an identifier.
const BAKERY: u8 = 3;
/// The end of all caveats, then field 6 of 32 bytes.
const SIGNATURE_MARK: [u8; 3] = [0, 6, 32];

/// `macaroon` (binary) with the first-party caveat `condition` added; `None` if it is no macaroon
/// of version 2.
pub fn add_caveat(macaroon: &[u8], condition: &str) -> Option<Vec<u8>> {
    let (head, signature) = macaroon.split_last_chunk::<32>()?;
    let (body, mark) = head.split_last_chunk::<3>()?;
    if body.first() != Some(&VERSION) || *mark != SIGNATURE_MARK {
        return None;
    }
    let mut engine = HmacEngine::<sha256::Hash>::new(signature);
    engine.input(condition.as_bytes());
    let mut out = body.to_vec();
    out.push(IDENTIFIER);
    varint(condition.len(), &mut out);
    out.extend_from_slice(condition.as_bytes());
    out.push(0);
    out.extend_from_slice(&SIGNATURE_MARK);
    out.extend_from_slice(Hmac::<sha256::Hash>::from_engine(engine).as_byte_array());
    Some(out)
}

/// What a macaroon says, as lncli shows it.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Contents {
    version: u16,
    location: String,
    root_key_id: String,
    /// entity:action
    permissions: Vec<String>,
    caveats: Vec<String>,
}

/// The identifier after its version byte.
#[derive(Clone, PartialEq, Message)]
struct Identifier {
    #[prost(bytes = "vec", tag = "1")]
    nonce: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    storage_id: Vec<u8>,
    #[prost(message, repeated, tag = "3")]
    ops: Vec<Op>,
}

#[derive(Clone, PartialEq, Message)]
struct Op {
    #[prost(string, tag = "1")]
    entity: String,
    #[prost(string, repeated, tag = "2")]
    actions: Vec<String>,
}

impl Contents {
    /// Reads a macaroon (binary); `None` if it is none of version 2.
    pub fn of(macaroon: &[u8]) -> Option<Self> {
        let (head, _) = macaroon.split_last_chunk::<32>()?;
        let mut rest = head.strip_prefix(&[VERSION])?.strip_suffix(&SIGNATURE_MARK)?;
        let location = field(LOCATION, &mut rest).unwrap_or_default();
        let identifier = field(IDENTIFIER, &mut rest)?;
        rest = rest.strip_prefix(&[0])?;
        let mut caveats = Vec::new();
        while !rest.is_empty() {
            field(LOCATION, &mut rest);
            caveats.push(text(field(IDENTIFIER, &mut rest)?));
            field(VERIFICATION, &mut rest);
            rest = rest.strip_prefix(&[0])?;
        }
        let identifier = Identifier::decode(identifier.strip_prefix(&[BAKERY])?).ok()?;
        let ops = identifier.ops.iter();
        let permissions =
            ops.flat_map(|op| op.actions.iter().map(|action| format!("{}:{action}", op.entity)));
        Some(Self {
            version: u16::from(VERSION),
            location: text(location),
            root_key_id: text(&identifier.storage_id),
            permissions: permissions.collect(),
            caveats,
        })
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Takes the field `number` off the start of `rest`, if it stands there.
fn field<'a>(number: u8, rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let mut after = rest.strip_prefix(&[number])?;
    let mut length = 0usize;
    for shift in [0, 7, 14, 21] {
        let (byte, tail) = after.split_first()?;
        after = tail;
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            let (value, tail) = after.split_at_checked(length)?;
            *rest = tail;
            return Some(value);
        }
    }
    None
}

fn varint(mut value: usize, out: &mut Vec<u8>) {
    while value > 0x7f {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::{add_caveat, Contents};

    /// Made with the independent npm package `macaroon` 3.0.4.
    const VECTORS: &str = include_str!("../tests/vectors/macaroons.json");

    #[test]
    fn caveats_give_the_bytes_of_another_library() {
        let vectors: serde_json::Value = serde_json::from_str(VECTORS).unwrap();
        let cases = vectors["cases"].as_array().unwrap();
        assert!(!cases.is_empty());
        for case in cases {
            let bytes = |name: &str| hex::decode(case[name].as_str().unwrap()).unwrap();
            let time = "time-before 2030-01-02T03:04:05.123456789Z";
            let timed = add_caveat(&bytes("macaroon_hex"), time).unwrap();
            assert_eq!(timed, bytes("with_time_before"));
            let bound = add_caveat(&timed, "ipaddr 127.0.0.1").unwrap();
            assert_eq!(bound, bytes("with_time_before_and_ipaddr"));
        }
    }

    #[test]
    fn a_long_caveat_has_a_length_of_two_bytes() {
        let condition = "x".repeat(300);
        let vectors: serde_json::Value = serde_json::from_str(VECTORS).unwrap();
        let admin = hex::decode(vectors["cases"][0]["macaroon_hex"].as_str().unwrap()).unwrap();
        let long = add_caveat(&admin, &condition).unwrap();
        let start = admin.len() - 35;
        assert_eq!(long[start..start + 4], [2, 0xac, 0x02, b'x']);
    }

    #[test]
    fn contents_are_those_that_were_baked() {
        let vectors: serde_json::Value = serde_json::from_str(VECTORS).unwrap();
        let case = &vectors["cases"][0];
        let bytes = hex::decode(case["with_time_before_and_ipaddr"].as_str().unwrap()).unwrap();
        let contents = Contents::of(&bytes).unwrap();
        assert_eq!((contents.version, contents.location.as_str()), (2, "lnd"));
        assert_eq!(contents.root_key_id, "0");
        let caveats = ["time-before 2030-01-02T03:04:05.123456789Z", "ipaddr 127.0.0.1"];
        assert_eq!(contents.caveats, caveats);
        assert!(contents.permissions.contains(&"offchain:write".to_owned()), "{contents:?}");
        for end in 0..bytes.len() {
            assert_eq!(Contents::of(&bytes[..end]), None);
        }
    }

    #[test]
    fn what_is_no_macaroon_is_refused() {
        assert_eq!(add_caveat(b"", "x"), None);
        assert_eq!(add_caveat(&[2; 34], "x"), None);
        assert_eq!(add_caveat(&[2; 80], "x"), None);
    }
}
