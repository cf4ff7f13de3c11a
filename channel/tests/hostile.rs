//! A peer that means no good, or has lost its mind: every message in every phase, bytes turned at
//! random, and storms of what was once said, in no order. Never a panic, never money at risk, and
//! the answer that BOLT 2 asks for.

use crate::simulator::Dice;
use crate::support::{funding_tx, name, wallet_script, Pair, Party, Verdict, LEGACY};
use fulmen_channel::amount::Msat;
use fulmen_channel::channel::Channel;
use fulmen_channel::contract::htlc::Removal;
use fulmen_channel::input::{Command, Feerates, Input};
use fulmen_channel::keys::{InMemorySigner, Inline, Signer};
use fulmen_channel::message::Message;
use fulmen_channel::output::Event;
use lightning::ln::msgs::{AnnouncementSignatures, ErrorMessage, WarningMessage};
use std::sync::Arc;

fn close(n: u8) -> Input {
    Input::Command(Command::Close { script: wallet_script(n), feerate: None, max_feerate: None })
}

/// One message of each kind, said by Alice or by Bob, in a channel like those below: true once, and
/// out of place now.
fn samples() -> Vec<Message> {
    let mut said = Vec::new();
    let mut keep = |party: &Party| {
        for message in &party.sent {
            if !said.iter().any(|known| name(known) == name(message)) {
                said.push(message.clone());
            }
        }
    };
    let (mut alice, policy) = Pair::proposing(|_, _| {});
    keep(&alice);
    let Some(Message::OpenChannel(open)) = alice.sent.pop_front() else { panic!("no open") };
    let signer = Box::new(InMemorySigner::from_seed([2; 32]));
    let bob = Channel::accept(&open, policy, signer, Arc::new(Inline)).unwrap();
    let mut pair = Pair { alice, bob: Party::new("bob", bob, [2; 32]), negotiated: LEGACY };
    pair.bob.drain();
    let mut talk = |pair: &mut Pair| loop {
        keep(&pair.alice);
        let one = Pair::deliver(&mut pair.alice, &mut pair.bob);
        keep(&pair.bob);
        let other = Pair::deliver(&mut pair.bob, &mut pair.alice);
        if !one && !other {
            break;
        }
    };
    talk(&mut pair);
    let Some(Event::FundingNeeded(request)) = pair.alice.events.last().cloned() else { panic!() };
    let tx = Box::new(funding_tx(&request));
    pair.alice.handle(Input::Command(Command::Fund(tx))).unwrap();
    talk(&mut pair);
    for party in [&mut pair.alice, &mut pair.bob] {
        party.handle(Input::FundingDepth { confirmations: 3, short_channel_id: 7 }).unwrap();
    }
    talk(&mut pair);
    for n in 1..=3 {
        pair.alice.handle(Party::offer(n, 9_000_000)).unwrap();
    }
    talk(&mut pair);
    pair.bob.fulfills(1);
    pair.bob.removes(1, Removal::Failed(vec![7; 292])).unwrap();
    let malformed = Removal::Malformed { sha256_of_onion: [1; 32], code: 0xc005 };
    pair.bob.removes(2, malformed).unwrap();
    talk(&mut pair);
    pair.alice.handle(feerate(4_000)).unwrap();
    talk(&mut pair);
    pair.disconnects();
    for party in [&mut pair.alice, &mut pair.bob] {
        party.handle(Input::Connected(LEGACY)).unwrap();
    }
    talk(&mut pair);
    pair.alice.handle(close(1)).unwrap();
    pair.bob.handle(close(2)).unwrap();
    talk(&mut pair);
    said.extend(alices_part_of_a_simple_close());
    let channel_id = pair.alice.channel.channel_id();
    let signature = InMemorySigner::from_seed([1; 32]).sign_funding([1; 32]);
    said.push(Message::AnnouncementSignatures(Box::new(AnnouncementSignatures {
        channel_id,
        short_channel_id: 7,
        node_signature: signature,
        bitcoin_signature: signature,
    })));
    said.push(Message::Error(ErrorMessage { channel_id, data: "no".into() }));
    said.push(Message::Warning(WarningMessage { channel_id, data: "well".into() }));
    said.sort_by_key(|message| KINDS.iter().position(|kind| *kind == name(message)));
    said
}

