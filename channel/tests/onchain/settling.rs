//! A commitment in a block, told through the channel's two doors: each side ends with what is its
//! own and hears how its HTLCs ended, whatever restarts and reorganisations come in between.

use super::chain::{takes, Chain};
use crate::support::{preimage, Pair, Party};
use bitcoin::Transaction;
use fulmen_channel::amount::Height;
use fulmen_channel::changeset::Row;
use fulmen_channel::contract::htlc::Removal;
use fulmen_channel::error::Refused;
use fulmen_channel::input::{Command, Input};
use fulmen_channel::onchain::claim::{Claim, Name, Pays};
use fulmen_channel::onchain::outcome::{Ended, What};
use fulmen_channel::output::{Event, Spend};
use fulmen_channel::params::CommitmentFormat::{self, Anchors, StaticRemoteKey};

const SEEDS: [[u8; 32]; 2] = [[1; 32], [2; 32]];

/// What happens after each block.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Trouble {
    None,
    /// Both forget what is not on disk.
    Crashes,
    /// Six blocks are gone, and come again with the same transactions.
    Reorganises,
}
const TROUBLES: [Trouble; 3] = [Trouble::None, Trouble::Crashes, Trouble::Reorganises];

struct Story {
    pair: Pair,
    chain: Chain,
    trouble: Trouble,
}

impl Story {
    /// Of two HTLCs each way the receiver knows the preimage of the first; Alice offered one more
    /// that is too small for an output.
    fn begins(format: CommitmentFormat, trouble: Trouble) -> Story {
        let mut pair = Pair::open_with(|open, _| open.channel_type.format = format);
        pair.alice_pays(400_000_000, 0);
        for (n, msat) in [(1, 50_000_000), (2, 40_000_000)] {
            pair.alice.handle(Party::offer(n, msat)).unwrap();
            pair.bob.handle(Party::offer(n + 2, msat + 5_000_000)).unwrap();
        }
        pair.alice.handle(Party::offer(9, 200_000)).unwrap();
        pair.talk();
        let funding = pair.alice.open().contract.funding.outpoint;
        let chain = Chain::with(funding, pair.funding_output());
        Story { pair, chain, trouble }
    }

    fn parties(&mut self) -> [&mut Party; 2] {
        [&mut self.pair.alice, &mut self.pair.bob]
    }

    /// A transaction gets into a block of the present height, and both hear of it.
    fn mines(&mut self, tx: &Transaction) {
        self.chain.take(tx).unwrap();
        let (funding, height) =
            (self.pair.alice.open().contract.funding.outpoint, self.chain.height);
        let spends_funding = tx.input[0].previous_output == funding;
        for party in self.parties() {
            let pick = |row| match row {
                Row::Penalty(by, id) => Some((by, id)),
                _ => None,
            };
            let records = party.disk.each(pick).unwrap();
            let tx = Box::new(tx.clone());
            party
                .handle(match spends_funding {
                    true => Input::FundingSpent { tx, height, records },
                    false => Input::OutputSpent { tx, height },
                })
                .unwrap();
        }
    }

    /// The chain grows to `height`, each takes what it may, and then there is trouble.
    fn grows(&mut self, height: u32) {
        self.chain.at(height);
        for who in 0..2 {
            self.parties()[who].handle(Input::Block(Height::new(height))).unwrap();
            for tx in self.ready(who) {
                self.mines(&tx);
            }
        }
        match self.trouble {
            Trouble::None => {}
            Trouble::Crashes => {
                for party in self.parties() {
                    party.crashes();
                    party.handle(Input::Block(Height::new(height))).unwrap();
                }
            }
            Trouble::Reorganises => self.reorganises(Height::new(height - 5)),
        }
    }

    fn reorganises(&mut self, from: Height) {
        let (tip, gone) = (self.chain.height, self.chain.back_to(from));
        for party in self.parties() {
            party.handle(Input::Unblock(from)).unwrap();
        }
        for (tx, height) in gone {
            self.blocks(height);
            self.mines(&tx);
        }
        self.blocks(tip);
    }

