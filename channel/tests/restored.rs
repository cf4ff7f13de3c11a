//! A channel made again from its static backup: the peer closes, and our balance comes home.

use crate::onchain::{draw, Chain};
use crate::support::{wallet_script, Pair, Party, Verdict};
use bitcoin::Transaction;
use fulmen_channel::amount::{FeeratePerKw, Height, Sat};
use fulmen_channel::error::Refused;
use fulmen_channel::input::{Command, Input};
use fulmen_channel::keys::{InMemorySigner, Inline};
use fulmen_channel::message::Message;
use fulmen_channel::onchain::claim::{Claim, Name};
use fulmen_channel::onchain::published::Published;
use fulmen_channel::onchain::resolution::OnChain;
use fulmen_channel::output::{Event, Spend};
use fulmen_channel::params::{CommitmentFormat, Side};
use fulmen_channel::protocol::restored::{Own, Restored};
use fulmen_channel::transactions::spend::sweep;

const FORMATS: [CommitmentFormat; 2] =
    [CommitmentFormat::Anchors, CommitmentFormat::StaticRemoteKey];
const ALICE: [u8; 32] = [1; 32];
const BOB: [u8; 32] = [2; 32];

/// What a backup of a side's channel holds.
pub fn backup_of(party: &Party) -> Restored {
    let contract = &party.open().contract;
    let params = &contract.params;
    Restored {
        outpoint: contract.funding.outpoint,
        format: params.format,
        funder: params.funder,
        ours: params.side(Side::Local).basepoints.payment,
        theirs: params.side(Side::Remote).basepoints.payment,
        own: Some(Own {
            revocation: params.side(Side::Remote).basepoints.revocation,
            delay: params.side(Side::Remote).to_self_delay,
        }),
    }
}

/// Whose doing `tx` is, and what of it is ours in a block of this height.
pub fn sees(
    lost: &Restored,
    tx: &Transaction,
    height: Height,
    seed: [u8; 32],
) -> (Spend, Option<(Published, Claim)>) {
    let signer = InMemorySigner::from_seed(seed);
    let mut onchain = OnChain::default();
    let spend = lost.funding_spent(&mut onchain, tx, height, &signer);
    let claims = lost.claims(&onchain, &signer);
    let claims = claims.map(|(published, mut claims)| (published.clone(), claims.pop()));
    (spend, claims.and_then(|(published, claim)| Some((published, claim?))))
}

/// What takes it alone.
fn delivers(claim: &Claim, on: &Published, seed: [u8; 32]) -> Transaction {
    let rate = FeeratePerKw::new(1_000);
    let mut tx = sweep(std::slice::from_ref(&claim.spend), &wallet_script(9), rate).unwrap();
    assert!(claim.sign(on, &mut tx, 0, (&InMemorySigner::from_seed(seed), &Inline)));
    tx
}

fn opened(format: CommitmentFormat) -> Pair {
    let mut pair = Pair::open_with(|open, _| open.channel_type.format = format);
    pair.alice_pays(400_000_000, 1);
    pair
}

/// The peer hears what a restored side says, and publishes.
fn closes(peer: &mut Party, greeting: [Message; 2]) -> Transaction {
    peer.handle(Input::Disconnected).unwrap();
    peer.handle(Input::Connected(Default::default())).unwrap();
    peer.sent.clear();
    let [reestablish, error] = greeting;
    match peer.hears(reestablish) {
        Verdict::Failed(why) => assert!(why.contains("lost its state"), "{why}"),
        other => panic!("{other:?}"),
    }
    peer.hears(error);
    peer.published.last().expect("it publishes its commitment").clone()
}

