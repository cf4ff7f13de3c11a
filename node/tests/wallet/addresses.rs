//! Addresses: the standards' own, and none twice.

use super::purse::Purse;
use bitcoin::bip32::Xpriv;
use bitcoin::Network;
use fulmen_node::keys::{KeyRing, Purpose};
use fulmen_node::store::Unit;
use fulmen_node::wallet::Wallet;
use serde_json::Value;

const KINDS: [Purpose; 3] =
    [Purpose::NestedWitnessKeyHash, Purpose::WitnessKeyHash, Purpose::Taproot];

/// A wallet from the words that BIP 49, 84 and 86 have in common.
fn vector_wallet(network: Network) -> Wallet {
    let vectors: Value = serde_json::from_str(include_str!("../vectors/bip84.json")).unwrap();
    let words = bip39::Mnemonic::parse(vectors["mnemonic"].as_str().unwrap()).unwrap();
    let master = Xpriv::new_master(network, &words.to_seed("")).unwrap();
    let ring = KeyRing::from_master(master, network).unwrap();
    Wallet::from_rows(&ring, network, vec![], vec![]).unwrap()
}

fn first_two(wallet: &mut Wallet, purpose: Purpose) -> Vec<String> {
    let mut next = || wallet.new_address(purpose, &mut Unit::new()).unwrap().to_string();
    vec![next(), next()]
}

#[test]
fn addresses_are_those_of_bip_84_and_86() {
    let bip84: Value = serde_json::from_str(include_str!("../vectors/bip84.json")).unwrap();
    let bip86: Value = serde_json::from_str(include_str!("../vectors/bip86.json")).unwrap();
    let mut wallet = vector_wallet(Network::Bitcoin);
    for (purpose, vectors) in [(Purpose::WitnessKeyHash, bip84), (Purpose::Taproot, bip86)] {
        // Case 0 is the account; 1 and 2 are its first receiving addresses.
        let expected = [1, 2].map(|n| vectors["cases"][n]["address"].as_str().unwrap().to_owned());
        assert_eq!(first_two(&mut wallet, purpose), expected);
    }
}

#[test]
fn nested_addresses_are_those_of_bip_49() {
    // The test vector of BIP 49, which is on testnet.
    let mut wallet = vector_wallet(Network::Testnet);
    let first = first_two(&mut wallet, Purpose::NestedWitnessKeyHash).swap_remove(0);
    assert_eq!(first, "2Mww8dCYPUpKHofjgcXcBCEGmniw9CoaiD2");
}

#[test]
fn a_new_address_is_new_even_after_a_restart() {
    let mut purse = Purse::new();
    for kind in KINDS {
        let first = purse.act(|wallet, unit| wallet.new_address(kind, unit)).unwrap();
        purse.restart();
        let second = purse.act(|wallet, unit| wallet.new_address(kind, unit)).unwrap();
        assert_ne!(first, second);
        assert!(purse.wallet.is_ours(&first.script_pubkey()));
    }
}

#[test]
fn an_unused_address_stays_the_same_until_it_is_paid() {
    let mut purse = Purse::new();
    for kind in KINDS {
        let unused = |purse: &mut Purse| {
            purse.restart();
            purse.act(|wallet, unit| wallet.unused_address(kind, unit)).unwrap()
        };
        let first = unused(&mut purse);
        assert_eq!(unused(&mut purse), first);
        let payment = crate::chain::fake::spend(
            &[crate::chain::fake::foreign(99)],
            &[(1_000, first.script_pubkey())],
        );
        purse.hear(&payment);
        assert_ne!(unused(&mut purse), first);
    }
}