    fn blocks(&mut self, height: Height) {
        self.chain.height = height;
        for party in self.parties() {
            party.handle(Input::Block(height)).unwrap();
        }
    }

    fn ready(&mut self, who: usize) -> Vec<Transaction> {
        let height = self.chain.height;
        super::tree::agrees_with_claims(self.parties()[who]);
        let open = self.parties()[who].open();
        let Some((published, claims)) = open.claims() else { return Vec::new() };
        let ready = claims.iter().filter(|claim| claim.from <= height);
        ready.map(|claim| takes(claim, published, SEEDS[who])).collect()
    }

    /// The commitment of one side goes on chain at once.
    fn publishes(&mut self, who: usize) {
        let party = self.parties().into_iter().nth(who).unwrap();
        party.handle(Input::Command(Command::ForceClose("gone".into()))).unwrap();
        let tx = party.published.last().unwrap().clone();
        self.mines(&tx);
    }

    /// What each took for good, by the scripts it pays to: second stages do not count.
    fn taken(&self) -> u64 {
        let finals = self.chain.history.iter().flat_map(|(tx, _)| &tx.output);
        let own = finals.filter(|out| out.script_pubkey == crate::support::wallet_script(9));
        own.map(|out| out.value.to_sat()).sum()
    }
}

/// How a side's HTLCs ended: their ids, and whether they were paid. Each is told once.
fn told(party: &Party) -> Vec<(u64, bool)> {
    let over =
        party.resolved.iter().filter(|over| over.id > 0 || over.payment_hash != preimage(0).hash());
    let mut told: Vec<(u64, bool)> =
        over.map(|over| (over.id, matches!(over.removal, Removal::Fulfilled(_)))).collect();
    told.sort_unstable();
    told
}

#[test]
fn each_ends_with_what_is_its_own_whoever_publishes_and_whatever_happens() {
    for format in [Anchors, StaticRemoteKey] {
        for who in 0..2 {
            let mut sums = Vec::new();
            for trouble in TROUBLES {
                let mut story = Story::begins(format, trouble);
                story.publishes(who);
                // Only now the preimages come: nothing is said any more, but claimed.
                story.pair.bob.fulfills(1);
                story.pair.alice.fulfills(3);
                for height in [101, 106, 250, 260, 499, 501, 510, 650, 660] {
                    story.grows(height);
                }
                let (alice, bob) = (&story.pair.alice, &story.pair.bob);
                let context = format!("{format:?}, {who} publishes, {trouble:?}");
                assert_eq!(told(alice), [(1, true), (2, false), (3, false)], "{context}");
                assert_eq!(told(bob), [(0, true), (1, false)], "{context}");
                for party in [alice, bob] {
                    assert!(party.open().is_resolved(6) == Some(true), "{} {context}", party.name);
                    assert_eq!(party.open().claims().unwrap().1, [], "{context}");
                }
                sums.push(story.taken());
            }
            assert!(sums[0] > 990_000, "but fees and anchors: {sums:?}");
            assert!(sums.iter().all(|sum| *sum == sums[0]), "{sums:?}");
        }
    }
}

#[test]
fn a_failure_is_told_only_when_it_is_deep() {
    let mut story = Story::begins(Anchors, Trouble::None);
    story.publishes(0);
    story.grows(104);
    assert_eq!(told(&story.pair.alice), []);
    story.grows(105);
    assert_eq!(told(&story.pair.alice), [(3, false)], "too small for an output");
    story.grows(501);
    story.grows(505);
    assert_eq!(told(&story.pair.alice), [(3, false)]);
    story.grows(506);
    assert_eq!(told(&story.pair.alice), [(1, false), (2, false), (3, false)]);
}

