//! The tree of a channel's transactions: as text for stories small enough to read, and beside the
//! claims at each step of the long ones.

use super::chain::{takes, Chain};
use crate::support::{spent_by, Pair, Party};
use fulmen_channel::amount::Height;
use fulmen_channel::changeset::Row;
use fulmen_channel::input::{Command, Input};
use fulmen_channel::onchain::claim::{Claim, Name};
use fulmen_channel::onchain::deadline::DELIVERY;
use fulmen_channel::onchain::tree::{By, Needs, Node, Output, State, Title};
use fulmen_channel::transactions::commitment::HtlcRef;

/// A claim as both tell it.
type Told = (Name, Option<HtlcRef>, Height);

fn ours(node: &Node, found: &mut Vec<Told>) {
    for output in &node.outputs {
        for spend in &output.spends {
            let open = matches!(spend.state, State::Ready | State::Waits);
            let able = matches!(spend.needs, Needs::Nothing | Needs::Preimage { known: true });
            if let (Title::Claim(name), By::Us, true, true, Some(_), Some(from)) =
                (spend.title, spend.by, open, able, node.height, spend.from)
            {
                found.push((name, output.htlc.map(|(tag, _)| tag), from));
            }
            ours(spend, found);
        }
    }
}

/// Once a commitment is in a block, the tree's ways that are open to us are the claims, and what is
/// in reach is what the next block may hold.
#[track_caller]
pub fn agrees_with_claims(party: &Party) {
    let Some((_, claims)) = party.open().claims() else { return };
    let tree = party.channel.tree().unwrap();
    let mut found = Vec::new();
    ours(&tree, &mut found);
    found.retain(|(name, _, _)| *name != Name::Anchor);
    found.sort_unstable();
    let told = |claim: &Claim| (claim.name, claim.htlc, claim.from);
    let mut expected: Vec<Told> = claims.iter().map(told).collect();
    expected.sort_unstable();
    assert_eq!(found, expected, "{}", party.name);
    for claim in claims.iter().filter(|it| matches!(it.name, Name::HTRD | Name::HERD)) {
        assert!(claim.spend.weight() <= DELIVERY, "{}", claim.spend.weight());
    }
}

/// The tree as text: name, whose, state, and what is to be waited for or needed.
pub fn draw(node: &Node) -> String {
    let mut text = String::new();
    write(node, 0, &mut text);
    text
}

fn write(node: &Node, depth: usize, text: &mut String) {
    let mut line = format!("{} {:?} {:?}", node.title, node.by, node.state);
    for (mark, height) in [("@", node.height), ("from ", node.from), ("until ", node.until)] {
        if let Some(height) = height {
            line.push_str(&format!(" {mark}{}", height.number()));
        }
    }
    if node.delay > 0 {
        line.push_str(&format!(" +{}", node.delay));
    }
    match node.needs {
        Needs::Nothing => {}
        Needs::Preimage { known: true } => line.push_str(" R"),
        Needs::Preimage { known: false } => line.push_str(" R?"),
        other => line.push_str(&format!(" {other:?}")),
    }
    text.push_str(&format!("{}{line}\n", " ".repeat(depth)));
    for Output { what, value, owner, spends, taken, .. } in &node.outputs {
        let value = value.map_or("?".into(), |value| value.sat().to_string());
        let taken = if taken.is_some() { ", taken" } else { "" };
        text.push_str(&format!("{} {what:?} {owner:?} {value}{taken}\n", " ".repeat(depth)));
        spends.iter().for_each(|spend| write(spend, depth + 2, text));
    }
}

/// Alice offers one HTLC, and Bob one.
fn pair() -> Pair {
    let mut pair = Pair::open();
    pair.alice_pays(400_000_000, 0);
    pair.alice.handle(Party::offer(1, 50_000_000)).unwrap();
    pair.bob.handle(Party::offer(2, 60_000_000)).unwrap();
    pair.talk();
    pair.alice.handle(Input::Block(Height::new(99))).unwrap();
    pair
}

/// What hangs on the node with this title.
fn below(tree: &Node, title: Title, by: By) -> String {
    let is = |node: &&Node| node.title == title && node.by == by && !node.outputs.is_empty();
    draw(tree.all().into_iter().find(is).expect("it is in the tree"))
}

fn force(party: &mut Party) -> bitcoin::Transaction {
    party.handle(Input::Command(Command::ForceClose("gone".into()))).unwrap();
    party.published.last().unwrap().clone()
}

