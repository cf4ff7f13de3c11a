//! What is published when: claims, height, estimates and earlier versions in, transactions out.

use super::{at, claim, coin, delayed, due, estimates, fee_of, kw, version, CALM, NOW};
use fulmen_channel::amount::{Height, Sat};
use fulmen_channel::onchain::claim::Name::{self, *};
use fulmen_channel::onchain::claim::Pays;
use fulmen_node::sweeper::build::nowhere;
use fulmen_node::sweeper::plan::{plan, Draft, Estimates, Plan, Waits, World};
use fulmen_node::sweeper::version::{Lent, Version};
use fulmen_node::sweeper::wanted::{Parent, Wanted};

/// A chain, a wallet and what was published, to plan on.
struct Story {
    height: Height,
    wanted: Vec<Wanted>,
    versions: Vec<Version>,
    coins: Vec<Lent>,
    estimates: Estimates,
}

impl Story {
    fn of(wanted: Vec<Wanted>) -> Story {
        Story {
            height: NOW,
            wanted,
            versions: Vec::new(),
            coins: vec![coin(200, 100_000), coin(201, 30_000)],
            estimates: estimates(CALM),
        }
    }

    fn plan(&self) -> Plan {
        let plan = plan(&World {
            height: self.height,
            wanted: &self.wanted,
            versions: &self.versions,
            coins: &self.coins,
            estimates: &self.estimates,
        });
        for draft in &plan.drafts {
            assert_eq!(fee_of(draft, &self.wanted), draft.built.fee.sat());
            assert!(draft.built.weight >= draft.built.tx.weight().to_wu());
        }
        plan
    }

    /// Publishes the one transaction that is planned.
    fn publish(&mut self) -> Draft {
        let mut plan = self.plan();
        assert_eq!(plan.drafts.len(), 1, "{plan:?}");
        self.take(plan.drafts.remove(0))
    }

    fn take(&mut self, draft: Draft) -> Draft {
        self.versions.retain(|version| !draft.replaces.contains(&version.txid()));
        self.versions.push(version(&draft));
        self.coins.retain(|coin| !draft.built.coins.contains(coin));
        draft
    }
}

fn rate(draft: &Draft) -> u32 {
    version(draft).feerate().per_kw()
}

#[test]
fn a_claim_is_published_at_the_estimate_for_its_deadline() {
    for (wanted, estimate) in [
        (claim(1, D, 500_000), 500),
        (claim(1, RD, 500_000), 500),
        (claim(1, HTD, 500_000), 1_250),
        (due(1, HED, 500_000, 200), 500),
        (due(1, HED, 500_000, 18), 1_000),
        (due(1, HED, 500_000, 9), 1_250),
        (due(1, HED, 500_000, 5), 2_500),
        (due(1, HBR, 500_000, 1), 2_500),
        (due(1, BR, 500_000, 144), 1_000),
    ] {
        let name = wanted.claim.name;
        let draft = Story::of(vec![wanted]).publish();
        assert!((estimate - 5..=estimate + 1).contains(&rate(&draft)), "{name} {}", rate(&draft));
        assert_eq!(draft.built.coins, []);
        assert_eq!(draft.built.tx.output[0].script_pubkey, nowhere());
    }
}

#[test]
fn what_waits_says_for_what() {
    let unripe = |mut wanted: Wanted| {
        wanted.claim.from = NOW.plus(2);
        wanted
    };
    let uneconomic = |rate| Waits::Uneconomic(kw(rate));
    for (wanted, coins, waits) in [
        (unripe(claim(1, RD, 500_000)), true, Waits::Until(NOW.plus(2))),
        (claim(1, D, 100), true, uneconomic(500)),
        (claim(1, D, 400), true, uneconomic(500)),
        (claim(1, HT, 500_000), false, Waits::Coins(Sat::new(0))),
        // Half of it does not pay 1 sat/vB.
        (due(1, HED, 150, 18), true, uneconomic(0)),
    ] {
        let mut story = Story::of(vec![wanted]);
        if !coins {
            story.coins.clear();
        }
        let plan = story.plan();
        assert_eq!(plan.drafts, []);
        match (plan.waits[&at(1)], waits) {
            (Waits::Coins(missing), Waits::Coins(_)) => assert!(missing > Sat::new(600)),
            (Waits::Uneconomic(rate), Waits::Uneconomic(zero)) if zero == kw(0) => {
                assert!(rate < kw(253), "{rate}");
            }
            (is, expected) => assert_eq!(is, expected),
        }
    }
}

