//! BOLT 11's examples, valid and invalid, and invoices of our own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(clippy::arithmetic_side_effects)]

use bitcoin::secp256k1::{Message, PublicKey, Secp256k1, SecretKey};
use bitcoin::Network;
use fulmen_channel::amount::Msat;
use fulmen_channel::payment::PaymentHash;
use fulmen_node::invoices::bolt11::{
    make, parse_fallback, read, Bolt11Error, Description, Draft, PayReq,
};
use lightning::routing::gossip::RoutingFees;
use lightning::routing::router::{RouteHint, RouteHintHop};
use serde_json::Value;

fn vectors() -> Value {
    serde_json::from_str(include_str!("../vectors/bolt11.json")).unwrap()
}

fn invoice(case: &Value) -> PayReq {
    read(case["invoice"].as_str().unwrap()).unwrap_or_else(|e| panic!("{}: {e}", case["name"]))
}

fn check_field(read: &PayReq, field: &Value) {
    if field["ignored"] == true {
        return;
    }
    let text = |name: &str| field[name].as_str().unwrap().to_owned();
    match field["tag"].as_str().unwrap() {
        "p" => assert_eq!(read.payment_hash.to_string(), text("payment_hash")),
        "s" => assert_eq!(hex::encode(read.payment_secret), text("payment_secret")),
        "d" => assert_eq!(read.description, Description::Text(text("description"))),
        "h" => {
            let hash = hex::decode(text("description_hash")).unwrap().try_into().unwrap();
            assert_eq!(read.description, Description::Hash(hash));
        }
        "x" => assert_eq!(read.expiry, field["expiry_seconds"]),
        "c" => assert_eq!(read.min_final_cltv, field["min_final_cltv_expiry_delta"]),
        "m" => {
            assert_eq!(hex::encode(read.metadata.as_ref().unwrap()), text("payment_metadata"));
        }
        "9" => assert_eq!(Value::from(read.features.clone()), field["feature_bits"]),
        "f" => {
            let script = read.fallbacks[0].script_pubkey().to_hex_string();
            assert!(script.contains(field["fallback"]["program"].as_str().unwrap()));
        }
        "r" => {
            let hops = field["route_hint"].as_array().unwrap();
            assert_eq!(read.route_hints[0].0.len(), hops.len());
            for (hop, expected) in read.route_hints[0].0.iter().zip(hops) {
                assert_eq!(hop.src_node_id.to_string(), expected["pubkey"].as_str().unwrap());
                assert_eq!(hop.fees.base_msat, expected["fee_base_msat"]);
                assert_eq!(
                    hop.fees.proportional_millionths,
                    expected["fee_proportional_millionths"]
                );
                assert_eq!(hop.cltv_expiry_delta, expected["cltv_expiry_delta"]);
            }
        }
        tag => assert_eq!(tag, "2", "the only unknown one"),
    }
}

#[test]
fn official_valid_invoices() {
    for case in vectors()["valid"].as_array().unwrap() {
        let read = invoice(case);
        let decoded = &case["decoded"];
        assert_eq!(read.payee.to_string(), decoded["recovered_pubkey"].as_str().unwrap());
        assert_eq!(read.timestamp, decoded["timestamp"]);
        assert_eq!(read.amount.map(|a| a.msat()), decoded["amount_msat"].as_u64());
        let fields = decoded["tagged_fields"].as_array().unwrap();
        fields.iter().for_each(|field| check_field(&read, field));
        assert!(fields.iter().any(|f| f["tag"] == "x") || read.expiry == 3600);
        assert!(fields.iter().any(|f| f["tag"] == "c") || read.min_final_cltv == 18);

        let network = match decoded["currency"].as_str().unwrap() {
            "tb" => Network::Testnet,
            _ => Network::Bitcoin,
        };
        let payable = read.check_payable(network, read.timestamp + read.expiry);
        if case["name"] == "features_with_ignored_fields" {
            // The text has a reader fail on a wrong length, the example calls it fine: we show
            // such an invoice but do not pay it.
            assert_eq!(payable, Err(Bolt11Error::FieldLength('p')));
        } else {
            assert_eq!(payable, Ok(()));
        }
    }
}

#[test]
fn official_invalid_invoices() {
    let vectors = vectors();
    let mut count = 0;
    for case in vectors["invalid"].as_array().unwrap() {
        assert!(read(case["invoice"].as_str().unwrap()).is_err(), "{}", case["name"]);
        count += 1;
    }
    for case in vectors["extra_invalid"]["cases"].as_array().unwrap() {
        assert!(read(case["invoice"].as_str().unwrap()).is_err(), "{case}");
        count += 1;
    }
    assert_eq!(count, 20);
}

