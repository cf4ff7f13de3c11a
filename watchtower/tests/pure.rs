//! Records and remedies against Bitcoin's script rules: every revoked state of a channel, taken by
//! who never knew the channel.

use crate::chain::{takes, Chain};
use crate::support::{preimage, Pair, Party};
use crate::world::{
    a_life, breached, home, home_worth, private, seal, seal_at, Kept, FEERATE, FORMATS,
};
use bitcoin::hashes::Hash;
use bitcoin::{Transaction, Txid};
use fulmen_channel::amount::{FeeratePerKw, Height, Sat};
use fulmen_channel::contract::htlc::Removal;
use fulmen_channel::keys::InMemorySigner;
use fulmen_channel::onchain::local_commitment;
use fulmen_channel::onchain::resolution::Resolution;
use fulmen_channel::params::{CommitmentFormat, Side};
use fulmen_watchtower::private::PrivateChannel;
use fulmen_watchtower::record::{hint, BadRecord, Record, Terms};
use fulmen_watchtower::responder::{Breach, Means, Urgency};
use fulmen_watchtower::watcher::Watcher;

fn altruist(pair: &Pair, kept: &Kept) -> Vec<Means> {
    let (sealed, left_out) = seal(pair, kept);
    assert_eq!(left_out, 0);
    assert_eq!(sealed.hint, hint(&kept.tx.compute_txid()));
    vec![Means::Altruist(Record::open(&sealed.bytes, &kept.tx.compute_txid()).unwrap())]
}

/// Outputs of the commitment beside anchors: value and how many.
fn worth(tx: &Transaction) -> (u64, usize) {
    let outputs = tx.output.iter().filter(|out| out.value.to_sat() != 330);
    outputs.fold((0, 0), |(sum, count), out| (sum + out.value.to_sat(), count + 1))
}

/// Publishes every remedy; what they left to miners.
fn take_all(breach: &mut Breach, chain: &mut Chain) -> u64 {
    let mut fees = 0;
    let (remedies, _) = breach.remedies(chain.height, FEERATE);
    for tx in remedies {
        let spent = &chain.coins[&tx.input[0].previous_output].0;
        fees += spent.value.to_sat() - tx.output[0].value.to_sat();
        chain.take(&tx).unwrap();
        assert!(breach.see(&tx, chain.height));
    }
    fees
}

#[test]
fn an_altruist_tower_takes_every_revoked_state_whole() {
    for format in FORMATS {
        let (pair, kept) = a_life(format);
        for old in &kept {
            let mut chain = breached(&pair, old);
            let mut breach = Breach::new(&old.tx, chain.height, altruist(&pair, old)).unwrap();
            let (value, outputs) = worth(&old.tx);
            assert_eq!(breach.takings.len(), outputs);
            chain.at(101); // D of an anchors channel waits a block
            let fees = take_all(&mut breach, &mut chain);
            assert_eq!(home_worth(&chain) + fees, value);
            assert!(breach.takings.keys().all(|outpoint| breach.is_ours(outpoint)));
            assert!(!breach.is_over(Height::new(200)) && breach.is_over(Height::new(201)));
        }
    }
}

#[test]
fn a_private_tower_takes_the_cheaters_balance_of_every_revoked_state() {
    for format in FORMATS {
        let (pair, kept) = a_life(format);
        let channel = private(&pair);
        for old in &kept {
            let mut chain = breached(&pair, old);
            let punisher = channel.punisher(&old.tx).expect("it is revoked");
            assert_eq!(punisher.number, old.unrevoked.number);
            let script = punisher.script.to_p2wsh();
            let means = vec![Means::Private(punisher)];
            let mut breach = Breach::new(&old.tx, chain.height, means).unwrap();
            let own = old.tx.output.iter().filter(|out| out.script_pubkey == script);
            let own: u64 = own.map(|out| out.value.to_sat()).sum();
            let fees = take_all(&mut breach, &mut chain);
            assert_eq!(home_worth(&chain) + fees, own);
            // All of it is Alice's in the very first state; Bob has nothing to lose.
            assert_eq!(own == 0, old.unrevoked.number == 0);
        }
    }
}

