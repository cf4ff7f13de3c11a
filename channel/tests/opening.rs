//! Opening: from open_channel to channel_ready, and what is refused on the way.

use crate::support::{Pair, Party};
use fulmen_channel::amount::Sat;
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