#[test]
fn wrong_network_and_expiry_are_named() {
    let case = &vectors()["valid"][1];
    let read = invoice(case);
    let (now, end) = (read.timestamp, read.timestamp + 60);
    let wrong = Err(Bolt11Error::WrongNetwork(Network::Regtest));
    assert_eq!(read.check_payable(Network::Regtest, now), wrong);
    assert_eq!(read.check_payable(Network::Bitcoin, end), Ok(()));
    let expired = read.check_payable(Network::Bitcoin, end + 1).unwrap_err();
    assert!(expired.to_string().starts_with("invoice expired. Valid until"), "{expired}");
}

fn key() -> SecretKey {
    SecretKey::from_slice(&[11; 32]).unwrap()
}

fn draft() -> Draft {
    Draft {
        network: Network::Regtest,
        amount: Some(Msat::new(123_456)),
        description: Description::Text("Zwölf Äpfel".into()),
        payment_hash: PaymentHash([1; 32]),
        payment_secret: [2; 32],
        timestamp: 1_800_000_000,
        expiry: 86_400,
        min_final_cltv: 80,
        fallback: None,
        route_hints: vec![],
    }
}

fn sign(draft: Draft) -> Result<String, Bolt11Error> {
    make(draft, |hash: &Message| Secp256k1::new().sign_ecdsa_recoverable(hash, &key()))
}

#[test]
fn our_invoice_reads_back() {
    let hint = RouteHint(vec![RouteHintHop {
        src_node_id: PublicKey::from_secret_key(&Secp256k1::new(), &key()),
        short_channel_id: 99,
        fees: RoutingFees { base_msat: 1, proportional_millionths: 2 },
        cltv_expiry_delta: 3,
        htlc_minimum_msat: None,
        htlc_maximum_msat: None,
    }]);
    let addresses = [
        "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080",
        "bcrt1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqc8gma6",
        "2N3oefVeg6stiTb5Kh3ozCSkaqmx91FDbsm",
        "mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn",
    ];
    for address in addresses {
        let fallback = parse_fallback(address, Network::Regtest).unwrap();
        let text = sign(Draft {
            fallback: Some(fallback.clone()),
            route_hints: vec![hint.clone(), hint.clone()],
            ..draft()
        })
        .unwrap();
        assert!(text.starts_with("lnbcrt1234560p1"), "{text}");
        let read = read(&text).unwrap();
        assert_eq!(read.payee, key().public_key(&Secp256k1::new()));
        assert_eq!(read.payment_hash, PaymentHash([1; 32]));
        assert_eq!(read.payment_secret, [2; 32]);
        assert_eq!(read.amount, Some(Msat::new(123_456)));
        assert_eq!((read.timestamp, read.expiry), (1_800_000_000, 86_400));
        assert_eq!(read.description, Description::Text("Zwölf Äpfel".into()));
        assert_eq!(read.min_final_cltv, 80);
        assert_eq!(read.fallbacks, [fallback]);
        assert_eq!(read.route_hints, [hint.clone(), hint.clone()]);
        assert_eq!(read.features, [8, 14], "neither basic_mpp nor anything else unbuilt");
        assert_eq!(read.check_payable(Network::Regtest, 1_800_000_000), Ok(()));
    }
    let any = Draft { amount: None, description: Description::Hash([7; 32]), ..draft() };
    let read = read(&sign(any).unwrap()).unwrap();
    assert_eq!((read.amount, read.description), (None, Description::Hash([7; 32])));
}

#[test]
fn what_does_not_fit_is_refused() {
    // The library counts in tenths of a millisatoshi: 18 million bitcoin is as much as it holds.
    let amounts = [(0, false), (1, true), (u64::MAX / 10, true), (u64::MAX / 10 + 1, false)];
    let beyond = [Msat::MAX_MONEY.msat() + 1, u64::MAX].map(|amount| (amount, false));
    for (amount, fine) in amounts.into_iter().chain(beyond) {
        let text = sign(Draft { amount: Some(Msat::new(amount)), ..draft() });
        assert_eq!(text.is_ok(), fine, "{amount}");
        if let Ok(text) = text {
            assert_eq!(read(&text).unwrap().amount, Some(Msat::new(amount)));
        }
    }
    let long = |n| sign(Draft { description: Description::Text("x".repeat(n)), ..draft() });
    assert!(long(639).is_ok());
    assert!(matches!(long(640), Err(Bolt11Error::Unwritable(_))));
    for address in ["bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq", "nonsense", ""] {
        assert!(parse_fallback(address, Network::Regtest).is_err());
    }
}

#[test]
fn any_changed_letter_is_noticed() {
    let text = sign(draft()).unwrap();
    for i in 0..text.len() {
        for letter in ['q', 'p', '1', 'B', '\u{e9}'] {
            let mut letters: Vec<char> = text.chars().collect();
            letters[i] = letter;
            let changed: String = letters.into_iter().collect();
            assert_eq!(read(&changed).is_ok(), changed == text, "{changed}");
        }
        assert!(read(&text[..i]).is_err());
    }
    assert!(read(&text.to_uppercase()).is_ok());
}

