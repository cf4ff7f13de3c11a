//! BOLT 2's limits as tables: below, at and above each, as the one who says it and as the one who
//! hears it. The capacity is a million sat at 1,000 sat/kw with anchors, all of it Alice's.

use crate::support::{offer, preimage, Pair, Party, Verdict};
use fulmen_channel::amount::{FeeratePerKw, Height, Msat, Sat};
use fulmen_channel::contract::limits::{CLTV_LIMIT, MAX_FEERATE};
use fulmen_channel::error::Refused;
use fulmen_channel::input::{Command, Input};
use fulmen_channel::message::Message;
use fulmen_channel::params::CommitmentFormat;
use fulmen_channel::protocol::opening::{AcceptPolicy, OpenRequest};
use lightning::ln::msgs::{OnionPacket, UpdateAddHTLC, UpdateFee};
use lightning::ln::types::ChannelId;
use lightning::util::ser::Readable;

type Terms = fn(&mut OpenRequest, &mut AcceptPolicy);

/// Fee at 1,000 sat/kw with no, one and two HTLC outputs, and both anchors, in msat.
const FEE: [u64; 3] = [1_124_000, 1_296_000, 1_468_000];
const ANCHORS: u64 = 660_000;
const RESERVE: u64 = 10_000_000;
const ALL: u64 = 1_000_000_000;

/// What Alice may offer at most: the fee at twice the feerate with two HTLCs is kept.
const MOST_SENT: u64 = ALL - RESERVE - ANCHORS - 2 * FEE[2];
/// What Bob takes at most.
const MOST_TAKEN: u64 = ALL - RESERVE - ANCHORS - FEE[1];

fn free(open: &mut OpenRequest, policy: &mut AcceptPolicy) {
    open.local.max_htlc_value_in_flight = Msat::new(u64::MAX);
    policy.local.max_htlc_value_in_flight = Msat::new(u64::MAX);
}

/// An add that no core of ours would send.
fn add(pair: &Pair, htlc_id: u64, amount_msat: u64, cltv_expiry: u32) -> Message {
    let onion = crate::support::onion();
    Message::UpdateAddHtlc(Box::new(UpdateAddHTLC {
        channel_id: pair.alice.channel.channel_id(),
        htlc_id,
        amount_msat,
        payment_hash: lightning::types::payment::PaymentHash([1; 32]),
        cltv_expiry,
        skimmed_fee_msat: None,
        onion_routing_packet: OnionPacket::read(&mut onion.as_slice()).unwrap(),
        blinding_point: None,
        hold_htlc: None,
    }))
}