#[test]
fn an_open_channel_shows_both_commitments_and_all_that_could_come() {
    let pair = pair();
    let tree = pair.alice.channel.tree().unwrap();
    let drawn = draw(&tree);
    assert!(drawn.starts_with("F Us OnChain @0\n Funding Both 1000000\n  C Us Ready\n"), "{drawn}");
    assert!(drawn.ends_with("  ES Both Waits Agreement\n"), "{drawn}");
    let expected = "\
C Us Ready
 Anchor Them 330
  Anchor Them Waits
  Anchor Anybody Waits +16
 Anchor Us 330
  Anchor Us Waits
  Anchor Anybody Waits +16
 Htlc Us 50000
  HT Us Waits from 501 +1
   SecondStage Us 50000
    HTRD Us Waits +144
    HTBR Them Waits Revocation
  HED Them Waits until 501 +1 R?
  HBR Them Waits Revocation
 Htlc Them 60000
  HE Us Waits until 501 +1 R?
   SecondStage Us 60000
    HERD Us Waits +144
    HEBR Them Waits Revocation
  HTD Them Waits from 501 +1
  HBR Them Waits Revocation
 ToRemote Them 340000
  D Them Waits +1
 ToLocal Us 547872
  RD Us Waits +144
  BR Them Waits Revocation
";
    assert_eq!(below(&tree, Title::C, By::Us), expected);
    let theirs = below(&tree, Title::C, By::Them);
    assert!(theirs.contains(" ToLocal Them 340000\n  RD Them Waits +144\n  BR Us Waits Rev"));
    let txids: Vec<_> = tree.all().iter().filter_map(|node| node.txid).collect();
    let (local, remote) = pair.alice.channel.commitments();
    assert_eq!(txids[1..], [local.unwrap().txid, remote.unwrap().txid]);
}

#[test]
fn our_commitment_from_its_publication_to_what_it_pays() {
    let mut pair = pair();
    pair.alice.fulfills(2);
    let commitment = force(&mut pair.alice);
    let published = draw(&pair.alice.channel.tree().unwrap());
    assert!(published.contains("  C Us Published\n"), "{published}");
    // It is revoked no more, and nobody agrees on anything.
    assert!(!published.contains("Revocation") && !published.contains("ES"), "{published}");
    let funding = pair.alice.open().contract.funding.outpoint;
    let mut chain = Chain::with(funding, pair.funding_output());
    chain.take(&commitment).unwrap();
    pair.alice.handle(spent_by(commitment)).unwrap();
    pair.alice.handle(Input::Block(Height::new(100))).unwrap();
    let tree = pair.alice.channel.tree().unwrap();
    let drawn = draw(&tree);
    // Bob had not revoked the one before his latest.
    let gone = "  C Them Gone\n".repeat(2);
    let spends = format!(" Funding Both 1000000, taken\n{gone}  C Us OnChain @100\n");
    assert!(drawn.contains(&spends), "{drawn}");
    let drawn = below(&tree, Title::C, By::Us);
    for way in [
        "  HT Us Waits from 501 +1\n   SecondStage Us 50000\n    HTRD Us Waits +144\n",
        "  HED Them Ready from 101 until 501 +1 R?\n",
        "  HE Us Ready from 101 until 501 +1 R\n",
        "  HTD Them Waits from 501 +1\n",
        "  RD Us Waits from 244 +144\n",
        "  D Them Ready from 101 +1\n",
        "  Anchor Us Ready from 100 until 116\n",
    ] {
        assert!(drawn.contains(way), "{way}\n{drawn}");
    }
    // HE is in a block: HERD waits for it alone, and what it excludes is gone.
    chain.at(101);
    let (published, claims) = pair.alice.open().claims().unwrap();
    let execution = claims.iter().find(|claim| claim.name == Name::HE).unwrap();
    let tx = takes(execution, published, [1; 32]);
    chain.take(&tx).unwrap();
    let (tx, height) = (Box::new(tx), Height::new(101));
    pair.alice.handle(Input::Block(height)).unwrap();
    pair.alice.handle(Input::OutputSpent { tx: tx.clone(), height }).unwrap();
    let tree = pair.alice.channel.tree().unwrap();
    let drawn = below(&tree, Title::C, By::Us);
    let executed = " Htlc Them 60000, taken\n  HE Us OnChain @101 from 101 until 501 +1 R\n   \
                    SecondStage Us 60000\n    HERD Us Waits from 245 +144\n  \
                    HTD Them Gone from 501 +1\n";
    assert!(drawn.contains(executed), "{drawn}");
    let named = tree.all().into_iter().find(|node| node.txid == Some(tx.compute_txid()));
    assert_eq!(named.map(|node| node.title), Some(Title::Claim(Name::HE)));
}

