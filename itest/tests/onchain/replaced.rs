//! After a reorganisation something else is in the block than before: another commitment, one in
//! place of ES, ES in place of one, or the other side's claim of the same HTLC. What was begun is
//! forgotten, what is there now is taken whole.

use super::shell::own_script;
use super::story::{hears, offers, InFlight, Row, Story, Trouble, Who};
use super::table::{expected, told};
use crate::chain_box::claims::support::{wallet_script, Pair, Party};
use crate::chain_box::claims::World;
use bitcoin::{ScriptBuf, Transaction};
use fulmen_channel::amount::{FeeratePerKw, Height};
use fulmen_channel::input::{Command, Input};
use fulmen_channel::params::CommitmentFormat::{self, Anchors, StaticRemoteKey};
use fulmen_itest::chainbox::Event;

/// One of those that a channel could end with, and Bob as he was when he could publish it.
struct End {
    /// None is ES.
    who: Option<Who>,
    tx: Transaction,
    bob: Party,
}

fn newest(party: &Party) -> Transaction {
    let mut twin = Party::restored(party);
    // It may have failed by itself.
    let _ = twin.handle(Input::Command(Command::ForceClose("gone".into())));
    twin.published.last().unwrap().clone()
}

fn end(who: Who, publisher: &Party, bob: &Party) -> End {
    End { who: Some(who), tx: newest(publisher), bob: Party::restored(bob) }
}

/// A channel in which Bob has revoked one commitment, has another, and was sent the next; Alice has
/// one too. All leave her the same balance.
fn a_channel(row: Row) -> (Story, Vec<End>) {
    let mut world = World::open(row.format, 24);
    let pair = &mut world.pair;
    pair.alice_pays(400_000_000, 0);
    for htlc in row.htlcs() {
        offers(pair, &htlc);
    }
    pair.talk();
    let cheat = Party::restored(&pair.bob);
    pair.alice_pays(20_000_000, 99);
    pair.bob_pays(20_000_000, 98);
    let mut ends =
        vec![end(Who::Revoked, &cheat, &cheat), end(Who::Previous, &pair.bob, &pair.bob)];
    offers(pair, &row.late());
    while Pair::deliver(&mut pair.alice, &mut pair.bob) {}
    ends.push(end(Who::Next, &pair.bob, &pair.bob));
    ends.push(end(Who::Local, &pair.alice, &pair.bob));
    let bob = Party::restored(&pair.bob);
    (Story::of(row, world.chain_box, world.coins, (world.pair.alice, bob)), ends)
}

/// A channel without HTLCs that both have closed together; they revoked something before.
fn a_closed_channel(format: CommitmentFormat) -> (Story, Vec<End>) {
    let (who, in_flight, trouble) = (Who::Local, InFlight::Nothing, Trouble::Nothing);
    let row = Row { format, who, in_flight, known: false, racing: true, trouble };
    let mut world = World::open(format, 24);
    let pair = &mut world.pair;
    pair.alice_pays(400_000_000, 0);
    let cheat = Party::restored(&pair.bob);
    pair.alice_pays(20_000_000, 99);
    pair.bob_pays(20_000_000, 98);
    let close = |script: ScriptBuf| {
        let feerate = Some(FeeratePerKw::new(1_000));
        Input::Command(Command::Close { script, feerate, max_feerate: None })
    };
    pair.alice.handle(close(own_script())).unwrap();
    pair.talk();
    pair.bob.handle(close(wallet_script(77))).unwrap();
    pair.talk();
    let tx = pair.alice.published.last().unwrap().clone();
    let es = End { who: None, tx, bob: Party::restored(&pair.bob) };
    let ends = vec![
        es,
        end(Who::Local, &pair.alice, &pair.bob),
        end(Who::Remote, &pair.bob, &pair.bob),
        end(Who::Revoked, &cheat, &cheat),
    ];
    let bob = Party::restored(&pair.bob);
    (Story::of(row, world.chain_box, world.coins, (world.pair.alice, bob)), ends)
}

impl Story {
    /// Bob is another one from here on, and has seen all blocks.
    fn bob_is(&mut self, bob: Party) {
        self.bob = bob;
        let chain = self.chain_box.chain();
        for height in (1..=chain.height().number()).map(Height::new) {
            let hash = chain.hash_at(height).unwrap();
            let (_, block) = chain.block(&hash).unwrap();
            hears(&mut self.bob, &Event::Connected(height, block.clone()), self.funding);
        }
    }

    /// This one is in the next block; Bob learns his preimages.
    fn ends_with(&mut self, end: &End) {
        self.row.who = end.who.unwrap_or(self.row.who);
        self.bob_is(Party::restored(&end.bob));
        self.left = 1_000_000 - end.tx.output.iter().map(|out| out.value.to_sat()).sum::<u64>();
        self.mines_with(vec![end.tx.clone()]);
        assert!(self.chain_box.chain().find(&end.tx.compute_txid()).is_some());
        let known = self.row.htlcs().into_iter().filter(|htlc| self.row.is_known(htlc));
        known.filter(|htlc| htlc.by_alice).for_each(|htlc| self.bob.fulfills(htlc.n));
    }

    /// What came since the block with the commitment, and that, is gone.
    fn loses_all_since(&mut self, tx: &Transaction) {
        let chain = self.chain_box.chain();
        let (block, _) = chain.find(&tx.compute_txid()).unwrap();
        let depth = chain.confirmations(&block).unwrap();
        self.loses(depth);
        assert!(self.chain_box.chain().find(&tx.compute_txid()).is_none());
    }

