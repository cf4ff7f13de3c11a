//! Normal operation: payments, failures, fees, batches and overlapping rounds.

use crate::support::{offer, preimage, Pair, Party, Verdict};
use fulmen_channel::amount::{FeeratePerKw, Msat, Sat};
use fulmen_channel::contract::htlc::Removal;
use fulmen_channel::error::Refused;
use fulmen_channel::input::{Command, Feerates, Input};
use fulmen_channel::message::Message;
use fulmen_channel::output::Event;
use fulmen_channel::params::CommitmentFormat;

fn removal(id: u64, removal: Removal) -> Input {
    Input::Command(Command::Remove { id, removal })
}

fn feerate(rate: u32) -> Input {
    let commitment = FeeratePerKw::new(rate);
    Input::Feerates(Feerates { anchors: commitment, urgent: commitment, close: commitment })
}

/// Takes the first waiting message of this kind off the wire and changes it.
fn tampered(pair: &mut Pair, change: impl Fn(&mut Message) -> bool) {
    assert!(pair.alice.sent.iter_mut().any(change), "no such message");
}

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
fn a_payment_takes_the_messages_of_the_ladder() {
    let mut pair = Pair::open();
    pair.alice.handle(Party::offer(1, 5_000_000)).unwrap();
    assert_eq!(pair.alice.is_saying(), ["add", "commitment_signed"]);
    while Pair::deliver(&mut pair.alice, &mut pair.bob) {}
    assert_eq!(pair.bob.is_saying(), ["revoke_and_ack", "commitment_signed"]);
    while Pair::deliver(&mut pair.bob, &mut pair.alice) {}
    assert_eq!(pair.alice.is_saying(), ["revoke_and_ack"]);
    assert!(!pair.bob.events.iter().any(|event| matches!(event, Event::Received(_))));
    pair.talk();
    assert_eq!(pair.bob.received(1), 0, "irrevocable only now");
}

#[test]
fn failed_and_malformed_payments_come_back() {
    let malformed = Removal::Malformed { sha256_of_onion: [4; 32], code: 0xc005 };
    for how in [Removal::Failed(vec![1; 292]), malformed] {
        let mut pair = Pair::open();
        let id = pair.alice.offers(Msat::new(5_000_000), preimage(1).hash()).unwrap();
        pair.talk();
        pair.bob.removes(id, how.clone()).unwrap();
        pair.talk();
        pair.agree();
        assert_eq!(pair.bob.balance(), Msat::ZERO);
        assert_eq!(pair.alice.resolved.len(), 1);
        assert_eq!(pair.alice.resolved[0].removal, how);
        assert_eq!(pair.alice.resolved[0].memo, preimage(1).hash().0, "the memo comes back");
    }
}

#[test]
fn updates_that_wait_together_go_out_in_one_round() {
    let mut pair = Pair::open();
    pair.alice.handles_at_once((0..10).map(|n| Party::offer(n, 1_000_000 + n)));
    let said = pair.alice.is_saying();
    assert_eq!(said.iter().filter(|name| **name == "add").count(), 10);
    assert_eq!(said.iter().filter(|name| **name == "commitment_signed").count(), 1);
    pair.talk();
    let fulfil = |n| removal(n, Removal::Fulfilled(preimage(n)));
    pair.bob.handles_at_once((0..10).map(fulfil));
    let said = pair.bob.is_saying();
    assert_eq!(said.iter().filter(|name| **name == "commitment_signed").count(), 1);
    pair.talk();
    pair.agree();
    assert_eq!(pair.alice.resolved.len(), 10);
    assert_eq!(pair.bob.balance(), Msat::new(10_000_045));
}

#[test]
fn updates_during_a_round_wait_for_the_next() {
    let mut pair = Pair::open();
    pair.alice.handle(Party::offer(1, 1_000_000)).unwrap();
    pair.alice.handle(Party::offer(2, 2_000_000)).unwrap();
    assert_eq!(pair.alice.is_saying(), ["add", "commitment_signed"]);
    pair.talk();
    assert_eq!((pair.bob.received(1), pair.bob.received(2)), (0, 1));
    pair.agree();
}

