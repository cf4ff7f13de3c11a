//! A cheater who is a client of our tower too, and hands in records for our hint before we do.

use crate::towers::{block, client, put, receipt, refusal, tower_in};
use crate::world::{
    a_life, breached, home_worth, private, seal, seal_at, terms, Kept, FEERATE, FORMATS,
};
use bitcoin::hashes::{sha256, Hash};
use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};
use bitcoin::{OutPoint, ScriptBuf, Transaction, Txid};
use chacha20poly1305::aead::{Aead, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Nonce};
use fulmen_channel::amount::{FeeratePerKw, Height, Sat};
use fulmen_channel::params::CommitmentFormat;
use fulmen_watchtower::api::message::{Refusal, Reply, Request};
use fulmen_watchtower::record::{hint, Record, Sealed, Terms};
use fulmen_watchtower::responder::{Breach, Means};
use fulmen_watchtower::store::PER_HINT;
use fulmen_watchtower::tower::Tower;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tempfile::TempDir;

/// A record as it is inside, for who makes one up.
#[derive(Clone, Serialize, Deserialize)]
struct Inside {
    version: u8,
    format: CommitmentFormat,
    to_self_delay: u16,
    revocation: PublicKey,
    delayed: PublicKey,
    feerate: FeeratePerKw,
    destination: ScriptBuf,
    htlc_keys: Option<(PublicKey, PublicKey)>,
    parts: Vec<Part>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Part {
    output: Output,
    place: u16,
    signature: ([u8; 32], [u8; 32]),
}

#[derive(Clone, Serialize, Deserialize)]
enum Output {
    ToLocal,
    ToRemote(PublicKey),
    Htlc { offered: bool, payment_hash: [u8; 32], cltv_expiry: Height },
    SecondStage,
}

fn cipher(txid: &Txid) -> ChaCha20Poly1305 {
    let tag = sha256::Hash::hash(b"fulmen tower record").to_byte_array();
    let key = sha256::Hash::hash(&[tag, txid.to_byte_array()].concat());
    ChaCha20Poly1305::new(&key.to_byte_array().into())
}

fn opened(sealed: &Sealed, txid: &Txid) -> Inside {
    let (nonce, text) = sealed.bytes.split_at(12);
    let plain = cipher(txid).decrypt(Nonce::from_slice(nonce), text).unwrap();
    postcard::from_bytes(&plain).unwrap()
}

fn sealed(inside: &Inside, txid: &Txid, nonce: u16) -> Sealed {
    let nonce = [nonce.to_be_bytes().as_slice(), &[0; 10]].concat();
    let plain = postcard::to_stdvec(inside).unwrap();
    let text = cipher(txid).encrypt(Nonce::from_slice(&nonce), plain.as_slice()).unwrap();
    Sealed { hint: hint(txid), bytes: [nonce, text].concat() }
}

/// What the cheater can make of everything it knows, which is all but our signatures.
fn bogus(ours: &Sealed, txid: &Txid) -> Vec<Sealed> {
    let ours = opened(ours, txid);
    let with = |change: &dyn Fn(&mut Inside)| {
        let mut inside = ours.clone();
        change(&mut inside);
        inside
    };
    let forged = |part: &mut Part| part.signature = ([1; 32], [1; 32]);
    let other = SecretKey::from_slice(&[6; 32]).unwrap().public_key(&Secp256k1::new());
    let all = [
        with(&|inside| inside.parts.clear()),
        with(&|inside| inside.parts.iter_mut().for_each(forged)),
        with(&|inside| {
            inside.parts.iter_mut().for_each(|part| part.signature = Default::default())
        }),
        with(&|inside| inside.parts.iter_mut().for_each(|part| part.place += 1)),
        with(&|inside| inside.parts.iter_mut().for_each(|part| part.place = u16::MAX)),
        with(&|inside| inside.parts.iter_mut().for_each(|part| part.output = Output::SecondStage)),
        with(&|inside| inside.parts = vec![inside.parts[0].clone(); 300]).with_forged_signatures(),
        with(&|inside| inside.revocation = other),
        with(&|inside| inside.destination = ScriptBuf::from_bytes(vec![0x51; 30_000])),
        // Our own signatures, for other terms than we signed: it could not even have those.
        with(&|inside| inside.feerate = FeeratePerKw::new(2_000)),
    ];
    let sealed = |(n, inside): (u16, &Inside)| sealed(inside, txid, n);
    (0..).zip(&all).map(sealed).collect()
}

impl Inside {
    fn with_forged_signatures(mut self) -> Self {
        self.parts.iter_mut().for_each(|part| part.signature = ([1; 32], [1; 32]));
        self
    }
}

/// Every record in a session of its own, the cheater's before ours.
fn hands_in(tower: &Tower, records: &[Sealed], first: u16) {
    for (n, record) in (first..).zip(records) {
        receipt(put(tower, n, 0, std::slice::from_ref(record)));
    }
}

fn published(tower: &Tower, breach: &Transaction) -> Vec<Transaction> {
    tower.connect(Height::new(100), &block(&[breach], 0)).unwrap();
    tower.remedies(Height::new(100), FEERATE).unwrap()
}

/// Has them mined if the scripts allow it. What of the breach came home, and what was paid for it.
fn mined(pair: &crate::support::Pair, old: &Kept, remedies: &[Transaction]) -> (u64, u64) {
    let mut chain = breached(pair, old);
    chain.at(101);
    let mut fees = 0;
    for tx in remedies {
        let place = tx.input[0].previous_output.vout as usize;
        fees += old.tx.output[place].value.to_sat() - tx.output[0].value.to_sat();
        chain.take(tx).unwrap();
    }
    (home_worth(&chain), fees)
}

/// Outputs of the commitment beside anchors.
fn worth(tx: &Transaction) -> u64 {
    tx.output.iter().map(|out| out.value.to_sat()).filter(|value| *value != 330).sum()
}

#[test]
fn a_cheater_who_hands_in_first_blinds_no_altruist_tower() {
    for format in FORMATS {
        let (pair, kept) = a_life(format);
        let old = &kept[5];
        let txid = old.tx.compute_txid();
        let (ours, _) = seal(&pair, old);
        let dir = TempDir::new().unwrap();
        let tower = tower_in(dir.path());
        let bogus = bogus(&ours, &txid);
        assert!(bogus.iter().all(|record| Record::open(&record.bytes, &txid).is_ok()));
        hands_in(&tower, &bogus, 300);
        hands_in(&tower, &[ours], 2);
        hands_in(&tower, &bogus, 400);
        let (home, fees) = mined(&pair, old, &published(&tower, &old.tx));
        assert_eq!(home + fees, worth(&old.tx));
        assert!(home > 0);
    }
}

#[test]
fn a_cheater_who_hands_in_first_blinds_no_private_tower() {
    for format in FORMATS {
        let (pair, kept) = a_life(format);
        let old = &kept[5];
        let dir = TempDir::new().unwrap();
        let tower = tower_in(dir.path());
        hands_in(&tower, &bogus(&seal(&pair, old).0, &old.tx.compute_txid()), 300);
        let channel = Request::PutChannel { body: private(&pair).to_bytes(), note: vec![] };
        assert_eq!(tower.answer(&client(1), channel), Reply::Done);
        let remedies = published(&tower, &old.tx);
        assert_eq!(remedies.len(), 1);
        let (home, fees) = mined(&pair, old, &remedies);
        let to_local = &old.tx.output[remedies[0].input[0].previous_output.vout as usize];
        assert_eq!(home + fees, to_local.value.to_sat());
        assert!(home > 0);
    }
}

#[test]
fn made_up_records_alone_are_no_breach() {
    let (pair, kept) = a_life(CommitmentFormat::StaticRemoteKey);
    let old = &kept[5];
    let dir = TempDir::new().unwrap();
    let tower = tower_in(dir.path());
    hands_in(&tower, &bogus(&seal(&pair, old).0, &old.tx.compute_txid()), 300);
    assert_eq!(published(&tower, &old.tx), vec![]);
    assert_eq!(tower.summary().unwrap().breaches, 0);
}

/// Thousands of records of one hint, each as costly as can be, and ours is still found.
#[test]
fn thousands_of_records_of_one_hint_keep_no_tower_busy() {
    let (pair, kept) = a_life(CommitmentFormat::Anchors);
    let old = &kept[5];
    let txid = old.tx.compute_txid();
    let (ours, _) = seal(&pair, old);
    let dir = TempDir::new().unwrap();
    let tower = tower_in(dir.path());
    let inside = opened(&ours, &txid).with_forged_signatures();
    let many = Inside { parts: vec![inside.parts[0].clone(); 40], ..inside };
    let record = |nonce| sealed(&many, &txid, nonce);
    // One session has two of them, however it hands them in; the same once more is no other one.
    let three: Vec<_> = (0..3).map(record).collect();
    assert_eq!(refusal(put(&tower, 9, 0, &three)), Refusal::SessionFull);
    receipt(put(&tower, 9, 0, &[&three[..2], &three[..2]].concat()));
    assert_eq!(refusal(put(&tower, 9, 4, &three[2..])), Refusal::SessionFull);
    receipt(put(&tower, 9, 4, &three[..1]));
    assert_eq!(PER_HINT, 2);
    for n in 0..1_000 {
        receipt(put(&tower, 1_000 + n, 0, &[record(2 * n), record(2 * n + 1)]));
    }
    hands_in(&tower, &[ours], 2);
    let (home, fees) = mined(&pair, old, &published(&tower, &old.tx));
    assert_eq!(home + fees, worth(&old.tx));
}

/// Whoever has good signatures several times, as after another feerate was set, and a private
/// tower: all of it is published, the highest fee of each output first.
#[test]
fn all_means_against_a_breach_count() {
    let (pair, kept) = a_life(CommitmentFormat::Anchors);
    let old = &kept[5];
    let dir = TempDir::new().unwrap();
    let tower = tower_in(dir.path());
    let cheap = seal(&pair, old).0;
    let terms = Terms { feerate: FeeratePerKw::new(3_000), ..terms() };
    let dear = seal_at(&pair, old, terms).0;
    hands_in(&tower, &[cheap.clone(), cheap, dear], 2);
    let channel = Request::PutChannel { body: private(&pair).to_bytes(), note: vec![] };
    assert_eq!(tower.answer(&client(1), channel), Reply::Done);
    tower.connect(Height::new(100), &block(&[&old.tx], 0)).unwrap();
    let remedies = tower.remedies(Height::new(100), FeeratePerKw::new(2_000)).unwrap();
    let mut of_each: BTreeMap<OutPoint, Vec<u64>> = BTreeMap::new();
    for tx in &remedies {
        let paid = of_each.entry(tx.input[0].previous_output).or_default();
        paid.push(tx.output[0].value.to_sat());
    }
    assert_eq!(of_each.len(), old.tx.output.len() - 2, "all but the anchors");
    assert!(of_each.values().all(|paid| paid.is_sorted()));
    let mut counts: Vec<_> = of_each.values().map(Vec::len).collect();
    counts.sort_unstable();
    // to_local is taken by the private tower's key as well.
    assert_eq!(counts.pop(), Some(3));
    assert!(counts.iter().all(|count| *count == 2));
    // Whichever is mined is ours, and none of that output is published any more.
    let last = remedies.last().unwrap();
    tower.connect(Height::new(101), &block(&[last], 1)).unwrap();
    let rest = tower.remedies(Height::new(101), FEERATE).unwrap();
    let spent = last.input[0].previous_output;
    assert!(rest.iter().all(|tx| tx.input[0].previous_output != spent));
}

/// A breach as a tower wrote it that knew one means against each.
#[derive(Serialize)]
struct OldBreach {
    commitment: Transaction,
    means: Means,
    seen: Height,
    confirmed: Option<Height>,
    takings: BTreeMap<OutPoint, OldTaking>,
}

#[derive(Serialize)]
struct OldTaking {
    value: Sat,
    since: Height,
    remedy: Option<Transaction>,
    version: Option<(FeeratePerKw, Height)>,
    spent: Option<(Txid, Height)>,
}

#[test]
fn a_breach_of_an_older_tower_goes_on() {
    let (pair, kept) = a_life(CommitmentFormat::Anchors);
    let old = &kept[5];
    let txid = old.tx.compute_txid();
    let record = Record::open(&seal(&pair, old).0.bytes, &txid).unwrap();
    let means = || Means::Altruist(record.clone());
    let at = Height::new(100);
    let mut fresh = Breach::new(&old.tx, at, vec![means()]).unwrap();
    let remedies = fresh.remedies(at, FEERATE).0;
    let taking = |tx: &Transaction| {
        let outpoint = tx.input[0].previous_output;
        let value = fresh.takings[&outpoint].value;
        let remedy = Some(tx.clone());
        (outpoint, OldTaking { value, since: at, remedy, version: None, spent: None })
    };
    let takings = remedies.iter().map(taking).collect();
    let (commitment, confirmed) = (old.tx.clone(), Some(at));
    let row = OldBreach { commitment, means: means(), seen: at, confirmed, takings };
    let dir = TempDir::new().unwrap();
    drop(tower_in(dir.path()));
    let file = rusqlite::Connection::open(dir.path().join("tower.db")).unwrap();
    let row = rusqlite::params![txid.to_byte_array(), postcard::to_stdvec(&row).unwrap()];
    file.execute("INSERT INTO breach VALUES (?1, ?2)", row).unwrap();
    drop(file);
    let tower = tower_in(dir.path());
    assert_eq!(tower.remedies(at, FEERATE).unwrap(), remedies);
    tower.connect(at.plus(1), &block(&[&remedies[0]], 1)).unwrap();
    assert_eq!(tower.remedies(at.plus(1), FEERATE).unwrap(), remedies[1..]);
}