    /// All that is Alice's is in her wallet, and she published nothing but `own` for F.
    fn is_settled(&self, own: &[&Transaction], what: &str) {
        let (sum, fees) = self.alice_earned();
        assert_eq!(sum + fees, expected(&self.row, self.left, |htlc| self.took(htlc)), "{what}");
        let open = self.alice.open();
        assert_eq!(open.is_resolved(6), Some(true), "{what}: {:?}", open.claims());
        let is_own = |txid| own.iter().any(|tx| tx.compute_txid() == txid);
        assert!(self.alice_published().into_iter().all(is_own), "{what}: something revoked");
        if self.row.who.is_breach() {
            assert_eq!(self.bob_earned(), 0, "{what}: the cheater has nothing");
        }
    }
}

/// After so many steps of the first one another is there.
fn is_replaced(row: Row, first: usize, then: usize, steps: usize) {
    let (mut story, ends) = a_channel(row);
    let (first, then, own) = (&ends[first], &ends[then], &ends[3].tx);
    let what = format!("{:?} after {steps} of {:?}: {row:?}", then.who, first.who);
    story.ends_with(first);
    if row.known {
        let received: Vec<_> = row.htlcs().into_iter().filter(|htlc| !htlc.by_alice).collect();
        received.iter().for_each(|htlc| story.alice.fulfills(htlc.n));
    }
    for _ in 0..steps {
        story.goes_on();
    }
    story.loses_all_since(&first.tx);
    if steps % 2 == 1 {
        story.alice_restarts();
    }
    story.ends_with(then);
    story.ends();
    story.is_settled(&[own], &what);
    let (paid, failed) = told(&story);
    let offered = row.htlcs().iter().filter(|htlc| htlc.by_alice).count();
    assert_eq!(paid + failed, offered + 1, "each is told once: {what}");
}

fn each_by_each(format: CommitmentFormat) {
    for first in 0..4 {
        for (then, round) in (0..8).map(|n| (n % 4, n / 4)).filter(|(then, _)| *then != first) {
            let turn = first + then + round + usize::from(first < then);
            let in_flight = [InFlight::Both, InFlight::Twenty][turn % 2];
            let (known, racing) = (turn % 4 < 2, (first + 2 * then) % 3 > 0);
            let (who, trouble) = (Who::Previous, Trouble::Nothing);
            let row = Row { format, who, in_flight, known, racing, trouble };
            is_replaced(row, first, then, [0, 1, 2, 5][(first + 3 * then + round) % 4]);
        }
    }
}

#[test]
fn each_commitment_by_each_other() {
    each_by_each(Anchors);
}

#[test]
fn each_commitment_by_each_other_without_anchors() {
    each_by_each(StaticRemoteKey);
}

#[test]
fn a_mutual_close_and_a_commitment_by_each_other() {
    for format in [Anchors, StaticRemoteKey] {
        for (other, deep) in [(1, 1), (2, 6), (3, 99)] {
            for es_first in [true, false] {
                let (mut story, ends) = a_closed_channel(format);
                let (es, own) = (&ends[0], &ends[1].tx);
                let [first, then] = if es_first { [es, &ends[other]] } else { [&ends[other], es] };
                let what = format!("{:?} in place of {:?}, {format:?}", then.who, first.who);
                story.ends_with(first);
                story.alice_turns();
                story.mines(deep);
                story.loses_all_since(&first.tx);
                story.alice_restarts();
                story.ends_with(then);
                story.ends();
                match es_first {
                    true => story.is_settled(&[own, &es.tx], &what),
                    false => {
                        let (gained, fees) = story.alice_earned();
                        assert_eq!((gained + story.left, fees), (600_000, 0), "{what}");
                    }
                }
            }
        }
    }
}

/// Both may take both HTLCs by now. One side's claims are in a block, and after a reorganisation
/// the other's are.
fn claims_are_replaced(format: CommitmentFormat, who: Who, ours_first: bool) {
    let (in_flight, trouble) = (InFlight::Both, Trouble::Nothing);
    let row = Row { format, who, in_flight, known: true, racing: true, trouble };
    let mut story = Story::is_ready(row);
    let own = newest(&story.alice);
    story.publishes();
    story.learns();
    let height = story.chain_box.chain().height().number();
    story.mines(row.expiry().saturating_sub(height));
    story.alice_turns();
    let pool = story.chain_box.mempool().entries();
    let sent = pool.iter().filter(|entry| story.shell.sent.contains_key(&entry.txid));
    let ours: Vec<Transaction> = sent.map(|entry| (*entry.tx).clone()).collect();
    let theirs = story.bobs_turn(story.chain_box.chain().height().plus(1));
    let [first, then] = if ours_first { [ours, theirs] } else { [theirs, ours] };
    story.mines_with(first.clone());
    for _ in 0..2 {
        story.alice_turns();
        story.mines_with(Vec::new());
    }
    let taken = story.row.htlcs().iter().filter(|htlc| story.took(htlc)).count();
    assert_eq!(taken, if ours_first { 2 } else { 0 }, "{row:?}");
    story.loses(3);
    if ours_first {
        story.alice_restarts();
    }
    story.mines_with(then);
    let taken = story.row.htlcs().iter().filter(|htlc| story.took(htlc)).count();
    assert_eq!(taken, if ours_first { 0 } else { 2 }, "{row:?}");
    story.ends();
    story.is_settled(&[&own], &format!("{row:?}"));
    // The preimage was seen either way.
    let (paid, failed) = told(&story);
    let breach = who.is_breach();
    assert!(paid + failed == 1 && (breach || paid == 1), "{row:?}: {paid} paid");
}

#[test]
fn what_one_side_took_of_an_htlc_by_what_the_other_does() {
    for format in [Anchors, StaticRemoteKey] {
        for who in [Who::Local, Who::Remote, Who::Late] {
            claims_are_replaced(format, who, true);
            claims_are_replaced(format, who, false);
        }
    }
}
