//! eclair's failure packets before obfuscation: their hmac key is all zero.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use super::*;

#[test]
fn eclairs_failure_packets() {
    let vectors = include_str!("../../tests/vectors/eclair-failure-messages.json");
    let vectors: serde_json::Value = serde_json::from_str(vectors).unwrap();
    let mut seen = 0;
    for case in vectors["cases"].as_array().unwrap() {
        if case["codec"] != "failureOnionCodec" {
            continue;
        }
        seen += 1;
        let raw = hex::decode(case["hex"].as_str().unwrap()).unwrap();
        let parsed = parse(&[0; 32], &raw);
        match case["note"].as_str() {
            // The code is still worth knowing.
            Some("Invalid failure message.") => {
                let failure = parsed.unwrap().unwrap();
                assert!(matches!(failure, FailureMessage::Other { code: 0xc005, .. }));
            }
            Some("Invalid mac.") => assert_eq!(parsed, None),
            Some("Padding length doesn't match actual padding.") => assert_eq!(parsed, Some(None)),
            _ => {
                let failure = parsed.unwrap().unwrap();
                let code = format!("{:04x}", failure.code());
                assert_eq!(hex::encode(&raw[34..36]), code);
                if case["test"] == "encode/decode failure onion" {
                    assert_eq!(packet(&[0; 32], &failure.encode()), raw);
                }
            }
        }
    }
    assert_eq!(seen, 13);
}