#[test]
fn either_side_gets_its_balance_from_the_peers_close() {
    for format in FORMATS {
        for (seed, own) in [(ALICE, 600_000), (BOB, 400_000)] {
            let mut pair = opened(format);
            let chain = &mut Chain::with(
                pair.alice.open().contract.funding.outpoint,
                pair.funding_output(),
            );
            let (lost, peer) = match seed {
                ALICE => (backup_of(&pair.alice), &mut pair.bob),
                _ => (backup_of(&pair.bob), &mut pair.alice),
            };
            let signer = InMemorySigner::from_seed(seed);
            let tx = closes(peer, lost.greeting(&signer));
            chain.take(&tx).unwrap();
            let (spend, due) = sees(&lost, &tx, chain.height, seed);
            let (published, claim) = due.expect("D");
            assert_eq!(spend, Spend::Remote);
            let anchors = format == CommitmentFormat::Anchors;
            let fees = match (seed, anchors) {
                (ALICE, true) => 1_124 + 660,
                (ALICE, false) => 724,
                _ => 0,
            };
            assert_eq!((claim.name, claim.spend.value().sat()), (Name::D, own - fees));
            let taken = delivers(&claim, &published, seed);
            let delayed = chain.take(&taken).is_err();
            assert_eq!(delayed, anchors, "with anchors it waits one block");
            assert_eq!(claim.from, Height::new(if anchors { 101 } else { 100 }));
            if delayed {
                chain.at(101);
                chain.take(&taken).unwrap();
            }
        }
    }
}

/// ES.
fn closes_together(pair: &mut Pair) -> Transaction {
    for party in [&mut pair.alice, &mut pair.bob] {
        let (script, feerate, max_feerate) = (wallet_script(3), None, None);
        let close = Command::Close { script, feerate, max_feerate };
        party.handle(Input::Command(close)).unwrap();
    }
    pair.talk();
    pair.alice.published.last().expect("ES").clone()
}

#[test]
fn what_spent_f_is_told_apart() {
    for format in FORMATS {
        let mut pair = opened(format);
        let lost = backup_of(&pair.alice);
        let ours = pair.alice.channel.commitments().0.unwrap().tx;
        let sees = |lost: &Restored, tx| sees(lost, tx, Height::new(1), ALICE);
        assert_eq!(sees(&lost, &ours).0, Spend::Local);
        let earlier = Restored { own: None, ..lost.clone() };
        let without = (Spend::Local, None);
        assert_eq!(sees(&earlier, &ours), without, "RD needs what earlier backups lack");
        let theirs = pair.bob.channel.commitments().0.unwrap().tx;
        assert_eq!(sees(&lost, &theirs).0, Spend::Remote);
        let mutual = closes_together(&mut pair);
        assert_eq!(sees(&lost, &mutual), (Spend::Mutual, None), "it pays the wallet itself");
    }
}

/// The tree of a restored channel once `tx` is in block 100 and the best block is `height`.
fn drawn(lost: &Restored, tx: Option<&Transaction>, takes: &[&Transaction], height: u32) -> String {
    let signer = InMemorySigner::from_seed(ALICE);
    let mut onchain = OnChain::default();
    let at = Height::new(100);
    let spent = tx.map(|tx| {
        let spend = lost.funding_spent(&mut onchain, tx, at, &signer);
        (tx.compute_txid(), at, spend)
    });
    for tx in takes {
        onchain.resolution.as_mut().unwrap().take(tx, Height::new(102));
    }
    let known = (&onchain, Height::new(height));
    draw(&lost.tree(Sat::new(1_000_000), spent, known, &signer))
}

#[test]
fn the_tree_of_a_restored_channel_shows_what_is_known() {
    let mut pair = opened(CommitmentFormat::Anchors);
    let lost = backup_of(&pair.alice);
    let awaited = "\
F Both Published
 Funding Both 1000000
  C Them Ready
   ToRemote Us ?
    D Us Waits +1
";
    assert_eq!(drawn(&lost, None, &[], 100), awaited);
    let theirs = pair.bob.channel.commitments().0.unwrap().tx;
    let there = "\
F Both OnChain
 Funding Both 1000000, taken
  C Them OnChain @100
   ToRemote Us 598216
    D Us Ready from 101 +1
";
    assert_eq!(drawn(&lost, Some(&theirs), &[], 100), there);
    let (_, due) = sees(&lost, &theirs, Height::new(100), ALICE);
    let (published, claim) = due.unwrap();
    let taken = drawn(&lost, Some(&theirs), &[&delivers(&claim, &published, ALICE)], 103);
    assert!(taken.ends_with("ToRemote Us 598216, taken\n    D Us OnChain @102 from 101 +1\n"));
    let ours = pair.alice.channel.commitments().0.unwrap().tx;
    let own = drawn(&lost, Some(&ours), &[], 100);
    let expected = "C Us OnChain @100\n   ToLocal Us 598216\n    RD Us Waits from 244 +144\n";
    assert!(own.ends_with(expected), "{own}");
    let mutual = closes_together(&mut pair);
    assert!(drawn(&lost, Some(&mutual), &[], 100).ends_with("  ES Both OnChain @100\n"));
    let other = Transaction { version: bitcoin::transaction::Version::ONE, ..mutual };
    assert!(drawn(&lost, Some(&other), &[], 100).ends_with("  unknown Both OnChain @100\n"));
}

