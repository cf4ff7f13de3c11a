//! Reconnection: whatever was lost on the way, both sides come back in step.

use crate::support::{preimage, spent_by, Pair, Party, Verdict, LEGACY};
use fulmen_channel::amount::Msat;
use fulmen_channel::contract::htlc::Removal;
use fulmen_channel::message::Message;
use fulmen_channel::output::Event;
use lightning::ln::msgs::ChannelReestablish;

fn reestablish(party: &Party) -> ChannelReestablish {
    match party.sent.front() {
        Some(Message::ChannelReestablish(said)) => (**said).clone(),
        other => panic!("{other:?}"),
    }
}

/// Both have reconnected and said channel_reestablish, which is still on the wire.
fn reconnecting(pair: &mut Pair) {
    pair.disconnects();
    for party in [&mut pair.alice, &mut pair.bob] {
        party.handle(fulmen_channel::input::Input::Connected(LEGACY)).unwrap();
    }
}

/// Offers and removals of both sides in flight, `steps` messages delivered, then all is lost.
fn cut_after(steps: usize, pair: &mut Pair) {
    pair.alice_pays(100_000_000, 0);
    pair.alice.handle(Party::offer(1, 7_000_000)).unwrap();
    pair.bob.handle(Party::offer(2, 3_000_000)).unwrap();
    pair.talk();
    pair.bob.fulfills(1);
    pair.alice.removes(pair.alice.received(2), Removal::Failed(vec![3])).unwrap();
    pair.alice.handle(Party::offer(3, 5_000_000)).unwrap();
    pair.bob.handle(Party::offer(4, 1_000_000)).unwrap();
    for step in 0..steps {
        let _ = match step % 3 {
            0 => Pair::deliver(&mut pair.alice, &mut pair.bob),
            _ => Pair::deliver(&mut pair.bob, &mut pair.alice),
        };
    }
}

#[test]
fn a_cut_after_any_message_loses_nothing() {
    for steps in 0..40 {
        let mut pair = Pair::open();
        cut_after(steps, &mut pair);
        pair.reconnects();
        pair.agree();
        pair.bob.fulfills(3);
        pair.alice.fulfills(4);
        pair.talk();
        pair.agree();
        assert_eq!(pair.bob.balance(), Msat::new(111_000_000), "after {steps}");
        assert_eq!(pair.alice.resolved.len(), 3);
        assert_eq!(pair.bob.resolved.len(), 2);
    }
}

#[test]
fn a_crash_of_either_side_after_any_message_loses_nothing() {
    for steps in 0..40 {
        for crash in [[true, false], [false, true], [true, true]] {
            let mut pair = Pair::open();
            cut_after(steps, &mut pair);
            if crash[0] {
                pair.alice.crashes();
            }
            if crash[1] {
                pair.bob.crashes();
            }
            pair.reconnects();
            pair.agree();
            // What was offered and not signed for is gone with the memory of the side that fell.
            for htlc in pair.bob.pending_received() {
                pair.bob.removes(htlc, Removal::Failed(vec![])).unwrap();
            }
            for htlc in pair.alice.pending_received() {
                pair.alice.removes(htlc, Removal::Failed(vec![])).unwrap();
            }
            pair.talk();
            pair.agree();
            assert_eq!(pair.bob.balance(), Msat::new(107_000_000), "after {steps}, {crash:?}");
            pair.alice_pays(1_000_000, 9);
            pair.agree();
        }
    }
}

#[test]
fn connections_that_break_again_and_again_lose_nothing() {
    for steps in 0..12 {
        let mut pair = Pair::open();
        cut_after(5, &mut pair);
        for _ in 0..4 {
            reconnecting(&mut pair);
            for step in 0..steps {
                let _ = match step % 2 {
                    0 => Pair::deliver(&mut pair.alice, &mut pair.bob),
                    _ => Pair::deliver(&mut pair.bob, &mut pair.alice),
                };
            }
        }
        pair.reconnects();
        pair.agree();
    }
}

#[test]
fn a_new_connection_without_word_of_the_old_ones_end_starts_afresh() {
    let mut pair = Pair::open();
    pair.alice.handle(Party::offer(1, 7_000_000)).unwrap();
    Pair::deliver(&mut pair.alice, &mut pair.bob);
    pair.alice.sent.clear();
    pair.connects();
    pair.agree();
    assert_eq!(pair.bob.received(1), 0);
}

