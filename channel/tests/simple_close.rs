//! Closing by closing_complete and closing_sig: an ES from each side, dearer versions, what is too
//! small for an output, hostile peers, and reconnections.

use crate::simple_close_rules::Forger;
use crate::support::{
    assert_spends, spent_by, wallet_script, Pair, Party, Verdict, LEGACY, SIMPLE,
};
use bitcoin::{ScriptBuf, Sequence, Transaction};
use fulmen_channel::amount::{FeeratePerKw, Height, Sat};
use fulmen_channel::error::Refused;
use fulmen_channel::input::{Command, Feerates, Input};
use fulmen_channel::message::Message;
use fulmen_channel::output::{Event, Settled, Spend};
use fulmen_channel::params::{CommitmentFormat, Negotiated, Side};
use fulmen_channel::protocol::closing::{is_shutdown_script, PATIENCE};

pub fn close(script: ScriptBuf) -> Input {
    Input::Command(Command::Close { script, feerate: None, max_feerate: None })
}

pub fn close_at(script: ScriptBuf, rate: u32) -> Input {
    let feerate = Some(FeeratePerKw::new(rate));
    Input::Command(Command::Close { script, feerate, max_feerate: None })
}

pub fn alices() -> ScriptBuf {
    wallet_script(1)
}

pub fn bobs() -> ScriptBuf {
    wallet_script(2)
}

/// What `tx` pays to a script.
pub fn pays(tx: &Transaction, script: &ScriptBuf) -> u64 {
    tx.output.iter().filter(|out| out.script_pubkey == *script).map(|out| out.value.to_sat()).sum()
}

/// A channel of 1,000,000 sat of which Bob has so much.
pub fn with_bobs(msat: u64) -> Pair {
    let mut pair = Pair::open_simple();
    if msat > 0 {
        pair.alice_pays(msat, 1);
    }
    pair
}

/// The same, and both have closed: Alice at 1,000 sat/kw, Bob at 500.
fn closed(msat: u64) -> Pair {
    let mut pair = with_bobs(msat);
    pair.alice.handle(close_at(alices(), 1_000)).unwrap();
    pair.bob.handle(close_at(bobs(), 500)).unwrap();
    pair.talk();
    pair
}

/// The ES that a side published: its own last version, and the peer's.
pub fn versions(party: &Party) -> (Option<Transaction>, Option<Transaction>) {
    let closing = &party.open().closing;
    for tx in [&closing.ours, &closing.theirs].into_iter().flatten() {
        assert!(party.published.contains(tx), "{} keeps what it did not publish", party.name);
    }
    (closing.ours.clone(), closing.theirs.clone())
}

/// Both have both versions, valid by Bitcoin's own rules: Alice's and Bob's.
#[track_caller]
pub fn agreed(pair: &Pair) -> (Transaction, Transaction) {
    let (alices, bobs) = versions(&pair.alice);
    let (alices, bobs) = (alices.expect("alice's"), bobs.expect("bob's"));
    assert_eq!(versions(&pair.bob), (Some(bobs.clone()), Some(alices.clone())));
    for tx in [&alices, &bobs] {
        assert_spends(tx, &pair.funding_output());
        assert_eq!(tx.version.0, 2);
        assert_eq!(tx.input[0].sequence, Sequence(0xffff_fffd));
    }
    assert_eq!(pair.alice.open().phase_name(), "closing");
    (alices, bobs)
}

/// What an ES pays a side, as that side knows it.
fn share(party: &Party, es: &Transaction) -> u64 {
    let [ours, theirs] = party.open().shares_in(es);
    assert_eq!(ours.is_some() as usize + theirs.is_some() as usize, es.output.len());
    ours.map_or(0, |out| out.value.to_sat())
}

fn settled(party: &Party) -> Vec<Settled> {
    let settled = |event: &Event| match event {
        Event::Closing(settled) => Some(*settled),
        _ => None,
    };
    party.events.iter().filter_map(settled).collect()
}