#[test]
fn rounds_of_both_sides_overlap() {
    let mut pair = Pair::open();
    pair.alice_pays(300_000_000, 0);
    for n in 0..4 {
        pair.alice.handle(Party::offer(10 + n, 1_000_000)).unwrap();
        pair.bob.handle(Party::offer(20 + n, 2_000_000)).unwrap();
        Pair::deliver(&mut pair.alice, &mut pair.bob);
        Pair::deliver(&mut pair.bob, &mut pair.alice);
    }
    pair.talk();
    pair.agree();
    for n in 0..4 {
        pair.bob.fulfills(10 + n);
        pair.alice.removes(n, Removal::Failed(vec![])).unwrap();
        Pair::deliver(&mut pair.alice, &mut pair.bob);
        Pair::deliver(&mut pair.bob, &mut pair.alice);
    }
    pair.talk();
    pair.agree();
    assert_eq!(pair.bob.balance(), Msat::new(304_000_000));
    assert!(pair.alice.open().contract.htlcs.is_empty());
    assert!(pair.bob.open().contract.htlcs.is_empty());
}

#[test]
fn what_a_fulfil_brings_in_can_go_out_in_the_same_round() {
    let mut pair = Pair::open();
    pair.alice.handle(Party::offer(1, 200_000_000)).unwrap();
    pair.talk();
    let settle = removal(pair.bob.received(1), Removal::Fulfilled(preimage(1)));
    pair.bob.handles_at_once([settle, Party::offer(2, 150_000_000)]);
    assert_eq!(pair.bob.is_saying(), ["fulfill", "add", "commitment_signed"]);
    pair.talk();
    pair.alice.fulfills(2);
    pair.talk();
    pair.agree();
    assert_eq!(pair.bob.balance(), Msat::new(50_000_000));
}

#[test]
fn what_a_lower_feerate_frees_can_go_out_in_the_same_round() {
    let mut pair = Pair::open_with(|open, _| {
        open.capacity = Sat::new(100_000);
        open.local.channel_reserve = Sat::new(1_000);
    });
    let before = pair.alice.channel.spendable();
    pair.alice.channel.handle(feerate(500)).unwrap();
    let freed = pair.alice.channel.spendable();
    assert!(freed > before);
    pair.alice.handles_at_once([Party::offer(1, freed.msat())]);
    assert_eq!(pair.alice.is_saying(), ["fee", "add", "commitment_signed"]);
    pair.talk();
    pair.bob.fulfills(1);
    pair.talk();
    pair.agree();
}

#[test]
fn an_offer_that_became_too_dear_while_it_waited_is_taken_back() {
    // Bob's HTLCs arrive while Alice's last offer waits for its round: they make the commitment
    // dearer than Alice, who pays for it, could bear with that offer.
    let mut pair = Pair::open_with(|open, policy| {
        open.capacity = Sat::new(200_000);
        open.feerate = FeeratePerKw::new(5_000);
        open.local.channel_reserve = Sat::new(2_000);
        policy.local.channel_reserve = Sat::new(2_000);
    });
    pair.alice_pays(80_000_000, 0);
    pair.alice.handle(Party::offer(1, 1_000_000)).unwrap();
    pair.bob.handles_at_once((10..35).map(|n| Party::offer(n, 1_000_000)));
    let all = pair.alice.channel.spendable();
    pair.alice.handle(Party::offer(2, all.msat())).unwrap();
    pair.talk();
    assert!(!pair.alice.wants_disconnect && !pair.bob.wants_disconnect, "nobody objects");
    pair.agree();
    let unheard: Vec<_> = pair.alice.resolved.iter().filter(|r| r.id == 2).collect();
    assert_eq!(unheard.len(), 1);
    assert_eq!(unheard[0].removal, Removal::Failed(vec![]));
    assert_eq!(unheard[0].payment_hash, preimage(2).hash());
    pair.bob.fulfills(1);
    pair.talk();
    for n in 10..35 {
        pair.alice.fulfills(n);
    }
    pair.talk();
    assert_eq!(
        pair.alice.offers(Msat::new(1_000_000), preimage(3).hash()),
        Ok(2),
        "the id is free"
    );
    pair.talk();
    pair.agree();
}

#[test]
fn the_funder_changes_the_fee() {
    for format in [CommitmentFormat::Anchors, CommitmentFormat::StaticRemoteKey] {
        let mut pair = Pair::open_with(|open, _| open.channel_type.format = format);
        pair.alice_pays(100_000_000, 0);
        pair.bob.handle(Party::offer(1, 3_000_000)).unwrap();
        pair.alice.handle(feerate(2_000)).unwrap();
        pair.talk();
        pair.agree();
        let fee = |party: &Party| party.channel.commitments().0.unwrap().feerate;
        assert_eq!(fee(&pair.alice), FeeratePerKw::new(2_000));
        assert_eq!(fee(&pair.bob), FeeratePerKw::new(2_000));
        pair.alice.handle(feerate(2_400)).unwrap();
        assert!(pair.alice.is_saying().is_empty(), "less than a quarter is not worth a round");
        pair.bob.handle(feerate(9_000)).unwrap();
        assert!(pair.bob.is_saying().is_empty(), "the fundee follows nobody");
    }
}