#[test]
fn a_small_claim_comes_along_when_feerates_fall() {
    let mut story = Story::of(vec![claim(1, D, 500_000), claim(2, D, 1_500)]);
    story.estimates = estimates([50_000, 30_000, 20_000, 10_000]);
    assert_eq!(story.publish().claims, [at(1)]);
    assert_eq!(story.plan().waits[&at(2)], Waits::Uneconomic(kw(10_000)));
    story.estimates = estimates(CALM);
    assert_eq!(story.publish().claims, [at(2)]);
}

#[test]
fn the_peers_signature_decides_on_outputs_and_the_wallet_pays() {
    let two = vec![delayed(due(1, HE, 60_000, 20), 1), delayed(due(2, HE, 70_000, 20), 1)];
    let draft = Story::of(two.clone()).publish();
    for (place, wanted) in two.iter().enumerate() {
        let input = &draft.built.tx.input[place];
        assert_eq!(input.previous_output, wanted.outpoint());
        assert_eq!(input.sequence, wanted.claim.spend.sequence);
        assert_eq!(Pays::Beside(draft.built.tx.output[place].clone()), wanted.claim.pays);
    }
    // The smallest coin that is enough, and its change.
    assert_eq!(draft.built.coins, [coin(201, 30_000)]);
    assert_eq!(draft.built.rest, Some(2));
}

#[test]
fn the_fee_rises_with_each_block_and_pays_for_what_it_replaces() {
    for name in [HED, HE] {
        let mut story = Story::of(vec![due(1, name, 100_000, 18)]);
        let mut last = story.publish();
        let mut versions = 1;
        for _ in 0..16 {
            story.height = story.height.plus(1);
            let plan = story.plan();
            let Some(draft) = plan.drafts.into_iter().next() else { continue };
            versions += 1;
            // BIP 125, rules 3 and 4, and the same coins stay in.
            let relay = kw(253).fee(draft.built.weight);
            assert!(draft.built.fee >= last.built.fee.saturating_add(relay));
            assert_eq!(draft.replaces, [version(&last).txid()]);
            assert!(last.built.coins.iter().all(|coin| draft.built.coins.contains(coin)));
            assert_eq!((draft.since, draft.attempts), (NOW, versions));
            last = story.take(draft);
        }
        assert!(versions > 8, "{versions}");
        // Two blocks before the deadline, half of the value.
        assert_eq!(story.height, NOW.plus(16));
        let fee = last.built.fee.sat();
        assert!((48_000..=50_000).contains(&fee), "{name} {fee}");
    }
}

#[test]
fn a_fee_spike_is_followed_up_to_the_budget() {
    let spike = estimates([75_000, 75_000, 75_000, 75_000]);
    for (wanted, rate_is) in [
        // 300 sat/vB.
        (due(1, HED, 1_000_000, 100), Some(75_000)),
        (claim(1, RD, 1_000_000), Some(75_000)),
        // All that half of it buys.
        (due(1, HED, 40_000, 100), Some(45_000)),
        // Nobody takes it: it stays where it is.
        (claim(1, RD, 40_000), None),
    ] {
        let mut story = Story::of(vec![wanted]);
        let first = story.publish();
        story.estimates = spike.clone();
        let plan = story.plan();
        match rate_is {
            Some(expected) => {
                let is = rate(&plan.drafts[0]);
                assert!(is.abs_diff(expected) < expected / 8, "{is} {expected}");
                assert_eq!(plan.drafts[0].replaces, [version(&first).txid()]);
            }
            None => assert_eq!(plan.drafts, []),
        }
    }
}