#[test]
fn a_breach_is_named_and_all_of_it_is_claimed() {
    for trouble in TROUBLES {
        let mut story = Story::begins(Anchors, trouble);
        let mut cheat = Party::restored(&story.pair.bob);
        story.pair.bob.fulfills(1);
        story.pair.talk();
        cheat.handle(Input::Command(Command::ForceClose("cheating".into()))).unwrap();
        let revoked = cheat.published.last().unwrap().clone();
        story.chain.at(103);
        story.mines(&revoked);
        let alice = &story.pair.alice;
        let revoked_by_peer =
            |event: &Event| matches!(event, Event::Spent { spend: Spend::Revoked, .. });
        assert!(alice.events.iter().any(revoked_by_peer));
        let names = |claims: &[Claim]| {
            let mut names: Vec<Name> = claims.iter().map(|claim| claim.name).collect();
            names.sort_unstable();
            names
        };
        let claims = alice.open().claims().unwrap().1;
        assert_eq!(names(&claims), [Name::D, Name::BR, Name::HBR, Name::HBR, Name::HBR, Name::HBR]);
        assert!(claims.iter().all(|claim| claim.pays == Pays::Anything));
        story.grows(104);
        story.grows(109);
        assert!(story.pair.alice.open().is_resolved(6) == Some(true));
        assert_eq!(told(&story.pair.alice), [(1, true), (2, false), (3, false)]);
        // All but the anchors.
        let value = |tx: &Transaction| tx.output.iter().map(|out| out.value.to_sat()).sum::<u64>();
        assert_eq!(story.taken(), value(&revoked) - 660);
    }
}

/// Our commitment was in a block, then another's is: what we had begun is begun anew.
#[test]
fn after_a_reorganisation_another_commitment_may_be_there() {
    let mut story = Story::begins(Anchors, Trouble::None);
    story.publishes(0);
    let ours = story.chain.history[0].0.clone();
    story.grows(110);
    let bob = &mut story.pair.bob;
    assert!(bob.handle(Input::Command(Command::ForceClose("too".into()))).is_err(), "it is failed");
    let theirs = bob.channel.commitments().0.unwrap().txid;
    let gone = story.chain.back_to(Height::new(100));
    assert_eq!(gone[0].0, ours);
    for party in story.parties() {
        party.published.clear();
        party.handle(Input::Unblock(Height::new(100))).unwrap();
        assert!(party.open().claims().is_none());
        assert_eq!(party.published.len(), 1, "it publishes its own again");
    }
    let again = story.pair.bob.published[0].clone();
    assert_eq!(again.compute_txid(), theirs);
    story.chain.at(112);
    story.mines(&again);
    for height in [113, 118, 260, 501, 510, 650, 660] {
        story.grows(height);
    }
    for party in [&story.pair.alice, &story.pair.bob] {
        assert!(party.open().is_resolved(6) == Some(true), "{}", party.name);
    }
    // What was told of the first stands: the HTLC without an output was failed then.
    assert_eq!(told(&story.pair.alice), [(1, false), (2, false), (3, false)]);
    assert_eq!(told(&story.pair.bob), [(0, false), (1, false)]);
}

/// Who was restored from an old copy sees the peer's newer commitment, and then it is gone: its own
/// one is revoked, and publishing it would lose everything.
#[test]
fn what_a_newer_commitment_revoked_is_not_published_when_a_reorganisation_takes_that_out() {
    for format in [Anchors, StaticRemoteKey] {
        let mut story = Story::begins(format, Trouble::None);
        let old = [0, 1].map(|_| Party::restored(&story.pair.alice));
        story.pair.alice_pays(20_000_000, 99);
        let [alice, mut another] = old;
        story.pair.alice = alice;
        story.publishes(1);
        let theirs = story.pair.bob.published.last().unwrap().clone();
        assert!(story.pair.alice.events.iter().any(|event| match event {
            Event::Spent { spend, .. } => *spend == Spend::Other,
            _ => false,
        }));
        let alice = &mut story.pair.alice;
        for height in [100, 90] {
            alice.handle(Input::Unblock(Height::new(height))).unwrap();
            assert_eq!(alice.channel.bump(), None);
            alice.crashes();
        }
        assert!(alice.published.is_empty(), "it is revoked: {format:?}");
        // The mempool tells as much.
        let seen = Input::Unconfirmed(Box::new(theirs.clone()));
        another.handle(seen).unwrap();
        let force = Input::Command(Command::ForceClose("now".into()));
        assert_eq!(another.handle(force).unwrap_err(), Refused::Behind);
        assert!(another.published.is_empty());
        // Her balance is hers again when it comes back.
        let place = story.pair.bob.channel.commitments().0.unwrap().to_remote.unwrap();
        let due = theirs.output[place as usize].value;
        let alice = &mut story.pair.alice;
        alice.handle(crate::support::spent_by(theirs)).unwrap();
        assert_eq!(alice.open().delivery().expect("D").spend.value().to_amount(), due);
    }
}