#[test]
fn their_commitment_pays_us_straight() {
    let mut pair = pair();
    let commitment = force(&mut pair.bob);
    pair.alice.handle(spent_by(commitment)).unwrap();
    pair.alice.handle(Input::Block(Height::new(500))).unwrap();
    let tree = pair.alice.channel.tree().unwrap();
    assert!(draw(&tree).contains("  C Us Gone\n  C Them OnChain @100\n"));
    let drawn = below(&tree, Title::C, By::Them);
    for way in [
        "  D Us Ready from 101 +1\n",
        "  HTD Us Ready from 501 +1\n",
        // They may know the preimage; we do not.
        "  HE Them Ready from 101 until 501 +1 R?\n",
        "  HED Us Waits from 101 until 501 +1 R?\n",
        "  HT Them Ready from 501 +1\n",
    ] {
        assert!(drawn.contains(way), "{way}\n{drawn}");
    }
    assert!(!drawn.contains("BR "), "nobody was wronged\n{drawn}");
}

#[test]
fn a_revoked_commitment_is_all_ours_for_a_while() {
    let mut pair = pair();
    let mut cheat = Party::restored(&pair.bob);
    pair.alice_pays(1_000_000, 7);
    let revoked = force(&mut cheat);
    let pick = |row| match row {
        Row::Penalty(by, id) => Some((by, id)),
        _ => None,
    };
    let records = pair.alice.disk.each(pick).unwrap();
    let (tx, height) = (Box::new(revoked), Height::new(100));
    pair.alice.handle(Input::Block(height)).unwrap();
    pair.alice.handle(Input::FundingSpent { tx, height, records }).unwrap();
    let drawn = below(&pair.alice.channel.tree().unwrap(), Title::C, By::Them);
    for way in [
        "  RD Them Waits from 244 +144\n  BR Us Ready from 100 until 244\n",
        "  HBR Us Ready from 100 until 501\n",
        "  HBR Us Ready from 100 until 101\n",
        "    HTRD Them Waits +144\n    HTBR Us Waits\n",
        "  D Us Ready from 101 +1\n",
    ] {
        assert!(drawn.contains(way), "{way}\n{drawn}");
    }
    agrees_with_claims(&pair.alice);
}

#[test]
fn a_channel_closed_together_shows_es_and_what_it_made_impossible() {
    let mut pair = Pair::open();
    pair.alice_pays(400_000_000, 0);
    for (party, n) in [(&mut pair.alice, 3), (&mut pair.bob, 4)] {
        let script = crate::support::wallet_script(n);
        let (feerate, max_feerate) = (None, None);
        let close = Command::Close { script, feerate, max_feerate };
        party.handle(Input::Command(close)).unwrap();
    }
    pair.talk();
    let es = pair.alice.published.last().unwrap().clone();
    let drawn = draw(&pair.alice.channel.tree().unwrap());
    assert!(drawn.contains("  C Us Ready\n") && drawn.contains("  ES Both Published\n"));
    pair.alice.handle(spent_by(es)).unwrap();
    let drawn = draw(&pair.alice.channel.tree().unwrap());
    assert!(drawn.contains("  C Us Gone\n  C Them Gone\n  ES Both OnChain @100\n"), "{drawn}");
    assert!(drawn.contains("   Share Them 400000\n"), "{drawn}");
}

/// As long as Bob has not revoked it, his commitment before his latest may come too: it is drawn
/// whole, and it is the one that he has.
#[test]
fn the_peers_commitment_before_its_latest_is_drawn_with_all_that_hangs_on_it() {
    let mut seen = 0;
    for steps in 0..40 {
        let mut pair = pair();
        pair.bob.fulfills(1);
        pair.alice.handle(Party::offer(3, 30_000_000)).unwrap();
        pair.bob.handle(Party::offer(4, 40_000_000)).unwrap();
        for step in 0..steps {
            match step % 2 {
                0 => Pair::deliver(&mut pair.alice, &mut pair.bob),
                _ => Pair::deliver(&mut pair.bob, &mut pair.alice),
            };
            if step == 9 {
                pair.alice.fulfills(2);
            }
        }
        let his = pair.bob.channel.commitments().0.unwrap();
        let contract = &pair.alice.open().contract;
        let tree = pair.alice.channel.tree().unwrap();
        let all = tree.all();
        let theirs = all.iter().filter(|node| node.title == Title::C && node.by == By::Them);
        let theirs: Vec<_> = theirs.collect();
        assert_eq!(theirs.len(), if contract.state.awaiting_revocation { 2 } else { 1 });
        let found = theirs.iter().find(|node| node.txid == Some(his.txid));
        let found = found.unwrap_or_else(|| panic!("after {steps}: not his"));
        assert_eq!(found.outputs.len(), his.tx.output.len());
        let values = found.outputs.iter().map(|output| output.value.unwrap().to_amount());
        assert_eq!(values.sum::<bitcoin::Amount>(), his.tx.output.iter().map(|o| o.value).sum());
        seen += usize::from(found.number < Some(contract.state.remote_number));
    }
    assert!(seen > 5, "the one before was his in {seen} cases only");
}