/// The cheater's HE and HT of every HTLC, each on its own.
fn races(old: &Kept, chain: &mut Chain, with_expired: bool) -> Vec<Transaction> {
    const BOB: [u8; 32] = [2; 32];
    let mut cheat = Party::restored(&old.cheat);
    for n in 1..6 {
        let htlcs = &old.cheat.open().contract.htlcs;
        let mine = old.cheat.pending_received();
        let hash = preimage(n).hash();
        let id = mine.iter().find(|id| htlcs[&(Side::Remote, **id)].payment_hash == hash);
        if let Some(id) = id {
            cheat.removes(*id, Removal::Fulfilled(preimage(n))).unwrap();
        }
    }
    let contract = &cheat.open().contract;
    let published = local_commitment::read(contract, &InMemorySigner::from_seed(BOB));
    let resolution = Resolution::new(published, chain.height);
    if with_expired {
        chain.at(501);
    }
    let claims = resolution.claims(contract);
    let stages = claims.iter().filter(|claim| claim.htlc.is_some());
    let stages = stages.filter(|claim| with_expired || claim.name.to_string() == "HE");
    let stages: Vec<_> = stages.map(|claim| takes(claim, &resolution.published, BOB)).collect();
    assert!(stages.len() > 1);
    stages
}

fn the_largest(kept: &[Kept]) -> &Kept {
    kept.iter().max_by_key(|old| old.tx.output.len()).unwrap()
}

#[test]
fn a_private_tower_takes_every_second_stage() {
    for format in FORMATS {
        let (pair, kept) = a_life(format);
        let old = the_largest(&kept);
        let mut chain = breached(&pair, old);
        let punisher = private(&pair).punisher(&old.tx).unwrap();
        let means = vec![Means::Private(punisher)];
        let mut breach = Breach::new(&old.tx, chain.height, means).unwrap();
        let stages = races(old, &mut chain, true);
        for stage in &stages {
            chain.take(stage).unwrap();
            assert!(breach.see(stage, chain.height));
        }
        assert_eq!(breach.takings.len(), stages.len() + 1);
        let fees = take_all(&mut breach, &mut chain);
        let stages: u64 = stages.iter().map(|stage| stage.output[0].value.to_sat()).sum();
        let to_local = breach.takings.iter().find(|(out, _)| out.txid == old.tx.compute_txid());
        let own = to_local.unwrap().1.value.sat();
        assert_eq!(home_worth(&chain) + fees, stages + own);
    }
}

/// Of an anchors channel the altruist tower loses what the cheater was quicker to take; of a
/// static_remotekey channel it takes that too.
#[test]
fn an_altruist_tower_takes_the_second_stages_that_have_a_txid() {
    for format in FORMATS {
        let (pair, kept) = a_life(format);
        let old = the_largest(&kept);
        let mut chain = breached(&pair, old);
        let mut breach = Breach::new(&old.tx, chain.height, altruist(&pair, old)).unwrap();
        let (all, before) = (worth(&old.tx).0, breach.takings.len());
        chain.at(101);
        let mut lost = 0;
        for stage in races(old, &mut chain, false) {
            chain.take(&stage).unwrap();
            assert!(breach.see(&stage, chain.height));
            lost += stage.output[0].value.to_sat();
        }
        let second_stages = breach.takings.len() - before;
        let fees = take_all(&mut breach, &mut chain);
        match format {
            CommitmentFormat::Anchors => {
                assert_eq!(second_stages, 0);
                assert_eq!(home_worth(&chain) + fees, all - lost);
            }
            CommitmentFormat::StaticRemoteKey => {
                assert!(second_stages > 1);
                // HE of a static_remotekey channel pays its fee itself: 703 at 1000 sat/kw.
                let paid = 703 * second_stages as u64;
                assert_eq!(home_worth(&chain) + fees + paid, all);
            }
        }
    }
}

#[test]
fn a_reorganisation_opens_what_was_taken_again() {
    let (pair, kept) = a_life(CommitmentFormat::Anchors);
    let old = the_largest(&kept);
    let mut chain = breached(&pair, old);
    let punisher = private(&pair).punisher(&old.tx).unwrap();
    let means = vec![Means::Private(punisher)];
    let mut breach = Breach::new(&old.tx, chain.height, means).unwrap();
    let fresh = breach.clone();
    let stages = races(old, &mut chain, true);
    stages.iter().for_each(|stage| assert!(breach.see(stage, Height::new(501))));
    assert!(breach.unsee(Height::new(501)) && !breach.unsee(Height::new(501)));
    assert_eq!(breach, fresh);
    assert!(breach.unsee(Height::new(100)));
    // The commitment is in no block: there is nothing to publish, until it is in one again.
    assert_eq!(breach.remedies(chain.height, FEERATE), (vec![], false));
    assert!(breach.see(&old.tx, Height::new(103)));
    assert_eq!(breach.remedies(chain.height, FEERATE).0.len(), 1);
}

