//! Names of a channel, and channels that are used before F is in a block (BOLT 2, channel_ready).

use crate::support::{Pair, Party, LEGACY};
use fulmen_channel::amount::{Msat, Sat};
use fulmen_channel::error::Refused;
use fulmen_channel::input::{Command, Input};
use fulmen_channel::message::Message;
use fulmen_channel::output::Event;

const ALICES: u64 = 17_000_000 << 40 | 1;
const BOBS: u64 = 17_000_000 << 40 | 2;
const REAL: u64 = 103 << 40 | 1 << 16;

/// Both named the channel; the type has these variations.
fn funded(scid_alias: bool, zero_conf: bool) -> Pair {
    Pair::funded(|open, policy| {
        (open.alias, policy.alias) = (Some(ALICES), Some(BOBS));
        (open.channel_type.scid_alias, open.channel_type.zero_conf) = (scid_alias, zero_conf);
        policy.zero_conf = zero_conf;
    })
}

fn confirms(pair: &mut Pair, confirmations: u32, short_channel_id: u64) {
    for party in [&mut pair.alice, &mut pair.bob] {
        party.handle(Input::FundingDepth { confirmations, short_channel_id }).unwrap();
    }
    pair.talk();
}

fn names(party: &Party) -> (Option<u64>, Option<u64>, [bool; 3]) {
    let open = party.open();
    let answers = [ALICES, BOBS, REAL].map(|name| open.answers_to(name));
    (open.listed_as(), open.told_as(), answers)
}

#[test]
fn each_side_hears_the_others_alias_and_answers_to_its_own() {
    let mut pair = funded(false, false);
    confirms(&mut pair, 3, REAL);
    assert_eq!(names(&pair.alice), (Some(REAL), Some(BOBS), [true, false, true]));
    assert_eq!(names(&pair.bob), (Some(REAL), Some(ALICES), [false, true, true]));
    // They are durable, and told again after a reconnection.
    pair.alice.crashes();
    pair.bob.crashes();
    pair.connects();
    assert_eq!(names(&pair.alice), (Some(REAL), Some(BOBS), [true, false, true]));
    assert_eq!(names(&pair.bob), (Some(REAL), Some(ALICES), [false, true, true]));
}

#[test]
fn without_the_feature_nobody_is_given_an_alias() {
    let mut pair = Pair::funded(|_, _| {});
    confirms(&mut pair, 3, REAL);
    assert_eq!(names(&pair.alice), (Some(REAL), Some(REAL), [false, false, true]));
    assert!(pair.bob.open().aliases.is_empty() && pair.bob.open().life.remote_alias.is_none());
}

#[test]
fn the_real_name_of_a_scid_alias_channel_is_never_told() {
    let mut pair = funded(true, false);
    confirms(&mut pair, 3, REAL);
    assert_eq!(names(&pair.alice), (Some(REAL), Some(BOBS), [true, false, false]));
    assert_eq!(names(&pair.bob), (Some(REAL), Some(ALICES), [false, true, false]));
}

#[test]
fn a_zero_conf_channel_is_used_at_once_and_learns_its_place_later() {
    let mut pair = funded(false, true);
    assert!(pair.alice.is_usable() && pair.bob.is_usable());
    assert_eq!(names(&pair.alice), (Some(ALICES), Some(BOBS), [true, false, false]));
    pair.alice_pays(40_000_000, 1);
    pair.bob_pays(5_000_000, 2);
    pair.agree();
    confirms(&mut pair, 1, REAL);
    assert_eq!(names(&pair.alice), (Some(ALICES), Some(BOBS), [true, false, true]));
    // A reorganisation takes F out and puts it in elsewhere.
    confirms(&mut pair, 0, 0);
    assert_eq!(pair.bob.open().life.short_channel_id, None);
    pair.alice_pays(1_000_000, 3);
    confirms(&mut pair, 1, REAL + (1 << 40));
    assert!(pair.bob.open().answers_to(REAL + (1 << 40)) && !pair.bob.open().answers_to(REAL));
    pair.agree();
}

#[test]
fn a_zero_conf_channel_survives_a_crash_of_both_before_f_is_in_a_block() {
    let mut pair = funded(true, true);
    pair.alice_pays(40_000_000, 1);
    pair.alice.crashes();
    pair.bob.crashes();
    assert_eq!(pair.alice.published.len(), 2, "alice publishes F again");
    pair.reconnects();
    assert!(pair.alice.is_usable() && pair.bob.is_usable());
    pair.bob_pays(7_000_000, 2);
    pair.agree();
    assert_eq!(names(&pair.bob), (Some(BOBS), Some(ALICES), [false, true, false]));
}

