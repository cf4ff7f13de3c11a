//! The penalties, in a story: a state is agreed on, a newer one replaces it and the old one is
//! revoked; then the old one is published all the same.

use bitcoin::secp256k1::ecdsa::Signature;
use bitcoin::secp256k1::SecretKey;
use bitcoin::{OutPoint, Transaction, TxOut};
use fulmen_channel::amount::Msat;
use fulmen_channel::keys::{CommitmentKeys, RevocationStore, Signer};
use fulmen_channel::params::CommitmentFormat;
use fulmen_channel::transactions::commitment::{number_of, CommitmentSpec};
use fulmen_channel::transactions::spend::{sweep, sweep_weight, Spend};
use fulmen_channel::transactions::{breach_remedy, htlc_breach_remedy};

use super::channel::{destination, full_spec, Channel, Signed, BOTH, FEERATE};
use super::{assert_valid, missing_signature_bytes, sign, verdict};

/// State 5 with HTLCs, replaced by state 6 without, and what the countersigner has on record: the
/// secrets of all states to 5.
fn revoked_state(format: CommitmentFormat) -> (Channel, Signed, RevocationStore) {
    let channel = Channel::new(format);
    let old = channel.commit(5, &full_spec());
    let new = CommitmentSpec { htlcs: Vec::new(), to_broadcaster: Msat::new(1), ..full_spec() };
    let new = channel.commit(6, &new);
    assert_valid(&new.tx, &channel.funding.output);
    let mut store = RevocationStore::new();
    for number in 0..=5 {
        store.insert(number, channel.broadcaster.per_commitment_secret(number)).unwrap();
    }
    (channel, old, store)
}

/// What the countersigner works out from a published commitment and its store alone.
fn secret_of(channel: &Channel, tx: &Transaction, store: &RevocationStore) -> SecretKey {
    let number = number_of(tx, channel.obscuring_factor()).expect("a commitment");
    SecretKey::from_slice(&store.get(number).expect("a revoked one")).unwrap()
}

fn keys_from(channel: &Channel, secret: &SecretKey) -> CommitmentKeys {
    let point = secret.public_key(&bitcoin::secp256k1::Secp256k1::new());
    let (theirs, ours) = (channel.broadcaster.basepoints(), channel.countersigner.basepoints());
    CommitmentKeys::derive(&theirs, &ours, &point)
}

/// Takes all in one transaction, and has it accepted.
fn remedy(spends: &[Spend], spent: &[TxOut], signer: impl Fn([u8; 32]) -> Signature) {
    let mut tx = sweep(spends, &destination(), FEERATE).unwrap();
    for (input, spend) in spends.iter().enumerate() {
        assert_eq!(spend.output, spent[input]);
        sign(&mut tx, input, spend, &signer);
    }
    assert_valid(&tx, spent);
    let predicted = sweep_weight(spends, &destination());
    assert_eq!(tx.weight().to_wu() + missing_signature_bytes(&tx), predicted);
}

#[test]
fn br_and_hbr_take_all_of_a_revoked_commitment() {
    for format in BOTH {
        let (channel, published, store) = revoked_state(format);
        let secret = secret_of(&channel, &published.tx, &store);
        let keys = keys_from(&channel, &secret);
        assert_eq!(keys, published.keys);
        let context = channel.context(&keys);
        let (offered, received) = (published.htlc(true), published.htlc(false));
        let to_local = published.built.to_local.unwrap();
        let places = [to_local, offered.output, received.output];
        let [balance, one, other] = places.map(|place| published.outpoint(place));
        let spends = [
            breach_remedy::spend(&context, balance, published.value(to_local)),
            htlc_breach_remedy::spend(&context, &offered.htlc, one),
            htlc_breach_remedy::spend(&context, &received.htlc, other),
        ];
        let spent = places.map(|place| published.output(place));
        remedy(&spends, &spent, |hash| channel.countersigner.sign_revocation(&secret, hash));
    }
}

#[test]
fn htbr_and_hebr_take_the_second_stage_of_a_revoked_commitment() {
    for format in BOTH {
        let (channel, published, store) = revoked_state(format);
        let secret = secret_of(&channel, &published.tx, &store);
        let keys = keys_from(&channel, &secret);
        let context = channel.context(&keys);
        let stages = [published.second_stage(true), published.second_stage(false)];
        let spends = stages.map(|stage| {
            let outpoint = OutPoint::new(stage.compute_txid(), 0);
            htlc_breach_remedy::second_stage(&context, outpoint, stage.output[0].value.into())
        });
        let spent = stages.map(|stage| stage.output[0].clone());
        remedy(&spends, &spent, |hash| channel.countersigner.sign_revocation(&secret, hash));
    }
}

#[test]
fn a_state_not_revoked_cannot_be_punished() {
    for format in BOTH {
        let (channel, _, store) = revoked_state(format);
        let latest = channel.commit(6, &full_spec());
        assert_eq!(number_of(&latest.tx, channel.obscuring_factor()), Some(6));
        assert_eq!(store.get(6), None);
        // The secret of another state does not help, nor does knowing the state's own secret
        // without the revocation basepoint's: that is the broadcaster.
        let context = channel.context(&latest.keys);
        let other = SecretKey::from_slice(&store.get(5).unwrap()).unwrap();
        let own = SecretKey::from_slice(&channel.broadcaster.per_commitment_secret(6)).unwrap();
        let (offered, received) = (latest.htlc(true), latest.htlc(false));
        let to_local = latest.built.to_local.unwrap();
        let spends = [
            breach_remedy::spend(&context, latest.outpoint(to_local), latest.value(to_local)),
            htlc_breach_remedy::spend(&context, &offered.htlc, latest.outpoint(offered.output)),
            htlc_breach_remedy::spend(&context, &received.htlc, latest.outpoint(received.output)),
        ];
        for spend in spends {
            let spent = [spend.output.clone()];
            let mut tx = sweep(std::slice::from_ref(&spend), &destination(), FEERATE).unwrap();
            sign(&mut tx, 0, &spend, |hash| channel.countersigner.sign_revocation(&other, hash));
            assert!(verdict(&tx, 0, &spent).is_err());
            sign(&mut tx, 0, &spend, |hash| channel.broadcaster.sign_revocation(&own, hash));
            assert!(verdict(&tx, 0, &spent).is_err());
            sign(&mut tx, 0, &spend, |hash| channel.countersigner.sign_revocation(&own, hash));
            assert_valid(&tx, &spent);
        }
    }
}