#[test]
fn what_cannot_pay_for_itself_in_a_spike_does_not_hold_up_the_others() {
    let two = vec![delayed(due(1, HE, 250_000, 40), 1), delayed(due(2, HE, 20_000, 40), 1)];
    let mut story = Story::of(two);
    assert_eq!(story.publish().claims, [at(1), at(2)]);
    story.estimates = Estimates { entering: kw(75_000), ..estimates([76_000; 4]) };
    let draft = story.publish();
    assert_eq!(draft.claims, [at(1)]);
    assert!(draft.built.fee <= Sat::new(125_000), "{}", draft.built.fee);
    assert!(matches!(story.plan().waits[&at(2)], Waits::Uneconomic(_)));
    story.estimates = estimates(CALM);
    story.coins.push(coin(202, 20_000));
    assert_eq!(story.publish().claims, [at(2)]);
}

#[test]
fn what_just_enters_the_mempool_is_published() {
    for entering in [253, 1_001, 12_650, 12_651, 33_333] {
        for wanted in [
            claim(1, RD, 1_000_000),
            claim(1, HT, 1_000_000),
            due(1, HED, 1_000_000, 100),
            anchored(10, 1_000_000, Some(100)),
        ] {
            let mut story = Story::of(vec![wanted]);
            story.estimates = estimates([253, 253, 253, 253]);
            story.estimates.entering = kw(entering);
            story.publish();
            assert_eq!(story.plan().drafts, []);
        }
    }
}

#[test]
fn without_a_deadline_small_steps_are_not_worth_a_version() {
    for (day, again) in [(500, false), (600, false), (640, true), (400, false)] {
        let mut story = Story::of(vec![claim(1, RD, 1_000_000)]);
        story.publish();
        story.estimates = estimates([2_500, 1_250, 1_000, day]);
        assert_eq!(story.plan().drafts.len(), usize::from(again), "{day}");
    }
}

#[test]
fn near_the_deadline_a_batch_splits_and_the_richest_replaces_it() {
    let mut story = Story::of(vec![due(1, HED, 90_000, 9), due(2, HED, 300_000, 9)]);
    let first = story.publish();
    assert_eq!(first.claims.len(), 2);
    story.height = NOW.plus(2);
    let plan = story.plan();
    let claims: Vec<_> = plan.drafts.iter().map(|draft| draft.claims.clone()).collect();
    assert_eq!(claims, [[at(2)], [at(1)]]);
    assert_eq!(plan.drafts[0].replaces, [version(&first).txid()]);
    assert_eq!(plan.drafts[1].replaces, []);
    let step = kw(253).fee(plan.drafts[0].built.weight);
    assert!(plan.drafts[0].built.fee >= first.built.fee.saturating_add(step));
}

/// The claims that go together at these estimates, and what the transactions pay.
fn batches(story: &Story) -> Vec<(Vec<u8>, u64)> {
    let number = |outpoint: &_| (0..u8::MAX).find(|number| at(*number) == *outpoint).unwrap();
    let drafts = story.plan().drafts;
    let numbers = |draft: &Draft| {
        let mut numbers: Vec<u8> = draft.claims.iter().map(number).collect();
        numbers.sort();
        numbers
    };
    let mut batches: Vec<_> =
        drafts.iter().map(|draft| (numbers(draft), draft.built.fee.sat())).collect();
    batches.sort();
    batches
}

