//! A database that was read back may be an old copy, and its commitment revoked. Whoever knows that
//! it is has only to make us publish: nothing but the operator does before somebody could answer.

use crate::support::{name, spent_by, Pair, Party};
use fulmen_channel::amount::Height;
use fulmen_channel::error::Refused;
use fulmen_channel::input::{Command, Input};
use fulmen_channel::message::Message;
use fulmen_channel::onchain::claim::Name;
use fulmen_channel::onchain::deadline::{HESITATION, LAST_CALL};
use fulmen_channel::output::{Event, Spend};
use fulmen_channel::params::CommitmentFormat;
use lightning::ln::msgs;

const START: u32 = 300;

/// Alice is read back, from an `old` copy or from the latest; and her latest number.
fn started(old: bool) -> (Pair, u64) {
    let mut pair = Pair::open();
    pair.alice_pays(100_000_000, 1);
    let copy = pair.alice.disk.clone();
    if old {
        pair.alice_pays(50_000_000, 2);
    }
    let latest = pair.alice.open().contract.state.local_number;
    pair.alice.disk = copy;
    pair.disconnects();
    pair.alice.crashes();
    pair.alice.published.clear();
    pair.alice.handle(Input::PeersMayTell(Height::new(START))).unwrap();
    pair.alice.handle(Input::Block(Height::new(START))).unwrap();
    (pair, latest)
}

fn error(party: &Party) -> Message {
    let data = "please publish".to_owned();
    Message::Error(msgs::ErrorMessage { channel_id: party.open().channel_id(), data })
}

/// The peer hears how old we are and answers with an error instead of what it knows.
fn hears_an_error(pair: &mut Pair) {
    pair.alice.handle(Input::Connected(Default::default())).unwrap();
    let error = error(&pair.alice);
    pair.alice.hears(error);
    assert!(pair.alice.open().life.failed.is_some());
}

fn block(pair: &mut Pair, height: u32) -> usize {
    pair.alice.handle(Input::Block(Height::new(height))).unwrap();
    pair.alice.published.len()
}

#[test]
fn an_error_of_the_peers_brings_no_old_commitment_out() {
    let (mut pair, latest) = started(true);
    hears_an_error(&mut pair);
    assert_eq!(block(&mut pair, START + HESITATION - 1), 0);
    assert!(pair.alice.channel.bump().is_none() && pair.alice.channel.forced().is_none());
    pair.alice.handle(Input::Witnessed(latest)).unwrap();
    assert!(pair.alice.open().life.behind);
    assert_eq!(block(&mut pair, START + 100), 0, "never");
    pair.alice.crashes();
    assert_eq!(block(&mut pair, START + 200), 0, "nor after a restart");
}

#[test]
fn nor_does_a_peer_that_says_it_has_lost_its_state_or_counts_wrongly() {
    for (next, revoked) in [(0, 0), (77, 0), (77, 1)] {
        let (mut pair, _) = started(true);
        pair.alice.handle(Input::Connected(Default::default())).unwrap();
        pair.bob.handle(Input::Connected(Default::default())).unwrap();
        let Some(Message::ChannelReestablish(mut said)) = pair.bob.sent.pop_back() else {
            panic!("Bob speaks first of how far he is");
        };
        said.next_local_commitment_number = next;
        said.next_remote_commitment_number = revoked;
        pair.alice.hears(Message::ChannelReestablish(said));
        assert!(pair.alice.open().life.failed.is_some());
        assert!(pair.alice.published.is_empty(), "({next}, {revoked})");
    }
}

#[test]
fn if_nobody_tells_in_time_it_is_published() {
    let (mut pair, _) = started(false);
    hears_an_error(&mut pair);
    assert_eq!(block(&mut pair, START + HESITATION - 1), 0);
    assert_eq!(block(&mut pair, START + HESITATION), 1);
    assert!(pair.alice.channel.bump().is_some(), "and paid for");
}

#[test]
fn if_somebody_knows_just_our_number_it_is_published_at_once() {
    let (mut pair, latest) = started(false);
    hears_an_error(&mut pair);
    pair.alice.handle(Input::Witnessed(latest)).unwrap();
    assert_eq!(pair.alice.published.len(), 1);
    // The peer itself, on another connection.
    let (mut pair, _) = started(false);
    hears_an_error(&mut pair);
    pair.reconnects();
    assert_eq!(pair.alice.published.len(), 1);
}

#[test]
fn the_wait_outlives_a_restart() {
    let (mut pair, _) = started(false);
    hears_an_error(&mut pair);
    pair.alice.crashes();
    assert_eq!(block(&mut pair, START + HESITATION), 0, "nobody could be asked since");
    let again = START + HESITATION;
    pair.alice.handle(Input::PeersMayTell(Height::new(again))).unwrap();
    assert_eq!(block(&mut pair, again + HESITATION - 1), 0);
    assert_eq!(block(&mut pair, again + HESITATION), 1);
    // What was out before the restart was not held: it goes out again at once.
    pair.alice.published.clear();
    pair.alice.crashes();
    assert_eq!(pair.alice.published.len(), 1);
}

