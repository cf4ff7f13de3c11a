//! Closing together: ES from each side, with payments still pending, after reconnections, and the
//! haggling over its fee.

use crate::support::{assert_spends, preimage, spent_by, wallet_script, Pair, Party, Verdict};
use bitcoin::{ScriptBuf, Transaction};
use fulmen_channel::amount::{FeeratePerKw, Height, Msat, Sat};
use fulmen_channel::contract::htlc::Removal;
use fulmen_channel::error::Refused;
use fulmen_channel::input::{Command, Input};
use fulmen_channel::message::Message;
use fulmen_channel::output::{Event, Spend};
use fulmen_channel::params::CommitmentFormat;
use lightning::ln::msgs::{ClosingSigned, Shutdown};

fn close(script: ScriptBuf) -> Input {
    Input::Command(Command::Close { script, feerate: None, max_feerate: None })
}

fn close_at(script: ScriptBuf, rate: u32) -> Input {
    Input::Command(Command::Close {
        script,
        feerate: Some(FeeratePerKw::new(rate)),
        max_feerate: None,
    })
}

fn alices() -> ScriptBuf {
    wallet_script(1)
}

fn bobs() -> ScriptBuf {
    wallet_script(2)
}

/// ES as a side published it last.
#[track_caller]
fn es(party: &Party) -> Transaction {
    assert!(party.events.iter().any(|event| matches!(event, Event::Closing(_))));
    assert_eq!(party.channel.funded().unwrap().phase_name(), "closing");
    party.published.last().expect("published").clone()
}

/// What `tx` pays to a script.
fn pays(tx: &Transaction, script: &ScriptBuf) -> u64 {
    tx.output.iter().filter(|out| out.script_pubkey == *script).map(|out| out.value.to_sat()).sum()
}

/// Both have published the same ES, valid by Bitcoin's own rules; what each side gets.
#[track_caller]
fn closed(pair: &Pair) -> (u64, u64) {
    let (a, b) = (es(&pair.alice), es(&pair.bob));
    assert_eq!(a.compute_txid(), b.compute_txid());
    assert_spends(&a, &pair.funding_output());
    assert_spends(&b, &pair.funding_output());
    (pays(&a, &alices()), pays(&a, &bobs()))
}

/// Both want to close, and shutdown went both ways; closing_signed not yet.
fn shut(pair: &mut Pair) {
    pair.bob.handle(close(bobs())).unwrap();
    pair.alice.handle(close(alices())).unwrap();
    let Some(Message::Shutdown(_)) = pair.bob.sent.front() else { panic!("no shutdown") };
    Pair::deliver(&mut pair.alice, &mut pair.bob);
}

#[test]
fn the_funder_closes() {
    let mut pair = Pair::open();
    pair.alice_pays(400_000_000, 1);
    pair.alice.handle(close_at(alices(), 1_000)).unwrap();
    assert!(!pair.alice.is_usable());
    pair.talk();
    assert!(pair.bob.open().owes_shutdown_script(), "bob's node is asked for a script");
    assert!(!pair.bob.is_usable());
    pair.bob.handle(close(bobs())).unwrap();
    pair.talk();
    let (alice, bob) = closed(&pair);
    assert_eq!(bob, 400_000);
    assert!((599_000..600_000).contains(&alice), "{alice}");
}

#[test]
fn the_fundee_closes() {
    let mut pair = Pair::open();
    pair.alice_pays(400_000_000, 1);
    pair.bob.handle(close(bobs())).unwrap();
    pair.talk();
    pair.alice.handle(close(alices())).unwrap();
    pair.talk();
    assert_eq!(closed(&pair).1, 400_000, "the funder pays the fee");
}

#[test]
fn both_close_at_once() {
    let mut pair = Pair::open();
    pair.alice_pays(400_000_000, 1);
    pair.alice.handle(close(alices())).unwrap();
    pair.bob.handle(close(bobs())).unwrap();
    pair.talk();
    closed(&pair);
    assert_eq!(pair.alice.handle(close(alices())).unwrap_err(), Refused::AlreadyClosing);
}

#[test]
fn a_channel_closes_before_it_is_ready() {
    let mut pair = Pair::funded(|_, _| {});
    pair.alice.handle(close(alices())).unwrap();
    pair.bob.handle(close(bobs())).unwrap();
    pair.talk();
    let (alice, bob) = closed(&pair);
    assert_eq!(bob, 0);
    assert!(alice > 999_000);
}

