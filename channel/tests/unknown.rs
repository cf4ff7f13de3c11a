//! What spends F and is no commitment: an ES that we signed, in whichever version, or something
//! that nobody agreed on.

use crate::simple_close::{alices, bobs, close, close_at, pays, versions, with_bobs};
use crate::support::{preimage, spent_by, wallet_script, Pair, Party, LEGACY, SIMPLE};
use bitcoin::transaction::Version;
use bitcoin::{Amount, ScriptBuf, Sequence, Transaction, TxOut};
use fulmen_channel::amount::{Height, Msat};
use fulmen_channel::input::Input;
use fulmen_channel::message::Message;
use fulmen_channel::output::{Event, Spend};
use fulmen_channel::params::Negotiated;

/// As what a side, after a restart, takes a transaction that spends F.
fn taken_for(party: &mut Party, tx: &Transaction) -> Spend {
    party.crashes();
    party.events.clear();
    party.published.clear();
    party.handle(spent_by(tx.clone())).unwrap();
    assert_eq!(party.published, [], "F is gone: nothing else spends it");
    let told = party.events.iter().find_map(|event| match event {
        Event::Spent { spend, txid } => Some((*spend, *txid)),
        _ => None,
    });
    let (spend, txid) = told.expect("it is told");
    assert_eq!(txid, tx.compute_txid());
    assert_eq!(party.open().life.failed.is_some(), spend != Spend::Mutual);
    party.handle(Input::Unblock(Height::new(100))).unwrap();
    spend
}

fn closing(negotiated: Negotiated) -> Pair {
    let mut pair = Pair::open_with(|open, policy| {
        (open.negotiated, policy.negotiated) = (negotiated, negotiated);
    });
    pair.alice_pays(400_000_000, 1);
    pair.alice.handle(close(alices())).unwrap();
    pair.bob.handle(close(bobs())).unwrap();
    pair.talk();
    pair
}

fn paying(tx: &Transaction, outputs: &[(u64, ScriptBuf)]) -> Transaction {
    let output = |(sat, script): &(u64, ScriptBuf)| TxOut {
        value: Amount::from_sat(*sat),
        script_pubkey: script.clone(),
    };
    Transaction { output: outputs.iter().map(output).collect(), ..tx.clone() }
}

#[test]
fn every_version_that_the_peer_can_have_is_the_mutual_close() {
    for negotiated in [LEGACY, SIMPLE] {
        let pair = closing(negotiated);
        let es = pair.alice.published.last().unwrap().clone();
        // At other fees, which may also have eaten a share that is less than its dust limit.
        for fee in [200, 900, 5_000] {
            let outputs = [(600_000 - fee, alices()), (400_000, bobs())];
            let mut pair = closing(negotiated);
            for party in [&mut pair.alice, &mut pair.bob] {
                assert_eq!(taken_for(party, &paying(&es, &outputs)), Spend::Mutual, "{fee}");
            }
        }
    }
    // What the peer made of our closing_complete, its closing_sig being lost.
    let mut pair = with_bobs(400_000_000);
    pair.alice.handle(close_at(alices(), 1_000)).unwrap();
    pair.bob.handle(close_at(bobs(), 500)).unwrap();
    while versions(&pair.bob).1.is_none() {
        Pair::deliver(&mut pair.alice, &mut pair.bob);
        Pair::deliver(&mut pair.bob, &mut pair.alice);
        pair.bob.sent.retain(|message| !matches!(message, Message::ClosingSig(_)));
    }
    let theirs = versions(&pair.bob).1.unwrap();
    assert!(versions(&pair.alice).0.is_none(), "alice never saw it signed");
    assert_eq!(taken_for(&mut pair.alice, &theirs), Spend::Mutual);
    // A version to a script that the peer has replaced since, and one of ours to an earlier script.
    let mut pair = closing(SIMPLE);
    let before = versions(&pair.alice);
    pair.bob.handle(close_at(wallet_script(8), 4_000)).unwrap();
    pair.talk();
    pair.alice.handle(close_at(wallet_script(7), 9_000)).unwrap();
    pair.talk();
    for tx in [before.0, before.1].into_iter().flatten() {
        assert_eq!(
            pays(&tx, &bobs()) / 1_000,
            if pays(&tx, &bobs()) < 400_000 { 399 } else { 400 }
        );
        for party in [&mut pair.alice, &mut pair.bob] {
            assert_eq!(taken_for(party, &tx), Spend::Mutual);
        }
    }
}

