//! A commitment that stands: each side takes its balance, and its HTLCs by preimage or by expiry.

use super::chain::{takes, Chain, Claimant};
use crate::support::{preimage, Pair, Party};
use bitcoin::Transaction;
use fulmen_channel::amount::{Height, Sat};
use fulmen_channel::contract::htlc::Removal;
use fulmen_channel::input::{Command, Input};
use fulmen_channel::keys::{InMemorySigner, Signer};
use fulmen_channel::onchain::identify;
use fulmen_channel::onchain::published::Published;
use fulmen_channel::onchain::resolution::{Fate, Resolution};
use fulmen_channel::params::CommitmentFormat;

const FORMATS: [CommitmentFormat; 2] =
    [CommitmentFormat::Anchors, CommitmentFormat::StaticRemoteKey];
const ALICE: [u8; 32] = [1; 32];
const BOB: [u8; 32] = [2; 32];

/// Alice offers two HTLCs and Bob two, all irrevocably committed; of each pair the receiver knows
/// the preimage of the first, and has not said so.
fn with_htlcs(format: CommitmentFormat) -> Pair {
    let mut pair = Pair::open_with(|open, _| open.channel_type.format = format);
    pair.alice_pays(400_000_000, 0);
    for (n, msat) in [(1, 50_000_000), (2, 40_000_000)] {
        pair.alice.handle(Party::offer(n, msat)).unwrap();
        pair.bob.handle(Party::offer(n + 2, msat + 5_000_000)).unwrap();
    }
    pair.alice.handle(Party::offer(9, 200_000)).unwrap(); // too small for an output
    pair.talk();
    pair.bob.fulfills(1);
    pair.alice.fulfills(3);
    pair.alice.sent.clear();
    pair.bob.sent.clear();
    pair
}

/// Alice publishes her commitment, or Bob his.
fn publishes(party: &mut Party) -> Transaction {
    party.handle(Input::Command(Command::ForceClose("gone".into()))).unwrap();
    party.published.last().unwrap().clone()
}

/// What a side makes of a transaction that spends F.
fn reads(party: &Party, seed: [u8; 32], tx: &Transaction) -> Published {
    let signer = InMemorySigner::from_seed(seed);
    identify::published(&party.open().contract, tx, &signer, &[]).expect("it stands")
}

fn claimant<'a>(
    party: &'a Party,
    seed: [u8; 32],
    published: Published,
    chain: &Chain,
) -> Claimant<'a> {
    Claimant { party, seed, resolution: Resolution::new(published, chain.height) }
}

fn chain_of(pair: &Pair) -> Chain {
    Chain::with(pair.alice.open().contract.funding.outpoint, pair.funding_output())
}

#[test]
fn both_read_the_same_outputs() {
    for format in FORMATS {
        let mut pair = with_htlcs(format);
        let tx = publishes(&mut pair.alice);
        let (ours, theirs) = (reads(&pair.alice, ALICE, &tx), reads(&pair.bob, BOB, &tx));
        assert_eq!((ours.txid, ours.number), (theirs.txid, theirs.number));
        assert_eq!(ours.outputs.len(), tx.output.len(), "every output is known");
        let places = |published: &Published| published.outputs.keys().copied().collect::<Vec<_>>();
        assert_eq!(places(&ours), places(&theirs));
        for place in places(&ours) {
            let (one, other) = (ours.htlc(place), theirs.htlc(place));
            assert_eq!(one.map(|(_, htlc)| htlc), other.map(|(_, htlc)| htlc));
        }
    }
}

#[test]
fn the_publisher_takes_its_own_by_rd_ht_and_he_and_their_deliveries() {
    for format in FORMATS {
        let mut pair = with_htlcs(format);
        let tx = publishes(&mut pair.alice);
        let mut chain = chain_of(&pair);
        chain.take(&tx).unwrap();
        let published = reads(&pair.alice, ALICE, &tx);
        let mut alice = claimant(&pair.alice, ALICE, published, &chain);
        let anchors = format == CommitmentFormat::Anchors;
        let fee = |weight: u64| if anchors { 0 } else { weight };
        let at_once = if anchors { vec![] } else { vec!["HE".to_owned()] };
        assert_eq!(alice.claims_at(&mut chain, 100), (at_once, Sat::ZERO));
        let next = if anchors { vec!["HE".to_owned()] } else { vec![] };
        assert_eq!(alice.claims_at(&mut chain, 101), (next, Sat::ZERO));
        assert_eq!(alice.claims_at(&mut chain, 243).0, Vec::<String>::new());
        // RD 144 blocks after C, HERD 144 after HE.
        let (names, balance) = alice.claims_at(&mut chain, 245);
        assert_eq!(names, ["HERD", "RD"]);
        let costs = if anchors { 1_124 + 660 + 4 * 172 } else { 724 + 4 * 172 };
        assert_eq!(balance.sat(), 600_000 - 90_000 - 200 - costs + 55_000 - fee(703));
        assert_eq!(alice.claims_at(&mut chain, 500).0, Vec::<String>::new());
        assert_eq!(alice.claims_at(&mut chain, 501).0, ["HT", "HT"], "their expiry is 500");
        let (names, back) = alice.claims_at(&mut chain, 501 + 144);
        assert_eq!(names, ["HTRD", "HTRD"]);
        assert_eq!(back.sat(), 90_000 - fee(2 * 663));
    }
}

