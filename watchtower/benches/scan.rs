//! How fast a tower reads blocks with 1,000,000 states watched, and what a state and a channel cost
//! it in bytes. The block has 4,000 transactions, one in ten of which looks like a commitment; the
//! ratio is to the time that hashing the block's txids alone would take.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing
)]
#![allow(missing_docs)]

#[allow(dead_code)] // the stories use the rest, of the other two as well
#[path = "../../channel/tests/onchain/chain.rs"]
mod chain;
#[allow(dead_code)]
#[path = "../../channel/tests/support/mod.rs"]
mod support;
#[allow(dead_code)]
#[path = "../tests/world.rs"]
mod world;

use bitcoin::absolute::LockTime;
use bitcoin::hashes::{sha256, Hash};
use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, BlockHash, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness,
};
use criterion::{criterion_group, criterion_main, Criterion};
use fulmen_channel::params::CommitmentFormat;
use fulmen_watchtower::api::message::{Reply, Request};
use fulmen_watchtower::gatekeeper::Limits;
use fulmen_watchtower::record::{hint, Sealed};
use fulmen_watchtower::tower::{Setup, Tower};
use fulmen_watchtower::watcher::Watcher;
use std::hint::black_box;
use std::time::{Duration, Instant};
use world::{a_life, private, seal};

const STATES: u64 = 1_000_000;
const CHANNELS: u64 = 100_000;
const TRANSACTIONS: u64 = 4_000;

fn txid(kind: &str, n: u64) -> Txid {
    Txid::from_byte_array(sha256::Hash::hash(format!("{kind} {n}").as_bytes()).to_byte_array())
}

/// A transaction as a block has them: two inputs with witnesses and two outputs, or a commitment.
fn transaction(n: u64) -> Transaction {
    let commitment = n % 10 == 0;
    let (sequence, lock_time, inputs) = match commitment {
        true => (Sequence(0x80ab_cdef), 0x2012_3456, 1),
        false => (Sequence::ENABLE_RBF_NO_LOCKTIME, 0, 2),
    };
    let input = |vout| TxIn {
        previous_output: OutPoint::new(txid("spent", n), vout),
        script_sig: ScriptBuf::new(),
        sequence,
        witness: Witness::from_slice(&[&[1; 72][..], &[2; 33][..]]),
    };
    let output = TxOut { value: Amount::from_sat(n), script_pubkey: ScriptBuf::from(vec![0; 34]) };
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::from_consensus(lock_time),
        input: (0..inputs).map(input).collect(),
        output: vec![output; 2],
    }
}

fn time(mut run: impl FnMut()) -> Duration {
    let start = Instant::now();
    run();
    start.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn blocks(criterion: &mut Criterion) {
    bytes();
    let mut watcher = Watcher::default();
    (0..STATES).for_each(|n| watcher.add_hint(hint(&txid("state", n))));
    (0..CHANNELS).for_each(|n| watcher.add_funding(OutPoint::new(txid("funding", n), 0)));
    (0..100).for_each(|n| watcher.add_breach(txid("breach", n)));
    let block: Vec<Transaction> = (0..TRANSACTIONS).map(transaction).collect();
    let scan = || block.iter().filter(|tx| watcher.look(black_box(tx)).is_some()).count();
    let hash = || {
        for tx in &block {
            black_box(tx.compute_txid());
        }
    };
    assert_eq!(scan(), 0);
    let scans = median(
        (0..51)
            .map(|_| {
                time(|| {
                    black_box(scan());
                })
            })
            .collect(),
    );
    let hashes = median((0..51).map(|_| time(hash)).collect());
    println!(
        "{STATES} states and {CHANNELS} channels watched: a block of {TRANSACTIONS} transactions \
         in {:.2} ms, {:.0} blocks a second, {:.2} times its txids' hashing",
        scans.as_secs_f64() * 1e3,
        1.0 / scans.as_secs_f64(),
        scans.as_secs_f64() / hashes.as_secs_f64(),
    );
    criterion.bench_function("scan a block of 4000 against 1000000 states", |bench| {
        bench.iter(scan);
    });
}

/// The states of a real channel's life and the channel itself, again and again in a tower's tables.
fn bytes() {
    let key = |n| SecretKey::from_slice(&[n; 32]).unwrap();
    let id = |n| PublicKey::from_secret_key(&Secp256k1::new(), &key(n));
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup {
        secret: key(7),
        chain: BlockHash::from_byte_array([5; 32]),
        private_clients: [id(1)].into(),
        limits: Limits::default(),
    };
    let tower = Tower::open(&dir.path().join("tower.db"), setup).unwrap();
    let on_disk = || tower.summary().unwrap().bytes;
    let (pair, kept) = a_life(CommitmentFormat::Anchors);
    let records: Vec<Sealed> = kept.iter().map(|kept| seal(&pair, kept).0).collect();
    let size = |record: &Sealed| record.hint.len() + record.bytes.len();
    let all: usize = records.iter().map(size).sum();
    let (lives, channels) = (5_000 / records.len(), 500);

    let before = on_disk();
    for life in 0..lives {
        let again = |(n, record): (usize, &Sealed)| Sealed {
            hint: hint(&txid(&format!("life {life}"), n as u64)),
            ..record.clone()
        };
        let records: Vec<Sealed> = records.iter().enumerate().map(again).collect();
        let sequence = (life * records.len()) as u64;
        let put = Request::Put { sequence, records, note: vec![7] };
        assert!(matches!(tower.answer(&id(2), put), Reply::Stored(_)));
    }
    let states = (on_disk() - before) / (lives * records.len()) as u64;
    let (before, mut channel) = (on_disk(), private(&pair));
    let body = channel.to_bytes().len();
    for vout in 0..channels {
        channel.head.funding.vout = vout;
        let put = Request::PutChannel { body: channel.to_bytes(), note: vec![1; 100] };
        assert_eq!(tower.answer(&id(1), put), Reply::Done);
    }
    println!(
        "a state takes {} to {} bytes with its hint, {} on average and {states} on disk; a channel \
         {body}, and {} on disk with a note of 100",
        records.iter().map(size).min().unwrap(),
        records.iter().map(size).max().unwrap(),
        all / records.len(),
        (on_disk() - before) / u64::from(channels),
    );
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).measurement_time(Duration::from_secs(2));
    targets = blocks
}
criterion_main!(benches);
