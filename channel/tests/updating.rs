//! Normal operation: payments, failures, fees, overlapping rounds, reconnections.

use crate::support::{preimage, Pair};
use fulmen_channel::amount::Msat;
use fulmen_channel::contract::htlc::Removal;
use fulmen_channel::output::Event;

#[test]
fn payments_go_both_ways() {
    let mut pair = Pair::open();
    pair.alice_pays(73_000_000, 1);
    pair.bob_pays(50_000_000, 2);
    pair.agree();
    assert_eq!(pair.bob.balance(), Msat::new(23_000_000));
    assert_eq!(pair.alice.resolved[0].removal, Removal::Fulfilled(preimage(1)));
    let learned = |event: &Event| matches!(event, Event::Fulfilled { id: 0, .. });
    assert!(pair.alice.events.iter().any(learned));
}

#[test]
fn a_failed_payment_comes_back() {
    let mut pair = Pair::open();
    let id = pair.alice.offers(Msat::new(5_000_000), preimage(1).hash()).unwrap();
    pair.talk();
    pair.bob.removes(id, Removal::Failed(vec![1; 292])).unwrap();
    pair.talk();
    pair.agree();
    assert_eq!(pair.bob.balance(), Msat::ZERO);
    assert_eq!(pair.alice.resolved[0].removal, Removal::Failed(vec![1; 292]));
}

#[test]
fn a_crash_on_both_sides_after_each_message_loses_nothing() {
    for cut in 0..40 {
        let mut pair = Pair::open();
        pair.alice_pays(100_000_000, 0);
        pair.alice.offers(Msat::new(7_000_000), preimage(1).hash()).unwrap();
        pair.bob.offers(Msat::new(3_000_000), preimage(2).hash()).unwrap();
        for step in 0..cut {
            let _ = match step % 2 {
                0 => Pair::deliver(&mut pair.alice, &mut pair.bob),
                _ => Pair::deliver(&mut pair.bob, &mut pair.alice),
            };
        }
        pair.alice.crashes();
        pair.bob.crashes();
        pair.reconnects();
        pair.agree();
        pair.alice_pays(1_000, 9);
        pair.agree();
    }
}
