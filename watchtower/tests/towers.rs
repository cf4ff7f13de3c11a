//! A tower in one process: what it keeps, gives back and bears; blocks are made by hand.

use crate::support::Pair;
use crate::world::{a_life, home, private, seal, Kept, FEERATE};
use bitcoin::block::{Header, Version};
use bitcoin::hashes::{sha256, Hash};
use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};
use bitcoin::{Block, BlockHash, CompactTarget, OutPoint, Transaction, TxMerkleNode};
use fulmen_channel::amount::Height;
use fulmen_channel::params::CommitmentFormat;
use fulmen_watchtower::api::link::Link;
use fulmen_watchtower::api::message::{Receipt, Refusal, Reply, Request, Standing, VERSION};
use fulmen_watchtower::api::serve;
use fulmen_watchtower::gatekeeper::{Limits, Origin};
use fulmen_watchtower::private::PrivateChannel;
use fulmen_watchtower::record::Sealed;
use fulmen_watchtower::tower::{Setup, Tower};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;

const TOWER: [u8; 32] = [7; 32];
const CHAIN: [u8; 32] = [5; 32];

fn secret(n: u16) -> SecretKey {
    let bytes: Vec<u8> = (0..16).flat_map(|_| n.to_be_bytes()).collect();
    SecretKey::from_slice(&bytes).unwrap()
}

pub fn client(n: u16) -> PublicKey {
    secret(n).public_key(&Secp256k1::new())
}

fn setup(limits: Limits) -> Setup {
    Setup {
        secret: SecretKey::from_slice(&TOWER).unwrap(),
        chain: BlockHash::from_byte_array(CHAIN),
        private_clients: [client(1)].into(),
        limits,
    }
}

pub fn tower_in(dir: &Path) -> Tower {
    Tower::open(&dir.join("tower.db"), setup(Limits::default())).unwrap()
}

pub fn block(transactions: &[&Transaction], after: u8) -> Block {
    let header = Header {
        version: Version::TWO,
        prev_blockhash: BlockHash::from_byte_array([after; 32]),
        merkle_root: TxMerkleNode::all_zeros(),
        time: 0,
        bits: CompactTarget::default(),
        nonce: 0,
    };
    Block { header, txdata: transactions.iter().map(|tx| (*tx).clone()).collect() }
}

pub fn put(tower: &Tower, n: u16, sequence: u64, records: &[Sealed]) -> Reply {
    tower.answer(&client(n), Request::Put { sequence, records: records.to_vec(), note: vec![7] })
}