#[test]
fn each_side_makes_an_es_and_pays_for_it() {
    for format in [CommitmentFormat::Anchors, CommitmentFormat::StaticRemoteKey] {
        let mut pair = Pair::open_with(|open, policy| {
            (open.negotiated, policy.negotiated) = (SIMPLE, SIMPLE);
            open.channel_type = format.into();
        });
        pair.alice_pays(400_000_000, 1);
        pair.alice.handle(close_at(alices(), 1_000)).unwrap();
        pair.talk();
        assert!(pair.bob.open().owes_shutdown_script());
        pair.bob.handle(close_at(bobs(), 500)).unwrap();
        pair.talk();
        let (a, b) = agreed(&pair);
        // 674 weight units: as predicted for two outputs of this kind.
        assert_eq!((pays(&a, &alices()), pays(&a, &bobs())), (600_000 - 674, 400_000));
        assert_eq!((pays(&b, &alices()), pays(&b, &bobs())), (600_000, 400_000 - 337));
        let told: Vec<_> = settled(&pair.alice).iter().map(|it| (it.ours, it.fee)).collect();
        assert!(told.contains(&(true, Sat::new(674))) && told.contains(&(false, Sat::new(337))));
        assert_eq!(pair.alice.open().closing.begun_by, Some(Side::Local));
        assert_eq!(pair.bob.open().closing.begun_by, Some(Side::Remote));
        assert_eq!(share(&pair.alice, &b), 600_000);
        assert_eq!(share(&pair.bob, &b), 400_000 - 337);
    }
}

#[test]
fn who_only_answers_pays_as_little_as_is_relayed() {
    let mut pair = with_bobs(400_000_000);
    for party in [&mut pair.alice, &mut pair.bob] {
        let rate = FeeratePerKw::new(5_000);
        let feerates = Feerates { anchors: FeeratePerKw::FLOOR, urgent: rate, close: rate };
        party.handle(Input::Feerates(feerates)).unwrap();
    }
    pair.alice.handle(close(alices())).unwrap();
    pair.talk();
    pair.bob.handle(close(bobs())).unwrap();
    pair.talk();
    let (a, b) = agreed(&pair);
    assert_eq!((pays(&a, &alices()), pays(&b, &bobs())), (600_000 - 3_370, 400_000 - 170));
}

#[test]
fn both_close_at_once() {
    let mut pair = with_bobs(400_000_000);
    pair.alice.handle(close(alices())).unwrap();
    pair.bob.handle(close(bobs())).unwrap();
    assert_eq!(pair.alice.is_saying(), ["shutdown"]);
    assert_eq!(pair.bob.is_saying(), ["shutdown"]);
    pair.talk();
    agreed(&pair);
    assert_eq!(pair.alice.open().closing.begun_by, Some(Side::Local));
    assert_eq!(pair.bob.open().closing.begun_by, Some(Side::Local));
}

#[test]
fn a_dearer_version_replaces_the_first_as_often_as_one_likes() {
    let mut pair = closed(400_000_000);
    let (first, bobs_first) = agreed(&pair);
    for rate in [2_000, 5_000] {
        pair.alice.handle(close_at(alices(), rate)).unwrap();
        assert_eq!(pair.alice.is_saying(), ["closing_complete"]);
        pair.talk();
        let (a, b) = agreed(&pair);
        assert_eq!(b, bobs_first, "bob's stays as it is");
        assert_eq!(pays(&a, &alices()), 600_000 - u64::from(rate) * 674 / 1_000);
        assert_eq!(pays(&a, &bobs()), 400_000);
        assert_ne!(a, first);
    }
    // Bob's must beat Alice's: 3,370 sat, and 170 for its own way through the network.
    let low = pair.bob.handle(close_at(bobs(), 5_000)).unwrap_err();
    let least = Sat::new(3_370 + 170);
    assert_eq!(low, Refused::ClosingFeeTooLow { fee: Sat::new(3_370), least });
    pair.bob.handle(close_at(bobs(), 6_000)).unwrap();
    pair.talk();
    assert_eq!(pays(&agreed(&pair).1, &bobs()), 400_000 - 4_044);
    // After a restart all that counts is published again, what is dearer last.
    pair.alice.published.clear();
    pair.alice.crashes();
    let (a, b) = agreed_after_restart(&pair.alice);
    assert_eq!(pair.alice.published[pair.alice.published.len() - 2..], [a, b]);
}

fn agreed_after_restart(party: &Party) -> (Transaction, Transaction) {
    let (ours, theirs) = versions(party);
    (ours.unwrap(), theirs.unwrap())
}

