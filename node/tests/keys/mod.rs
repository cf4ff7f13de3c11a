//! The seed, its file, and the keys that come from it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use bitcoin::bip32::{DerivationPath, Xpriv};
use bitcoin::secp256k1::Secp256k1;
use bitcoin::{Address, CompressedPublicKey, Network};
use fulmen_node::keys::seed_file::{self, Cost};
use fulmen_node::keys::{KeyError, KeyRing, Purpose, Seed};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::str::FromStr;
use tempfile::tempdir;

fn vectors(text: &str) -> (Xpriv, Value) {
    let vectors: Value = serde_json::from_str(text).unwrap();
    let mnemonic = bip39::Mnemonic::parse(vectors["mnemonic"].as_str().unwrap()).unwrap();
    (Xpriv::new_master(Network::Bitcoin, &mnemonic.to_seed("")).unwrap(), vectors)
}

/// The addresses of the vectors that lie under `account`, with what comes after it in their path.
fn cases(vectors: &Value, account: &str) -> Vec<(DerivationPath, String)> {
    let case = |case: &Value| {
        let path = case["path"].as_str()?.strip_prefix(account)?.strip_prefix('/')?;
        Some((DerivationPath::from_str(path).unwrap(), case["address"].as_str()?.into()))
    };
    vectors["cases"].as_array().unwrap().iter().filter_map(case).collect()
}

#[test]
fn wallet_accounts_match_bip_84_and_86() {
    let secp = Secp256k1::new();
    let (master, bip84) = vectors(include_str!("../vectors/bip84.json"));
    let account = KeyRing::from_master(master, Network::Bitcoin).unwrap();
    let account = account.account(Purpose::WitnessKeyHash).unwrap();
    let found = cases(&bip84, "m/84'/0'/0'");
    assert!(found.len() >= 3);
    for (path, address) in found {
        let key = account.derive_priv(&secp, &path).unwrap().to_priv();
        let key = CompressedPublicKey::from_private_key(&secp, &key).unwrap();
        assert_eq!(Address::p2wpkh(&key, Network::Bitcoin).to_string(), address);
    }
    let (master, bip86) = vectors(include_str!("../vectors/bip86.json"));
    let account = KeyRing::from_master(master, Network::Bitcoin).unwrap();
    let account = account.account(Purpose::Taproot).unwrap();
    let found = cases(&bip86, "m/86'/0'/0'");
    assert!(found.len() >= 3);
    for (path, address) in found {
        let key = account.derive_priv(&secp, &path).unwrap().to_keypair(&secp);
        let key = key.x_only_public_key().0;
        assert_eq!(Address::p2tr(&secp, key, None, Network::Bitcoin).to_string(), address);
    }
}

#[test]
fn node_and_family_keys_lie_where_lnd_puts_them() {
    let (master, _) = vectors(include_str!("../vectors/bip84.json"));
    for (network, coin) in [(Network::Bitcoin, 0), (Network::Regtest, 1), (Network::Signet, 1)] {
        let ring = KeyRing::from_master(master, network).unwrap();
        let at = |path: String| {
            let path = DerivationPath::from_str(&path).unwrap();
            master.derive_priv(&Secp256k1::new(), &path).unwrap().private_key
        };
        assert_eq!(ring.node_secret(), at(format!("m/1017'/{coin}'/6'/0/0")));
        assert_eq!(ring.family_key(3, 77).unwrap(), at(format!("m/1017'/{coin}'/3'/0/77")));
        assert_eq!(ring.node_id(), ring.node_secret().public_key(&Secp256k1::new()));
        assert!(matches!(ring.family_key(3, 1 << 31), Err(KeyError::Derivation(_))));
    }
}