#[test]
fn payments_come_to_their_end_before_the_channel_does() {
    for format in [CommitmentFormat::Anchors, CommitmentFormat::StaticRemoteKey] {
        let mut pair = Pair::open_with(|open, _| open.channel_type.format = format);
        pair.alice_pays(400_000_000, 0);
        pair.alice.handle(Party::offer(1, 50_000_000)).unwrap();
        pair.bob.handle(Party::offer(2, 30_000_000)).unwrap();
        pair.alice.handle(close(alices())).unwrap();
        assert!(!pair.alice.is_saying().contains(&"shutdown") || pair.alice.sent.len() == 3);
        pair.bob.handle(close(bobs())).unwrap();
        pair.talk();
        assert!(!pair.alice.is_saying().contains(&"closing_signed"));
        let more = pair.alice.offers(Msat::new(1_000_000), preimage(3).hash()).unwrap_err();
        assert_eq!(more, Refused::NotUsable("shutting down"));
        pair.bob.fulfills(1);
        pair.talk();
        assert!(pair.alice.published.len() == 1, "one HTLC is left");
        pair.alice.removes(pair.alice.received(2), Removal::Failed(vec![])).unwrap();
        pair.talk();
        assert_eq!(closed(&pair).1, 450_000);
    }
}

#[test]
fn shutdown_waits_until_our_updates_are_signed_for() {
    let mut pair = Pair::open();
    pair.alice.handle(Party::offer(1, 50_000_000)).unwrap();
    pair.alice.handle(Party::offer(2, 50_000_000)).unwrap();
    pair.alice.handle(close(alices())).unwrap();
    assert_eq!(pair.alice.is_saying(), ["add", "commitment_signed"], "the second offer waits");
    while Pair::deliver(&mut pair.alice, &mut pair.bob) {}
    Pair::deliver(&mut pair.bob, &mut pair.alice);
    assert_eq!(pair.alice.is_saying(), ["add", "commitment_signed", "shutdown"]);
    pair.talk();
    pair.bob.fulfills(1);
    pair.bob.fulfills(2);
    pair.bob.handle(close(bobs())).unwrap();
    pair.talk();
    assert_eq!(closed(&pair).1, 100_000);
}

#[test]
fn shutdown_rules() {
    // An HTLC after shutdown, a shutdown with updates pending, scripts of no known form.
    let mut pair = Pair::open();
    pair.alice.handle(Party::offer(1, 50_000_000)).unwrap();
    let add = pair.alice.sent.pop_front().unwrap();
    let says = |script: ScriptBuf| {
        let channel_id = pair.bob.channel.channel_id();
        Message::Shutdown(Box::new(Shutdown { channel_id, scriptpubkey: script }))
    };
    let (fine, other) = (says(alices()), says(bobs()));
    let p2pkh = ScriptBuf::new_p2pkh(&bitcoin::hashes::Hash::from_byte_array([1; 20]));
    let unknown = [says(ScriptBuf::new()), says(p2pkh), says(ScriptBuf::new_op_return([7; 10]))];
    assert_eq!(pair.bob.hears(fine.clone()), Verdict::Fine);
    let late = pair.bob.hears(add.clone());
    assert!(matches!(late, Verdict::Failed(text) if text.contains("after shutdown")));

    let mut pair = Pair::open();
    assert_eq!(pair.bob.hears(add), Verdict::Fine);
    let early = pair.bob.hears(fine.clone());
    assert!(matches!(early, Verdict::Warned(text) if text.contains("pending")));

    for script in unknown {
        let mut pair = Pair::open();
        let verdict = pair.bob.hears(script);
        assert!(matches!(verdict, Verdict::Warned(text) if text.contains("no known form")));
    }
    let mut pair = Pair::open();
    assert_eq!(pair.bob.hears(fine.clone()), Verdict::Fine);
    assert_eq!(pair.bob.hears(fine), Verdict::Fine);
    let changed = pair.bob.hears(other);
    assert!(matches!(changed, Verdict::Warned(text) if text.contains("another script")));
}

