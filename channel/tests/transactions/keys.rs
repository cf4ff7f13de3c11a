//! BOLT 3's vectors for keys, per-commitment secrets and their storage.

use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};
use fulmen_channel::keys::curve::{Curve, Inline, SignJob, VerifyJob};
use fulmen_channel::keys::{derive, InMemorySigner, RevocationStore, Signer, WrongSecret};
use lightning::ln::chan_utils::CounterpartyCommitmentSecrets;

use super::{bytes, bytes32, vector, Dice};

#[test]
fn derived_keys_are_those_of_bolt_3() {
    let vector = vector("bolt03-keys");
    let params = &vector["params"];
    let base_secret = SecretKey::from_slice(&bytes(&params["base_secret"])).unwrap();
    let secret = SecretKey::from_slice(&bytes(&params["per_commitment_secret"])).unwrap();
    let base = PublicKey::from_slice(&bytes(&params["base_point"])).unwrap();
    let point = PublicKey::from_slice(&bytes(&params["per_commitment_point"])).unwrap();
    let cases = vector["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 4);
    for case in cases {
        let derived = match case["name"].as_str().unwrap() {
            "pubkey" => derive::public_key(&base, &point).serialize().to_vec(),
            "privkey" => derive::private_key(&base_secret, &point).secret_bytes().to_vec(),
            "revocation_pubkey" => {
                derive::revocation_public_key(&base, &point).serialize().to_vec()
            }
            "revocation_privkey" => {
                derive::revocation_private_key(&base_secret, &secret).secret_bytes().to_vec()
            }
            other => panic!("what is {other}?"),
        };
        assert_eq!(derived, bytes(&case["output"]), "{}", case["name"]);
    }
}

#[test]
fn secrets_are_generated_as_in_bolt_3() {
    let vector = vector("bolt03-per-commitment-secret");
    let cases = vector["generation"].as_array().unwrap();
    assert_eq!(cases.len(), 5);
    for case in cases {
        let index = case["I"].as_u64().unwrap();
        let secret = derive::per_commitment_secret(&bytes32(&case["seed"]), index);
        assert_eq!(secret, bytes32(&case["output"]), "{}", case["name"]);
    }
}

#[test]
fn secrets_are_stored_and_refused_as_in_bolt_3() {
    let vector = vector("bolt03-per-commitment-secret");
    let cases = vector["storage"].as_array().unwrap();
    assert_eq!(cases.len(), 9);
    for case in cases {
        let mut store = RevocationStore::new();
        for step in case["steps"].as_array().unwrap() {
            let number = derive::FIRST_INDEX - step["I"].as_u64().unwrap();
            let before = store.clone();
            let taken = store.insert(number, bytes32(&step["secret"]));
            match step["output"].as_str().unwrap() {
                "OK" => assert!(taken.is_ok(), "{}: {taken:?}", case["name"]),
                _ => {
                    assert!(matches!(taken, Err(WrongSecret::NotFromOneSeed { .. })));
                    assert_eq!(store, before);
                }
            }
        }
    }
}

#[test]
fn forty_nine_slots_hold_all_secrets() {
    let signer = InMemorySigner::from_seed([7; 32]);
    let mut store = RevocationStore::new();
    let mut theirs = CounterpartyCommitmentSecrets::new();
    for number in 0..300 {
        assert_eq!(store.next(), number);
        assert_eq!(store.get(number), None);
        let secret = signer.per_commitment_secret(number);
        let slot = store.insert(number, secret).unwrap();
        assert_eq!(store.slot(slot), Some((number, secret)));
        theirs.provide_secret(derive::secret_index(number), secret).unwrap();
        for old in 0..=number {
            assert_eq!(store.get(old), Some(signer.per_commitment_secret(old)));
            assert_eq!(store.get(old), theirs.get_secret(derive::secret_index(old)));
        }
    }
    let rows = (0..49).filter_map(|slot| store.slot(slot)).collect::<Vec<_>>();
    assert_eq!(rows.len(), 9);
    assert_eq!(RevocationStore::from_slots(rows.into_iter().rev()).unwrap(), store);
    assert_eq!(store.get(derive::FIRST_INDEX), None);
    assert_eq!(store.get(u64::MAX), None);
    let stored: RevocationStore =
        postcard::from_bytes(&postcard::to_stdvec(&store).unwrap()).unwrap();
    assert_eq!(stored, store);
}

#[test]
fn secrets_out_of_turn_and_rows_out_of_place_are_refused() {
    let signer = InMemorySigner::from_seed([7; 32]);
    let secret = |number| signer.per_commitment_secret(number);
    let mut store = RevocationStore::new();
    let wrong = |expected, got| Err(WrongSecret::OutOfOrder { expected, got });
    assert_eq!(store.insert(1, secret(1)), wrong(0, 1));
    store.insert(0, secret(0)).unwrap();
    assert_eq!(store.insert(0, secret(0)), wrong(1, 0));
    assert_eq!(store.insert(u64::MAX, secret(1)), wrong(1, u64::MAX));

    let two_in_one_slot = [(0, secret(0)), (2, secret(2))];
    assert_eq!(RevocationStore::from_slots(two_in_one_slot), Err(WrongSecret::BadSlot(2)));
    let past_the_last = [(1 << 48, secret(0))];
    assert_eq!(RevocationStore::from_slots(past_the_last), Err(WrongSecret::BadSlot(1 << 48)));
}

#[test]
fn the_seed_itself_fits_the_last_slot() {
    let seed = Dice(1).bytes();
    let last = derive::FIRST_INDEX;
    let before_it = [(last - 1, derive::per_commitment_secret(&seed, 1))];
    let mut store = RevocationStore::from_slots(before_it).unwrap();
    assert_eq!(store.insert(last, seed), Ok(48));
    assert_eq!(store.get(12_345), Some(derive::per_commitment_secret(&seed, last - 12_345)));
    assert!(store.insert(last + 1, seed).is_err());
}

#[test]
fn a_signer_signs_with_the_keys_of_its_basepoints() {
    let signer = InMemorySigner::from_seed([1; 32]);
    let (secp, points) = (Secp256k1::new(), signer.basepoints());
    let point = signer.per_commitment_point(3);
    let secret = SecretKey::from_slice(&signer.per_commitment_secret(3)).unwrap();
    assert_eq!(secret.public_key(&secp), point);
    let hash = Dice(5).bytes();
    let other = InMemorySigner::from_seed([2; 32]);
    let other_secret = SecretKey::from_slice(&other.per_commitment_secret(9)).unwrap();
    let signatures = [
        (points.funding, signer.sign_funding(hash)),
        (points.payment, signer.sign_payment(hash)),
        (derive::public_key(&points.htlc, &point), signer.sign_local_htlc(3, hash)),
        (derive::public_key(&points.delayed_payment, &point), signer.sign_delayed(3, hash)),
        (
            derive::public_key(&points.htlc, &other.per_commitment_point(9)),
            signer.sign_remote_htlcs(&other.per_commitment_point(9), &[hash], &Inline)[0],
        ),
        (
            derive::revocation_public_key(&points.revocation, &other.per_commitment_point(9)),
            signer.sign_revocation(&other_secret, hash),
        ),
    ];
    let jobs: Vec<_> = signatures
        .into_iter()
        .map(|(key, signature)| VerifyJob { key, sighash: hash, signature })
        .collect();
    assert_eq!(Inline.verify(&jobs), Ok(()));
    let keys: std::collections::BTreeSet<_> = jobs.iter().map(|job| job.key).collect();
    assert_eq!(keys.len(), 6, "six keys, none used for two things");
}

#[test]
fn the_first_wrong_signature_of_a_batch_is_named() {
    let secp = Secp256k1::new();
    let secret = SecretKey::from_slice(&[1; 32]).unwrap();
    let hash = |i: u8| [i; 32];
    let signed: Vec<_> = (0..5).map(|i| SignJob { secret, sighash: hash(i) }).collect();
    let signatures = Inline.sign(&signed);
    let job =
        |(i, signature)| VerifyJob { key: secret.public_key(&secp), sighash: hash(i), signature };
    let mut jobs: Vec<_> = (0u8..).zip(signatures).map(job).collect();
    assert_eq!(Inline.verify(&jobs), Ok(()));
    jobs[3].sighash[0] ^= 1;
    jobs[4].sighash[0] ^= 1;
    assert_eq!(Inline.verify(&jobs), Err(3));
    assert_eq!(Inline.verify(&[]), Ok(()));
}

#[test]
fn a_high_s_signature_is_wrong() {
    let secp = Secp256k1::new();
    let secret = SecretKey::from_slice(&[1; 32]).unwrap();
    let signature = fulmen_channel::keys::curve::sign(&secret, [9; 32]);
    let mut compact = signature.serialize_compact();
    let s = SecretKey::from_slice(&compact[32..]).unwrap().negate();
    compact[32..].copy_from_slice(&s.secret_bytes());
    let high = bitcoin::secp256k1::ecdsa::Signature::from_compact(&compact).unwrap();
    let key = secret.public_key(&secp);
    assert!(fulmen_channel::keys::curve::verify(&key, [9; 32], &signature));
    assert!(!fulmen_channel::keys::curve::verify(&key, [9; 32], &high));
}
