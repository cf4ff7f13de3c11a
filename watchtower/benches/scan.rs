//! How fast a tower reads blocks with 1,000,000 states watched, and what a state and a channel cost
//! it in bytes. The block has 4,000 transactions, one in ten of which looks like a commitment; the
//! ratio is to the time that hashing the block's txids alone would take.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, clippy::indexing_slicing)]
#![allow(missing_docs)]

use bitcoin::absolute::LockTime;
use bitcoin::hashes::{sha256, Hash};
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness};
use criterion::{criterion_group, criterion_main, Criterion};
use fulmen_watchtower::record::hint;
use fulmen_watchtower::watcher::Watcher;
use std::hint::black_box;
use std::time::{Duration, Instant};

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

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).measurement_time(Duration::from_secs(2));
    targets = blocks
}
criterion_main!(benches);