#[test]
fn channel_ready_is_repeated_until_something_is_committed() {
    let mut pair = Pair::open();
    reconnecting(&mut pair);
    Pair::deliver(&mut pair.alice, &mut pair.bob);
    assert_eq!(pair.bob.is_saying(), ["reestablish", "channel_ready"]);
    pair.talk();
    pair.alice_pays(1_000_000, 1);
    reconnecting(&mut pair);
    Pair::deliver(&mut pair.alice, &mut pair.bob);
    assert_eq!(pair.bob.is_saying(), ["reestablish"]);
}

#[test]
fn a_depth_reached_while_apart_is_told_after_the_reconnection() {
    let mut pair = Pair::funded(|_, _| {});
    pair.disconnects();
    pair.confirms(3);
    assert!(pair.alice.sent.is_empty());
    pair.connects();
    assert!(pair.alice.is_usable() && pair.bob.is_usable());
    pair.alice_pays(1_000_000, 1);
    pair.agree();
}

#[test]
fn nothing_is_said_and_nothing_is_taken_before_both_reestablished() {
    let mut pair = Pair::open();
    pair.bob.removes(0, Removal::Failed(vec![])).unwrap_err();
    pair.alice.handle(Party::offer(1, 7_000_000)).unwrap();
    let add = pair.alice.sent[0].clone();
    reconnecting(&mut pair);
    assert_eq!(pair.alice.is_saying(), ["reestablish"], "the offer waits");
    let verdict = pair.bob.hears(add);
    assert!(matches!(verdict, Verdict::Warned(text) if text.contains("before channel_reestab")));
    pair.reconnects();
    assert_eq!(pair.bob.received(1), 0);
    let twice = reestablish_of(&pair.alice);
    assert!(matches!(pair.bob.hears(twice), Verdict::Warned(_)));
}

/// What a side would say if it reconnected now.
fn reestablish_of(party: &Party) -> Message {
    let mut twin = Party::restored(party);
    twin.handle(fulmen_channel::input::Input::Connected(LEGACY)).unwrap();
    twin.sent.pop_front().unwrap()
}

#[test]
fn after_a_warning_the_peer_is_not_heard_until_it_reconnects() {
    let mut pair = Pair::open();
    pair.alice.handle(Party::offer(1, 7_000_000)).unwrap();
    let add = pair.alice.sent[0].clone();
    assert!(matches!(pair.bob.hears(reestablish_of(&pair.alice)), Verdict::Warned(_)));
    pair.bob.wants_disconnect = false;
    let said = pair.bob.sent.len();
    assert_eq!(pair.bob.hears(add.clone()), Verdict::Fine);
    assert_eq!(pair.bob.hears(add), Verdict::Fine);
    assert_eq!(pair.bob.sent.len(), said, "one warning is enough");
    assert!(pair.bob.open().contract.htlcs.is_empty());
    pair.reconnects();
    pair.agree();
    assert_eq!(pair.bob.received(1), 0, "nothing was lost by it");
}

#[test]
fn a_side_that_is_provably_behind_says_so_and_publishes_nothing() {
    let mut pair = Pair::open();
    pair.alice_pays(200_000_000, 1);
    let backup = pair.alice.disk.clone();
    pair.alice_pays(300_000_000, 2);
    pair.alice.disk = backup;
    pair.alice.crashes();
    pair.alice.published.clear();
    reconnecting(&mut pair);
    Pair::deliver(&mut pair.bob, &mut pair.alice);
    assert_eq!(pair.alice.is_saying().last(), Some(&"error"));
    assert!(pair.alice.published.is_empty());
    let force = fulmen_channel::input::Command::ForceClose("now".into());
    let refused = pair.alice.handle(fulmen_channel::input::Input::Command(force)).unwrap_err();
    assert_eq!(refused, fulmen_channel::error::Refused::Behind);
    pair.alice.crashes();
    pair.alice
        .handle(fulmen_channel::input::Input::Block(fulmen_channel::amount::Height::new(9_999)))
        .unwrap();
    assert!(pair.alice.published.is_empty(), "nor after a restart");
    // Bob does as he is asked, and Alice finds her balance on his commitment.
    reconnecting(&mut pair);
    pair.talk();
    let theirs = pair.bob.published.last().expect("bob publishes his commitment").clone();
    let spent = spent_by(theirs);
    pair.alice.handle(spent).unwrap();
    let found = pair.alice.open().delivery().map(|claim| claim.spend.value());
    let fee_and_anchors = 1_124 + 660;
    assert_eq!(found.map(|value| value.sat()), Some(500_000 - fee_and_anchors));
}

