//! Opening: from open_channel to channel_ready, and what is refused on the way.

use crate::support::{Pair, Party};
use fulmen_channel::amount::Sat;
use fulmen_channel::changeset::{encode, Row};
use fulmen_channel::contract::commitments::Funding;
use fulmen_channel::input::Input;
use fulmen_channel::output::Event;

fn events(party: &Party) -> Vec<&'static str> {
    let name = |event: &Event| match event {
        Event::FundingNeeded(_) => "funding needed",
        Event::Opened { .. } => "opened",
        Event::Ready => "ready",
        Event::Usable => "usable",
        Event::Abandoned(_) => "abandoned",
        _ => "other",
    };
    party.events.iter().map(name).collect()
}

#[test]
fn two_sides_open_a_channel() {
    let pair = Pair::open();
    assert_eq!(events(&pair.alice), ["funding needed", "opened", "ready", "usable"]);
    assert_eq!(events(&pair.bob), ["opened", "ready", "usable"]);
    assert_eq!(pair.alice.balance(), Sat::new(1_000_000).to_msat().unwrap());
    assert_eq!(pair.alice.published.len(), 1, "alice publishes F");
    pair.agree();
}

#[test]
fn a_channel_is_not_ready_before_its_depth() {
    let mut pair = Pair::funded(|_, _| {});
    pair.confirms(2);
    assert!(!pair.alice.is_usable() && !pair.bob.is_usable());
    pair.confirms(3);
    assert!(pair.alice.is_usable() && pair.bob.is_usable());
}

#[test]
fn a_funded_channel_survives_a_crash_of_both_before_it_is_ready() {
    let mut pair = Pair::funded(|_, _| {});
    pair.alice.crashes();
    pair.bob.crashes();
    assert_eq!(pair.alice.published.len(), 2, "alice publishes F again");
    pair.reconnects();
    pair.confirms(3);
    pair.alice_pays(5_000, 1);
    pair.agree();
}

#[test]
fn f_that_pays_less_or_elsewhere_than_agreed_makes_no_channel() {
    let f = Pair::funded(|_, _| {}).alice.open().funding_tx.clone().unwrap();
    let mut poor = f.clone();
    poor.output[0].value = bitcoin::Amount::from_sat(999_999);
    let mut elsewhere = f.clone();
    elsewhere.output[0].script_pubkey = crate::support::wallet_script(1);
    let mut nothing = f.clone();
    nothing.output.clear();
    for wrong in [poor, elsewhere, nothing] {
        // As if Alice had named this transaction in funding_created.
        let mut pair = Pair::funded(|_, _| {});
        let mut funding: Funding = pair.bob.disk.require(Row::Funding(0)).unwrap();
        funding.outpoint.txid = wrong.compute_txid();
        pair.bob.disk.0.insert(Row::Funding(0), encode(&funding));
        pair.bob.crashes();
        let (found, depth) = found(&wrong);
        pair.bob.handle(found).unwrap();
        pair.bob.handle(depth).unwrap();
        assert!(!pair.bob.is_saying().contains(&"channel_ready"));
        let gone = |event: &Event| match event {
            Event::Abandoned(why) => why.contains("does not pay what was agreed"),
            _ => false,
        };
        assert!(pair.bob.events.iter().any(gone), "{:?}", pair.bob.events);
        assert_eq!(pair.bob.is_saying(), ["error"]);
        assert_eq!(pair.bob.published, [], "there is nothing that it could spend");
    }
    let mut pair = Pair::funded(|_, _| {});
    let (found, depth) = found(&f);
    pair.bob.handle(found).unwrap();
    pair.bob.handle(depth).unwrap();
    assert_eq!(pair.bob.is_saying(), ["channel_ready"]);
}

fn found(tx: &bitcoin::Transaction) -> (Input, Input) {
    let depth = Input::FundingDepth { confirmations: 3, short_channel_id: 7 };
    (Input::FundingFound(Box::new(tx.clone())), depth)
}

/// A reorganisation takes F out: whoever paid for it publishes it again, once each time.
#[test]
fn the_funder_publishes_f_again_when_it_left_the_chain() {
    let mut pair = Pair::open();
    for party in [&mut pair.alice, &mut pair.bob] {
        party.published.clear();
    }
    pair.confirms(0);
    pair.confirms(0);
    assert_eq!(pair.alice.published, [pair.alice.open().funding_tx.clone().unwrap()]);
    assert!(pair.bob.published.is_empty());
    pair.confirms(7);
    pair.confirms(0);
    assert_eq!(pair.alice.published.len(), 2);
}
