//! Backups: sealed for the owner of the seed alone, restored once, kept in a file.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod restoring;
mod sealing;
mod storing;

use bitcoin::hashes::Hash;
use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};
use bitcoin::{Network, OutPoint, Txid};
use fulmen_channel::amount::{Height, Sat};
use fulmen_channel::keys::{InMemorySigner, Signer};
use fulmen_channel::params::{CommitmentFormat, Side};
use fulmen_channel::protocol::restored::Own;
use fulmen_node::backup::Single;
use fulmen_node::keys::{KeyRing, Seed};
use std::collections::BTreeMap;
use std::sync::Mutex;

pub fn keys(seed: u8) -> KeyRing {
    // Stretching the words takes a while.
    static KNOWN: Mutex<BTreeMap<u8, KeyRing>> = Mutex::new(BTreeMap::new());
    let made = || KeyRing::new(&Seed::from_entropy([seed; 32], 0), Network::Regtest).unwrap();
    KNOWN.lock().unwrap().entry(seed).or_insert_with(made).clone()
}

pub fn node(number: u8) -> PublicKey {
    SecretKey::from_slice(&[number.max(1); 32]).unwrap().public_key(&Secp256k1::signing_only())
}

/// The backup of a channel of the node with this seed.
pub fn single(seed: u8, index: u64) -> Single {
    let txid = Txid::from_byte_array([u8::try_from(index % 256).unwrap(); 32]);
    let basepoints =
        |keys: KeyRing, index| InMemorySigner::from_seed(keys.channel_seed(index)).basepoints();
    Single {
        index,
        peer: node(99),
        addresses: vec!["127.0.0.1:9735".into()],
        outpoint: OutPoint { txid, vout: 1 },
        capacity: Sat::new(1_000_000),
        opened: Height::new(100),
        funder: Side::Local,
        format: CommitmentFormat::Anchors,
        scid_alias: false,
        zero_conf: false,
        announce: true,
        ours: basepoints(keys(seed), index).payment,
        theirs: basepoints(keys(99), 5).payment,
        own: Some(Own { revocation: basepoints(keys(99), 5).revocation, delay: 144 }),
    }
}