#[test]
fn of_several_feerates_the_last_before_a_round_counts() {
    let mut pair = Pair::open();
    pair.alice.handle(feerate(2_000)).unwrap();
    pair.alice.handle(feerate(4_000)).unwrap();
    pair.alice.handle(feerate(8_000)).unwrap();
    pair.talk();
    pair.agree();
    assert_eq!(pair.bob.channel.commitments().0.unwrap().feerate, FeeratePerKw::new(8_000));
    assert_eq!(pair.bob.open().contract.state.fees.len(), 1, "what is settled is folded");
}

#[test]
fn a_feerate_that_cannot_be_paid_is_not_followed() {
    let mut pair = Pair::open_with(|open, _| open.capacity = Sat::new(60_000));
    pair.alice.handle(feerate(100_000)).unwrap();
    assert!(pair.alice.is_saying().is_empty());
    pair.alice_pays(1_000_000, 1);
    pair.agree();
}

#[test]
fn the_formats_agree_on_dust_and_on_htlcs_that_only_one_side_trims() {
    for format in [CommitmentFormat::Anchors, CommitmentFormat::StaticRemoteKey] {
        let mut pair = Pair::open_with(|open, policy| {
            open.channel_type.format = format;
            open.local.dust_limit = Sat::new(1_000);
            policy.local.dust_limit = Sat::new(400);
        });
        pair.alice_pays(300_000_000, 0);
        let amounts = [1, 353_999, 400_000, 999_999, 1_000_000, 1_062_999, 1_103_000, 1_702_999];
        for (n, amount) in (1..).zip(amounts) {
            pair.alice.handle(Party::offer(n, amount)).unwrap();
            pair.bob.handle(Party::offer(100 + n, amount)).unwrap();
        }
        pair.talk();
        pair.agree();
        let outputs = |party: &Party| party.channel.commitments().0.unwrap().htlcs.len();
        assert_ne!(outputs(&pair.alice), outputs(&pair.bob), "dust limits differ");
        for n in 1..=8 {
            pair.bob.fulfills(n);
            pair.alice.fulfills(100 + n);
        }
        pair.talk();
        pair.agree();
        assert_eq!(pair.bob.balance(), Msat::new(300_000_000));
    }
}

#[test]
fn dust_above_the_exposure_arrives_marked_to_be_failed() {
    // A high feerate makes dust of large HTLCs, where they must pay for their own second stage.
    let mut pair = Pair::open_with(|open, _| {
        open.channel_type.format = CommitmentFormat::StaticRemoteKey;
        open.feerate = FeeratePerKw::new(60_000);
    });
    let almost_dust = 39_000_000;
    for n in 1..=12 {
        pair.alice.handle(Party::offer(n, almost_dust)).unwrap();
    }
    let thirteenth = pair.alice.offers(Msat::new(almost_dust), preimage(13).hash());
    assert!(matches!(thirteenth, Err(Refused::DustExposure { .. })), "{thirteenth:?}");
    pair.talk();
    pair.agree();
    // A peer without such scruples sends it all the same.
    pair.alice.handle(Party::offer(14, 60_000_000)).unwrap();
    tampered(&mut pair, |message| match message {
        Message::UpdateAddHtlc(add) => {
            add.amount_msat = almost_dust;
            true
        }
        _ => false,
    });
    Pair::deliver(&mut pair.alice, &mut pair.bob);
    let htlcs = &pair.bob.open().contract.htlcs;
    let marked: Vec<_> = htlcs.values().map(|htlc| htlc.over_dust_exposure).collect();
    assert_eq!(marked.iter().filter(|marked| **marked).count(), 1);
    assert_eq!(marked.last(), Some(&true));
}

#[test]
fn a_wrong_removal_fails_the_channel() {
    type Change = fn(&mut Message);
    let wrong: [(&str, Change); 3] = [
        ("does not open", |message| {
            if let Message::UpdateFulfillHtlc(fulfill) = message {
                fulfill.payment_preimage.0[0] ^= 1;
            }
        }),
        ("there is no HTLC", |message| {
            if let Message::UpdateFulfillHtlc(fulfill) = message {
                fulfill.htlc_id = 7;
            }
        }),
        ("BADONION", |message| {
            *message = Message::UpdateFailMalformedHtlc(Box::new(
                fulmen_channel::message::UpdateFailMalformedHtlc {
                    channel_id: lightning::ln::types::ChannelId([0; 32]),
                    htlc_id: 0,
                    sha256_of_onion: [0; 32],
                    failure_code: 0x4005,
                },
            ));
        }),
    ];
    for (what, change) in wrong {
        let mut pair = Pair::open();
        pair.alice.handle(Party::offer(1, 5_000_000)).unwrap();
        pair.talk();
        pair.bob.fulfills(1);
        let mut message = pair.bob.sent.pop_front().unwrap();
        change(&mut message);
        match pair.alice.hears(message) {
            Verdict::Failed(text) => assert!(text.contains(what), "{text}"),
            other => panic!("{what}: {other:?}"),
        }
    }
}

