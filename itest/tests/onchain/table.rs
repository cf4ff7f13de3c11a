//! Whose commitment × what is in flight × preimages known or not × the peer is gone, or races: what
//! Alice has in the end, to the satoshi, and what she was told of her payments.

use super::story::{InFlight, InFlightHtlc, Row, Story, Trouble, Who, DUST};
use crate::chain_box::claims::support::preimage;
use fulmen_channel::contract::htlc::Removal;
use fulmen_channel::onchain::published::Role;
use fulmen_channel::params::CommitmentFormat::{self, Anchors, StaticRemoteKey};

/// What HT and HE of a static_remotekey channel pay by themselves, at 1 sat per weight unit.
pub const HT_FEE: u64 = 663;
pub const HE_FEE: u64 = 703;

/// Whether an HTLC is Alice's by the contract, as each takes it who may first.
fn is_alices(row: &Row, htlc: &InFlightHtlc) -> bool {
    match (htlc.by_alice, row.who.is_breach()) {
        // She is quicker: the cheater's HT has to wait.
        (false, true) => !(row.racing && row.who == Who::Late),
        (true, true) => !(row.racing && row.known),
        (true, false) => !(row.racing && row.is_known(htlc)),
        (false, false) => row.is_known(htlc),
    }
}

/// What is Alice's by the contract, before the fees of her own claims. `paid` is what the
/// commitment itself left to miners; `to_alice` tells who is to have an HTLC, of a revoked one: who
/// takes it first.
pub fn expected(row: &Row, paid: u64, to_alice: impl Fn(&InFlightHtlc) -> bool) -> u64 {
    let (anchors, ht, he) = match row.format {
        Anchors => (660, 0, 0),
        StaticRemoteKey => (0, HT_FEE, HE_FEE),
    };
    let htlcs = row.htlcs();
    let sum = |by_alice: bool| -> u64 {
        htlcs.iter().filter(|h| h.by_alice == by_alice).map(|h| h.sat).sum()
    };
    let with_output = htlcs.iter().filter(|htlc| htlc.sat != DUST);
    if row.who.is_breach() {
        // All of it, but for what the cheater's own second stages left to miners.
        let bobs = with_output.filter(|htlc| !to_alice(htlc));
        let lost: u64 = bobs.map(|htlc| if htlc.by_alice { he } else { ht }).sum();
        return 1_000_000 - anchors - paid - lost;
    }
    // Dust, too, is among what the commitment left to miners.
    let dust: u64 = htlcs.iter().filter(|htlc| htlc.sat == DUST).map(|htlc| htlc.sat).sum();
    let balance = 600_000 - sum(true) - anchors - (paid - dust);
    let won = with_output.filter(|htlc| to_alice(htlc)).map(|htlc| htlc.sat);
    balance + won.sum::<u64>()
}

impl Story {
    /// Whether an HTLC went to Alice, as the chain has it.
    pub fn took(&self, htlc: &InFlightHtlc) -> bool {
        let resolution = self.alice.open().onchain.resolution.as_ref().unwrap();
        let (published, hash) = (&resolution.published, preimage(htlc.n).hash());
        let is_it = |role: &Role| matches!(role, Role::Htlc(_, it, _) if it.payment_hash == hash);
        let mut outputs = published.outputs.iter().filter(|(_, (_, role))| is_it(role));
        let taken =
            outputs.next().and_then(|(at, _)| resolution.taken.get(&published.outpoint(*at)));
        taken.is_some_and(|taken| self.shell.sent.contains_key(&taken.txid))
    }
}

/// Of the HTLCs that Alice offered, how many were told to have been paid, and how many not.
pub fn told(story: &Story) -> (usize, usize) {
    let over = story.alice.resolved.iter();
    // Neither what gave Bob his balance, nor what revoked his commitment.
    let later = over.filter(|over| ![400_000_000, 20_000_000].contains(&over.amount.msat()));
    let paid = |removal: &Removal| matches!(removal, Removal::Fulfilled(_));
    let (paid, failed): (Vec<_>, Vec<_>) = later.partition(|over| paid(&over.removal));
    (paid.len(), failed.len())
}