#[test]
fn a_share_may_go_elsewhere_in_the_next_version() {
    let mut pair = closed(400_000_000);
    let (old, _) = agreed(&pair);
    let elsewhere = wallet_script(9);
    pair.alice.handle(close_at(elsewhere.clone(), 2_000)).unwrap();
    pair.talk();
    let (a, _) = agreed(&pair);
    assert_eq!((pays(&a, &elsewhere), pays(&a, &alices())), (600_000 - 1_348, 0));
    // Bob's next version pays there, too, and we know our share in any that confirms.
    pair.bob.handle(close_at(bobs(), 4_000)).unwrap();
    pair.talk();
    let (_, b) = agreed(&pair);
    assert_eq!(pays(&b, &elsewhere), 600_000);
    for (tx, paid) in [(&old, 600_000 - 674), (&a, 600_000 - 1_348), (&b, 600_000)] {
        assert_eq!(share(&pair.alice, tx), paid);
    }
    // After a reconnection shutdown names the last script.
    pair.disconnects();
    pair.alice.handle(Input::Connected(SIMPLE)).unwrap();
    pair.bob.handle(Input::Connected(SIMPLE)).unwrap();
    Pair::deliver(&mut pair.bob, &mut pair.alice);
    let said = pair.alice.sent.iter().find_map(|message| match message {
        Message::Shutdown(said) => Some(said.scriptpubkey.clone()),
        _ => None,
    });
    assert_eq!(said, Some(elsewhere));
}

#[test]
fn both_change_their_scripts_at_once_and_a_reconnection_resolves_it() {
    let mut pair = closed(400_000_000);
    pair.alice.handle(close_at(wallet_script(8), 2_000)).unwrap();
    pair.bob.handle(close_at(wallet_script(9), 3_000)).unwrap();
    let (a, b) = (pair.alice.sent.pop_front().unwrap(), pair.bob.sent.pop_front().unwrap());
    for (party, said) in [(&mut pair.bob, a), (&mut pair.alice, b)] {
        let verdict = party.hears(said);
        assert!(matches!(verdict, Verdict::Warned(text) if text.contains("that we said last")));
    }
    pair.reconnects();
    let (a, b) = agreed(&pair);
    assert_eq!(
        (pays(&a, &wallet_script(8)), pays(&a, &wallet_script(9))),
        (600_000 - 1_348, 400_000)
    );
    assert_eq!(
        (pays(&b, &wallet_script(8)), pays(&b, &wallet_script(9))),
        (600_000, 400_000 - 2_022)
    );
}

#[test]
fn a_version_that_is_wanted_while_one_is_unanswered_waits_for_the_answer() {
    let mut pair = with_bobs(400_000_000);
    pair.alice.handle(close_at(alices(), 1_000)).unwrap();
    pair.bob.handle(close_at(bobs(), 500)).unwrap();
    while !pair.alice.is_saying().contains(&"closing_complete") {
        Pair::deliver(&mut pair.alice, &mut pair.bob);
        Pair::deliver(&mut pair.bob, &mut pair.alice);
    }
    pair.alice.handle(close_at(alices(), 3_000)).unwrap();
    let offers = pair.alice.is_saying().iter().filter(|name| **name == "closing_complete").count();
    assert_eq!(offers, 1);
    pair.talk();
    assert_eq!(pays(&agreed(&pair).0, &alices()), 600_000 - 2_022);
}

#[test]
fn what_is_too_small_is_left_out_on_either_side() {
    // Bob's balance in msat; what Alice's version pays him; what his own pays him, if there is one.
    let table: [(u64, u64, Option<u64>); 9] = [
        (0, 0, None),
        // Too little for a transaction without his output: 550 weight units at 253 sat/kw.
        (138_999, 0, None),
        (139_000, 0, Some(0)),
        (293_999, 0, Some(0)),
        // Alice's version pays him, his own would not.
        (294_000, 294, None),
        (463_999, 463, None),
        // At less than he asked for, down to 170 sat.
        (464_000, 464, Some(294)),
        (630_999, 630, Some(294)),
        (1_000_000, 1_000, Some(663)),
    ];
    for (msat, paid, own) in table {
        let pair = closed(msat);
        let (a, b) = versions(&pair.alice);
        let a = a.expect("alice can pay");
        assert_spends(&a, &pair.funding_output());
        assert_eq!(pays(&a, &bobs()), paid, "{msat} msat");
        assert_eq!(a.output.len(), 1 + usize::from(paid > 0));
        assert_eq!(b.as_ref().map(|tx| pays(tx, &bobs())), own, "{msat} msat");
        if let Some(tx) = b {
            assert_spends(&tx, &pair.funding_output());
            assert_eq!(pays(&tx, &alices()), (1_000_000_000 - msat) / 1_000);
        }
    }
}