#[test]
fn a_removal_is_heard_once_and_only_when_the_htlc_is_irrevocable() {
    let mut pair = Pair::open();
    pair.alice.handle(Party::offer(1, 5_000_000)).unwrap();
    let early = pair.bob.removes(0, Removal::Fulfilled(preimage(1)));
    assert_eq!(early, Err(Refused::UnknownHtlc(0)));
    pair.talk();
    let wrong = pair.bob.removes(0, Removal::Fulfilled(preimage(2)));
    assert_eq!(wrong, Err(Refused::WrongPreimage(0)));
    pair.bob.fulfills(1);
    let again = pair.bob.removes(0, Removal::Failed(vec![]));
    assert_eq!(again, Err(Refused::UnknownHtlc(0)));
    let fulfill = pair.bob.sent[0].clone();
    assert_eq!(pair.alice.hears(fulfill.clone()), Verdict::Fine);
    assert!(matches!(pair.alice.hears(fulfill), Verdict::Failed(_)), "twice is once too often");
}

#[test]
fn a_wrong_signature_or_secret_fails_the_channel() {
    type Change = fn(&mut Message) -> bool;
    let wrong: [(&str, Change); 4] = [
        ("signature for the commitment", |message| match message {
            Message::CommitmentSigned(signed) => {
                signed.signature = signed.htlc_signatures[0];
                true
            }
            _ => false,
        }),
        ("signature for HTLC output 0", |message| match message {
            Message::CommitmentSigned(signed) => {
                signed.htlc_signatures[0] = signed.signature;
                true
            }
            _ => false,
        }),
        ("0 HTLC signatures, not 1", |message| match message {
            Message::CommitmentSigned(signed) => {
                signed.htlc_signatures.clear();
                true
            }
            _ => false,
        }),
        ("another funding transaction", |message| match message {
            Message::CommitmentSigned(signed) => {
                signed.funding_txid = Some(bitcoin::hashes::Hash::from_byte_array([1; 32]));
                true
            }
            _ => false,
        }),
    ];
    for (what, change) in wrong {
        let mut pair = Pair::open();
        pair.alice.handle(Party::offer(1, 5_000_000)).unwrap();
        tampered(&mut pair, change);
        let add = pair.alice.sent.pop_front().unwrap();
        assert_eq!(pair.bob.hears(add), Verdict::Fine);
        match pair.bob.hears(pair.alice.sent.pop_front().unwrap()) {
            Verdict::Failed(text) => assert!(text.contains(what), "{text}"),
            other => panic!("{what}: {other:?}"),
        }
    }
    let mut pair = Pair::open();
    pair.alice.handle(Party::offer(1, 5_000_000)).unwrap();
    while Pair::deliver(&mut pair.alice, &mut pair.bob) {}
    let Some(Message::RevokeAndAck(mut revoke)) = pair.bob.sent.pop_front() else { panic!() };
    revoke.per_commitment_secret[31] ^= 1;
    let verdict = pair.alice.hears(Message::RevokeAndAck(revoke));
    assert!(matches!(verdict, Verdict::Failed(text) if text.contains("not that of the revoked")));
}

#[test]
fn offers_need_a_usable_channel() {
    let mut pair = Pair::funded(|_, _| {});
    let refused = pair.alice.handle(Party::offer(1, 1_000_000)).unwrap_err();
    assert_eq!(refused, Refused::NotUsable("waiting for confirmations"));
    pair.confirms(3);
    pair.disconnects();
    let refused = pair.alice.handle(Party::offer(1, 1_000_000)).unwrap_err();
    assert_eq!(refused, Refused::Offline);
    assert_eq!(pair.alice.channel.spendable(), Msat::ZERO);
    pair.connects();
    pair.alice_pays(1_000_000, 1);
    let unfit = offer(Msat::ZERO, preimage(2).hash());
    let refused = pair.alice.handle(Input::Command(Command::Offer(unfit))).unwrap_err();
    assert_eq!(refused, Refused::ZeroAmount);
}
