//! Narrowing a macaroon before it is sent: a first-party caveat is added to its bytes.
//!
//! Version 2 of the binary format: 0x02, location, identifier, 0x00, caveats, 0x00, signature. A
//! field is its number, its length as varint and its bytes. The new signature is
//! HMAC-SHA256(old signature, caveat), so nobody can take the caveat away again.

use bitcoin_hashes::{sha256, Hash, HashEngine, Hmac, HmacEngine};

const VERSION: u8 = 2;
const IDENTIFIER: u8 = 2;
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

fn varint(mut value: usize, out: &mut Vec<u8>) {
    while value > 0x7f {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::add_caveat;

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
    fn what_is_no_macaroon_is_refused() {
        assert_eq!(add_caveat(b"", "x"), None);
        assert_eq!(add_caveat(&[2; 34], "x"), None);
        assert_eq!(add_caveat(&[2; 80], "x"), None);
    }
}