#[test]
fn each_pays_what_it_affords_and_one_could_take_the_place_of_all() {
    type Row = (&'static [(Name, u64, Option<u32>)], usize, u32, &'static [&'static [u8]]);
    const EQUAL: [(Name, u64, Option<u32>); 10] = [(HED, 50_000, Some(40)); 10];
    const FREE: [(Name, u64, Option<u32>); 10] = [(HTD, 50_000, None); 10];
    const UNEVEN: [(Name, u64, Option<u32>); 2] =
        [(HED, 250_000, Some(40)), (HED, 20_000, Some(40))];
    const LARGE: [(Name, u64, Option<u32>); 2] =
        [(HED, 250_000, Some(40)), (HED, 260_000, Some(40))];
    const COINS: [(Name, u64, Option<u32>); 2] = [(HE, 250_000, Some(40)), (HE, 20_000, Some(40))];
    let rows: &[Row] = &[
        (&UNEVEN, 0, 1_000, &[&[0, 1]]),
        // The small one pays less than it would be pulled to, and holds up nobody.
        (&UNEVEN, 0, 76_000, &[&[0], &[1]]),
        // Each affords it, but neither could easily take the place of both.
        (&LARGE, 0, 15_000, &[&[0, 1]]),
        (&LARGE, 0, 76_000, &[&[0], &[1]]),
        (&EQUAL, 0, 1_000, &[&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]]),
        (&EQUAL, 0, 5_000, &[&[0, 1, 2], &[3, 4, 5], &[6, 7, 8], &[9]]),
        // Without a deadline nobody gains by holding them up.
        (&FREE, 0, 5_000, &[&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]]),
        (&[(HTD, 250_000, None), (HTD, 20_000, None)], 0, 76_000, &[&[0]]),
        // A coin for each, or one that pays for both.
        (&COINS, 2, 76_000, &[&[0], &[1]]),
        (&COINS, 1, 76_000, &[&[0, 1]]),
    ];
    for (row, (claims, coins, rate, expected)) in rows.iter().enumerate() {
        let wanted = (0..).zip(*claims).map(|(number, (name, sat, deadline))| match deadline {
            Some(blocks) => due(number, *name, *sat, *blocks),
            None => claim(number, *name, *sat),
        });
        let mut story = Story::of(wanted.collect());
        story.coins = (200..).take(*coins).map(|number| coin(number, 200_000)).collect();
        story.estimates = estimates([*rate; 4]);
        let batches = batches(&story);
        let together: Vec<_> = batches.iter().map(|(numbers, _)| numbers.clone()).collect();
        assert_eq!(together, *expected, "row {row}");
        for (numbers, fee) in batches {
            let worth: u64 = numbers.iter().map(|number| claims[usize::from(*number)].1).sum();
            assert!(fee <= worth / 2, "row {row}: {fee} for {worth}");
        }
    }
}

#[test]
fn a_spike_takes_a_batch_apart_and_each_goes_as_high_as_it_can() {
    let mut story = Story::of(vec![due(1, HED, 250_000, 40), due(2, HED, 20_000, 40)]);
    let first = story.publish();
    assert_eq!(first.claims, [at(1), at(2)]);
    story.estimates = estimates([76_000; 4]);
    let plan = story.plan();
    let claims: Vec<_> = plan.drafts.iter().map(|draft| draft.claims.clone()).collect();
    assert_eq!(claims, [[at(1)], [at(2)]]);
    assert_eq!(plan.drafts[0].replaces, [version(&first).txid()]);
    assert!(rate(&plan.drafts[0]).abs_diff(76_000) < 100, "{}", rate(&plan.drafts[0]));
    assert!(plan.drafts[1].built.fee <= Sat::new(10_000), "{}", plan.drafts[1].built.fee);
}

/// None of them pays for a transaction of its own in such a time, but all together do.
#[test]
fn who_cannot_pay_alone_pays_with_the_others() {
    let mut story = Story::of((0..10).map(|number| due(number, HED, 20_000, 60)).collect());
    story.estimates = estimates([24_000; 4]);
    story.estimates.entering = kw(24_000);
    let alone = Story { wanted: vec![due(0, HED, 20_000, 60)], versions: vec![], ..story };
    let plan = alone.plan();
    assert!(plan.drafts.is_empty(), "{plan:?}");
    let mut story = Story {
        wanted: (0..10).map(|number| due(number, HED, 20_000, 60)).collect(),
        versions: vec![],
        ..alone
    };
    assert_eq!(story.publish().claims.len(), 10);
}

/// However slowly a batch's fee rose, none of its claims is held up with the others at the end.
#[test]
fn near_its_deadline_each_of_many_is_alone() {
    let mut story = Story::of((0..10).map(|number| due(number, HED, 50_000, 140)).collect());
    assert_eq!(story.publish().claims.len(), 10);
    while story.height < NOW.plus(133) {
        story.height = story.height.plus(1);
        story.plan().drafts.into_iter().for_each(|draft| drop(story.take(draft)));
    }
    let sizes: Vec<usize> = story.versions.iter().map(|version| version.claims.len()).collect();
    assert_eq!(sizes, [1; 10]);
    let most = story.versions.iter().map(|version| version.fee).max().unwrap();
    assert!(most <= Sat::new(25_000), "{most}");
}