/// She was told how each of her payments ended.
pub fn is_told_all(story: &Story) {
    let row = &story.row;
    let ours = row.htlcs().into_iter().filter(|htlc| htlc.by_alice);
    let (mut paid, mut failed) = (0, usize::from(row.who == Who::Previous));
    for htlc in ours {
        match row.is_known(&htlc) && row.racing && htlc.sat != DUST {
            true => paid += 1,
            false => failed += 1,
        }
    }
    assert_eq!(told(story), (paid, failed), "{row:?}");
}

/// Of Alice's transactions in blocks: the most claims in one, and the most versions of one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Most {
    pub claims: usize,
    pub versions: u32,
}

impl Most {
    pub fn or(self, other: Most) -> Most {
        let (claims, versions) = (other.claims, other.versions);
        Most { claims: self.claims.max(claims), versions: self.versions.max(versions) }
    }
}

pub fn plays(row: Row) -> Most {
    let mut story = Story::begins(row);
    let paid = story.left;
    story.ends();
    let (sum, fees) = story.alice_earned();
    // So deep a reorganisation brings back what both may take by then.
    let contested = row.trouble == Trouble::HundredGone && row.racing && row.known;
    let all = match contested {
        true => expected(&row, paid, |htlc| story.took(htlc)),
        false => expected(&row, paid, |htlc| is_alices(&row, htlc)),
    };
    assert_eq!(sum + fees, all, "{row:?}");
    let open = story.alice.open();
    assert!(open.is_resolved(6) == Some(true), "{row:?}: {:?}", open.claims());
    is_told_all(&story);
    if row.who.is_breach() {
        assert_eq!(story.bob_earned(), 0, "the cheater has nothing: {row:?}");
    }
    assert!(story.alice_published().len() < 2, "one of these is revoked: {row:?}");
    let confirmed = story.shell.confirmed(&story.chain_box);
    confirmed.fold(Most::default(), |most, version| {
        most.or(Most { claims: version.claims.len(), versions: version.attempts })
    })
}

fn all(format: CommitmentFormat, who: Who) {
    let mut most = Most::default();
    use InFlight::{Both, Dust, Nothing, Offered, Received, Twenty};
    for in_flight in [Nothing, Offered, Received, Dust, Both, Twenty] {
        for (known, racing) in [(false, false), (false, true), (true, false), (true, true)] {
            let trouble = Trouble::Nothing;
            most = most.or(plays(Row { format, who, in_flight, known, racing, trouble }));
        }
    }
    assert!(most.claims > 2, "nothing goes together: {most:?}");
}

fn all_in(trouble: Trouble) -> Most {
    let mut most = Most::default();
    for who in [Who::Local, Who::Remote, Who::Next, Who::Previous, Who::Revoked, Who::Late] {
        for (known, racing) in [(false, false), (true, false), (true, true)] {
            let spike = trouble == Trouble::Spike;
            let in_flight = if spike { InFlight::Large } else { InFlight::Both };
            most = most.or(plays(Row { format: Anchors, who, in_flight, known, racing, trouble }));
        }
    }
    most
}

#[test]
fn most_blocks_ask_for_more_than_estimates_say() {
    let most = all_in(Trouble::Crowd(12_000));
    assert!(most.versions > 2, "nothing was raised: {most:?}");
}

#[test]
fn commitments_are_below_the_mempools_minimum() {
    all_in(Trouble::Minimum(10_000));
}

#[test]
fn feerates_go_from_1_to_300_in_the_middle() {
    all_in(Trouble::Spike);
}

#[test]
fn our_commitment() {
    all(Anchors, Who::Local);
    all(StaticRemoteKey, Who::Local);
}

#[test]
fn the_peers_commitment() {
    all(Anchors, Who::Remote);
    all(StaticRemoteKey, Who::Remote);
}

#[test]
fn the_peers_next_commitment_while_the_one_before_stands() {
    all(Anchors, Who::Next);
    all(StaticRemoteKey, Who::Next);
}

#[test]
fn the_peers_commitment_before_the_one_we_signed_last() {
    all(Anchors, Who::Previous);
    all(StaticRemoteKey, Who::Previous);
}

#[test]
fn a_revoked_commitment() {
    all(Anchors, Who::Revoked);
    all(StaticRemoteKey, Who::Revoked);
}

#[test]
fn a_revoked_commitment_whose_htlcs_have_expired() {
    all(Anchors, Who::Late);
    all(StaticRemoteKey, Who::Late);
}