#[test]
fn our_commitment_asks_to_be_bumped_until_it_is_in_a_block() {
    let mut story = Story::begins(Anchors, Trouble::None);
    assert_eq!(story.pair.alice.channel.bump(), None, "nothing is published");
    let alice = &mut story.pair.alice;
    alice.handle(Input::Command(Command::ForceClose("gone".into()))).unwrap();
    let commitment = alice.published.last().unwrap().clone();
    let bump = alice.channel.bump().expect("it waits");
    assert_eq!(bump.commitment, commitment);
    assert_eq!(bump.anchor.name, Name::Anchor);
    // Nobody told her a preimage: what she offered, and a fifth of her balance, can wait.
    assert_eq!((bump.deadline, bump.at_risk.sat()), (None, 0));
    let balance = commitment.output.iter().map(|out| out.value.to_sat()).max().unwrap();
    assert_eq!(bump.patient.sat(), 50_000 + 40_000 + balance / 5);
    // A preimage is to be shown before the HTLC expires, with time left for HE itself.
    alice.fulfills(3);
    let bump = alice.channel.bump().expect("it waits");
    assert_eq!((bump.deadline, bump.at_risk.sat()), (Some(Height::new(491)), 55_000));
    let paid: u64 = commitment.output.iter().map(|out| out.value.to_sat()).sum();
    assert_eq!(bump.fee.sat(), 1_000_000 - paid);
    story.chain.take(&commitment).unwrap();
    let spend = takes(&bump.anchor, &bump.published, SEEDS[0]);
    story.chain.take(&spend).unwrap();
    story.pair.alice.handle(crate::support::spent_by(commitment)).unwrap();
    assert_eq!(story.pair.alice.channel.bump(), None);
    let old = Story::begins(StaticRemoteKey, Trouble::None);
    assert_eq!(old.pair.alice.channel.bump(), None);
}

#[test]
fn each_outputs_end_is_remembered() {
    let ends = |who| {
        let mut story = Story::begins(Anchors, Trouble::None);
        story.publishes(who);
        story.pair.bob.fulfills(1);
        story.pair.alice.fulfills(3);
        for height in [101, 250, 501, 510, 650, 660] {
            story.grows(height);
        }
        let ends = story.pair.alice.open().onchain.resolution.as_ref().unwrap().outcomes();
        let mut ends: Vec<_> =
            ends.iter().map(|end| (end.what, end.ended, end.value.sat())).collect();
        ends.sort_by_key(|(_, _, value)| *value);
        ends
    };
    use Ended::{Claimed, FirstStage, TimedOut, Unclaimed};
    use What::{Anchor, Balance, Incoming, Outgoing};
    let local = ends(0);
    assert_eq!(local[0], (Anchor, Unclaimed, 330));
    assert_eq!(
        local[1..7],
        [
            (Outgoing, FirstStage, 40_000),
            (Outgoing, TimedOut, 40_000),
            (Incoming, TimedOut, 45_000),
            (Outgoing, Claimed, 50_000),
            (Incoming, FirstStage, 55_000),
            (Incoming, Claimed, 55_000),
        ]
    );
    assert_eq!((local[7].0, local[7].1, local.len()), (Balance, Claimed, 8));
    let remote = ends(1);
    assert_eq!(
        remote[1..5],
        [
            (Outgoing, TimedOut, 40_000),
            (Incoming, TimedOut, 45_000),
            (Outgoing, Claimed, 50_000),
            (Incoming, Claimed, 55_000),
        ]
    );
    assert_eq!((remote[5].0, remote[5].1, remote.len()), (Balance, Claimed, 6));
}