#[test]
fn a_share_may_be_given_up_for_a_message() {
    let message = ScriptBuf::from_hex("6a06aabbccddeeff").unwrap();
    let mut pair = with_bobs(5_000_000);
    pair.alice.handle(close_at(alices(), 1_000)).unwrap();
    pair.bob.handle(close_at(message.clone(), 500)).unwrap();
    pair.talk();
    let (a, b) = agreed(&pair);
    for (tx, rest) in [(&a, 995_000), (&b, 995_000)] {
        let output = tx.output.iter().find(|out| out.script_pubkey == message).expect("a message");
        assert_eq!(output.value.to_sat(), 0);
        assert!(rest - pays(tx, &alices()) < 1_000);
    }
    assert_eq!(pays(&b, &alices()), 995_000);
    // Without option_simple_close there is no such share.
    let mut pair = Pair::open();
    let refused = pair.bob.handle(close(message)).unwrap_err();
    assert_eq!(refused, Refused::WrongShutdownScript);
}

#[test]
fn forms_of_scripts() {
    let push = |length: usize, head: &str| format!("6a{head}{}", "ab".repeat(length));
    let neither = Negotiated::default();
    let table: [(String, bool, bool, bool); 14] = [
        // with neither feature, with any segwit, with simple close too
        (format!("0014{}", "11".repeat(20)), true, true, true),
        (format!("0020{}", "11".repeat(32)), true, true, true),
        (format!("5120{}", "11".repeat(32)), false, true, true),
        ("51024e73".into(), false, true, true),
        (format!("6028{}", "11".repeat(40)), false, true, true),
        (format!("76a914{}88ac", "11".repeat(20)), false, false, false),
        (format!("a914{}87", "11".repeat(20)), false, false, false),
        (push(6, "06"), false, false, true),
        (push(75, "4b"), false, false, true),
        (push(76, "4c4c"), false, false, true),
        (push(80, "4c50"), false, false, true),
        (push(5, "05"), false, false, false),
        (push(75, "4c4b"), false, false, false),
        (push(81, "4c51"), false, false, false),
    ];
    for (hex, plain, any_segwit, simple) in table {
        let script = ScriptBuf::from_hex(&hex).unwrap();
        let judged = [neither, LEGACY, SIMPLE].map(|known| is_shutdown_script(&script, known));
        assert_eq!(judged, [plain, any_segwit, simple], "{hex}");
    }
}

#[test]
fn the_method_is_that_of_the_connection() {
    // The wrong method's messages are refused.
    let mut forger = Forger::new(400_000_000);
    let said = forger.complete(700, 0);
    let mut legacy = Pair::open();
    legacy.alice.handle(close(alices())).unwrap();
    let verdict = legacy.alice.hears(Message::ClosingComplete(Box::new(said)));
    assert!(matches!(verdict, Verdict::Warned(text) if text.contains("not negotiated")));
    let signed = lightning::ln::msgs::ClosingSigned {
        channel_id: forger.pair.alice.channel.channel_id(),
        fee_satoshis: 700,
        signature: forger.pair.bob.channel.sign_announcement([1; 32]),
        fee_range: None,
    };
    let verdict = forger.pair.alice.hears(Message::ClosingSigned(Box::new(signed)));
    assert!(matches!(verdict, Verdict::Warned(text) if text.contains("is negotiated")));

    // A peer that loses the feature, or gains it, between two connections.
    for (first, second) in [(SIMPLE, LEGACY), (LEGACY, SIMPLE)] {
        let mut pair = Pair::open_with(|open, policy| {
            (open.negotiated, policy.negotiated) = (first, first);
        });
        pair.alice_pays(400_000_000, 1);
        pair.alice.handle(close(alices())).unwrap();
        pair.bob.handle(close(bobs())).unwrap();
        pair.negotiated = second;
        pair.reconnects();
        let es = pair.alice.open().life.mutual_close.is_some();
        assert_eq!(es, second == LEGACY);
        let versions = versions(&pair.alice);
        assert_eq!(versions.0.is_some() && versions.1.is_some(), second == SIMPLE);
    }
}