#[test]
fn a_peer_that_claims_to_have_lost_its_state_as_well_gets_nothing_old_published() {
    let mut pair = Pair::open();
    pair.alice_pays(200_000_000, 1);
    let backup = pair.alice.disk.clone();
    pair.alice_pays(300_000_000, 2);
    pair.alice.disk = backup;
    pair.alice.crashes();
    pair.alice.published.clear();
    reconnecting(&mut pair);
    let mut said = reestablish(&pair.bob);
    said.next_local_commitment_number = 0;
    pair.alice.hears(Message::ChannelReestablish(Box::new(said)));
    assert!(pair.alice.published.is_empty() && pair.alice.open().life.behind);
}

#[test]
fn what_a_peer_says_of_its_state_is_checked() {
    type Lie = fn(&mut ChannelReestablish);
    let lies: [(Lie, &str); 7] = [
        (|said| said.next_local_commitment_number = 0, "lost its state"),
        (|said| said.next_local_commitment_number += 1, "waits for commitment"),
        (|said| said.next_local_commitment_number -= 1, "waits for commitment"),
        (|said| said.next_remote_commitment_number += 1, "waits for revocation"),
        (|said| said.next_remote_commitment_number -= 2, "waits for revocation"),
        (|said| said.your_last_per_commitment_secret[0] ^= 1, "is not ours"),
        (|said| said.next_remote_commitment_number = u64::MAX, "waits for revocation"),
    ];
    for (lie, what) in lies {
        let mut pair = Pair::open();
        pair.alice_pays(5_000_000, 1);
        pair.alice_pays(5_000_000, 2);
        reconnecting(&mut pair);
        let mut said = reestablish(&pair.alice);
        lie(&mut said);
        match pair.bob.hears(Message::ChannelReestablish(Box::new(said))) {
            Verdict::Failed(text) => assert!(text.contains(what), "{text}"),
            other => panic!("{what}: {other:?}"),
        }
        let published = pair.bob.published.last().expect("in doubt is not behind");
        let ours = pair.bob.channel.commitments().0.unwrap();
        assert_eq!(published.compute_txid(), ours.txid);
    }
}

#[test]
fn preimages_survive_the_connection_that_brought_them() {
    let mut pair = Pair::open();
    pair.alice.handle(Party::offer(1, 7_000_000)).unwrap();
    pair.talk();
    pair.bob.fulfills(1);
    // The fulfil arrives, its commitment_signed does not.
    Pair::deliver(&mut pair.bob, &mut pair.alice);
    let learned = |party: &Party| {
        party.events.iter().any(|event| match event {
            Event::Fulfilled { preimage: shown, .. } => *shown == preimage(1),
            _ => false,
        })
    };
    assert!(learned(&pair.alice), "at once, before any signature");
    pair.alice.events.clear();
    pair.reconnects();
    pair.agree();
    assert!(learned(&pair.alice));
    assert_eq!(pair.alice.resolved[0].removal, Removal::Fulfilled(preimage(1)));
}

#[test]
fn news_about_htlcs_come_again_after_a_restart() {
    let mut pair = Pair::open();
    pair.alice.handle(Party::offer(1, 7_000_000)).unwrap();
    pair.talk();
    pair.bob.events.clear();
    pair.bob.crashes();
    assert_eq!(pair.bob.received(1), 0);
    let memo = pair.alice.open().contract.htlcs.values().next().unwrap().memo.clone();
    assert_eq!(memo, preimage(1).hash().0);
    pair.reconnects();
    pair.bob.fulfills(1);
    // Alice has the fulfil and its signature, and falls before she hears the revocation.
    while Pair::deliver(&mut pair.bob, &mut pair.alice) {}
    pair.alice.events.clear();
    pair.alice.crashes();
    let told = pair.alice.events.iter().find_map(|event| match event {
        Event::Fulfilled { memo, .. } => Some(memo.clone()),
        _ => None,
    });
    assert_eq!(told, Some(memo), "with its memo");
}