/// Invoices whose checksum and signature are right but whose amount or field lengths are not.
mod forged {
    use super::*;
    use lightning_invoice::{
        Currency, ExpiryTime, RawBolt11Invoice, RawHrp, RawTaggedField, SiPrefix,
        SignedRawBolt11Invoice, TaggedField,
    };

    fn forge(change: impl FnOnce(&mut RawBolt11Invoice)) -> String {
        let signed: SignedRawBolt11Invoice = sign(draft()).unwrap().parse().unwrap();
        let (mut raw, ..) = signed.into_parts();
        change(&mut raw);
        let sign =
            |hash: &Message| Ok::<_, ()>(Secp256k1::new().sign_ecdsa_recoverable(hash, &key()));
        raw.sign(sign).unwrap().to_string()
    }

    fn amount(raw_amount: u64, si_prefix: Option<SiPrefix>) -> Result<PayReq, Bolt11Error> {
        let currency = Currency::Regtest;
        read(&forge(|raw| raw.hrp = RawHrp { currency, raw_amount: Some(raw_amount), si_prefix }))
    }

    #[test]
    fn amounts_that_overflow_are_not_taken_for_none() {
        assert_eq!(amount(1, None).unwrap().amount, Some(Msat::new(100_000_000_000)));
        assert_eq!(amount(21_000_000, None), Err(Bolt11Error::Amount));
        assert_eq!(amount(u64::MAX, None), Err(Bolt11Error::Amount));
        assert_eq!(amount(0, None), Err(Bolt11Error::Amount));
        assert_eq!(amount(0, Some(SiPrefix::Milli)), Err(Bolt11Error::Amount));
        assert!(amount(u64::MAX, Some(SiPrefix::Milli)).is_err());
        assert!(amount(9, Some(SiPrefix::Pico)).is_err(), "less than a millisatoshi");
    }

    fn without(tag: char) -> Result<PayReq, Bolt11Error> {
        read(&forge(|raw| {
            raw.data.tagged_fields.retain(|field| match field {
                RawTaggedField::KnownSemantics(field) => field.tag().to_char() != tag,
                RawTaggedField::UnknownSemantics(_) => true,
            })
        }))
    }

    #[test]
    fn mandatory_fields_are() {
        for tag in ['p', 's', 'd'] {
            assert!(matches!(without(tag), Err(Bolt11Error::Invalid(_))), "{tag}");
        }
        for tag in ['x', 'c'] {
            assert!(without(tag).is_ok(), "{tag}");
        }
    }

    fn with(field: TaggedField) -> Result<PayReq, Bolt11Error> {
        read(&forge(|raw| raw.data.tagged_fields.push(RawTaggedField::KnownSemantics(field))))
    }

    #[test]
    fn only_one_description() {
        use bitcoin::hashes::{sha256, Hash};
        let hash = lightning_invoice::Sha256(sha256::Hash::hash(b"x"));
        assert!(with(TaggedField::DescriptionHash(hash)).is_err());
        let text = lightning_invoice::Description::new("again".into()).unwrap();
        assert!(with(TaggedField::Description(text)).is_err());
        assert!(with(TaggedField::ExpiryTime(ExpiryTime::from_seconds(1))).is_ok());
    }

    #[test]
    fn leading_zeros_are_refused() {
        let fe = |letter| bitcoin::bech32::Fe32::from_char(letter).unwrap();
        for tag in ['x', 'c'] {
            // Length 2 (0, 2), value 0 then 30.
            let long = [tag, 'q', 'z', 'q', '7'].map(fe).to_vec();
            let text = forge(|raw| {
                raw.data.tagged_fields.insert(0, RawTaggedField::UnknownSemantics(long))
            });
            assert_eq!(read(&text), Err(Bolt11Error::NotShortest), "{tag}");
        }
    }

    #[test]
    fn required_features_must_be_known() {
        use lightning::types::features::Bolt11InvoiceFeatures;
        let with_bit = |bit: usize| {
            let text = forge(|raw| {
                for field in &mut raw.data.tagged_fields {
                    if let RawTaggedField::KnownSemantics(TaggedField::Features(features)) = field {
                        let mut flags = features.le_flags().to_vec();
                        flags.resize(40, 0);
                        flags[bit / 8] |= 1 << (bit % 8);
                        *features = Bolt11InvoiceFeatures::from_le_bytes(flags);
                    }
                }
            });
            read(&text).and_then(|read| read.check_payable(Network::Regtest, read.timestamp))
        };
        for bit in [8, 9, 14, 15, 16, 17, 48, 49, 51, 99, 263] {
            assert_eq!(with_bit(bit), Ok(()), "{bit}");
        }
        for bit in [0, 18, 50, 56, 100, 262] {
            assert!(with_bit(bit).is_err(), "{bit}");
        }
    }
}