pub fn refusal(reply: Reply) -> Refusal {
    match reply {
        Reply::Refused(refusal) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

pub fn receipt(reply: Reply) -> Receipt {
    match reply {
        Reply::Stored(receipt) => receipt,
        other => panic!("not stored: {other:?}"),
    }
}

fn sealed(n: u8) -> Sealed {
    Sealed { hint: [n; 16], bytes: vec![n; 300] }
}

/// A channel's life and a record for each of its states.
fn records() -> (Pair, Vec<Kept>, Vec<Sealed>) {
    let (pair, kept) = a_life(CommitmentFormat::Anchors);
    let records = kept.iter().map(|kept| seal(&pair, kept).0).collect();
    (pair, kept, records)
}

#[test]
fn a_breach_is_caught_over_restarts_and_reorganisations() {
    let dir = TempDir::new().unwrap();
    let (_, kept, records) = records();
    let breach = &kept[3].tx;
    let tower = tower_in(dir.path());
    receipt(put(&tower, 2, 0, &records));
    drop(tower);

    let tower = tower_in(dir.path());
    assert_eq!(tower.summary().unwrap().states, records.len());
    let height = Height::new(100);
    tower.connect(height, &block(&[breach], 0)).unwrap();
    let remedies = tower.remedies(height, FEERATE).unwrap();
    assert_eq!(remedies.len(), breach.output.len() - 2, "all but the anchors");
    drop(tower);

    let tower = tower_in(dir.path());
    assert_eq!(tower.remedies(height, FEERATE).unwrap(), remedies);
    tower.disconnect(height).unwrap();
    assert_eq!(tower.tip().unwrap(), None);
    assert_eq!(tower.remedies(height, FEERATE).unwrap(), vec![], "it is in no block");
    drop(tower);

    let tower = tower_in(dir.path());
    tower.connect(height, &block(&[breach], 1)).unwrap();
    let (first, rest) = remedies.split_first().unwrap();
    tower.connect(height.plus(1), &block(&[first], 2)).unwrap();
    assert_eq!(tower.remedies(height.plus(1), FEERATE).unwrap(), rest);
    tower.disconnect(height.plus(1)).unwrap();
    assert_eq!(tower.remedies(height, FEERATE).unwrap(), remedies);
    let all: Vec<_> = remedies.iter().collect();
    tower.connect(height.plus(1), &block(&all, 3)).unwrap();
    assert_eq!(tower.remedies(height.plus(1), FEERATE).unwrap(), vec![]);
    assert_eq!(tower.summary().unwrap().breaches, 1);
    tower.connect(height.plus(101), &block(&[], 4)).unwrap();
    assert_eq!(tower.summary().unwrap().breaches, 0, "it is over");
}

/// The commitment and the remedy of it in one block, and what a cheater made of it in one block.
#[test]
fn what_happens_within_one_block_is_seen() {
    let dir = TempDir::new().unwrap();
    let (_, kept, records) = records();
    let breach = &kept[2].tx;
    let tower = tower_in(dir.path());
    receipt(put(&tower, 2, 0, &records));
    tower.connect(Height::new(100), &block(&[breach], 0)).unwrap();
    let remedies = tower.remedies(Height::new(100), FEERATE).unwrap();
    tower.disconnect(Height::new(100)).unwrap();
    let all: Vec<&Transaction> = std::iter::once(breach).chain(&remedies).collect();
    tower.connect(Height::new(100), &block(&all, 1)).unwrap();
    assert_eq!(tower.remedies(Height::new(100), FEERATE).unwrap(), vec![]);
}

#[test]
fn a_private_tower_learns_secrets_one_by_one_and_pays_more_in_time() {
    let dir = TempDir::new().unwrap();
    let (pair, kept) = a_life(CommitmentFormat::Anchors);
    let tower = tower_in(dir.path());
    let whole = private(&pair);
    let funding = whole.head.funding;
    let mut young = whole.clone();
    young.secrets = Default::default();
    let reveal =
        |number| Request::Reveal { funding, number, secret: whole.secrets.get(number).unwrap() };
    let ask = |tower: &Tower, n, request| tower.answer(&client(n), request);
    let channel = Request::PutChannel { body: young.to_bytes(), note: vec![1] };
    assert_eq!(refusal(ask(&tower, 2, channel.clone())), Refusal::NotPrivate);
    assert!(matches!(refusal(ask(&tower, 1, reveal(0))), Refusal::BadChannel(_)));
    assert_eq!(ask(&tower, 1, channel.clone()), Reply::Done);
    assert!(matches!(refusal(ask(&tower, 1, reveal(1))), Refusal::BadChannel(_)));
    for number in 0..whole.secrets.next() {
        assert_eq!(ask(&tower, 1, reveal(number)), Reply::Done);
        assert_eq!(ask(&tower, 1, reveal(number)), Reply::Done, "told twice is told once");
    }
    assert_eq!(ask(&tower, 1, channel), Reply::Done, "what is older changes nothing");
    drop(tower);

    let tower = tower_in(dir.path());
    let breach = &kept[2].tx;
    let height = Height::new(100);
    tower.connect(height, &block(&[breach], 0)).unwrap();
    let paid = |height: Height| {
        let remedies = tower.remedies(height, FEERATE).unwrap();
        assert_eq!(remedies.len(), 1);
        assert_eq!(remedies[0].output[0].script_pubkey, home());
        remedies[0].output[0].value
    };
    let (first, soon, late) = (paid(height), paid(height.plus(1)), paid(height.plus(100)));
    assert!(first == soon && late < first);
    drop(tower);
    let tower = tower_in(dir.path());
    assert_eq!(tower.remedies(height.plus(100), FEERATE).unwrap()[0].output[0].value, late);
    assert_eq!(ask(&tower, 1, Request::DropChannel(funding)), Reply::Done);
    assert_eq!(tower.summary().unwrap().channels, 0);
}

#[test]
fn a_session_has_an_order_bounds_and_an_end() {
    let dir = TempDir::new().unwrap();
    let limits = Limits { max_states: 4, max_bytes: 2_000, max_sessions: 2, ..Limits::default() };
    let tower = Tower::open(&dir.path().join("tower.db"), setup(limits)).unwrap();
    let all: Vec<Sealed> = (1..6).map(sealed).collect();
    let first = receipt(put(&tower, 2, 0, &all[..2]));
    assert!(first.is_genuine(&client(2), &tower.id()));
    assert!(
        !first.is_genuine(&client(3), &tower.id()) && !first.is_genuine(&client(2), &client(3))
    );
    let standing = all[..2].iter().fold(Standing::default(), |all, record| all.after(record));
    assert_eq!(first.standing, standing);
    assert_eq!(refusal(put(&tower, 2, 0, &all[..1])), Refusal::Sequence(2));
    assert_eq!(refusal(put(&tower, 2, 3, &all[..1])), Refusal::Sequence(2));
    assert_eq!(refusal(put(&tower, 2, 2, &[])), Refusal::TooLong);
    let huge = Sealed { hint: [1; 16], bytes: vec![1; 60_000] };
    assert_eq!(refusal(put(&tower, 2, 2, &[huge])), Refusal::TooLong);
    assert_eq!(refusal(put(&tower, 2, 2, &all[2..])), Refusal::SessionFull);
    receipt(put(&tower, 2, 2, &all[2..4]));
    assert_eq!(refusal(put(&tower, 2, 4, &all[4..])), Refusal::SessionFull);
    receipt(put(&tower, 3, 0, &all[..1]));
    assert_eq!(refusal(put(&tower, 4, 0, &all[..1])), Refusal::TowerFull);
    assert_eq!(tower.summary().unwrap().states, 4);
    assert_eq!(tower.answer(&client(2), Request::End), Reply::Done);
    // The other session has the first hint too.
    assert_eq!((tower.summary().unwrap().states, tower.summary().unwrap().sessions), (1, 1));
    receipt(put(&tower, 2, 0, &all[..1]));
}

fn large(n: u64) -> Sealed {
    Sealed { hint: u128::from(n).to_be_bytes(), bytes: vec![9; 1_000] }
}

/// Adds to a session until the tower takes no more. How many records it has then.
fn fills(tower: &Tower, n: u16, mut sequence: u64) -> u64 {
    loop {
        let record = large(u64::from(n) << 32 | sequence);
        match put(tower, n, sequence, &[record]) {
            Reply::Stored(_) => sequence += 1,
            reply => {
                assert_eq!(refusal(reply), Refusal::TowerFull);
                return sequence;
            }
        }
    }
}

#[test]
fn a_disk_that_fills_refuses_new_sessions_first_and_forgets_nothing() {
    let dir = TempDir::new().unwrap();
    let limits = Limits { max_disk: 1_600_000, ..Limits::default() };
    let tower = Tower::open(&dir.path().join("tower.db"), setup(limits)).unwrap();
    receipt(put(&tower, 2, 0, &[large(0)]));
    // Who means harm takes what it gets, under a new key each time.
    let filled: Vec<u64> = (20..).map(|n| fills(&tower, n, 0)).take_while(|n| *n > 0).collect();
    assert!((6..12).contains(&filled.len()), "{filled:?}");
    assert!(filled.iter().all(|n| *n <= 90), "a sixteenth each: {filled:?}");
    let disk = || tower.summary().unwrap().bytes;
    assert!((1_200_000..1_250_000).contains(&disk()), "{}", disk());
    // Those that are there have what is left, each an even part of it.
    let own = fills(&tower, 2, 1);
    assert!((30..60).contains(&own), "{own}");
    assert_eq!(fills(&tower, 20, filled[0]), filled[0], "who has more than that gets nothing");
    assert_eq!(fills(&tower, 21, filled[1]), filled[1]);
    assert!(disk() < 1_600_000);
    let states = filled.iter().sum::<u64>() + own;
    assert_eq!(tower.summary().unwrap().states as u64, states);
    // It goes on watching, and what ends makes room.
    tower.connect(Height::new(100), &block(&[], 0)).unwrap();
    for n in [20, 21, 22] {
        assert_eq!(tower.answer(&client(n), Request::End), Reply::Done);
    }
    receipt(put(&tower, 3, 0, &[sealed(1)]));
}

#[test]
fn one_address_begins_so_many_sessions_and_others_may_begin_theirs() {
    let dir = TempDir::new().unwrap();
    let limits = Limits { max_sessions: 128, ..Limits::default() };
    let tower = Tower::open(&dir.path().join("tower.db"), setup(limits)).unwrap();
    let from = |address: &str| Origin::of(address.parse().unwrap());
    let begins = |from, n| {
        let put = Request::Put { sequence: 0, records: vec![sealed(1)], note: vec![] };
        matches!(tower.answer_from(from, &client(n), put), Reply::Stored(_))
    };
    let (one, other) = (from("2001:db8::1"), from("2001:db8:0:1::1"));
    assert_eq!((200..300).filter(|n| begins(one, *n)).count(), 8, "a sixteenth");
    assert!(!begins(from("2001:db8::9:9"), 300), "it is the same network");
    assert_eq!((400..500).filter(|n| begins(other, *n)).count(), 8);
    // Whoever has addresses at will takes three quarters, and then few for each.
    let mut many = (0..).map(|n: u8| from(&format!("192.0.2.{n}")));
    let fleet: Vec<_> = many.by_ref().take(10).collect();
    let mut keys = 1_000..;
    let mut all_of = |from| keys.by_ref().take(20).filter(|n| begins(from, *n)).count();
    let taken: Vec<usize> = fleet.iter().map(|from| all_of(*from)).collect();
    assert_eq!(taken, [8; 10]);
    let taken: Vec<usize> = many.by_ref().take(8).map(all_of).collect();
    assert_eq!(taken, [4; 8]);
    assert!(!begins(from("198.51.100.1"), 600), "all are taken");
    // None of that keeps a session that is there from going on, wherever it comes from now.
    let put = Request::Put { sequence: 1, records: vec![sealed(2)], note: vec![] };
    receipt(tower.answer_from(from("198.51.100.1"), &client(200), put));
}

/// Nobody can tell from a record whether it is worth something: its client has a receipt, and a
/// channel's only record may be of a state with HTLCs.
#[test]
fn no_session_is_dropped_for_another_however_old() {
    let dir = TempDir::new().unwrap();
    let limits = Limits { max_sessions: 4, ..Limits::default() };
    let tower = Tower::open(&dir.path().join("tower.db"), setup(limits)).unwrap();
    tower.connect(Height::new(100), &block(&[], 0)).unwrap();
    let puts = |n: u16, sequence| put(&tower, n, sequence, &[sealed(n.try_into().unwrap())]);
    let taken = |n, sequence| assert!(matches!(puts(n, sequence), Reply::Stored(_)));
    (10..14).for_each(|n| taken(n, 0));
    tower.connect(Height::new(100_000), &block(&[], 1)).unwrap();
    (20..24).for_each(|n| assert_eq!(refusal(puts(n, 0)), Refusal::TowerFull));
    (10..14).for_each(|n| taken(n, 1));
    assert_eq!(tower.summary().unwrap().sessions, 4);
}

/// What docs/performance.md tells.
#[test]
fn a_state_and_a_channel_cost_so_many_bytes_on_disk() {
    let dir = TempDir::new().unwrap();
    let tower = tower_in(dir.path());
    let bytes = || tower.summary().unwrap().bytes;
    let (pair, _) = a_life(CommitmentFormat::Anchors);
    // A state without HTLCs is about 310 bytes with its hint.
    let content = vec![5; 294];
    let empty = bytes();
    for batch in 0..50_u64 {
        let hash = |n: u64| sha256::Hash::hash(&(batch * 100 + n).to_be_bytes()).to_byte_array();
        let hint = |n| hash(n)[..16].try_into().unwrap();
        let of_batch = (0..100).map(|n| Sealed { hint: hint(n), bytes: content.clone() });
        receipt(put(&tower, 2, batch * 100, &of_batch.collect::<Vec<_>>()));
    }
    let state = (bytes() - empty) / 5_000;
    let (before, mut channel) = (bytes(), private(&pair));
    for vout in 0..500 {
        channel.head.funding.vout = vout;
        let put = Request::PutChannel { body: channel.to_bytes(), note: vec![1; 100] };
        assert_eq!(tower.answer(&client(1), put), Reply::Done);
    }
    let channel = (bytes() - before) / 500;
    println!("on disk {state} bytes a state without HTLCs, {channel} a channel");
    assert!((310..450).contains(&state) && channel < 2_700, "{state} {channel}");
}

#[test]
fn a_note_is_kept_replaced_given_back_and_deleted() {
    let dir = TempDir::new().unwrap();
    let (pair, _, records) = records();
    let channel = private(&pair);
    let funding = channel.head.funding;
    let recall = |tower: &Tower, n: u16, of| match tower.answer(&client(n), Request::Recall(of)) {
        Reply::Recalled(note) => note,
        other => panic!("not recalled: {other:?}"),
    };
    let put = |tower: &Tower, sequence, note: &[u8]| {
        let records = vec![records[0].clone()];
        tower.answer(&client(2), Request::Put { sequence, records, note: note.to_vec() })
    };
    let put_channel = |tower: &Tower, channel: &PrivateChannel, note: u8| {
        let put = Request::PutChannel { body: channel.to_bytes(), note: vec![note] };
        assert_eq!(tower.answer(&client(1), put), Reply::Done);
    };
    let tower = tower_in(dir.path());
    assert!(recall(&tower, 2, None).is_empty());
    receipt(put(&tower, 0, b"old"));
    receipt(put(&tower, 1, b"new"));
    assert_eq!(refusal(put(&tower, 2, &[0; 129])), Refusal::TooLong);
    put_channel(&tower, &channel, 7);
    let mut young = channel.clone();
    young.secrets = Default::default();
    put_channel(&tower, &young, 1);
    drop(tower);

    let tower = tower_in(dir.path());
    assert_eq!(recall(&tower, 2, None), b"new");
    assert_eq!(recall(&tower, 1, Some(funding)), vec![7], "an old copy does not replace it");
    assert!(recall(&tower, 3, None).is_empty() && recall(&tower, 2, Some(funding)).is_empty());
    assert_eq!(tower.answer(&client(2), Request::End), Reply::Done);
    assert_eq!(tower.answer(&client(1), Request::DropChannel(funding)), Reply::Done);
    assert!(recall(&tower, 2, None).is_empty() && recall(&tower, 1, Some(funding)).is_empty());
}

/// A made-up record for somebody else's state does not keep the true one from opening.
#[test]
fn a_false_record_of_the_same_hint_hides_nothing() {
    let dir = TempDir::new().unwrap();
    let (_, kept, records) = records();
    let tower = tower_in(dir.path());
    let hint = records[3].hint;
    receipt(put(&tower, 3, 0, &[Sealed { hint, bytes: vec![3; 400] }, sealed(1)]));
    receipt(put(&tower, 2, 0, &records));
    tower.connect(Height::new(100), &block(&[&kept[3].tx], 0)).unwrap();
    assert!(tower.remedies(Height::new(100), FEERATE).unwrap().len() > 2);
}

async fn door(dir: &Path, limits: Limits) -> (Arc<Tower>, String, watch::Sender<bool>) {
    let tower = Arc::new(Tower::open(&dir.join("tower.db"), setup(limits)).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let stop = watch::Sender::new(false);
    tokio::spawn(serve(tower.clone(), listener, stop.subscribe()));
    (tower, address, stop)
}

async fn ask(link: &mut Link, request: Request) -> Reply {
    link.send(&request).await.unwrap();
    link.receive(Duration::from_secs(60)).await.unwrap()
}

fn hello() -> Request {
    Request::Hello { version: VERSION, chain: BlockHash::from_byte_array(CHAIN) }
}

#[tokio::test]
async fn a_client_connects_hands_in_and_is_told_how_far_it_is() {
    let dir = TempDir::new().unwrap();
    let (tower, address, _stop) = door(dir.path(), Limits::default()).await;
    let mut link = Link::connect(&address, &tower.id(), &secret(2)).await.unwrap();
    let Reply::Welcome(welcome) = ask(&mut link, hello()).await else { panic!("not welcome") };
    assert!(!welcome.private && welcome.session.states == 0);
    let put = Request::Put { sequence: 0, records: vec![sealed(1), sealed(2)], note: vec![3] };
    let given = receipt(ask(&mut link, put).await);
    let mut link = Link::connect(&address, &tower.id(), &secret(2)).await.unwrap();
    let Reply::Welcome(welcome) = ask(&mut link, hello()).await else { panic!("not welcome") };
    assert_eq!(welcome.session, given.standing);
    let mut link = Link::connect(&address, &tower.id(), &secret(1)).await.unwrap();
    let Reply::Welcome(welcome) = ask(&mut link, hello()).await else { panic!("not welcome") };
    assert!(welcome.private && welcome.session.states == 0);
    assert!(Link::connect(&address, &client(9), &secret(2)).await.is_err(), "another tower");
}

#[tokio::test]
async fn whoever_means_harm_is_told_so_or_hung_up_on() {
    let dir = TempDir::new().unwrap();
    let limits = Limits { burst: 5, requests_per_second: 0, ..Limits::default() };
    let (tower, address, _stop) = door(dir.path(), limits).await;
    let (id, own) = (tower.id(), secret(2));
    let connect = || Link::connect(&address, &id, &own);
    // No hello first, another version, another chain.
    let mut link = connect().await.unwrap();
    assert_eq!(refusal(ask(&mut link, Request::End).await), Refusal::HelloFirst);
    let version = Request::Hello { version: 2, chain: BlockHash::from_byte_array(CHAIN) };
    let mut link = connect().await.unwrap();
    assert_eq!(refusal(ask(&mut link, version).await), Refusal::Version);
    let chain = Request::Hello { version: 1, chain: BlockHash::all_zeros() };
    let mut link = connect().await.unwrap();
    assert_eq!(refusal(ask(&mut link, chain).await), Refusal::OtherChain);
    // Bytes that are no message end the connection.
    let mut link = connect().await.unwrap();
    link.send(&[0xff_u8; 32]).await.unwrap();
    assert!(link.receive::<Reply>(Duration::from_secs(60)).await.is_err());
    let mut link = connect().await.unwrap();
    assert!(matches!(ask(&mut link, hello()).await, Reply::Welcome(_)));
    let funding = OutPoint::null();
    for _ in 0..4 {
        let asked = ask(&mut link, Request::DropChannel(funding)).await;
        assert_eq!(refusal(asked), Refusal::NotPrivate);
    }
    assert_eq!(refusal(ask(&mut link, Request::End).await), Refusal::TooFast);
}

#[tokio::test]
async fn one_address_has_so_many_connections_and_no_more() {
    let dir = TempDir::new().unwrap();
    let limits = Limits { max_per_address: 2, ..Limits::default() };
    let (tower, address, _stop) = door(dir.path(), limits).await;
    let (id, own) = (tower.id(), secret(2));
    let connect = || Link::connect(&address, &id, &own);
    let mut held = connect().await.unwrap();
    let _other = connect().await.unwrap();
    assert!(connect().await.is_err());
    assert!(matches!(ask(&mut held, hello()).await, Reply::Welcome(_)));
}

#[tokio::test]
async fn strangers_leave_a_place_to_the_owners_nodes() {
    let dir = TempDir::new().unwrap();
    let limits = Limits { max_connections: 1, ..Limits::default() };
    let (tower, address, _stop) = door(dir.path(), limits).await;
    let id = tower.id();
    let mut stranger = Link::connect(&address, &id, &secret(2)).await.unwrap();
    assert!(matches!(ask(&mut stranger, hello()).await, Reply::Welcome(_)));
    let mut another = Link::connect(&address, &id, &secret(3)).await.unwrap();
    // It may be hung up on before it has asked.
    let _ = another.send(&hello()).await;
    assert!(another.receive::<Reply>(Duration::from_secs(60)).await.is_err());
    let mut own = Link::connect(&address, &id, &secret(1)).await.unwrap();
    assert!(matches!(ask(&mut own, hello()).await, Reply::Welcome(_)));
}