#[test]
fn each_channel_has_a_seed_of_its_own_and_always_the_same() {
    let seed = Seed::generate(0);
    let ring = KeyRing::new(&seed, Network::Regtest).unwrap();
    let seeds: BTreeSet<_> = (0..100).map(|index| ring.channel_seed(index)).collect();
    assert_eq!(seeds.len(), 100);
    assert!(!seeds.contains(&ring.storage_key()));
    let again = Seed::from_words(&seed.words(), 0).unwrap();
    let again = KeyRing::new(&again, Network::Regtest).unwrap();
    assert_eq!(again.channel_seed(7), ring.channel_seed(7));
    assert_eq!(again.storage_key(), ring.storage_key());
    let other = KeyRing::new(&Seed::generate(0), Network::Regtest).unwrap();
    assert_ne!(other.channel_seed(7), ring.channel_seed(7));
}

#[test]
fn words_are_checked_and_secrets_are_not_shown() {
    let seed = Seed::generate(5);
    let words = seed.words();
    assert_eq!(words.len(), 24);
    assert_ne!(words, Seed::generate(5).words());
    let shouted: Vec<_> = words.iter().map(|word| word.to_uppercase()).collect();
    assert_eq!(Seed::from_words(&shouted, 5).unwrap(), seed);
    assert_eq!(format!("{seed:?}"), "Seed(secret)");

    let refuse = |words: &[&str]| Seed::from_words(words, 0).unwrap_err().to_string();
    assert!(refuse(&words[..12]).contains("there are 12, not 24"));
    let mut unknown = words.clone();
    unknown[3] = "lightning";
    assert!(refuse(&unknown).contains("\"lightning\" is not in the list"));
    // The check sum is the last 8 bits: of the 8 words that could stand last, one is right.
    let wrong = ["abandon", "zoo"].map(|last| {
        let mut words = vec!["abandon"; 23];
        words.push(last);
        Seed::from_words(&words, 0)
    });
    for result in wrong {
        assert!(result.unwrap_err().to_string().contains("aezeed"));
    }
}

fn entries(path: &Path) -> usize {
    std::fs::read_dir(path).unwrap().count()
}

#[test]
fn the_file_opens_with_its_password_only() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("regtest/wallet.seed");
    let seed = Seed::generate(1_700_000_000);
    seed_file::create(&path, &seed, b"correct horse", Cost::LEAST).unwrap();
    let opened = seed_file::open(&path, b"correct horse").unwrap();
    assert_eq!((&opened, opened.birthday()), (&seed, 1_700_000_000));
    let error = seed_file::open(&path, b"wrong horse").unwrap_err();
    assert_eq!(error.to_string(), "invalid passphrase for master public key");
    let again = seed_file::create(&path, &seed, b"correct horse", Cost::LEAST);
    assert_eq!(again.unwrap_err().to_string(), "wallet already exists");

    let short = seed_file::change_password(&path, b"correct horse", b"short", Cost::LEAST);
    assert_eq!(short.unwrap_err().to_string(), "password must have at least 8 characters");
    let wrong = seed_file::change_password(&path, b"wrong horse", b"new horse", Cost::LEAST);
    assert_eq!(wrong.unwrap_err(), KeyError::WrongPassword);
    seed_file::change_password(&path, b"correct horse", b"new horse", Cost::LEAST).unwrap();
    assert_eq!(seed_file::open(&path, b"new horse").unwrap(), seed);
    seed_file::open(&path, b"correct horse").unwrap_err();
    assert_eq!(entries(path.parent().unwrap()), 1, "something was left behind");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn without_backup_a_seed_is_made_once_and_found_again() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("wallet.seed");
    let seed = seed_file::open_without_backup(&path, 9).unwrap();
    assert_eq!(seed_file::open_without_backup(&path, 10).unwrap(), seed);
    assert_eq!(seed_file::open(&path, b"hello").unwrap(), seed);
}

