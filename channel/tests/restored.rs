//! A channel made again from its static backup: the peer closes, and our balance comes home.

use crate::onchain::Chain;
use crate::support::{wallet_script, Pair, Party, Verdict};
use fulmen_channel::amount::{FeeratePerKw, Height};
use fulmen_channel::error::Refused;
use fulmen_channel::input::{Command, Input};
use fulmen_channel::keys::InMemorySigner;
use fulmen_channel::message::Message;
use fulmen_channel::onchain::claim::Name;
use fulmen_channel::output::{Event, Spend};
use fulmen_channel::params::{CommitmentFormat, Side};
use fulmen_channel::protocol::restored::{Own, Restored};

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

fn opened(format: CommitmentFormat) -> Pair {
    let mut pair = Pair::open_with(|open, _| open.channel_type.format = format);
    pair.alice_pays(400_000_000, 1);
    pair
}

/// The peer hears what a restored side says, and publishes.
fn closes(peer: &mut Party, greeting: [Message; 2]) -> bitcoin::Transaction {
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
            assert_eq!(lost.identify(&tx), Spend::Remote);
            let due = lost.due(&tx, chain.height, &signer).expect("D");
            let claim = &due.claim;
            let anchors = format == CommitmentFormat::Anchors;
            let fees = match (seed, anchors) {
                (ALICE, true) => 1_124 + 660,
                (ALICE, false) => 724,
                _ => 0,
            };
            assert_eq!((claim.name, claim.spend.value().sat()), (Name::D, own - fees));
            let feerate = FeeratePerKw::new(1_000);
            let taken = lost.deliver(&due, &wallet_script(9), feerate, &signer).unwrap();
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

#[test]
fn what_spent_f_is_told_apart() {
    for format in FORMATS {
        let mut pair = opened(format);
        let lost = backup_of(&pair.alice);
        let ours = pair.alice.channel.commitments().0.unwrap().tx;
        assert_eq!(lost.identify(&ours), Spend::Local);
        let signer = InMemorySigner::from_seed(ALICE);
        let due = |lost: &Restored, tx| lost.due(tx, Height::new(1), &signer);
        let earlier = Restored { own: None, ..lost.clone() };
        assert_eq!(due(&earlier, &ours), None, "RD needs what earlier backups lack");
        let theirs = pair.bob.channel.commitments().0.unwrap().tx;
        assert_eq!(lost.identify(&theirs), Spend::Remote);
        for party in [&mut pair.alice, &mut pair.bob] {
            let (script, feerate, max_feerate) = (wallet_script(3), None, None);
            let close = Command::Close { script, feerate, max_feerate };
            party.handle(Input::Command(close)).unwrap();
        }
        pair.talk();
        let mutual = pair.alice.published.last().expect("ES").clone();
        assert_eq!(lost.identify(&mutual), Spend::Mutual);
        assert_eq!(due(&lost, &mutual), None, "it pays the wallet itself");
    }
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
            let signer = InMemorySigner::from_seed(seed);
            let due = lost.due(&tx, chain.height, &signer).expect("RD");
            let fees = match (seed, format) {
                (ALICE, CommitmentFormat::Anchors) => 1_124 + 660,
                (ALICE, CommitmentFormat::StaticRemoteKey) => 724,
                _ => 0,
            };
            assert_eq!((due.claim.name, due.claim.spend.value().sat()), (Name::RD, own - fees));
            let feerate = FeeratePerKw::new(1_000);
            let taken = lost.deliver(&due, &wallet_script(9), feerate, &signer).unwrap();
            chain.at(due.claim.from.number() - 1);
            assert!(chain.take(&taken).is_err(), "too early");
            chain.at(due.claim.from.number());
            chain.take(&taken).unwrap();
            assert_eq!(due.claim.from, Height::new(100 + 144));
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