#[test]
fn the_operator_and_the_last_call_of_a_preimage_wait_for_nobody() {
    let (mut pair, _) = started(false);
    hears_an_error(&mut pair);
    let close = || Input::Command(Command::ForceClose("by command".into()));
    pair.alice.events.clear();
    pair.alice.handle(close()).unwrap();
    assert_eq!(pair.alice.published.len(), 1);
    let told = pair.alice.events.iter().any(|event| matches!(event, Event::Failed(_)));
    assert!(told, "to who asked");
    assert_eq!(pair.alice.handle(close()), Err(Refused::AlreadyClosing));
    // Bob's HTLC expires at 500.
    let mut pair = Pair::open();
    pair.alice_pays(300_000_000, 1);
    pair.bob.handle(Party::offer(2, 50_000_000)).unwrap();
    pair.talk();
    pair.disconnects();
    pair.alice.crashes();
    pair.alice.published.clear();
    hears_an_error(&mut pair);
    pair.alice.fulfills(2);
    assert_eq!(block(&mut pair, 500 - LAST_CALL - 1), 0);
    assert_eq!(block(&mut pair, 500 - LAST_CALL), 1);
}

#[test]
fn what_is_out_when_somebody_tells_is_no_longer_paid_for() {
    let (mut pair, latest) = started(true);
    hears_an_error(&mut pair);
    assert_eq!(block(&mut pair, START + HESITATION), 1);
    pair.alice.events.clear();
    pair.alice.handle(Input::Witnessed(latest)).unwrap();
    assert!(pair.alice.events.contains(&Event::Claims), "the sweeper hears of it");
    assert!(pair.alice.channel.bump().is_none() && pair.alice.channel.forced().is_none());
    // So does the peer's own proof, in a channel that failed.
    let (mut pair, _) = started(true);
    hears_an_error(&mut pair);
    pair.reconnects();
    assert!(pair.alice.open().life.behind);
    assert!(pair.alice.published.is_empty());
}

/// Two witnesses answer at about the same time, the one that knows less first.
#[test]
fn what_was_let_go_is_held_again_as_long_as_it_has_not_left() {
    let (mut pair, latest) = started(true);
    hears_an_error(&mut pair);
    let known = pair.alice.open().contract.state.local_number;
    pair.alice.handles_at_once([Input::Witnessed(known), Input::Witnessed(latest)]);
    assert!(pair.alice.open().life.behind);
    assert!(pair.alice.published.is_empty());
}

#[test]
fn who_is_behind_says_that_it_has_lost_its_state_before_its_error() {
    let (mut pair, latest) = started(true);
    pair.alice.handle(Input::Witnessed(latest)).unwrap();
    pair.alice.sent.clear();
    pair.alice.handle(Input::Connected(Default::default())).unwrap();
    let said: Vec<_> = pair.alice.sent.iter().map(name).collect();
    assert_eq!(said, ["reestablish", "error"]);
    let Some(Message::ChannelReestablish(lost)) = pair.alice.sent.front() else { panic!() };
    assert_eq!(lost.next_local_commitment_number, 0);
    // Once the peer has closed there is nothing to ask for.
    let theirs = pair.bob.channel.commitments().0.unwrap().tx;
    pair.alice.handle(spent_by(theirs)).unwrap();
    let spend = pair.alice.events.iter().rev().find_map(|event| match event {
        Event::Spent { spend, .. } => Some(*spend),
        _ => None,
    });
    assert_eq!(spend, Some(Spend::Other));
    pair.alice.sent.clear();
    pair.alice.handle(Input::Connected(Default::default())).unwrap();
    assert_eq!(pair.alice.sent.iter().map(name).collect::<Vec<_>>(), ["error"]);
}

#[test]
fn a_commitment_of_our_own_that_the_copy_does_not_know_brings_our_balance_home() {
    for format in [CommitmentFormat::Anchors, CommitmentFormat::StaticRemoteKey] {
        let mut pair = Pair::open_with(|open, _| open.channel_type.format = format);
        pair.alice_pays(100_000_000, 1);
        pair.alice.handle(Party::offer(3, 7_000_000)).unwrap();
        pair.talk();
        let copy = pair.alice.disk.clone();
        pair.alice_pays(50_000_000, 2);
        let later = pair.alice.channel.commitments().0.unwrap();
        let place = later.to_local.unwrap();
        let due = later.tx.output[place as usize].value.to_sat();
        pair.alice.disk = copy;
        pair.alice.crashes();
        pair.alice.events.clear();
        pair.alice.handle(spent_by(later.tx)).unwrap();
        pair.alice.handle(Input::Block(Height::new(START))).unwrap();
        let open = pair.alice.open();
        assert!(open.life.behind, "what the copy has is revoked");
        let (published, claims) = open.claims().unwrap();
        let [rd] = &claims[..] else { panic!("{claims:?}") };
        assert_eq!((rd.name, rd.spend.value().sat()), (Name::RD, due));
        assert_eq!(rd.spend.outpoint, published.outpoint(place));
        // Whether the HTLC is on it nobody can tell, and never does.
        assert!(open.owes_fates());
        let told = |event: &Event| matches!(event, Event::Fulfilled { .. });
        assert!(!pair.alice.events.iter().any(told));
    }
}