#[test]
fn a_script_fixed_at_opening_holds() {
    let mut pair = Pair::open_with(|open, policy| {
        open.local.upfront_shutdown_script = Some(alices());
        policy.local.upfront_shutdown_script = Some(bobs());
    });
    pair.alice_pays(400_000_000, 1);
    let wrong = pair.alice.handle(close(bobs())).unwrap_err();
    assert_eq!(wrong, Refused::WrongShutdownScript);
    let channel_id = pair.bob.channel.channel_id();
    let said = Shutdown { channel_id, scriptpubkey: wallet_script(9) };
    let verdict = pair.bob.hears(Message::Shutdown(Box::new(said)));
    assert!(matches!(verdict, Verdict::Warned(text) if text.contains("fixed at opening")));
    pair.reconnects();
    pair.alice.handle(close(alices())).unwrap();
    pair.talk();
    assert_eq!(closed(&pair).1, 400_000, "bob's answer needs no node");
}

#[test]
fn what_is_dust_goes_to_the_fee() {
    for (bob, paid) in [(0, 0), (293_999, 0), (353_999, 0), (354_000, 354), (999_999, 999)] {
        let mut pair = Pair::open();
        if bob > 0 {
            pair.alice_pays(bob, 1);
        }
        pair.alice.handle(close(alices())).unwrap();
        pair.bob.handle(close(bobs())).unwrap();
        pair.talk();
        assert_eq!(closed(&pair).1, paid, "{bob} msat");
    }
}

#[test]
fn dust_limits_that_differ_make_two_versions_and_both_are_valid() {
    let mut pair = Pair::open_with(|_, policy| policy.local.dust_limit = Sat::new(1_000));
    pair.alice_pays(600_000, 1);
    pair.alice.handle(close(alices())).unwrap();
    pair.bob.handle(close(bobs())).unwrap();
    pair.talk();
    for party in [&pair.alice, &pair.bob] {
        let tx = es(party);
        assert_spends(&tx, &pair.funding_output());
        assert!(pays(&tx, &alices()) > 998_000);
    }
}

#[test]
fn a_cut_at_any_message_of_the_close_only_delays_it() {
    for cut in 0..8 {
        for crash in [false, true] {
            let mut pair = Pair::open();
            pair.alice_pays(400_000_000, 1);
            pair.alice.handle(close(alices())).unwrap();
            pair.bob.handle(close(bobs())).unwrap();
            for step in 0..cut {
                let _ = match step % 2 {
                    0 => Pair::deliver(&mut pair.alice, &mut pair.bob),
                    _ => Pair::deliver(&mut pair.bob, &mut pair.alice),
                };
            }
            if crash {
                pair.alice.crashes();
                pair.bob.crashes();
            }
            pair.reconnects();
            assert_eq!(closed(&pair).1, 400_000, "cut after {cut}");
            // And once more, with ES on its way: it is negotiated again, nobody is failed.
            pair.reconnects();
            assert_eq!(closed(&pair).1, 400_000);
        }
    }
}

#[test]
fn an_error_after_es_is_published_does_not_publish_a_commitment() {
    let mut pair = Pair::open();
    pair.alice_pays(400_000_000, 1);
    pair.alice.handle(close(alices())).unwrap();
    pair.bob.handle(close(bobs())).unwrap();
    pair.talk();
    let txid = es(&pair.alice).compute_txid();
    let channel_id = pair.alice.channel.channel_id();
    let error = lightning::ln::msgs::ErrorMessage { channel_id, data: "unknown channel".into() };
    pair.alice.handle(Input::Message(Message::Error(error))).unwrap();
    assert_eq!(es(&pair.alice).compute_txid(), txid);
    pair.alice.handle(Input::Block(Height::new(9_999))).unwrap();
    pair.alice.crashes();
    assert_eq!(es(&pair.alice).compute_txid(), txid, "again after a restart");
}