#[derive(Clone, Copy)]
enum Says {
    Yes,
    No(&'static str),
}
use Says::{No, Yes};

#[track_caller]
fn refuses(what: &str, result: Result<u64, Refused>, expected: Says) {
    match (result, expected) {
        (Ok(_), Yes) => {}
        (Err(refused), No(why)) => assert!(refused.to_string().contains(why), "{what}: {refused}"),
        (result, _) => panic!("{what}: {result:?}"),
    }
}

#[track_caller]
fn warns(what: &str, verdict: Verdict, expected: Says) {
    match (verdict, expected) {
        (Verdict::Fine, Yes) => {}
        (Verdict::Warned(text), No(why)) => assert!(text.contains(why), "{what}: {text}"),
        (verdict, _) => panic!("{what}: {verdict:?}"),
    }
}

#[test]
fn an_htlc_from_the_funder() {
    let table: &[(&str, Terms, u64, u32, Says, Says)] = &[
        ("zero", free, 0, 500, No("more than zero"), No("below the minimum")),
        ("the least", free, 1, 500, Yes, Yes),
        ("below the minimum", minimum, 999, 500, No("minimum"), No("below the minimum")),
        ("the minimum", minimum, 1_000, 500, Yes, Yes),
        ("the buffer is kept", free, MOST_SENT, 500, Yes, Yes),
        ("the buffer is used", free, MOST_SENT + 1, 500, No("insufficient"), Yes),
        ("the fee is paid", free, MOST_TAKEN, 500, No("insufficient"), Yes),
        ("no fee left", free, MOST_TAKEN + 1, 500, No("insufficient"), No("cannot be paid")),
        ("all", free, ALL, 500, No("insufficient"), No("cannot be paid")),
        ("more than all", free, ALL + 1, 500, No("insufficient"), No("cannot be paid")),
        ("all there can be", free, u64::MAX, 500, No("insufficient"), No("cannot be paid")),
        ("in flight", in_flight, 5_000_000, 500, Yes, Yes),
        ("above in flight", in_flight, 5_000_001, 500, No("in flight"), No("in flight")),
        ("overflow in flight", in_flight, u64::MAX, 500, No("in flight"), No("in flight")),
        ("the last height", free, 5_000, CLTV_LIMIT - 1, Yes, Yes),
        ("a time", free, 5_000, CLTV_LIMIT, No("not a block height"), No("is a time")),
        ("the last time", free, 5_000, u32::MAX, No("not a block height"), No("is a time")),
    ];
    for (what, terms, amount, cltv, sent, heard) in table {
        let mut pair = Pair::open_with(terms);
        let mut wanted = offer(Msat::new(*amount), preimage(1).hash());
        wanted.cltv_expiry = Height::new(*cltv);
        let command = Input::Command(Command::Offer(wanted));
        refuses(what, pair.alice.handle(command).map(|_| 0), *sent);
        pair.talk();
        pair.agree();
        let mut pair = Pair::open_with(terms);
        warns(what, pair.bob.hears(add(&pair, 0, *amount, *cltv)), *heard);
    }
}

fn minimum(_: &mut OpenRequest, policy: &mut AcceptPolicy) {
    policy.local.htlc_minimum = Msat::new(1_000);
}

fn in_flight(_: &mut OpenRequest, policy: &mut AcceptPolicy) {
    policy.local.max_htlc_value_in_flight = Msat::new(5_000_000);
}

#[test]
fn the_sum_in_flight_counts_until_the_htlc_is_gone() {
    let mut pair = Pair::open_with(in_flight);
    pair.alice.handle(Party::offer(1, 3_000_000)).unwrap();
    pair.talk();
    let more = || offer(Msat::new(2_000_001), preimage(2).hash());
    let second = pair.alice.handle(Input::Command(Command::Offer(more()))).unwrap_err();
    assert!(matches!(second, Refused::TooMuchInFlight { .. }));
    pair.bob.fulfills(1);
    Pair::deliver(&mut pair.bob, &mut pair.alice);
    let early = pair.alice.handle(Input::Command(Command::Offer(more()))).unwrap_err();
    assert!(matches!(early, Refused::TooMuchInFlight { .. }), "a fulfil alone frees nothing");
    pair.talk();
    pair.alice.handle(Input::Command(Command::Offer(more()))).unwrap();
    pair.talk();
    pair.agree();
}

#[test]
fn at_most_so_many_htlcs() {
    let terms: Terms = |_, policy| policy.local.max_accepted_htlcs = 3;
    let mut pair = Pair::open_with(terms);
    for n in 0..3 {
        pair.alice.offers(Msat::new(1_000_000), preimage(n).hash()).unwrap();
    }
    let fourth = pair.alice.offers(Msat::new(1_000_000), preimage(3).hash());
    assert_eq!(fourth, Err(Refused::TooManyHtlcs { limit: 3 }));
    pair.talk();
    pair.agree();
    warns("fourth", pair.bob.hears(add(&pair, 3, 1_000_000, 500)), No("more than 3 HTLCs"));
    pair.reconnects();
    pair.bob.fulfills(0);
    pair.talk();
    pair.alice.offers(Msat::new(1_000_000), preimage(4).hash()).unwrap();
    pair.talk();
    pair.agree();
}

#[test]
fn all_483_htlcs_each_way() {
    let mut pair = Pair::open_with(|open, policy| {
        open.capacity = Sat::new(10_000_000);
        open.local.max_accepted_htlcs = 483;
        policy.local.max_accepted_htlcs = 483;
        open.local.max_htlc_value_in_flight = Msat::new(u64::MAX);
        policy.local.max_htlc_value_in_flight = Msat::new(u64::MAX);
    });
    pair.alice_pays(4_000_000_000, 0);
    pair.alice.handles_at_once((1..=483).map(|n| Party::offer(n, 1_000_000)));
    pair.talk();
    pair.bob.handles_at_once((1_001..=1_483).map(|n| Party::offer(n, 1_000_000)));
    pair.talk();
    pair.agree();
    assert_eq!(pair.bob.channel.commitments().0.unwrap().htlcs.len(), 966);
    let one_more = pair.alice.offers(Msat::new(1_000_000), preimage(0).hash());
    assert_eq!(one_more, Err(Refused::TooManyHtlcs { limit: 483 }));
}

#[test]
fn ids_count_up_by_one() {
    for (id, verdict) in [(0, false), (1, false), (2, true), (3, false), (u64::MAX, false)] {
        let mut pair = Pair::open();
        pair.alice_pays(5_000_000, 1);
        pair.alice_pays(5_000_000, 2);
        match pair.bob.hears(add(&pair, id, 1_000_000, 500)) {
            Verdict::Fine => assert!(verdict, "id {id}"),
            Verdict::Failed(text) => {
                assert!(!verdict && text.contains("where 2 comes next"), "id {id}: {text}");
            }
            Verdict::Warned(text) => panic!("{text}"),
        }
    }
}

#[test]
fn an_htlc_from_the_fundee_that_the_funder_must_pay_for() {
    // Alice keeps just what her own rules ask; Bob sees what she could still bear.
    let terms: Terms = |open, policy| {
        free(open, policy);
        open.push = Msat::new(900_000_000);
    };
    let kept = |htlcs: usize, alice: u64| alice >= RESERVE + ANCHORS + FEE[htlcs];
    for alice_keeps in [FEE[0], FEE[1] - 1, FEE[1], FEE[2]] {
        let mut pair = Pair::open_with(terms);
        let alice = RESERVE + ANCHORS + alice_keeps;
        pair.alice.channel = pair.alice.with_balance(Msat::new(alice));
        pair.bob.channel = pair.bob.with_balance(Msat::new(ALL - alice));
        pair.reconnects();
        let result = pair.bob.offers(Msat::new(50_000_000), preimage(1).hash());
        match kept(1, alice) {
            true => refuses("affordable", result, Yes),
            false => refuses("too dear", result, No("funder could not pay")),
        }
        pair.talk();
        pair.agree();
        refuses("dust costs nothing", pair.bob.offers(Msat::new(9_000), preimage(2).hash()), Yes);
        pair.talk();
        pair.agree();
    }
}

#[test]
fn outputs_never_exceed_the_capacity_however_poor_the_funder() {
    for format in [CommitmentFormat::Anchors, CommitmentFormat::StaticRemoteKey] {
        let mut pair = Pair::open_with(|open, policy| {
            free(open, policy);
            open.channel_type.format = format;
            open.capacity = Sat::new(100_000);
            open.feerate = FeeratePerKw::new(2_000);
            open.local.channel_reserve = Sat::new(1_000);
            policy.local.channel_reserve = Sat::new(1_000);
        });
        let first = pair.alice.channel.spendable().msat();
        pair.alice_pays(first, 1);
        // Each HTLC of Bob's is affordable when offered; together they eat Alice's reserve.
        let mut taken = 0;
        for n in 2..40 {
            let offered = Party::offer(n, 1_500_000);
            pair.bob.handle(offered).map(|_| taken += 1).ok();
            pair.alice.handle(Party::offer(100 + n, 400_000)).ok();
        }
        pair.talk();
        pair.agree();
        assert!(taken > 0);
        for party in [&pair.alice, &pair.bob] {
            let (local, remote) = party.channel.commitments();
            for tx in [local.unwrap(), remote.unwrap()] {
                let outputs: u64 = tx.tx.output.iter().map(|out| out.value.to_sat()).sum();
                assert!(outputs <= 100_000, "{outputs}");
                assert_eq!(tx.fee.sat(), 100_000 - outputs);
            }
        }
    }
}

#[test]
fn the_reserve_of_the_fundee_is_kept() {
    let terms: Terms = |open, policy| {
        free(open, policy);
        open.push = Msat::new(500_000_000);
    };
    let most = 500_000_000 - RESERVE;
    let mut pair = Pair::open_with(terms);
    let result = pair.bob.offers(Msat::new(most + 1), preimage(1).hash());
    refuses("into the reserve", result, No("insufficient"));
    refuses("down to it", pair.bob.offers(Msat::new(most), preimage(1).hash()), Yes);
    pair.talk();
    pair.agree();
    for (amount, says) in [(most, Yes), (most + 1, No("cannot be paid"))] {
        let mut pair = Pair::open_with(terms);
        warns("the fundee's", pair.alice.hears(add(&pair, 0, amount, 500)), says);
    }
}

#[test]
fn nothing_more_is_taken_before_the_reserve_is_reached() {
    let mut pair = Pair::open_with(free);
    pair.alice_pays(RESERVE, 1);
    let result = pair.bob.offers(Msat::new(1), preimage(2).hash());
    refuses("below the reserve", result, No("insufficient"));
    pair.alice_pays(1, 3);
    refuses("just above", pair.bob.offers(Msat::new(1), preimage(2).hash()), Yes);
    pair.talk();
    pair.agree();
}

#[test]
fn a_feerate_from_the_funder() {
    // Bob's check: fee and anchors above the reserve, with what the funder has.
    let poor: Terms = |open, policy| {
        free(open, policy);
        open.push = Msat::new(900_000_000);
    };
    let most = ((100_000_000 - RESERVE - ANCHORS + 999) / 1_124) as u32; // a fee rounds down
    let table: [(&str, Terms, u32, Says, Says); 7] = [
        ("the floor", free, 253, Yes, Yes),
        ("below the floor", free, 252, No("floor"), No("too low or too high")),
        ("zero", free, 0, No("floor"), No("too low or too high")),
        ("the top", free, MAX_FEERATE.per_kw(), Yes, Yes),
        ("above the top", free, MAX_FEERATE.per_kw() + 1, No("floor"), No("too low or too high")),
        ("all there is", poor, most, Yes, Yes),
        ("more", poor, most + 1, No("could pay"), No("cannot pay")),
    ];
    for (what, terms, rate, sent, heard) in table {
        let pair = Pair::open_with(terms);
        let contract = &pair.alice.open().contract;
        let result = contract.can_send_fee(FeeratePerKw::new(rate)).map(|()| 0);
        refuses(what, result, sent);
        let mut pair = Pair::open_with(terms);
        warns(what, pair.bob.hears(update_fee(&pair, rate)), heard);
    }
    let mut pair = Pair::open();
    match pair.alice.hears(update_fee(&pair, 2_000)) {
        Verdict::Failed(text) => assert!(text.contains("not the funder"), "{text}"),
        other => panic!("{other:?}"),
    }
    let contract = &pair.bob.open().contract;
    assert_eq!(contract.can_send_fee(FeeratePerKw::new(2_000)), Err(Refused::NotFunder));
}

fn update_fee(pair: &Pair, feerate_per_kw: u32) -> Message {
    let channel_id: ChannelId = pair.alice.channel.channel_id();
    Message::UpdateFee(UpdateFee { channel_id, feerate_per_kw })
}

#[test]
fn a_feerate_that_makes_too_much_dust() {
    let terms: Terms = |open, policy| {
        free(open, policy);
        open.channel_type.format = CommitmentFormat::StaticRemoteKey;
    };
    let mut pair = Pair::open_with(terms);
    for n in 0..20 {
        pair.alice.handle(Party::offer(n, 26_000_000)).unwrap();
    }
    pair.talk();
    // From 37,000 sat/kw on, an HTLC of 26,000 sat does not pay for its own second stage.
    let contract = &pair.alice.open().contract;
    let refused = contract.can_send_fee(FeeratePerKw::new(40_000)).unwrap_err();
    assert!(matches!(refused, Refused::DustExposure { .. }), "{refused}");
    assert_eq!(contract.can_send_fee(FeeratePerKw::new(30_000)), Ok(()));
    warns("dust", pair.bob.hears(update_fee(&pair, 40_000)), No("into trimmed HTLCs"));
}

#[test]
fn a_feerate_can_always_fall() {
    // Bob's HTLCs have eaten into what Alice should keep; a lower feerate is the way out.
    let terms: Terms = |open, policy| {
        free(open, policy);
        open.push = Msat::new(900_000_000);
    };
    let mut pair = Pair::open_with(terms);
    let poor = Msat::new(RESERVE + ANCHORS);
    pair.alice.channel = pair.alice.with_balance(poor);
    pair.bob.channel = pair.bob.with_balance(Msat::new(ALL - poor.msat()));
    pair.reconnects();
    assert_eq!(pair.bob.hears(update_fee(&pair, 900)), Verdict::Fine);
    warns("up", pair.bob.hears(update_fee(&pair, 1_100)), No("cannot pay"));
}

#[test]
fn dust_in_flight_is_bounded() {
    fn terms(open: &mut OpenRequest, policy: &mut AcceptPolicy) {
        free(open, policy);
        open.capacity = Sat::new(16_000_000);
        open.local.dust_limit = Sat::new(354);
        policy.local.dust_limit = Sat::new(1_092);
        open.local.channel_reserve = Sat::new(100_000);
        policy.local.channel_reserve = Sat::new(100_000);
        policy.local.max_accepted_htlcs = 483;
    }
    // 1,091 sat is dust on Bob's commitment only: 458 of them stay below 500,000 sat.
    let mut pair = Pair::open_with(terms);
    pair.alice.handles_at_once((0..458).map(|n| Party::offer(n, 1_091_000)));
    let next =
        |pair: &mut Pair, amount| pair.alice.offers(Msat::new(amount), preimage(9_999).hash());
    let limit = 500_000_000 - 458 * 1_091_000;
    refuses("above", next(&mut pair, limit + 1), No("dust in flight"));
    refuses("no dust", next(&mut pair, 1_092_000), Yes);
    refuses("at the limit", next(&mut pair, limit), Yes);
    refuses("above", next(&mut pair, 1), No("dust in flight"));
    pair.talk();
    pair.agree();
    // The other way they are dust on the commitment of Bob, who offers them: it counts before Alice
    // has acknowledged any.
    let mut pair = Pair::open_with(|open, policy| {
        terms(open, policy);
        open.local.max_accepted_htlcs = 483;
        open.push = Msat::new(5_000_000_000);
    });
    pair.bob.handles_at_once((0..458).map(|n| Party::offer(n, 1_091_000)));
    let next = |pair: &mut Pair, amount| pair.bob.offers(Msat::new(amount), preimage(9_999).hash());
    refuses("above", next(&mut pair, limit + 1), No("dust in flight"));
    refuses("at the limit", next(&mut pair, limit), Yes);
    pair.talk();
    pair.agree();
}