#[test]
fn a_remedy_pays_more_in_time_on_a_shorter_chain_too() {
    let (pair, kept) = a_life(CommitmentFormat::Anchors);
    let old = the_largest(&kept);
    let means = vec![Means::Private(private(&pair).punisher(&old.tx).unwrap())];
    let mut breach = Breach::new(&old.tx, Height::new(500), means).unwrap();
    assert!(breach.remedies(Height::new(500), FEERATE).1);
    let (remedies, _) = breach.remedies(Height::new(560), FEERATE);
    assert!(breach.see(&remedies[0], Height::new(561)));
    // A hundred blocks are gone, and the commitment is in an earlier one than before.
    assert!(breach.unsee(Height::new(462)));
    assert!(breach.see(&old.tx, Height::new(462)));
    let taking = breach.takings.values().next().unwrap();
    assert_eq!((taking.since, taking.spent), (Height::new(462), None));
    let (again, dearer) = breach.remedies(Height::new(540), FEERATE);
    assert!(dearer && again[0].output[0].value < remedies[0].output[0].value);
}

#[test]
fn a_record_is_small_and_opens_for_its_transaction_only() {
    for format in FORMATS {
        let (pair, kept) = a_life(format);
        let size = |old: &Kept| {
            let sealed = seal(&pair, old).0;
            sealed.bytes.len() + sealed.hint.len()
        };
        let (bare, per_htlc, others) = match format {
            CommitmentFormat::Anchors => (size(&kept[1]), 100..=104, 4),
            CommitmentFormat::StaticRemoteKey => (size(&kept[1]), 166..=170, 2),
        };
        assert!((300..320).contains(&bare), "{bare}");
        for old in &kept {
            let (sealed, _) = seal(&pair, old);
            let htlcs = old.tx.output.len().saturating_sub(others);
            match (size(old).saturating_sub(bare + 2 * 33)).checked_div(htlcs) {
                Some(each) => assert!(per_htlc.contains(&each), "{each} for {htlcs}"),
                None => assert!(size(old) <= bare),
            }
            let other = Txid::hash(b"another");
            assert_eq!(Record::open(&sealed.bytes, &other), Err(BadRecord::NotForThis));
            for place in [0, 20, sealed.bytes.len() - 1] {
                let mut flipped = sealed.bytes.clone();
                flipped[place] ^= 1;
                let opened = Record::open(&flipped, &old.tx.compute_txid());
                assert_eq!(opened, Err(BadRecord::NotForThis));
            }
            assert_eq!(seal(&pair, old).0, sealed, "the same record twice is the same bytes");
        }
    }
}

#[test]
fn outputs_that_are_not_worth_a_remedy_are_told_and_left() {
    let (pair, kept) = a_life(CommitmentFormat::Anchors);
    let old = the_largest(&kept);
    let terms = Terms { feerate: FeeratePerKw::new(20_000), destination: home() };
    let (sealed, left_out) = seal_at(&pair, old, terms);
    let record = Record::open(&sealed.bytes, &old.tx.compute_txid()).unwrap();
    let remedies = record.remedies(&old.tx);
    assert!(left_out > 0 && !remedies.is_empty());
    assert_eq!(remedies.len() + left_out, worth(&old.tx).1);
}

#[test]
fn a_private_channel_has_one_size_for_all_its_states() {
    for format in FORMATS {
        let mut pair = Pair::open_with(|open, _| open.channel_type.format = format);
        let young = private(&pair).to_bytes();
        (1..20).for_each(|n| pair.alice_pays(100_000, n));
        let old = private(&pair);
        let bytes = old.to_bytes();
        assert_eq!(young.len(), bytes.len());
        assert!((2_100..2_250).contains(&bytes.len()), "{}", bytes.len());
        assert_eq!(PrivateChannel::from_bytes(&bytes), Ok(old));
        for cut in [0, 1, 100, bytes.len() - 1] {
            PrivateChannel::from_bytes(&bytes[..cut]).unwrap_err();
        }
        PrivateChannel::from_bytes(&[bytes.as_slice(), &[0]].concat()).unwrap_err();
    }
}

#[test]
fn what_is_not_revoked_is_no_breach() {
    let (pair, _) = a_life(CommitmentFormat::Anchors);
    let mut cheat = Party::restored(&pair.bob);
    use fulmen_channel::input::{Command, Input};
    cheat.handle(Input::Command(Command::ForceClose("honest".into()))).unwrap();
    let latest = cheat.published.last().unwrap();
    assert_eq!(private(&pair).punisher(latest), None);
}