#[test]
fn a_preimage_in_the_mempool_counts_at_once_and_once() {
    let mut story = Story::begins(Anchors, Trouble::None);
    story.publishes(1);
    story.pair.bob.fulfills(1);
    story.chain.at(101);
    let mut ready = story.ready(1).into_iter();
    let execution = ready.find(|tx| tx.input[0].witness.len() == 5).expect("bob's HE");
    assert_eq!(told(&story.pair.alice), []);
    for _ in 0..2 {
        story.pair.alice.handle(Input::Unconfirmed(Box::new(execution.clone()))).unwrap();
        assert_eq!(told(&story.pair.alice), [(1, true)]);
        story.pair.alice.crashes();
    }
    // Others' inputs, and preimages of what she did not offer, are none of her business.
    story.pair.bob.handle(Input::Unconfirmed(Box::new(execution.clone()))).unwrap();
    assert_eq!(told(&story.pair.bob), []);
    story.mines(&execution);
    assert_eq!(told(&story.pair.alice), [(1, true)]);
}

#[test]
fn the_peers_commitment_in_the_mempool_is_bumped_by_our_anchor() {
    let mut story = Story::begins(Anchors, Trouble::None);
    let bob = &mut story.pair.bob;
    bob.handle(Input::Command(Command::ForceClose("gone".into()))).unwrap();
    let theirs = bob.published.last().unwrap().clone();
    let sees = |party: &mut Party, tx: &Transaction| {
        party.handle(Input::Unconfirmed(Box::new(tx.clone()))).unwrap();
        party.channel.bump()
    };
    let alice = &mut story.pair.alice;
    alice.handle(Input::Block(Height::new(100))).unwrap();
    assert_eq!(sees(alice, &theirs), None, "who published it may pay for it");
    alice.handle(Input::Block(Height::new(105))).unwrap();
    assert_eq!(sees(alice, &theirs), None);
    alice.handle(Input::Block(Height::new(106))).unwrap();
    let bump = alice.channel.bump().expect("it waits, with HTLCs on it");
    assert_eq!(bump.commitment, theirs);
    assert_eq!((bump.deadline, bump.at_risk.sat()), (None, 0));
    assert!(bump.patient.sat() > 90_000, "what she offered, and of her balance a fifth");
    story.chain.take(&theirs).unwrap();
    story.chain.take(&takes(&bump.anchor, &bump.published, SEEDS[0])).unwrap();
    // What is not the peer's, or concerns another output, is nothing to pay for.
    let mut stranger = theirs.clone();
    stranger.input[0].previous_output.vout += 1;
    assert_eq!(
        sees(&mut story.pair.bob, &theirs).map(|bump| bump.commitment),
        Some(theirs.clone())
    );
    assert_eq!(sees(&mut story.pair.alice, &stranger), Some(bump.clone()));
    story.pair.alice.crashes();
    assert_eq!(story.pair.alice.channel.bump(), None, "the mempool is read again after a start");
    let alice = &mut story.pair.alice;
    alice.handle(Input::Block(Height::new(400))).unwrap();
    assert_eq!(sees(alice, &theirs), None);
    // No time is lost when a preimage must be shown, and what was seen last is there.
    alice.handle(Input::Command(Command::ForceClose("gone".into()))).unwrap();
    let ours = alice.published.last().unwrap().clone();
    assert_eq!(alice.channel.bump(), None);
    alice.fulfills(3);
    assert_eq!(alice.channel.bump(), None);
    alice.handle(Input::Block(Height::new(479))).unwrap();
    let late = alice.channel.bump().expect("there are twelve blocks left");
    assert_eq!((&late.commitment, late.deadline), (&theirs, Some(Height::new(491))));
    assert_eq!(sees(alice, &ours).map(|bump| bump.commitment), Some(ours));
    alice.handle(crate::support::spent_by(theirs.clone())).unwrap();
    assert_eq!(sees(alice, &theirs), None, "it is in a block");
}