#[test]
fn another_version_needs_the_feature_the_peer_and_an_unspent_f() {
    let mut pair = Pair::open();
    pair.alice.handle(close(alices())).unwrap();
    pair.bob.handle(close(bobs())).unwrap();
    pair.talk();
    let refused = pair.alice.handle(close_at(alices(), 9_000)).unwrap_err();
    assert_eq!(refused, Refused::AlreadyClosing, "closing_signed knows one version");

    let mut pair = with_bobs(400_000_000);
    pair.alice.handle(close(alices())).unwrap();
    let refused = pair.alice.handle(close_at(alices(), 9_000)).unwrap_err();
    assert_eq!(refused, Refused::AlreadyClosing, "the peer has not said shutdown");
    pair.bob.handle(close(bobs())).unwrap();
    pair.talk();
    pair.disconnects();
    let refused = pair.alice.handle(close_at(alices(), 9_000)).unwrap_err();
    assert_eq!(refused, Refused::Offline);
    pair.connects();
    let (a, _) = agreed(&pair);
    pair.bob.handle(close_at(bobs(), u32::MAX)).unwrap();
    pair.talk();
    assert_eq!(pays(&agreed(&pair).1, &bobs()), 294, "as far as the balance goes");
    pair.alice.handle(spent_by(a)).unwrap();
    let refused = pair.alice.handle(close_at(alices(), 800_000)).unwrap_err();
    assert_eq!(refused, Refused::AlreadyClosing);
    let spent = |event: &Event| matches!(event, Event::Spent { spend: Spend::Mutual, .. });
    assert!(pair.alice.events.iter().any(spent), "an older version is known, too");
    let said = Forger { pair: with_bobs(400_000_000) }.complete(700, 0);
    let said = Message::ClosingComplete(Box::new(said));
    let before = pair.alice.published.len();
    assert_eq!(pair.alice.hears(said), Verdict::Fine);
    assert_eq!(pair.alice.published.len(), before, "it is over");
}

#[test]
fn a_cut_at_any_message_of_the_close_only_delays_it() {
    for cut in 0..10 {
        for crash in [false, true] {
            let mut pair = with_bobs(400_000_000);
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
            let before = agreed(&pair);
            // And once more: it is negotiated again, and comes to the same.
            pair.reconnects();
            assert_eq!(agreed(&pair), before, "cut after {cut}");
        }
    }
}

#[test]
fn an_error_after_an_es_publishes_no_commitment() {
    let mut pair = closed(400_000_000);
    let channel_id = pair.alice.channel.channel_id();
    let error = lightning::ln::msgs::ErrorMessage { channel_id, data: "unknown channel".into() };
    pair.alice.handle(Input::Message(Message::Error(error))).unwrap();
    pair.alice.handle(Input::Block(Height::new(9_999))).unwrap();
    assert!(pair.alice.open().life.failed.is_none());
    let ours = pair.alice.channel.commitments().0.unwrap().txid;
    assert!(pair.alice.published.iter().all(|tx| tx.compute_txid() != ours));
}

fn waits(party: &mut Party) -> Option<String> {
    for minute in 1..=PATIENCE {
        party.handle(Input::Minute).unwrap();
        assert_eq!(party.wants_disconnect, minute == PATIENCE);
    }
    match party.sent.back() {
        Some(Message::Warning(warning)) => Some(warning.data.clone()),
        _ => None,
    }
}

#[test]
fn a_peer_that_does_not_answer_is_told_so() {
    // Alice's message that nobody answers, and what she waits for.
    let table = [
        ("shutdown", SIMPLE, "no shutdown for"),
        ("closing_complete", SIMPLE, "no closing_sig for"),
        ("shutdown", LEGACY, "no shutdown for"),
        ("closing_signed", LEGACY, "no closing_signed for"),
    ];
    for (last, negotiated, what) in table {
        let mut pair = Pair::open_with(|open, policy| {
            (open.negotiated, policy.negotiated) = (negotiated, negotiated);
        });
        pair.alice_pays(400_000_000, 1);
        pair.alice.handle(Input::Minute).unwrap();
        assert_eq!(pair.alice.open().awaits_closing(), None);
        pair.alice.handle(close(alices())).unwrap();
        while !pair.alice.is_saying().contains(&last) {
            Pair::deliver(&mut pair.alice, &mut pair.bob);
            if pair.bob.open().owes_shutdown_script() {
                pair.bob.handle(close(bobs())).unwrap();
            }
            Pair::deliver(&mut pair.bob, &mut pair.alice);
        }
        let told = waits(&mut pair.alice).expect("a warning");
        assert!(told.contains(what), "{last}: {told}");
        // It comes back, and answers.
        if pair.bob.open().life.shutdown_sent.is_none() {
            pair.bob.handle(close(bobs())).unwrap();
        }
        pair.negotiated = negotiated;
        pair.reconnects();
        assert!(pair.alice.open().is_settled());
        assert_eq!(pair.alice.open().awaits_closing(), None);
        for _ in 0..9 {
            pair.alice.handle(Input::Minute).unwrap();
        }
        assert!(!pair.alice.wants_disconnect);
    }
}