#[test]
fn what_nobody_agreed_on_is_not_known() {
    let stranger = || wallet_script(99);
    let es = closing(LEGACY).alice.published.last().unwrap().clone();
    let cases: [(&str, Vec<(u64, ScriptBuf)>); 5] = [
        ("both shares go elsewhere", vec![(599_000, stranger()), (400_000, wallet_script(98))]),
        ("the peer has more than its balance", vec![(500_000, alices()), (400_001, bobs())]),
        ("all goes to the peer", vec![(999_000, bobs())]),
        ("a third output", vec![(500_000, alices()), (400_000, bobs()), (9_000, stranger())]),
        ("all goes to a stranger", vec![(999_000, stranger())]),
    ];
    for (what, outputs) in cases {
        let mut pair = closing(LEGACY);
        let tx = paying(&es, &outputs);
        assert_eq!(taken_for(&mut pair.alice, &tx), Spend::Unknown, "{what}");
    }
    // Bob pays no fee of a close that Alice funds: his share is his balance.
    let mut pair = closing(LEGACY);
    let less = paying(&es, &[(400_000, alices()), (399_999, bobs())]);
    assert_eq!(taken_for(&mut pair.bob, &less), Spend::Unknown);
    // Nobody said shutdown.
    let mut pair = Pair::open();
    pair.alice_pays(400_000_000, 1);
    assert_eq!(taken_for(&mut pair.alice, &es), Spend::Unknown);
    pair.alice.crashes();
    assert_eq!(pair.alice.published, [], "a later state may be agreed on: ours may be revoked");
    // An HTLC is in flight: no ES is signed before it is settled.
    let mut pair = Pair::open();
    pair.alice_pays(400_000_000, 1);
    pair.alice.offers(Msat::new(10_000_000), preimage(2).hash()).unwrap();
    pair.talk();
    pair.alice.handle(close(alices())).unwrap();
    pair.bob.handle(close(bobs())).unwrap();
    pair.talk();
    assert!(pair.alice.open().life.shutdown_received.is_some());
    assert_eq!(taken_for(&mut pair.alice, &es), Spend::Unknown);
}

#[test]
fn the_form_of_an_es_tells_a_restored_channel_of_it() {
    let pair = closing(LEGACY);
    let lost = crate::restored::backup_of(&pair.alice);
    let es = pair.alice.published.last().unwrap().clone();
    let sees = |tx: &Transaction| crate::restored::sees(&lost, tx, Height::new(1), [1; 32]).0;
    assert_eq!(sees(&es), Spend::Mutual);
    let simple = closing(SIMPLE).alice.published.last().unwrap().clone();
    assert_eq!(sees(&simple), Spend::Mutual);
    let other = |change: &dyn Fn(&mut Transaction)| {
        let mut tx = es.clone();
        change(&mut tx);
        sees(&tx)
    };
    assert_eq!(other(&|tx| tx.version = Version::ONE), Spend::Unknown);
    assert_eq!(other(&|tx| tx.input[0].sequence = Sequence(0)), Spend::Unknown);
    assert_eq!(other(&|tx| tx.output.push(tx.output[0].clone())), Spend::Unknown);
    assert_eq!(other(&|tx| tx.input.push(tx.input[0].clone())), Spend::Unknown);
}
