//! What may be lost to fees: trimmed HTLCs of both sides on both commitments, and commitment fee
//! beyond what a quick confirmation costs (BOLT 2, bounding exposure to trimmed in-flight HTLCs).

use crate::support::{preimage, Pair, Party, Verdict};
use fulmen_channel::amount::{FeeratePerKw, Msat, Sat};
use fulmen_channel::error::Refused;
use fulmen_channel::input::{Feerates, Input};
use fulmen_channel::message::Message;
use fulmen_channel::output::Event;
use fulmen_channel::params::{CommitmentFormat, Side};
use lightning::ln::msgs::UpdateFee;

/// A channel with money on both sides, and this limit for both of them.
fn open(format: CommitmentFormat, limit: u64) -> Pair {
    let mut pair = Pair::open_with(|open, policy| {
        open.channel_type.format = format;
        open.push = Msat::new(400_000_000);
        for local in [&mut open.local, &mut policy.local] {
            local.max_htlc_value_in_flight = Msat::new(u64::MAX);
            local.max_accepted_htlcs = 100;
        }
    });
    for party in [&mut pair.alice, &mut pair.bob] {
        party.handle(Input::MaxFeeExposure(Sat::new(limit))).unwrap();
    }
    pair
}

/// What confirms soon costs so much, whatever the commitment pays.
fn urgent(rate: u32) -> Input {
    let (anchors, urgent) = (FeeratePerKw::new(1_000), FeeratePerKw::new(rate));
    Input::Feerates(Feerates { anchors, urgent, close: urgent })
}

fn exposure(party: &Party) -> u64 {
    party.open().contract.exposure().msat()
}

const FORMATS: [CommitmentFormat; 2] =
    [CommitmentFormat::Anchors, CommitmentFormat::StaticRemoteKey];

#[test]
fn trimmed_htlcs_of_both_sides_count_on_both_commitments() {
    // At 1,000 sat/kw, static_remotekey: HT costs 663 sat, HE 703, the dust limit is 354.
    let table = [
        (CommitmentFormat::Anchors, 353_999, [1, 2]),
        (CommitmentFormat::Anchors, 354_000, [0, 0]),
        (CommitmentFormat::StaticRemoteKey, 1_016_999, [1, 2]),
        // Trimmed on its receiver's commitment only.
        (CommitmentFormat::StaticRemoteKey, 1_056_999, [1, 1]),
        (CommitmentFormat::StaticRemoteKey, 1_057_000, [0, 0]),
    ];
    for (format, amount, dust) in table {
        let mut pair = open(format, 10_000);
        pair.alice.handle(Party::offer(1, amount)).unwrap();
        assert_eq!(exposure(&pair.alice), dust[0] * amount, "{format:?} {amount}, offered");
        pair.talk();
        assert_eq!(exposure(&pair.bob), dust[0] * amount, "{format:?} {amount}, received");
        pair.bob.handle(Party::offer(2, amount)).unwrap();
        pair.talk();
        assert_eq!(exposure(&pair.alice), dust[1] * amount, "{format:?} {amount}, both ways");
        pair.agree();
    }
}

#[test]
fn our_own_add_is_refused_and_theirs_is_taken_to_be_failed_back() {
    for format in FORMATS {
        let mut pair = open(format, 1_000);
        // Bob is more careful than Alice.
        pair.bob.handle(Input::MaxFeeExposure(Sat::new(500))).unwrap();
        pair.alice.handles_at_once((1..=3).map(|n| Party::offer(n, 300_000)));
        let refused = pair.alice.offers(Msat::new(100_001), preimage(4).hash()).unwrap_err();
        let (exposure, limit) = (Msat::new(1_000_001), Msat::new(1_000_000));
        assert_eq!(refused, Refused::DustExposure { exposure, limit });
        pair.alice.offers(Msat::new(100_000), preimage(4).hash()).unwrap();
        pair.talk();
        let flags = pair.bob.events.iter().filter_map(|event| match event {
            Event::Received(htlc) => Some(htlc.over_dust_exposure),
            _ => None,
        });
        assert_eq!(flags.collect::<Vec<_>>(), [false, true, true, true]);
        let refused = pair.bob.offers(Msat::new(1_000), preimage(5).hash()).unwrap_err();
        assert!(matches!(refused, Refused::DustExposure { .. }), "{refused}");
        // What is no dust is no exposure.
        pair.bob.offers(Msat::new(5_000_000), preimage(6).hash()).unwrap();
        pair.talk();
        pair.bob.fulfills(1);
        pair.talk();
        pair.agree();
        assert!(pair.alice.is_usable() && pair.bob.is_usable(), "no channel fails for it");
    }
}