#[test]
fn es_in_a_block_is_recognised_even_by_a_side_that_never_saw_its_signature() {
    let mut pair = Pair::open();
    pair.alice_pays(400_000_000, 1);
    pair.alice.handle(close(alices())).unwrap();
    pair.bob.handle(close(bobs())).unwrap();
    while pair.bob.published.is_empty() {
        Pair::deliver(&mut pair.alice, &mut pair.bob);
        Pair::deliver(&mut pair.bob, &mut pair.alice);
        pair.alice.sent.retain(|message| !matches!(message, Message::Warning(_)));
    }
    let tx = es(&pair.bob);
    pair.alice.crashes();
    pair.alice.published.clear();
    pair.alice.handle(spent_by(tx)).unwrap();
    let spent = pair
        .alice
        .events
        .iter()
        .any(|event| matches!(event, Event::Spent { spend: Spend::Mutual, .. }));
    assert!(spent);
    assert!(pair.alice.published.is_empty(), "nothing of ours goes against it");
    assert!(!pair.alice.is_usable());
    assert_eq!(pair.alice.open().phase_name(), "closing");
    assert!(pair.alice.open().life.failed.is_none());
}

/// Bob, a fundee of another make, answers with a fee of his own.
fn haggles(pair: &mut Pair, fee: u64, range: Option<(u64, u64)>) -> Verdict {
    let signed = signed_by(&pair.bob, fee, range);
    pair.alice.hears(Message::ClosingSigned(Box::new(signed)))
}

/// A closing_signed at this fee with the party's true signature.
fn signed_by(party: &Party, fee: u64, range: Option<(u64, u64)>) -> ClosingSigned {
    use fulmen_channel::contract::balance::View;
    use fulmen_channel::params::Side;
    use fulmen_channel::transactions::closing::{build_closing, ClosingSpec, Method, Share};
    let open = party.open();
    let balances = open.contract.content(Side::Local, View::Signed).balances;
    let share = |side: Side, script: &Option<ScriptBuf>| Share {
        balance: balances.of(side),
        script: script.clone().unwrap(),
        omitted: false,
    };
    let spec = ClosingSpec {
        method: Method::Legacy,
        funding: open.contract.funding.outpoint,
        capacity: open.contract.funding.capacity,
        local: share(Side::Local, &open.life.shutdown_sent),
        remote: share(Side::Remote, &open.life.shutdown_received),
        fee: Sat::new(fee),
        payer: open.contract.params.funder,
        dust_limit: Sat::new(354),
    };
    let params = &open.contract.params;
    let (ours, theirs) = (&params.local.basepoints.funding, &params.remote.basepoints.funding);
    let sighash = build_closing(&spec).unwrap().sighash(ours, theirs);
    ClosingSigned {
        channel_id: party.channel.channel_id(),
        fee_satoshis: fee,
        signature: party.channel.sign_announcement(sighash),
        fee_range: range.map(|(min_fee_satoshis, max_fee_satoshis)| {
            lightning::ln::msgs::ClosingSignedFeeRange { min_fee_satoshis, max_fee_satoshis }
        }),
    }
}

/// Alice has proposed a fee; what she proposed and her range. Bob's shutdown has arrived.
fn proposed(pair: &mut Pair) -> (u64, u64, u64) {
    pair.alice_pays(400_000_000, 1);
    pair.alice.handle(close_at(alices(), 1_000)).unwrap();
    shut_by_bob(pair);
    match pair.alice.sent.pop_back() {
        Some(Message::ClosingSigned(said)) => {
            let range = said.fee_range.unwrap();
            (said.fee_satoshis, range.min_fee_satoshis, range.max_fee_satoshis)
        }
        other => panic!("{other:?}"),
    }
}

fn shut_by_bob(pair: &mut Pair) {
    Pair::deliver(&mut pair.alice, &mut pair.bob);
    pair.bob.handle(close(bobs())).unwrap();
    Pair::deliver(&mut pair.bob, &mut pair.alice);
}