#[test]
fn damage_is_told_from_a_wrong_password() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("wallet.seed");
    seed_file::open_without_backup(&path, 0).unwrap();
    let good = std::fs::read(&path).unwrap();
    let mut harmless = 0;
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        match seed_file::open(&path, b"hello") {
            Err(KeyError::Damaged { .. }) => {}
            // Blanks between the fields are nobody's data.
            Ok(_) => harmless += 1,
            Err(other) => panic!("byte {at}: {other}"),
        }
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }
    assert!(harmless < 20, "{harmless}");
    std::fs::write(&path, &good[..40]).unwrap();
    assert!(matches!(seed_file::open(&path, b"hello"), Err(KeyError::Damaged { .. })));
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(seed_file::open(&path, b"hello"), Err(KeyError::File { .. })));
}

#[test]
fn a_weaker_cost_written_into_the_file_does_not_open_it() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("wallet.seed");
    let cost = Cost { memory_kib: 16, passes: 1 };
    seed_file::create(&path, &Seed::generate(0), b"password", cost).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let text = text.replace("\"memory_kib\": 16", "\"memory_kib\": 4294967295");
    std::fs::write(&path, text).unwrap();
    assert!(matches!(seed_file::open(&path, b"password"), Err(KeyError::Damaged { .. })));
}

#[test]
fn a_master_key_is_kept_in_a_file_of_its_own_version() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("wallet.seed");
    // The first test vector of BIP 32.
    let text = "xprv9s21ZrQH143K3QTDL4LXw2F7HEK3wJUD2nW2nRk4stbPy6cq3jPPqjiChkVvvNKmPGJxWUtg6LnF5\
                kejMRNNU3TGtRBeJgk33yuGBxrMPHi";
    let seed = Seed::from_master_key(text, 77).unwrap();
    assert!(seed.words().is_empty() && seed.word_bytes().is_empty());
    let cost = Cost { memory_kib: 8, passes: 1 };
    seed_file::create(&path, &seed, b"password", cost).unwrap();
    assert!(std::fs::read_to_string(&path).unwrap().contains("\"version\": 2"));
    let again = seed_file::change_password(&path, b"password", b"drowssap", cost).unwrap();
    assert_eq!(seed_file::open(&path, b"drowssap").unwrap(), again);
    assert_eq!((again.birthday(), again == seed), (77, true));
    let ring = KeyRing::new(&seed, Network::Bitcoin).unwrap();
    let master = KeyRing::from_master(Xpriv::from_str(text).unwrap(), Network::Bitcoin).unwrap();
    assert_eq!(ring.node_id(), master.node_id());

    let refused = |result: Result<KeyRing, KeyError>| result.unwrap_err().to_string();
    let other = KeyRing::new(&seed, Network::Regtest);
    assert!(refused(other).contains("not one of regtest"));
    // m/0H of the same vector.
    let child =
        "xprv9uHRZZhk6KAJC1avXpDAp4MDc3sQKNxDiPvvkX8Br5ngLNv1TxvUxt4cV1rGL5hj6KCesnDYUhd7oW\
                 gT11eZG7XnxHrnYeSvkzY7d2bhkJ7";
    let child = Seed::from_master_key(child, 0).unwrap_err().to_string();
    assert!(child.contains("1 steps below the root"), "{child}");
    assert!(Seed::from_master_key("xprv", 0).is_err());
}

#[test]
fn the_bytes_of_the_words_are_what_the_words_stand_for() {
    let seed = Seed::from_entropy([0xff; 32], 0);
    assert_eq!(seed.word_bytes().len(), 33);
    let list = bip39::Language::English.word_list();
    let bits: String = seed
        .words()
        .iter()
        .map(|word| {
            let number = list.iter().position(|listed| listed == word).unwrap();
            format!("{number:011b}")
        })
        .collect();
    let bytes: String = seed.word_bytes().iter().map(|byte| format!("{byte:08b}")).collect();
    assert_eq!(bits, bytes);
    assert!(Seed::from_words(&seed.words(), 9).unwrap().is_same(&seed));
}