#[test]
fn fee_beyond_need_counts_with_its_second_stages() {
    // Commitment at 1,000 sat/kw, with an HTLC of each side: 724 or 1,124, and 2 * 172.
    let table = [
        (CommitmentFormat::Anchors, 1_000, 0, 0),
        (CommitmentFormat::Anchors, 600, 449, 587),
        (CommitmentFormat::StaticRemoteKey, 1_000, 0, 0),
        (CommitmentFormat::StaticRemoteKey, 253, 540, 797 + 495 + 525),
        (CommitmentFormat::StaticRemoteKey, 5_000, 0, 0),
    ];
    for (format, rate, bare, with_htlcs) in table {
        let mut pair = open(format, 500_000);
        // Bob's estimate: Alice, the funder, would follow hers.
        pair.bob.handle(urgent(rate)).unwrap();
        assert_eq!(exposure(&pair.bob), bare * 1_000, "{format:?} {rate}");
        pair.alice.handle(Party::offer(1, 20_000_000)).unwrap();
        pair.bob.handle(Party::offer(2, 20_000_000)).unwrap();
        pair.talk();
        assert_eq!(exposure(&pair.bob), with_htlcs * 1_000, "{format:?} {rate}");
    }
}

#[test]
fn an_add_that_costs_too_much_fee_is_refused() {
    let mut pair = open(CommitmentFormat::Anchors, 600);
    pair.bob.handle(urgent(500)).unwrap(); // 562 sat are beyond need, 86 for each HTLC more.
    let refused = pair.bob.offers(Msat::new(20_000_000), preimage(1).hash()).unwrap_err();
    let (exposure, limit) = (Msat::new(648_000), Msat::new(600_000));
    assert_eq!(refused, Refused::DustExposure { exposure, limit });
    pair.bob.handle(urgent(560)).unwrap();
    pair.bob.offers(Msat::new(20_000_000), preimage(1).hash()).unwrap();
    pair.talk();
    pair.agree();
}

#[test]
fn update_fee_counts_what_it_trims_and_what_it_wastes() {
    let update = |pair: &Pair, rate| {
        let channel_id = pair.alice.channel.channel_id();
        Message::UpdateFee(UpdateFee { channel_id, feerate_per_kw: rate })
    };
    // Five HTLCs of 3,000 sat are trimmed from 3,764 sat/kw on (HE), or never with anchors.
    let table: [(CommitmentFormat, u64, u32, u32, bool); 8] = [
        (CommitmentFormat::StaticRemoteKey, 15_000, 3_000, 3_000, true),
        (CommitmentFormat::StaticRemoteKey, 15_000, 3_900, 3_900, true),
        (CommitmentFormat::StaticRemoteKey, 14_999, 3_900, 3_900, false),
        (CommitmentFormat::StaticRemoteKey, 16_000, 4_500, 3_900, true),
        (CommitmentFormat::StaticRemoteKey, 15_400, 4_500, 3_900, false),
        (CommitmentFormat::Anchors, 1_000, 9_000, 9_000, true),
        (CommitmentFormat::Anchors, 1_984, 2_000, 1_000, true),
        (CommitmentFormat::Anchors, 1_983, 2_000, 1_000, false),
    ];
    for (format, limit, rate, quick, taken) in table {
        let what = format!("{format:?} {limit} {rate} {quick}");
        let mut pair = open(format, limit);
        pair.alice.handles_at_once((1..=5).map(|n| Party::offer(n, 3_000_000)));
        pair.talk();
        pair.bob.handle(urgent(quick)).unwrap();
        let verdict = pair.bob.hears(update(&pair, rate));
        match (verdict, taken) {
            (Verdict::Fine, true) => {}
            (Verdict::Warned(text), false) => assert!(text.contains("into trimmed"), "{text}"),
            (verdict, _) => panic!("{what}: {verdict:?}"),
        }
        // Nothing is lost but the connection: after it, all goes on.
        pair.reconnects();
        pair.bob.fulfills(1);
        pair.talk();
        pair.agree();
    }
    // As funder: what is said is bounded, and a feerate that falls is always right.
    let mut pair = open(CommitmentFormat::StaticRemoteKey, 14_000);
    pair.alice.handles_at_once((1..=5).map(|n| Party::offer(n, 3_000_000)));
    pair.talk();
    let contract = &pair.alice.open().contract;
    let refused = contract.can_send_fee(FeeratePerKw::new(3_900)).unwrap_err();
    assert!(matches!(refused, Refused::DustExposure { .. }), "{refused}");
    assert_eq!(contract.can_send_fee(FeeratePerKw::new(3_000)), Ok(()));
    pair.alice.handle(Input::MaxFeeExposure(Sat::new(1))).unwrap();
    assert_eq!(pair.alice.open().contract.can_send_fee(FeeratePerKw::new(900)), Ok(()));
    assert!(pair.alice.open().contract.exceeds_exposure(Side::Remote, Msat::new(300_000)));
}