#[test]
fn the_funder_hears_an_answer_to_its_fee() {
    enum Ends {
        Agreed,
        Proposes(u64),
        Warned(&'static str),
        Failed(&'static str),
    }
    use Ends::{Agreed, Failed, Proposes, Warned};
    // Alice aims at 674 sat (674 weight units, 1,000 sat/kw) and takes 170 to 2,022.
    let (ideal, min, max) = (674, 170, 2_022);
    type Row = (&'static str, u64, Option<(u64, u64)>, Ends);
    let table: [Row; 9] = [
        ("the same fee", ideal, Some((100, 9_000)), Agreed),
        ("another in the range", 2_000, Some((100, 9_000)), Agreed),
        ("the least", min, Some((100, 9_000)), Agreed),
        ("the most", max, Some((100, 9_000)), Agreed),
        ("above, though ranges meet", max + 1, Some((100, 9_000)), Failed("though the ranges")),
        ("no range in common", 8_000, Some((7_000, 9_000)), Warned("so is its range")),
        ("the same, no range", ideal, None, Agreed),
        ("too high, no range", 2_101, None, Proposes((2_101 + ideal) / 2)),
        ("far too high, no range", 400_000, None, Proposes(max)),
    ];
    for (what, fee, range, ends) in table {
        let mut pair = Pair::open();
        assert_eq!(proposed(&mut pair), (ideal, min, max));
        pair.alice.published.clear();
        let verdict = haggles(&mut pair, fee, range);
        match ends {
            Agreed => {
                assert_eq!(verdict, Verdict::Fine, "{what}");
                let tx = es(&pair.alice);
                assert_spends(&tx, &pair.funding_output());
                assert_eq!(pays(&tx, &alices()), 600_000 - fee, "{what}");
                let answered = pair.alice.is_saying().contains(&"closing_signed");
                assert_eq!(answered, fee != ideal, "{what}: the same fee needs no answer");
            }
            Proposes(fee) => match pair.alice.sent.back() {
                Some(Message::ClosingSigned(said)) => assert_eq!(said.fee_satoshis, fee, "{what}"),
                other => panic!("{what}: {other:?}"),
            },
            Warned(why) => {
                assert!(matches!(verdict, Verdict::Warned(t) if t.contains(why)), "{what}")
            }
            Failed(why) => {
                assert!(matches!(verdict, Verdict::Failed(t) if t.contains(why)), "{what}")
            }
        }
    }
}

#[test]
fn without_ranges_the_fees_come_nearer_or_the_talk_ends() {
    let mut pair = Pair::open();
    proposed(&mut pair);
    haggles(&mut pair, 100_000, None);
    let verdict = haggles(&mut pair, 100_001, None);
    assert!(matches!(verdict, Verdict::Warned(text) if text.contains("is not between")));
    // After a reconnection the talk starts again.
    pair.reconnects();
    closed(&pair);
}

#[test]
fn a_wrong_signature_on_es_fails_the_channel() {
    let mut pair = Pair::open();
    proposed(&mut pair);
    let mut signed = signed_by(&pair.bob, 674, None);
    signed.fee_satoshis = 675;
    let verdict = pair.alice.hears(Message::ClosingSigned(Box::new(signed)));
    assert!(matches!(verdict, Verdict::Failed(text) if text.contains("signature")));
    let ours = pair.alice.channel.commitments().0.unwrap().txid;
    assert_eq!(pair.alice.published.last().unwrap().compute_txid(), ours);
    let mut pair = Pair::open();
    proposed(&mut pair);
    let mut unpayable = signed_by(&pair.bob, 674, None);
    unpayable.fee_satoshis = u64::MAX;
    let verdict = pair.alice.hears(Message::ClosingSigned(Box::new(unpayable)));
    assert!(matches!(verdict, Verdict::Failed(text) if text.contains("cannot be paid")));
}

#[test]
fn closing_signed_before_the_channel_is_bare_is_refused() {
    let mut pair = Pair::open();
    pair.alice_pays(400_000_000, 1);
    pair.alice.handle(Party::offer(2, 1_000_000)).unwrap();
    pair.talk();
    shut(&mut pair);
    let mut twin = Pair::open();
    twin.alice_pays(400_000_000, 1);
    proposed_like(&mut twin);
    let signed = signed_by(&twin.alice, 674, None);
    let verdict = pair.bob.hears(Message::ClosingSigned(Box::new(signed)));
    assert!(matches!(verdict, Verdict::Warned(text) if text.contains("not ready to close")));
}

fn proposed_like(pair: &mut Pair) {
    pair.alice.handle(close(alices())).unwrap();
    shut_by_bob(pair);
}

#[test]
fn a_fundee_takes_any_fee_the_funder_pays() {
    for rate in [253, 1_000, 50_000, 250_000] {
        let mut pair = Pair::open();
        pair.alice_pays(400_000_000, 1);
        pair.bob.handle(close_at(bobs(), 253)).unwrap();
        pair.alice.handle(close_at(alices(), rate)).unwrap();
        pair.talk();
        assert_eq!(closed(&pair).1, 400_000);
    }
}