#[test]
fn our_own_commitment_gives_our_balance_back_after_its_delay() {
    for format in FORMATS {
        for (seed, own) in [(ALICE, 600_000), (BOB, 400_000)] {
            let mut pair = opened(format);
            let outpoint = pair.alice.open().contract.funding.outpoint;
            let chain = &mut Chain::with(outpoint, pair.funding_output());
            let party = if seed == ALICE { &mut pair.alice } else { &mut pair.bob };
            party.handle(Input::Command(Command::ForceClose("early".into()))).unwrap();
            let (lost, tx) = (backup_of(party), party.published.last().unwrap().clone());
            chain.take(&tx).unwrap();
            let (published, claim) = sees(&lost, &tx, chain.height, seed).1.expect("RD");
            let fees = match (seed, format) {
                (ALICE, CommitmentFormat::Anchors) => 1_124 + 660,
                (ALICE, CommitmentFormat::StaticRemoteKey) => 724,
                _ => 0,
            };
            assert_eq!((claim.name, claim.spend.value().sat()), (Name::RD, own - fees));
            let taken = delivers(&claim, &published, seed);
            chain.at(claim.from.number() - 1);
            assert!(chain.take(&taken).is_err(), "too early");
            chain.at(claim.from.number());
            chain.take(&taken).unwrap();
            assert_eq!(claim.from, Height::new(100 + 144));
        }
    }
}

#[test]
fn a_witness_of_a_later_state_stops_an_old_copy() {
    let mut pair = opened(CommitmentFormat::Anchors);
    let old = pair.alice.disk.clone();
    let before = pair.alice.open().contract.state.local_number;
    pair.alice_pays(50_000_000, 2);
    let now = pair.alice.open().contract.state.local_number;
    // What is not newer proves nothing.
    for number in [0, before, now] {
        pair.alice.handle(Input::Witnessed(number)).unwrap();
        assert!(!pair.alice.open().life.behind);
    }
    pair.alice.disk = old;
    pair.alice.crashes();
    pair.alice.handle(Input::Connected(Default::default())).unwrap();
    (pair.alice.events, pair.alice.published) = (Vec::new(), Vec::new());
    pair.alice.handle(Input::Witnessed(now)).unwrap();
    assert_eq!(pair.alice.is_saying().last(), Some(&"error"));
    assert!(pair.alice.events.iter().any(|event| matches!(event, Event::Failed(_))));
    let force = Input::Command(Command::ForceClose("now".into()));
    assert_eq!(pair.alice.handle(force).unwrap_err(), Refused::Behind);
    pair.alice.crashes();
    assert!(pair.alice.open().life.behind, "also after a restart");
    assert!(pair.alice.published.is_empty());
}

#[test]
fn a_failed_old_copy_publishes_no_more() {
    let mut pair = opened(CommitmentFormat::Anchors);
    pair.alice.handle(Input::Command(Command::ForceClose("early".into()))).unwrap();
    let now = pair.alice.open().contract.state.local_number;
    pair.alice.handle(Input::Witnessed(now + 1)).unwrap();
    pair.alice.published.clear();
    pair.alice.crashes();
    assert!(pair.alice.published.is_empty());
}