#[test]
fn the_other_side_takes_its_own_by_d_hed_and_htd() {
    for format in FORMATS {
        let mut pair = with_htlcs(format);
        let tx = publishes(&mut pair.alice);
        let mut chain = chain_of(&pair);
        chain.take(&tx).unwrap();
        let published = reads(&pair.bob, BOB, &tx);
        let mut bob = claimant(&pair.bob, BOB, published, &chain);
        let (_, now) = bob.claims_at(&mut chain, 100);
        let (_, next) = bob.claims_at(&mut chain, 101);
        assert_eq!(now.saturating_add(next).sat(), 400_000 - 100_000 + 50_000, "D and HED");
        assert_eq!(bob.claims_at(&mut chain, 500).0, Vec::<String>::new());
        let (names, back) = bob.claims_at(&mut chain, 501);
        assert_eq!((names, back.sat()), (vec!["HTD".to_owned(), "HTD".to_owned()], 100_000));
        let contract = &pair.bob.open().contract;
        assert!(bob.resolution.claims(contract).is_empty());
    }
}

#[test]
fn a_preimage_shown_on_chain_is_learned_and_failures_wait_until_they_are_deep() {
    for format in FORMATS {
        let mut pair = with_htlcs(format);
        let tx = publishes(&mut pair.alice);
        let mut chain = chain_of(&pair);
        chain.take(&tx).unwrap();
        let published = reads(&pair.alice, ALICE, &tx);
        let mut alice = claimant(&pair.alice, ALICE, published, &chain);
        let mut bob = claimant(&pair.bob, BOB, reads(&pair.bob, BOB, &tx), &chain);
        let (a, b) = (&pair.alice.open().contract, &pair.bob.open().contract);
        let fates = |alice: &Claimant, height| alice.resolution.fates(a, Height::new(height), 6);
        assert_eq!(fates(&alice, 104), []);
        // HTLC 3 is the one that was too small.
        assert_eq!(fates(&alice, 105), [(3, Fate::Failed)]);
        // Bob takes HTLC 1 with its preimage.
        chain.at(101);
        let claims = bob.resolution.claims(b);
        let hed = claims.iter().find(|claim| claim.name.to_string() == "HED").unwrap();
        assert_eq!(hed.until, Some(Height::new(500)), "then Alice may take it back");
        let tx = takes(hed, &bob.resolution.published, BOB);
        chain.take(&tx).unwrap();
        let learned = alice.catches_up(&chain);
        assert_eq!(learned, [(1, preimage(1))]);
        let known = (1, Fate::Fulfilled(preimage(1)));
        assert_eq!(fates(&alice, 101), [known]);
        // Alice takes HTLC 2 back.
        let (names, _) = alice.claims_at(&mut chain, 501);
        assert!(names.contains(&"HT".to_owned()));
        assert_eq!(fates(&alice, 505), [known, (3, Fate::Failed)]);
        let all = [known, (2, Fate::Failed), (3, Fate::Failed)];
        assert_eq!(fates(&alice, 506), all);
        assert!(!alice.resolution.is_over(a, Height::new(600), 6));
        alice.claims_at(&mut chain, 700);
        bob.claims_at(&mut chain, 700);
        assert!(!alice.resolution.is_over(a, Height::new(704), 6));
        alice.catches_up(&chain);
        assert!(alice.resolution.is_over(a, Height::new(705), 6));
        // A reorganisation takes facts back, and with them what follows.
        alice.resolution.unsee(Height::new(500));
        assert_eq!(fates(&alice, 505), [known, (3, Fate::Failed)]);
        alice.resolution.unsee(Height::new(101));
        assert_eq!(fates(&alice, 105), [(3, Fate::Failed)]);
        assert!(alice.resolution.unsee(Height::new(100)), "C itself is gone");
    }
}

/// Bob has signed a commitment that drops HTLCs and adds one; Alice has not revoked the one before.
#[test]
fn the_commitment_before_the_latest_is_read_as_it_was() {
    for format in FORMATS {
        let mut pair = Pair::open_with(|open, _| open.channel_type.format = format);
        pair.alice_pays(400_000_000, 0);
        pair.alice.handle(Party::offer(1, 50_000_000)).unwrap();
        pair.bob.handle(Party::offer(3, 60_000_000)).unwrap();
        pair.talk();
        // The peer's, which Alice signed last; it will be one of two.
        let before = pair.bob.channel.commitments().0.unwrap();
        let (id, removal) = (pair.alice.received(3), Removal::Fulfilled(preimage(3)));
        let remove = Input::Command(Command::Remove { id, removal });
        pair.alice.handles_at_once([remove, Party::offer(4, 70_000_000)]);
        let contract = &pair.alice.open().contract;
        assert!(contract.state.awaiting_revocation, "signed, and not answered");
        let read = reads(&pair.alice, ALICE, &before.tx);
        assert_eq!(read.outputs.len(), before.tx.output.len());
        let latest = pair.alice.channel.commitments().1.unwrap().tx;
        let latest = reads(&pair.alice, ALICE, &latest);
        let number = contract.state.remote_number;
        assert_eq!((read.number, latest.number), (number - 1, number));
        let amounts = |published: &Published| -> Vec<u64> {
            let places = published.outputs.keys();
            let htlcs = places.filter_map(|place| published.htlc(*place));
            let mut amounts: Vec<_> = htlcs.map(|(_, h)| h.amount.msat() / 1_000_000).collect();
            amounts.sort_unstable();
            amounts
        };
        assert_eq!((amounts(&read), amounts(&latest)), (vec![50, 60], vec![50, 70]));
        let signer = InMemorySigner::from_seed(BOB);
        assert_eq!(read.point, signer.per_commitment_point(number - 1));
    }
}
