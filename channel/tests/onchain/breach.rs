//! A revoked commitment is published: all of it goes to the wronged side, whatever the cheater made
//! of its HTLCs meanwhile.

use super::chain::{takes, Chain};
use crate::support::{preimage, Pair, Party};
use bitcoin::{Transaction, TxOut};
use fulmen_channel::amount::Sat;
use fulmen_channel::changeset::{Row, Rows};
use fulmen_channel::contract::htlc::{PenaltyRecord, Removal};
use fulmen_channel::input::{Command, Input};
use fulmen_channel::keys::{InMemorySigner, Inline};
use fulmen_channel::onchain::claim::Claim;
use fulmen_channel::onchain::published::Published;
use fulmen_channel::onchain::resolution::Resolution;
use fulmen_channel::onchain::{local_commitment, revoked_commitment};
use fulmen_channel::params::{CommitmentFormat, Side};

const FORMATS: [CommitmentFormat; 2] =
    [CommitmentFormat::Anchors, CommitmentFormat::StaticRemoteKey];
const ALICE: [u8; 32] = [1; 32];
const BOB: [u8; 32] = [2; 32];

/// A state that Bob revokes later: the commitment as he could publish it, and what he saw.
struct Kept {
    cheat: Party,
    tx: Transaction,
}

/// Every state of a channel whose HTLCs come and go in both directions.
fn a_life(format: CommitmentFormat) -> (Pair, Vec<Kept>) {
    let mut pair = Pair::open_with(|open, _| open.channel_type.format = format);
    let mut kept = Vec::new();
    let keep = |pair: &Pair, kept: &mut Vec<Kept>| {
        let mut cheat = Party::restored(&pair.bob);
        cheat.handle(Input::Command(Command::ForceClose("cheating".into()))).unwrap();
        let tx = cheat.published.last().unwrap().clone();
        kept.push(Kept { cheat, tx });
    };
    pair.alice_pays(400_000_000, 0);
    keep(&pair, &mut kept);
    for n in 1..6 {
        pair.alice.handle(Party::offer(n, 10_000_000 * n)).unwrap();
        pair.bob.handle(Party::offer(n + 20, 7_000_000 * n)).unwrap();
        pair.talk();
        keep(&pair, &mut kept);
        if n % 2 == 0 {
            pair.bob.fulfills(n);
            pair.alice.fulfills(n + 20);
            pair.talk();
            keep(&pair, &mut kept);
        }
    }
    pair.alice_pays(1_000_000, 40);
    (pair, kept)
}

fn records(disk: &Rows) -> Vec<((Side, u64), PenaltyRecord)> {
    let pick = |row| match row {
        Row::Penalty(by, id) => Some((by, id)),
        _ => None,
    };
    disk.each(pick).unwrap()
}

fn read(pair: &Pair, kept: &Kept) -> Published {
    let contract = &pair.alice.open().contract;
    let number = kept.cheat.open().contract.state.local_number;
    let records = records(&pair.alice.disk);
    revoked_commitment::read(contract, &kept.tx, number, &records).expect("it is revoked")
}

fn chain_with(pair: &Pair, kept: &Kept) -> Chain {
    let outpoint = pair.alice.open().contract.funding.outpoint;
    let mut chain = Chain::with(outpoint, pair.funding_output());
    chain.take(&kept.tx).unwrap();
    chain
}

fn total(outputs: &[TxOut]) -> u64 {
    outputs.iter().map(|output| output.value.to_sat()).sum()
}

/// What the transaction holds besides anchors.
fn worth(tx: &Transaction) -> u64 {
    total(&tx.output)
        - 330 * tx.output.iter().filter(|out| out.value.to_sat() == 330).count() as u64
}

#[test]
fn every_revoked_state_is_taken_whole() {
    for format in FORMATS {
        let (pair, kept) = a_life(format);
        let contract = &pair.alice.open().contract;
        for old in &kept {
            let mut chain = chain_with(&pair, old);
            let published = read(&pair, old);
            assert_eq!(published.outputs.len(), old.tx.output.len(), "every output is known");
            let resolution = Resolution::new(published, chain.height);
            chain.at(101); // D of an anchors channel waits a block
            let mut taken = 0;
            for claim in resolution.claims(contract) {
                let names = ["BR", "D", "HBR"];
                assert!(names.contains(&claim.name.to_string().as_str()), "{}", claim.name);
                chain.take(&takes(&claim, &resolution.published, ALICE)).unwrap();
                taken += claim.spend.value().sat();
            }
            assert_eq!(taken, worth(&old.tx));
        }
    }
}