#[test]
fn channel_ready_lost_in_a_crash_is_said_again() {
    let mut pair = Pair::funded(|open, policy| {
        (open.alias, policy.alias) = (Some(ALICES), Some(BOBS));
        open.channel_type.zero_conf = true;
        policy.zero_conf = true;
    });
    let ready = |party: &mut Party| {
        party.crashes();
        party.handle(Input::Connected(LEGACY)).unwrap();
    };
    ready(&mut pair.alice);
    ready(&mut pair.bob);
    pair.talk();
    assert!(pair.alice.is_usable() && pair.bob.is_usable());
    pair.alice_pays(1_000_000, 1);
    pair.agree();
}

#[test]
fn a_trusted_peer_need_not_ask_for_zero_conf_with_an_unannounced_channel() {
    for announce in [false, true] {
        let mut pair = Pair::funded(|open, policy| {
            (open.alias, policy.alias) = (Some(ALICES), Some(BOBS));
            (open.announce, policy.zero_conf) = (announce, true);
        });
        assert_eq!(pair.bob.open().contract.params.zero_conf(), !announce);
        assert!(!pair.alice.is_usable() && !pair.bob.is_usable(), "the opener asked for a depth");
        confirms(&mut pair, 3, REAL);
        assert!(pair.alice.is_usable() && pair.bob.is_usable());
        pair.alice_pays(5_000_000, 1);
        pair.agree();
    }
}

#[test]
fn an_opener_that_wants_zero_conf_takes_no_depth() {
    let (mut alice, mut policy) = Pair::proposing(|open, _| {
        open.alias = Some(ALICES);
        open.channel_type.zero_conf = true;
    });
    (policy.alias, policy.zero_conf) = (Some(BOBS), true);
    let Some(Message::OpenChannel(open)) = alice.sent.pop_front() else { panic!("no open") };
    let signer = Box::new(fulmen_channel::keys::InMemorySigner::from_seed([2; 32]));
    let curve = std::sync::Arc::new(fulmen_channel::keys::Inline);
    let bob = fulmen_channel::channel::Channel::accept(&open, policy, signer, curve).unwrap();
    let mut bob = Party::new("bob", bob, [2; 32]);
    bob.drain();
    let Some(Message::AcceptChannel(mut accept)) = bob.sent.pop_front() else { panic!("none") };
    assert_eq!(accept.common_fields.minimum_depth, 0);
    accept.common_fields.minimum_depth = 1;
    match alice.hears(Message::AcceptChannel(accept)) {
        crate::support::Verdict::Failed(text) => assert!(text.contains("minimum_depth"), "{text}"),
        other => panic!("{other:?}"),
    }
}

fn forget() -> Input {
    Input::Command(Command::Abandon("its funding transaction never came".into()))
}

#[test]
fn the_fundee_forgets_what_it_has_no_stake_in() {
    let forgotten = |party: &Party| party.events.iter().any(|e| matches!(e, Event::Abandoned(_)));
    // Whether the channel is a zero-conf one that was used, whose turn it is, whether F was seen.
    for (zero_conf, used) in [(false, false), (true, false), (true, true)] {
        let mut pair = funded(false, zero_conf);
        if used {
            pair.alice_pays(50_000_000, 1);
        }
        assert!(matches!(pair.alice.handle(forget()), Err(Refused::NotUsable(_))), "the funder");
        let mut twin = Party::restored(&pair.bob);
        let seen = Input::FundingDepth { confirmations: 1, short_channel_id: REAL };
        twin.handle(seen).unwrap();
        assert!(twin.handle(forget()).is_err(), "F is in a block");
        let done = pair.bob.handle(forget());
        assert_eq!((done.is_ok(), forgotten(&pair.bob)), (!used, !used), "{zero_conf} {used}");
        if !used {
            assert_eq!(pair.bob.is_saying(), ["error"]);
            assert!(pair.bob.channel.funded().is_none());
        }
    }
    // What was pushed to us is no stake: it is ours once F is deep (BOLT 2, open_channel).
    let mut pair = Pair::funded(|open, _| open.push = Msat::new(100_000_000));
    pair.bob.handle(forget()).unwrap();
    assert!(forgotten(&pair.bob));
    // Ready, then out of the chain again: everything is at stake.
    let mut pair = Pair::open();
    pair.bob.handle(Input::FundingDepth { confirmations: 0, short_channel_id: 0 }).unwrap();
    assert!(pair.bob.handle(forget()).is_err());
    assert_eq!(pair.alice.balance(), Sat::new(1_000_000).saturating_msat());
}