#[test]
fn what_a_block_took_of_a_batch_leaves_the_others() {
    let all = [claim(1, HTD, 90_000), claim(2, HTD, 80_000), claim(3, HTD, 70_000)];
    let mut story = Story::of(all.to_vec());
    let first = story.publish();
    story.wanted.remove(1);
    let plan = story.plan();
    assert_eq!(plan.drafts.len(), 1);
    assert_eq!(plan.drafts[0].claims, [at(1), at(3)]);
    assert_eq!(plan.drafts[0].replaces, [version(&first).txid()]);
    // It is in no mempool any more: there is nothing to outbid.
    assert!(plan.drafts[0].built.fee < first.built.fee);
    // A reorganisation brings it back: it goes on its own.
    story.take(plan.drafts[0].clone());
    story.wanted = all.to_vec();
    let plan = story.plan();
    assert_eq!(plan.drafts.len(), 1);
    assert_eq!((&plan.drafts[0].claims[..], &plan.drafts[0].replaces[..]), (&[at(2)][..], &[][..]));
}

#[test]
fn new_claims_do_not_disturb_what_is_published() {
    let mut story = Story::of(vec![claim(1, D, 500_000)]);
    story.publish();
    story.wanted.push(claim(2, D, 500_000));
    assert_eq!(story.publish().claims, [at(2)]);
    assert_eq!(story.plan(), Plan::default());
}

#[test]
fn what_was_refused_is_offered_more_up_to_the_budget() {
    let mut story = Story::of(vec![due(1, HED, 100_000, 18)]);
    for (floor, fee) in [(20_000, Some(20_000)), (50_000, Some(50_000)), (50_001, None)] {
        story.wanted[0].refused = Some(Sat::new(floor));
        let fees: Vec<_> = story.plan().drafts.iter().map(|draft| draft.built.fee.sat()).collect();
        assert_eq!(fees.first().copied(), fee);
    }
}

#[test]
fn what_was_refused_together_goes_alone() {
    let names = [(1, HTD), (2, HTD), (3, HTD)];
    let mut story = Story::of(names.map(|(number, name)| claim(number, name, 50_000)).into());
    assert_eq!(story.plan().drafts.len(), 1);
    for refused in &mut story.wanted[..2] {
        refused.refused = Some(Sat::ZERO);
    }
    let claims: Vec<_> = story.plan().drafts.into_iter().map(|draft| draft.claims).collect();
    assert_eq!(claims.len(), 3, "{claims:?}");
}

#[test]
fn the_operators_word_counts_more() {
    let mut story = Story::of(vec![claim(1, D, 500_000), claim(2, D, 400)]);
    story.publish();
    story.wanted[0].order.feerate = Some(kw(4_000));
    let draft = story.publish();
    assert_eq!(draft.claims, [at(1)]);
    assert!((3_990..=4_000).contains(&rate(&draft)), "{}", rate(&draft));
    // A budget beyond half of it takes what was uneconomic, as long as something is left.
    story.wanted = vec![claim(3, D, 750)];
    story.estimates = estimates([2_500, 1_250, 1_000, 900]);
    assert!(matches!(story.plan().waits[&at(3)], Waits::Uneconomic(_)));
    story.wanted[0].order.budget = Some(Sat::new(750));
    assert_eq!(story.publish().claims, [at(3)]);
    // A deadline makes it dearer with each block.
    story.wanted = vec![claim(4, D, 500_000)];
    story.wanted[0].order.deadline = Some(NOW.plus(12));
    let first = story.publish();
    story.height = NOW.plus(9);
    assert!(story.publish().built.fee > first.built.fee);
}