/// The cheater is quick: HE at once with the preimages it has, HT when they expire.
#[test]
fn what_the_cheater_made_of_its_htlcs_is_taken_too() {
    for format in FORMATS {
        let (pair, kept) = a_life(format);
        let contract = &pair.alice.open().contract;
        let old = kept.iter().max_by_key(|old| old.tx.output.len()).unwrap();
        let mut chain = chain_with(&pair, old);
        let mut alice = Resolution::new(read(&pair, old), chain.height);
        // The cheater as its own claimant, with every preimage.
        let mut cheat = Party::restored(&old.cheat);
        for n in 1..6 {
            let id = old.cheat.pending_received().into_iter().find(|id| {
                let htlc = &old.cheat.open().contract.htlcs[&(Side::Remote, *id)];
                htlc.payment_hash == preimage(n).hash()
            });
            if let Some(id) = id {
                cheat.removes(id, Removal::Fulfilled(preimage(n))).unwrap();
            }
        }
        let cheating = &cheat.open().contract;
        let signer = InMemorySigner::from_seed(BOB);
        let theirs = local_commitment::read(cheating, &signer);
        let cheater = Resolution::new(theirs, chain.height);
        chain.at(501);
        let claims = cheater.claims(cheating);
        let stages: Vec<&Claim> = claims.iter().filter(|claim| claim.htlc.is_some()).collect();
        assert!(stages.iter().any(|claim| claim.name.to_string() == "HE"));
        assert!(stages.iter().any(|claim| claim.name.to_string() == "HT"));
        for stage in &stages {
            let tx = takes(stage, &cheater.published, BOB);
            chain.take(&tx).unwrap();
            alice.see(&tx, chain.height, contract);
        }
        let claims = alice.claims(contract);
        let names: Vec<_> = claims.iter().map(|claim| claim.name.to_string()).collect();
        let count = |name: &str| names.iter().filter(|n| *n == name).count();
        assert_eq!(count("HTBR") + count("HEBR"), stages.len());
        assert_eq!((count("HBR"), count("BR"), count("D")), (0, 1, 1));
        let taken = claims.iter().fold(Sat::ZERO, |sum, c| sum.saturating_add(c.spend.value()));
        for claim in &claims {
            chain.take(&takes(claim, &alice.published, ALICE)).unwrap();
        }
        let fees: u64 = match format {
            CommitmentFormat::Anchors => 0,
            CommitmentFormat::StaticRemoteKey => {
                stages.iter().map(|c| if c.name.to_string() == "HT" { 663 } else { 703 }).sum()
            }
        };
        assert_eq!(taken.sat() + fees, worth(&old.tx));
    }
}

/// With anchors the cheater may put all its HE into one transaction, beside an input of its own.
#[test]
fn several_second_stages_in_one_transaction_are_taken_too() {
    let (pair, kept) = a_life(CommitmentFormat::Anchors);
    let contract = &pair.alice.open().contract;
    let old = kept.iter().max_by_key(|old| old.tx.output.len()).unwrap();
    let mut chain = chain_with(&pair, old);
    let mut alice = Resolution::new(read(&pair, old), chain.height);
    let cheating = &old.cheat.open().contract;
    let signer = InMemorySigner::from_seed(BOB);
    let cheater = Resolution::new(local_commitment::read(cheating, &signer), chain.height);
    chain.at(501);
    let claims = cheater.claims(cheating);
    let timeouts: Vec<&Claim> = claims.iter().filter(|c| c.name.to_string() == "HT").collect();
    assert!(timeouts.len() > 2);
    let mut all = takes(timeouts[0], &cheater.published, BOB);
    for more in &timeouts[1..] {
        let one = takes(more, &cheater.published, BOB);
        all.input.extend(one.input);
        all.output.extend(one.output);
    }
    for (place, claim) in timeouts.iter().enumerate() {
        assert!(claim.sign(&cheater.published, &mut all, place, (&signer, &Inline)));
    }
    chain.take(&all).unwrap();
    alice.see(&all, chain.height, contract);
    let remedies: Vec<_> = alice
        .claims(contract)
        .into_iter()
        .filter(|claim| claim.name.to_string() == "HTBR")
        .collect();
    assert_eq!(remedies.len(), timeouts.len());
    for (remedy, timeout) in remedies.iter().zip(&timeouts) {
        assert_eq!(remedy.until.unwrap().number(), 501 + 144);
        assert!(remedy.htlc.is_some() && timeout.htlc.is_some());
        chain.take(&takes(remedy, &alice.published, ALICE)).unwrap();
    }
}