#[test]
fn the_watcher_sees_what_it_looks_out_for_and_nothing_else() {
    let (pair, kept) = a_life(CommitmentFormat::Anchors);
    let mut watcher = Watcher::default();
    let (first, second) = (&kept[2].tx, &kept[3].tx);
    assert_eq!(watcher.look(first), None);
    watcher.add_hint(hint(&first.compute_txid()));
    assert_eq!(watcher.look(second), None);
    let seen = watcher.look(first).unwrap();
    assert_eq!(seen.hint.unwrap().1, first.compute_txid());
    assert!(seen.funding.is_none() && !seen.of_breach);
    watcher.add_funding(pair.alice.open().contract.funding.outpoint);
    assert!(watcher.look(second).unwrap().funding.is_some());
    watcher.add_breach(first.input[0].previous_output.txid);
    assert!(watcher.look(second).unwrap().of_breach);
    watcher.remove_hint(&hint(&first.compute_txid()));
    watcher.remove_funding(&pair.alice.open().contract.funding.outpoint);
    watcher.remove_breach(&first.input[0].previous_output.txid);
    assert_eq!((watcher.look(first), watcher.states()), (None, 0));
}

#[test]
fn a_fee_rises_with_the_cube_of_the_blocks_gone() {
    let rate = FeeratePerKw::new;
    // Half of 100,000 sat for a weight of 500 is 100,000 for each 1,000; all but dust is 198,908.
    let table = [
        // last, estimate, delay, left, value, next
        (None, 500, 144, 144, 100_000, Some(500)), // the estimate, and no less than relay's floor
        (None, 1, 144, 144, 100_000, Some(253)),
        (Some(500), 500, 144, 143, 100_000, None), // nothing to speak of for long
        (Some(500), 500, 144, 130, 100_000, None),
        (Some(500), 500, 144, 124, 100_000, Some(778)),
        (Some(500), 500, 144, 114, 100_000, Some(1_438)),
        (Some(500), 500, 144, 72, 100_000, Some(13_470)), // half of the time: an eighth of half
        (Some(13_470), 500, 144, 36, 100_000, Some(44_275)),
        (Some(44_275), 500, 144, 13, 100_000, Some(78_621)),
        (Some(78_621), 500, 144, 12, 100_000, Some(159_873)), // the last twelve: nearly all of it
        (Some(159_873), 500, 144, 2, 100_000, Some(198_908)),
        (Some(198_908), 500, 144, 1, 100_000, None),
        (None, 500, 144, 0, 100_000, Some(198_908)), // seen late
        (Some(500), 9_000, 144, 143, 100_000, Some(9_000)), // a spike is followed
        (Some(500), 9_000, 144, 72, 100_000, Some(20_862)),
        (Some(9_000), 500, 144, 130, 100_000, None), // and what was offered stays
        (None, 900_000, 144, 143, 100_000, Some(100_000)), // but for half of the value
        (None, 900_000, 144, 12, 100_000, Some(198_908)),
        (None, 500, 6, 6, 100_000, Some(500)), // however short the delay
        (Some(500), 500, 6, 4, 100_000, Some(25_301)),
        (None, 500, 1, 1, 100_000, Some(198_908)),
        (None, 500, 144, 0, 500, None), // not worth a remedy
    ];
    for (last, estimate, delay, left, value, next) in table {
        let urgency = Urgency { estimate: rate(estimate), delay, left };
        let got = urgency.next(last.map(rate), Sat::new(value), 500);
        assert_eq!(got, next.map(rate), "{last:?} {estimate} {delay} {left} {value}");
    }
}

/// A remedy that nobody mines, block by block: cheap for long, all of it at the end.
#[test]
fn half_of_the_value_is_not_offered_before_three_quarters_of_the_time() {
    let mut last = None;
    for left in (0..=144).rev() {
        let urgency = Urgency { estimate: FeeratePerKw::new(1_000), delay: 144, left };
        let next = urgency.next(last, Sat::new(1_000_000), 500);
        assert!(next.is_none_or(|next| last.is_none_or(|last| next > last)));
        last = next.or(last);
        let offered = last.unwrap().per_kw() / 2; // sat for 500 units of weight
        match left {
            115..=144 => assert!(offered < 6_000, "{offered} with {left} left"),
            36.. => assert!(offered < 250_000, "{offered} with {left} left"),
            3.. => assert!(offered < 1_000_000),
            _ => assert!(offered > 990_000),
        }
    }
}