#[test]
fn coins_that_are_missing_are_named_and_unconfirmed_ones_come_last() {
    let mut story = Story::of(vec![due(1, HE, 500_000, 18)]);
    story.coins = vec![Lent { confirmed: false, ..coin(200, 50_000) }, coin(201, 1_500)];
    assert_eq!(story.publish().built.coins, [coin(201, 1_500)]);
    // A replacement may not bring unconfirmed inputs: it goes as high as it can, once.
    story.height = NOW.plus(15);
    let all = story.publish();
    assert_eq!((all.built.fee, all.built.rest), (Sat::new(1_500), None));
    assert_eq!(story.plan().drafts, []);
    story.versions.clear();
    story.coins.retain(|coin| !coin.confirmed);
    assert_eq!(story.publish().built.coins.len(), 1);
}

/// A commitment that pays `fee`, and its anchor.
fn anchored(fee: u64, at_risk: u64, deadline: Option<u32>) -> Wanted {
    let mut wanted = claim(1, Name::Anchor, 330);
    let parent = super::claim(9, D, 100_000);
    let tx = Story::of(vec![parent]).publish().built.tx;
    wanted.claim.until = deadline.map(|blocks| NOW.plus(blocks));
    wanted.at_risk = Sat::new(at_risk);
    wanted.parent = Some(Parent { tx, fee: Sat::new(fee) });
    wanted
}

#[test]
fn an_anchor_pays_for_its_commitment_too() {
    let wanted = anchored(100, 1_000_000, Some(40));
    let parent = wanted.parent.clone().unwrap();
    let mut story = Story::of(vec![wanted.clone()]);
    let draft = story.publish();
    let weight = draft.built.weight + parent.weight();
    let fee = draft.built.fee.saturating_add(parent.fee);
    let both = fee.sat() * 1_000 / weight;
    assert!((998..=1_000).contains(&both), "{both}");
    assert_eq!(draft.built.coins.len(), 1);
    // It rises with the deadline, up to what the wallet has.
    story.height = NOW.plus(38);
    let last = story.publish();
    assert_eq!(last.built.coins.len(), 2);
    assert_eq!(last.built.fee, Sat::new(330 + 100_000 + 30_000 - 294));
}

#[test]
fn a_commitment_that_pays_enough_needs_no_child() {
    let rich = anchored(1_000, 1_000_000, Some(40));
    assert_eq!(Story::of(vec![rich]).plan().waits[&at(1)], Waits::Enough(kw(1_000)));
    let idle = anchored(0, 0, None);
    let plan = Story::of(vec![idle]).plan();
    assert!(matches!(plan.waits[&at(1)], Waits::Uneconomic(_)), "{plan:?}");
}

#[test]
fn what_is_late_when_we_come_to_it_begins_with_the_estimate() {
    for late in [0, 1, 2] {
        let mut story = Story::of(vec![due(1, HED, 500_000, late)]);
        assert!((2_495..=2_501).contains(&rate(&story.publish())));
        // Somebody may want it too: it rises over the next blocks.
        story.height = NOW.plus(6);
        let later = rate(&story.publish());
        assert!((20_000..260_000).contains(&later), "{later}");
    }
}

#[test]
fn a_cheater_who_bids_for_show_does_not_have_us_burn_half() {
    let mut story = Story::of(vec![due(1, HBR, 500_000, 1)]);
    story.height = NOW.plus(20);
    story.estimates = estimates([200_000; 4]);
    let fee = story.publish().built.fee;
    assert!(fee <= Sat::new(50_000), "{fee}");
}

#[test]
fn a_small_preimage_does_not_spend_what_only_waits() {
    let mut wanted = anchored(100, 2_000, Some(1));
    wanted.patient = Sat::new(1_000_000);
    let mut story = Story::of(vec![wanted]);
    story.coins = vec![coin(200, 600_000)];
    for blocks in [0, 12, 40] {
        story.height = NOW.plus(blocks);
        story.plan().drafts.into_iter().for_each(|draft| drop(story.take(draft)));
        // The estimate for what is not to wait for a day, of both together.
        let version = &story.versions[0];
        assert!(version.fee < Sat::new(2_500), "{}", version.fee);
    }
}

#[test]
fn a_version_survives_its_row() {
    let mut story = Story::of(vec![due(1, HE, 500_000, 18)]);
    story.publish();
    let version = &story.versions[0];
    let row = fulmen_node::desk::encode(version);
    assert_eq!(&fulmen_node::desk::decode::<Version>(&row).unwrap(), version);
}