fn alices_part_of_a_simple_close() -> Vec<Message> {
    let mut pair = Pair::open_simple();
    pair.alice_pays(400_000_000, 1);
    pair.alice.handle(close(1)).unwrap();
    pair.bob.handle(close(2)).unwrap();
    let mut said = Vec::new();
    loop {
        let names = ["closing_complete", "closing_sig"];
        said.extend(pair.alice.sent.front().filter(|m| names.contains(&name(m))).cloned());
        let one = Pair::deliver(&mut pair.alice, &mut pair.bob);
        if !Pair::deliver(&mut pair.bob, &mut pair.alice) && !one {
            return said;
        }
    }
}

fn feerate(rate: u32) -> Input {
    let commitment = fulmen_channel::amount::FeeratePerKw::new(rate);
    Input::Feerates(Feerates { anchors: commitment, urgent: commitment, close: commitment })
}

/// The columns of the table below.
const KINDS: [&str; 20] = [
    "open_channel",
    "accept_channel",
    "funding_created",
    "funding_signed",
    "channel_ready",
    "add",
    "fulfill",
    "fail",
    "malformed",
    "fee",
    "commitment_signed",
    "revoke_and_ack",
    "shutdown",
    "closing_signed",
    "closing_complete",
    "closing_sig",
    "reestablish",
    "announcement_signatures",
    "error",
    "warning",
];

