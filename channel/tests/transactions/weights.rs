//! Weights, fees and dust limits: BOLT 3's numbers, and predictions against real transactions.

use bitcoin::ScriptBuf;
use fulmen_channel::amount::{FeeratePerKw, Msat, Sat};
use fulmen_channel::keys::{Inline, Signer};
use fulmen_channel::params::CommitmentFormat;
use fulmen_channel::transactions::weight;

use super::channel::{full_spec, second_stage, Channel, BOTH, PREIMAGE};
use super::{missing_signature_bytes, vector};

const FORMATS: [(&str, CommitmentFormat); 2] = [
    ("static_remotekey", CommitmentFormat::StaticRemoteKey),
    ("option_anchors", CommitmentFormat::Anchors),
];

#[test]
fn expected_weights_are_those_of_bolt_3() {
    let weights = &vector("bolt03-fee-weights-dust")["weights"];
    for (name, format) in FORMATS {
        let expected = |kind: &str| weights[kind][name].as_u64().unwrap();
        assert_eq!(weight::commitment(format, 0), expected("commitment_no_htlc"));
        assert_eq!(weight::htlc_timeout(format), expected("htlc_timeout"));
        assert_eq!(weight::htlc_success(format), expected("htlc_success"));
    }
    assert_eq!(weight::HTLC_OUTPUT, weights["per_htlc_output"].as_u64().unwrap());
    assert_eq!(weight::ANCHOR.sat(), weights["anchor_amount_sat"].as_u64().unwrap());
}

#[test]
fn the_fee_example_of_bolt_3() {
    let vector = vector("bolt03-fee-weights-dust");
    let case = &vector["cases"][0];
    let number = |name: &str| case[name].as_u64().unwrap();
    let format = CommitmentFormat::StaticRemoteKey;
    let feerate = FeeratePerKw::new(number("feerate_per_kw") as u32);
    let dust_limit = Sat::new(number("dust_limit_satoshis"));
    assert_eq!(weight::htlc_fee(format, feerate, true).sat(), number("htlc_timeout_fee_sat"));
    assert_eq!(weight::htlc_fee(format, feerate, false).sat(), number("htlc_success_fee_sat"));
    for (offered, name) in [(true, "offered"), (false, "received")] {
        let list = |kind: &str| -> Vec<u64> {
            let list = case[format!("{name}_{kind}")].as_array().unwrap();
            list.iter().map(|amount| amount.as_u64().unwrap()).collect()
        };
        let trimmed = |amount: &u64| {
            weight::is_trimmed(format, feerate, dust_limit, offered, Msat::new(*amount))
        };
        let (is_trimmed, kept): (Vec<_>, Vec<_>) =
            list("htlcs_msat").into_iter().partition(trimmed);
        assert_eq!(is_trimmed, list("trimmed_msat"));
        assert_eq!(kept, list("kept_msat"));
    }
    assert_eq!(weight::commitment(format, 2), number("commitment_weight"));
    assert_eq!(weight::commitment_fee(format, feerate, 2).sat(), number("base_fee_sat"));
}

#[test]
fn trimming_turns_at_the_satoshi() {
    let (feerate, dust) = (FeeratePerKw::new(1_000), Sat::new(546));
    let trimmed =
        |format, offered, msat| weight::is_trimmed(format, feerate, dust, offered, Msat::new(msat));
    let [without, with] = BOTH;
    assert!(trimmed(without, true, (546 + 663) * 1_000 - 1));
    assert!(!trimmed(without, true, (546 + 663) * 1_000));
    assert!(trimmed(without, false, (546 + 703) * 1_000 - 1));
    assert!(!trimmed(without, false, (546 + 703) * 1_000));
    for offered in [true, false] {
        assert!(trimmed(with, offered, 545_999));
        assert!(!trimmed(with, offered, 546_000));
    }
    assert!(weight::is_trimmed(without, FeeratePerKw::new(u32::MAX), dust, true, Msat::new(1)));
}

#[test]
fn dust_thresholds_are_bitcoin_cores() {
    let limits = &vector("bolt03-fee-weights-dust")["dust_limits_sat"];
    let scripts = [
        ("p2pkh", "76a914000102030405060708090a0b0c0d0e0f1011121388ac"),
        ("p2sh", "a914000102030405060708090a0b0c0d0e0f1011121387"),
        ("p2wpkh", "0014000102030405060708090a0b0c0d0e0f10111213"),
        ("p2wsh", "0020000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"),
        ("p2a", "51024e73"),
        ("unknown_segwit", "5120000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"),
        ("unknown_segwit", "60020001"),
    ];
    for (name, script) in scripts {
        let script = ScriptBuf::from_hex(script).unwrap();
        let limit = limits[name].as_u64().unwrap();
        assert_eq!(weight::dust_threshold(&script), Sat::new(limit), "{name}");
    }
    let nothing = ScriptBuf::from_hex("6a0568656c6c6f").unwrap();
    assert_eq!(weight::dust_threshold(&nothing), Sat::ZERO);
}

/// What BOLT 3 expects is never less than what is really signed, and the exact weights are exact.
#[test]
fn real_weights_are_the_predicted_ones() {
    for format in BOTH {
        let channel = Channel::new(format);
        let signed = channel.commit(3, &full_spec());
        let missing = missing_signature_bytes(&signed.tx);
        assert_eq!(signed.tx.weight().to_wu() + missing, signed.built.weight());
        // A signature is 73 bytes in BOLT 3; with anchors it counts the outputs in three bytes.
        let slack = if format == CommitmentFormat::Anchors { 2 + 2 * 4 } else { 2 };
        assert_eq!(signed.built.weight() + slack, weight::commitment(format, 2));
        for offered in [true, false] {
            let (htlc, tx) = (signed.htlc(offered), signed.second_stage(offered));
            let point = channel.broadcaster.per_commitment_point(3);
            let theirs = channel.countersigner.sign_remote_htlcs(&point, &[[1; 32]], &Inline)[0];
            let predicted = second_stage(format, htlc, tx, &theirs, &PREIMAGE).weight();
            let shorter = 72 - theirs.serialize_der().len() as u64 - 1;
            let predicted = predicted + shorter;
            let one_output_and_the_rest = 4 * (4 + 1 + 1 + 43 + 4) + 2;
            let real = tx.weight().to_wu() + missing_signature_bytes(tx);
            assert_eq!(real, predicted + one_output_and_the_rest);
            let expected = match offered {
                true => weight::htlc_timeout(format),
                // "Really 702 and 705", and the expiry is held in three bytes, not four.
                false => weight::htlc_success(format) - 2,
            };
            assert_eq!(real + 2, expected);
        }
    }
}
