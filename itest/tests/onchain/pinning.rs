//! A peer that wants to hold up what Alice takes: a large transaction at a low feerate, which also
//! spends one output that she wants, sits in the mempool where hers should be.

use super::story::{InFlight, Row, Story, Trouble, Who, BOB};
use crate::chain_box::beside::{spend, to_anybody};
use bitcoin::{Amount, Transaction, TxOut, Txid};
use fulmen_channel::contract::htlc::Removal;
use fulmen_channel::keys::{InMemorySigner, Inline};
use fulmen_channel::onchain::claim::{Claim, Name, Pays};
use fulmen_channel::params::CommitmentFormat::Anchors;

/// So much pays no transaction that a block takes.
const GOING: u64 = 12_000;

/// Bob's commitment is in a block, his HTLCs have expired, and he knows every preimage.
fn begins() -> Story {
    let (who, in_flight, trouble) = (Who::Remote, InFlight::Twenty, Trouble::Crowd(GOING));
    let row = Row { format: Anchors, who, in_flight, known: true, racing: false, trouble };
    let mut story = Story::begins(row);
    let height = story.chain_box.chain().height().number();
    story.mines(210 - height);
    story
}

impl Story {
    /// Bob's HE of what is worth most, with so many outputs beside, for 1,000 sat per 1,000 vbytes
    /// times `rate`.
    fn pins(&mut self, outputs: u32, rate: u64) -> (Claim, Transaction) {
        let coin = self.bobs_coin();
        let (published, claims) = self.bob.open().claims().unwrap();
        let executions = claims.into_iter().filter(|claim| claim.name == Name::HE);
        let claim = executions.max_by_key(|claim| claim.spend.value()).unwrap();
        let Pays::Beside(second) = claim.pays.clone() else { panic!("no HE with anchors") };
        let mut tx = spend(&[coin], 0);
        tx.input.insert(0, claim.spend.input());
        tx.output.insert(0, second);
        let bulk = TxOut { value: Amount::from_sat(1_000), script_pubkey: to_anybody() };
        tx.output.extend((0..outputs).map(|_| bulk.clone()));
        let fee = (tx.vsize() as u64 + 100) * rate + u64::from(outputs) * 1_000;
        tx.output[1].value -= Amount::from_sat(fee);
        let signer = InMemorySigner::from_seed(BOB.0);
        assert!(claim.sign(published, &mut tx, 0, (&signer, &Inline)));
        self.chain_box.submit(&tx).unwrap();
        (claim, tx)
    }

    /// What spends these in the mempool.
    fn spenders(&self, claims: &[Claim]) -> Vec<Txid> {
        let pool = self.chain_box.mempool();
        claims.iter().filter_map(|claim| pool.spender(&claim.spend.outpoint)).collect()
    }

    fn timeouts(&self) -> Vec<Claim> {
        let (_, claims) = self.alice.open().claims().unwrap();
        claims.into_iter().filter(|claim| claim.name == Name::HTD).collect()
    }

    fn is_told_as_paid(&self, amount: u64) -> bool {
        let mut over = self.alice.resolved.iter();
        over.any(|over| {
            let paid = matches!(over.removal, Removal::Fulfilled(_));
            paid && over.amount.msat() == amount * 1_000
        })
    }
}

#[test]
fn one_claim_that_is_held_up_holds_up_no_other() {
    let mut story = begins();
    let claims = story.timeouts();
    assert!(claims.len() > 5, "{claims:?}");
    let (pinned, tx) = story.pins(1_500, 1);
    let amount = pinned.spend.value().sat();
    story.alice_turns();
    let waits = story.spenders(&claims);
    let pins = waits.iter().filter(|txid| **txid == tx.compute_txid()).count();
    assert_eq!((waits.len(), pins), (claims.len(), 1), "the others wait for a block");
    // The mempool showed her the preimage.
    story.catches_up();
    assert!(story.is_told_as_paid(amount));
    // A quiet block.
    story.mines(241 - 210);
    assert!(story.timeouts().is_empty());
}

#[test]
fn who_can_pay_for_it_gets_past_the_pin() {
    let mut story = begins();
    let claims = story.timeouts();
    // More than the batch pays, less than what it is about may cost.
    let (pinned, tx) = story.pins(160, 1);
    story.alice_turns();
    let spender = story.chain_box.mempool().spender(&pinned.spend.outpoint).unwrap();
    assert_ne!(spender, tx.compute_txid());
    let version = &story.shell.sent[&spender];
    assert_eq!(version.claims.len(), 1);
    assert!(version.fee.sat() > 7_000, "{}", version.fee);
    assert_eq!(story.spenders(&claims).len(), claims.len());
}

#[test]
fn a_batch_that_was_driven_out_goes_on_in_parts() {
    let mut story = begins();
    let claims = story.timeouts();
    story.alice_turns();
    let mut waits = story.spenders(&claims);
    waits.dedup();
    assert_eq!(waits.len(), 1, "one batch");
    let (_, tx) = story.pins(1_500, 6);
    assert_eq!(story.spenders(&claims), [tx.compute_txid()]);
    story.mines_with(Vec::new());
    story.alice_turns();
    let waits = story.spenders(&claims);
    assert_eq!(waits.len(), claims.len());
    let pins = waits.iter().filter(|txid| **txid == tx.compute_txid()).count();
    assert_eq!(pins, 1);
}