/// A side brought into a phase.
type Phase = (&'static str, fn() -> Party);

const PHASES: [Phase; 18] = [
    ("opener, proposed", || Pair::proposing(|_, _| {}).0),
    ("opener, to fund", || negotiating().alice),
    ("opener, signing", || signing().alice),
    ("fundee, accepted", || negotiating().bob),
    ("waiting for depth", || Pair::funded(|_, _| {}).bob),
    ("open", || Pair::open().bob),
    ("open, in the middle of a round", || {
        let mut pair = Pair::open();
        pair.alice_pays(100_000_000, 1);
        pair.bob.handle(Party::offer(2, 1_000_000)).unwrap();
        pair.bob
    }),
    ("reconnecting", || {
        let mut pair = Pair::open();
        pair.disconnects();
        pair.bob.handle(Input::Connected(LEGACY)).unwrap();
        pair.bob
    }),
    ("not connected", || {
        let mut pair = Pair::open();
        pair.disconnects();
        pair.bob
    }),
    ("shutdown said", || {
        let mut pair = Pair::open();
        pair.bob.handle(close(2)).unwrap();
        pair.bob
    }),
    ("shut, with an HTLC", || {
        let mut pair = Pair::open();
        pair.alice.handle(Party::offer(1, 1_000_000)).unwrap();
        pair.talk();
        pair.alice.handle(close(1)).unwrap();
        pair.bob.handle(close(2)).unwrap();
        pair.talk();
        pair.bob
    }),
    ("negotiating the close", || {
        let mut pair = Pair::open();
        pair.alice_pays(100_000_000, 1);
        pair.bob.handle(close(2)).unwrap();
        pair.talk();
        pair.alice.handle(close(1)).unwrap();
        pair.alice
    }),
    ("closed together", || {
        let mut pair = Pair::open();
        pair.alice.handle(close(1)).unwrap();
        pair.bob.handle(close(2)).unwrap();
        pair.talk();
        pair.bob
    }),
    ("closing, our offer unanswered", || {
        let mut pair = Pair::open_simple();
        pair.alice_pays(400_000_000, 1);
        pair.bob.handle(close(2)).unwrap();
        pair.alice.handle(close(1)).unwrap();
        Pair::deliver(&mut pair.alice, &mut pair.bob);
        pair.bob
    }),
    ("closed, by an ES from each side", || {
        let mut pair = Pair::open_simple();
        pair.alice_pays(400_000_000, 1);
        pair.alice.handle(close(1)).unwrap();
        pair.bob.handle(close(2)).unwrap();
        pair.talk();
        pair.bob
    }),
    ("failed", || {
        let mut pair = Pair::open();
        pair.bob.handle(Input::Command(Command::ForceClose("so".into()))).unwrap();
        pair.bob
    }),
    ("failed, reconnected", || {
        let mut pair = Pair::open();
        pair.bob.handle(Input::Command(Command::ForceClose("so".into()))).unwrap();
        pair.bob.crashes();
        pair.bob.handle(Input::Connected(LEGACY)).unwrap();
        pair.bob
    }),
    ("abandoned", || {
        let mut pair = negotiating();
        pair.bob.handle(Input::Disconnected).unwrap();
        pair.bob
    }),
];

/// Bob has accepted; the node is to build F.
fn negotiating() -> Pair {
    let (mut alice, policy) = Pair::proposing(|_, _| {});
    let Some(Message::OpenChannel(open)) = alice.sent.pop_front() else { panic!("no open") };
    let signer = Box::new(InMemorySigner::from_seed([2; 32]));
    let bob = Channel::accept(&open, policy, signer, Arc::new(Inline)).unwrap();
    let mut pair = Pair { alice, bob: Party::new("bob", bob, [2; 32]), negotiated: LEGACY };
    pair.bob.drain();
    pair.talk();
    pair
}

/// funding_created is out.
fn signing() -> Pair {
    let mut pair = negotiating();
    let Some(Event::FundingNeeded(request)) = pair.alice.events.last().cloned() else { panic!() };
    let tx = Box::new(funding_tx(&request));
    pair.alice.handle(Input::Command(Command::Fund(tx))).unwrap();
    pair
}

/// Nothing that a side published or revealed may cost it anything.
#[track_caller]
fn is_safe(what: &str, party: &Party) {
    let Some(open) = party.channel.funded() else {
        assert!(party.published.is_empty() && party.disk.0.is_empty(), "{what}: unfunded");
        return;
    };
    let ours = party.channel.commitments().0.unwrap().txid;
    let funding = open.contract.funding.outpoint.txid;
    for tx in &party.published {
        let txid = tx.compute_txid();
        let known = txid == ours
            || txid == funding
            || party.open().settlements().iter().any(|tx| tx.compute_txid() == txid);
        assert!(known, "{what}: published something else");
    }
    let failed = open.life.failed.is_some();
    let published = party.published.iter().any(|tx| tx.compute_txid() == ours);
    assert!(!published || failed, "{what}: published and not failed");
    assert!(!failed || published || open.life.behind, "{what}: failed and not published");
}

/// What each phase makes of each message, in the order of [`KINDS`]: fine or ignored `.`, warned
/// and disconnected `w`, failed `F` (an unfunded channel is given up, a failed one repeats its
/// error).
const ANSWERS: [(&str, &str); PHASES.len()] = [
    ("opener, proposed", "F.FFFFFFFFFFFFFFFF.."),
    ("opener, to fund", "FFFFFFFFFFFFFFFFFF.."),
    ("opener, signing", "FFF.FFFFFFFFFFFFFF.."),
    ("fundee, accepted", "FF.FFFFFFFFFFFFFFF.."),
    ("waiting for depth", "wwww.wFFFwwF.wwww.F."),
    ("open", "wwww..FFF.FF.wwww.F."),
    ("open, in the middle of a round", "wwww.FFFF.FF.wwww.F."),
    ("reconnecting", "wwwwwwwwwwwwwwwwFwF."),
    ("not connected", "..................F."),
    ("shutdown said", "wwww..FFF.FF.wwww.F."),
    ("shut, with an HTLC", "wwww.FFFF.FF.wwww.F."),
    ("negotiating the close", "wwww.FFFFFFFwFwww.F."),
    ("closed together", "wwww.FFFF.FF..www..."),
    ("closing, our offer unanswered", "wwww.FFFF.FF.w..w.F."),
    ("closed, by an ES from each side", "wwww.FFFF.FF.w.ww..."),
    ("failed", "................F..."),
    ("failed, reconnected", "................F..."),
    ("abandoned", "...................."),
];

fn answers(phase: &str, bring: fn() -> Party, messages: &[Message]) -> String {
    let answer = |message: &Message| {
        let mut party = bring();
        party.wants_disconnect = false;
        let verdict = party.hears(message.clone());
        is_safe(&format!("{} when {phase}", name(message)), &party);
        match verdict {
            Verdict::Fine => '.',
            Verdict::Warned(_) => 'w',
            Verdict::Failed(_) => 'F',
        }
    };
    messages.iter().map(answer).collect()
}

#[test]
fn every_message_in_every_phase() {
    let messages = samples();
    assert_eq!(messages.iter().map(name).collect::<Vec<_>>(), KINDS);
    for ((phase, bring), (row, expected)) in PHASES.into_iter().zip(ANSWERS) {
        assert_eq!(phase, row);
        assert_eq!(answers(phase, bring, &messages), expected, "when {phase}");
    }
}

#[test]
fn messages_with_bytes_turned_at_random() {
    let messages = samples();
    let mut dice = Dice::new(1);
    let mut heard = 0;
    for round in 0..1_500 {
        let message = &messages[round % messages.len()];
        let mut bytes = message.encode();
        let type_id = u16::from_be_bytes([bytes[0], bytes[1]]);
        for _ in 0..1 + dice.below(4) {
            let at = 2 + dice.below(bytes.len() as u64 - 2) as usize;
            bytes[at] = match dice.below(3) {
                0 => 0,
                1 => 0xff,
                _ => dice.below(256) as u8,
            };
        }
        if dice.one_in(8) {
            bytes.truncate(2 + dice.below(bytes.len() as u64 - 2) as usize);
        }
        let Ok(Some(message)) = Message::decode(type_id, &bytes[2..]) else { continue };
        let (phase, bring) = PHASES[dice.below(PHASES.len() as u64) as usize];
        let mut party = bring();
        party.wants_disconnect = false;
        party.hears(message.clone());
        is_safe(&format!("{} when {phase}, round {round}", name(&message)), &party);
        heard += 1;
    }
    assert!(heard > 500, "most can still be read: {heard}");
}

#[test]
fn storms_of_what_was_once_said() {
    for seed in 0..60 {
        let mut dice = Dice::new(seed);
        let mut pair = Pair::open();
        pair.alice_pays(300_000_000, 1_000);
        let mut archive = samples();
        for step in 0..60 {
            match dice.below(8) {
                0 => drop(pair.alice.handle(Party::offer(seed * 100 + step, 2_000_000))),
                1 => drop(pair.bob.handle(Party::offer(seed * 100 + 50 + step, 3_000_000))),
                2 => {
                    for id in pair.bob.pending_received() {
                        pair.bob.removes(id, Removal::Failed(vec![])).ok();
                    }
                }
                3 => {
                    let said = dice.below(archive.len() as u64) as usize;
                    let message = archive[said].clone();
                    if !matches!(message, Message::Error(_)) {
                        pair.bob.wants_disconnect = false;
                        pair.bob.hears(message);
                    }
                }
                _ => {
                    archive.extend(pair.alice.sent.front().cloned());
                    Pair::deliver(&mut pair.alice, &mut pair.bob);
                    Pair::deliver(&mut pair.bob, &mut pair.alice);
                }
            }
            is_safe(&format!("seed {seed}, step {step}"), &pair.bob);
            if pair.bob.wants_disconnect {
                pair.reconnects();
            }
        }
        assert!(pair.bob.balance() >= Msat::new(240_000_000), "seed {seed}");
        let twin = Party::restored(&pair.bob);
        is_safe("after a restart", &twin);
    }
}

#[test]
fn a_peer_that_was_warned_can_come_back() {
    let messages = samples();
    for message in messages.iter().filter(|message| !matches!(message, Message::Error(_))) {
        let mut pair = Pair::open();
        pair.alice_pays(100_000_000, 1);
        let verdict = pair.bob.hears(message.clone());
        if let Verdict::Failed(_) = verdict {
            continue;
        }
        pair.reconnects();
        if pair.bob.open().life.is_shutting_down() {
            continue;
        }
        pair.alice.handle(Party::offer(2, 1_000_000)).unwrap();
        pair.talk();
        assert_eq!(pair.bob.received(2), 1, "after {}", name(message));
    }
}
