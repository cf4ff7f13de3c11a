//! Closing alone: our commitment goes on chain by command, by a deadline or for the peer's fault,
//! and our own balance comes back by RD, or by D from theirs.

use crate::onchain::chain::takes;
use crate::support::{
    assert_spends, preimage, spent_by, wallet_script, Pair, Party, Verdict, LEGACY,
};
use bitcoin::{Transaction, TxOut};
use fulmen_channel::amount::{Height, Msat};
use fulmen_channel::contract::htlc::Removal;
use fulmen_channel::error::Refused;
use fulmen_channel::input::{Command, Input};
use fulmen_channel::message::Message;
use fulmen_channel::onchain::deadline::{CLAIM_WINDOW, GRACE, NOTICE};
use fulmen_channel::output::{Event, Output, Spend};
use fulmen_channel::params::CommitmentFormat;
use lightning::ln::msgs::ErrorMessage;

const ALICE: [u8; 32] = [1; 32];
const BOB: [u8; 32] = [2; 32];
const FORMATS: [CommitmentFormat; 2] =
    [CommitmentFormat::Anchors, CommitmentFormat::StaticRemoteKey];

fn force_close() -> Input {
    Input::Command(Command::ForceClose("by command".into()))
}

/// The last transaction a side published, which must be its latest commitment, valid on F.
#[track_caller]
fn published_commitment(party: &Party, funding: &TxOut) -> Transaction {
    let tx = party.published.last().expect("published").clone();
    assert_eq!(tx.compute_txid(), party.channel.commitments().0.unwrap().txid);
    assert_spends(&tx, funding);
    tx
}

/// Takes a side's own balance out of `tx`: D or RD, checked by Bitcoin's own rules. Its value.
#[track_caller]
fn delivers(party: &Party, seed: [u8; 32], tx: &Transaction) -> u64 {
    let claim = party.open().delivery().expect("a balance on chain");
    assert_eq!(claim.spend.outpoint.txid, tx.compute_txid());
    let output = &tx.output[claim.spend.outpoint.vout as usize];
    assert_eq!(output.value.to_sat(), claim.spend.value().sat());
    assert_spends(&takes(&claim, party.open().claims().unwrap().0, seed), output);
    claim.spend.value().sat()
}

#[test]
fn by_command_and_each_takes_its_balance() {
    for format in FORMATS {
        let mut pair = Pair::open_with(|open, _| open.channel_type.format = format);
        pair.alice_pays(400_000_000, 1);
        let funding = pair.funding_output();
        pair.alice.handle(force_close()).unwrap();
        assert_eq!(pair.alice.is_saying(), ["error"]);
        let tx = published_commitment(&pair.alice, &funding);
        assert_eq!(pair.alice.handle(force_close()).unwrap_err(), Refused::AlreadyClosing);
        let spent = || spent_by(tx.clone());
        pair.alice.handle(spent()).unwrap();
        pair.bob.handle(spent()).unwrap();
        let saw = |party: &Party, wanted: Spend| {
            party.events.iter().any(|e| matches!(e, Event::Spent { spend, .. } if *spend == wanted))
        };
        assert!(saw(&pair.alice, Spend::Local) && saw(&pair.bob, Spend::Remote));
        let from = |party: &Party| party.open().delivery().unwrap().from.number();
        let a_block = u32::from(format == CommitmentFormat::Anchors);
        assert_eq!((from(&pair.alice), from(&pair.bob)), (100 + 144, 100 + a_block));
        let alice = delivers(&pair.alice, ALICE, &tx);
        assert_eq!(delivers(&pair.bob, BOB, &tx), 400_000);
        let costs = if format == CommitmentFormat::Anchors { 1_124 + 660 } else { 724 };
        assert_eq!(alice, 600_000 - costs);
    }
}

#[test]
fn with_payments_in_flight_the_balances_come_back_all_the_same() {
    for format in FORMATS {
        let mut pair = Pair::open_with(|open, _| open.channel_type.format = format);
        pair.alice_pays(400_000_000, 0);
        pair.alice.handle(Party::offer(1, 50_000_000)).unwrap();
        pair.bob.handle(Party::offer(2, 30_000_000)).unwrap();
        pair.talk();
        pair.bob.handle(force_close()).unwrap();
        let tx = published_commitment(&pair.bob, &pair.funding_output());
        for party in [&mut pair.alice, &mut pair.bob] {
            party.handle(spent_by(tx.clone())).unwrap();
        }
        assert_eq!(delivers(&pair.bob, BOB, &tx), 370_000);
        delivers(&pair.alice, ALICE, &tx);
    }
}

#[test]
fn the_delivery_is_told_again_after_a_restart() {
    let mut pair = Pair::open();
    pair.alice_pays(400_000_000, 1);
    pair.alice.handle(force_close()).unwrap();
    let tx = pair.alice.published.last().unwrap().clone();
    pair.alice.handle(spent_by(tx.clone())).unwrap();
    pair.alice.events.clear();
    pair.alice.published.clear();
    pair.alice.crashes();
    assert!(pair.alice.published.is_empty(), "F is spent: nothing more to publish");
    assert!(pair.alice.events.contains(&Event::Claims));
    delivers(&pair.alice, ALICE, &tx);
}

#[test]
fn an_unspent_channel_publishes_again_after_a_restart() {
    let mut pair = Pair::open();
    pair.alice.handle(force_close()).unwrap();
    pair.alice.published.clear();
    pair.alice.crashes();
    published_commitment(&pair.alice, &pair.funding_output());
}

#[test]
fn closing_is_durable_before_it_is_published() {
    let mut pair = Pair::open();
    pair.alice_pays(400_000_000, 1);
    pair.alice.channel.handle(force_close()).unwrap();
    let Output::Persist(unit) = pair.alice.channel.poll() else { panic!("nothing to write") };
    assert!(matches!(pair.alice.channel.poll(), Output::Idle { .. }), "all else is held");
    pair.alice.channel.handle(Input::Persisted(unit.id)).unwrap();
    let said: Vec<_> = std::iter::from_fn(|| match pair.alice.channel.poll() {
        Output::Idle { .. } => None,
        output => Some(output),
    })
    .collect();
    assert!(matches!(said[0], Output::Broadcast(_)));
    assert!(matches!(said[1], Output::Send(Message::Error(_))), "once it is out");
}

/// Everything the peer may still say, and everything the node may still want.
fn temptations(pair: &mut Pair) -> Vec<Message> {
    pair.alice.handle(Party::offer(1, 7_000_000)).unwrap();
    let mut messages: Vec<_> = pair.alice.sent.drain(..).collect();
    pair.alice.handle(Input::Disconnected).unwrap();
    pair.alice.handle(Input::Connected(LEGACY)).unwrap();
    messages.extend(pair.alice.sent.drain(..));
    messages
}

#[test]
fn nothing_is_signed_or_revoked_afterwards() {
    let mut pair = Pair::open();
    pair.alice_pays(400_000_000, 0);
    pair.alice.handle(Party::offer(5, 2_000_000)).unwrap();
    pair.talk();
    let messages = temptations(&mut pair);
    pair.bob.handle(force_close()).unwrap();
    let number = pair.bob.open().contract.state.local_number;
    pair.bob.sent.clear();
    let id = pair.bob.received(5);
    let try_all = |pair: &mut Pair| {
        for message in &messages {
            pair.bob.handle(Input::Message(message.clone())).unwrap();
        }
        pair.bob.handle(Party::offer(2, 1_000_000)).unwrap_err();
        let refuse = pair.bob.removes(id, Removal::Failed(vec![1])).unwrap_err();
        assert_eq!(refuse, Refused::NotUsable("failed"));
        // Known, for HE: but not said.
        pair.bob.removes(id, Removal::Fulfilled(preimage(5))).unwrap();
        pair.bob.handle(Input::Block(Height::new(9_999))).unwrap();
        for said in pair.bob.sent.drain(..) {
            assert!(matches!(said, Message::Error(_)), "{said:?}");
        }
        assert_eq!(pair.bob.open().contract.state.local_number, number);
    };
    try_all(&mut pair);
    pair.bob.crashes();
    try_all(&mut pair);
    pair.bob.handle(Input::Connected(LEGACY)).unwrap();
    assert_eq!(pair.bob.is_saying(), ["error"], "the error is repeated, not the state");
    pair.bob.sent.clear();
    try_all(&mut pair);
}

#[test]
fn offers_that_nobody_heard_come_back_when_the_channel_fails() {
    let mut pair = Pair::open();
    pair.alice.handle(Party::offer(1, 7_000_000)).unwrap();
    pair.alice.handle(Party::offer(2, 8_000_000)).unwrap();
    pair.alice.handle(force_close()).unwrap();
    let unheard: Vec<_> = pair.alice.resolved.iter().map(|r| (r.id, &r.removal)).collect();
    assert_eq!(unheard, [(1, &Removal::Failed(vec![]))], "the first may yet be on chain");
}

#[test]
fn offers_that_nobody_heard_come_back_before_they_expire() {
    let mut pair = Pair::open();
    pair.alice.handle(Party::offer(1, 7_000_000)).unwrap();
    pair.alice.handle(Party::offer(2, 8_000_000)).unwrap();
    pair.disconnects();
    let block = |pair: &mut Pair, height| {
        pair.alice.handle(Input::Block(Height::new(height))).unwrap();
        pair.alice.resolved.iter().map(|over| over.id).collect::<Vec<_>>()
    };
    assert_eq!(block(&mut pair, 500 - NOTICE - 1), [0; 0]);
    assert_eq!(block(&mut pair, 500 - NOTICE), [1], "the first was signed for");
    pair.alice.crashes();
    pair.reconnects();
    pair.agree();
    assert_eq!(pair.bob.pending_received(), [0]);
}

#[test]
fn an_offered_htlc_that_outlives_its_expiry() {
    let at = |height: u32, pair: &mut Pair| {
        pair.alice.handle(Input::Block(Height::new(height))).unwrap();
        pair.alice.open().life.failed.is_some()
    };
    let act_by = 500 + GRACE;
    let mut pair = Pair::open();
    pair.alice.handle(Party::offer(1, 7_000_000)).unwrap();
    pair.talk();
    let Output::Idle { act_by: said } = pair.alice.channel.poll() else { panic!() };
    assert_eq!(said, Some(Height::new(act_by)));
    assert!(!at(act_by - 1, &mut pair));
    assert!(at(act_by, &mut pair));
    published_commitment(&pair.alice, &pair.funding_output());
    // The receiver, who does not know the preimage, has nothing to lose and waits.
    pair.bob.handle(Input::Block(Height::new(act_by + 100))).unwrap();
    assert!(pair.bob.open().life.failed.is_none());
    // An offer that never left binds nobody.
    let mut pair = Pair::open();
    pair.alice.handle(Party::offer(1, 7_000_000)).unwrap();
    pair.talk();
    pair.bob.fulfills(1);
    pair.talk();
    assert!(!at(act_by + 100, &mut pair), "it is settled");
}

#[test]
fn a_failed_htlc_is_not_over_before_the_peer_has_revoked() {
    // Bob fails it and lets the round stand just before his last revocation: with his last but one
    // commitment he could still claim, so Alice cannot fail the payment back, nor wait for ever.
    let mut pair = Pair::open();
    pair.alice.handle(Party::offer(1, 7_000_000)).unwrap();
    pair.talk();
    pair.bob.removes(0, Removal::Failed(vec![])).unwrap();
    while Pair::deliver(&mut pair.bob, &mut pair.alice) {}
    while Pair::deliver(&mut pair.alice, &mut pair.bob) {}
    assert_eq!(pair.bob.is_saying(), ["revoke_and_ack"]);
    pair.bob.sent.clear();
    assert!(pair.alice.resolved.is_empty());
    pair.alice.handle(Input::Block(Height::new(500 + GRACE))).unwrap();
    assert!(pair.alice.open().life.failed.is_some());
    // Once it was fulfilled there is nothing to wait for.
    let mut pair = Pair::open();
    pair.alice.handle(Party::offer(1, 7_000_000)).unwrap();
    pair.talk();
    pair.bob.fulfills(1);
    while Pair::deliver(&mut pair.bob, &mut pair.alice) {}
    pair.alice.handle(Input::Block(Height::new(500 + GRACE))).unwrap();
    assert!(pair.alice.open().life.failed.is_none());
}

#[test]
fn a_preimage_that_the_peer_does_not_take_goes_on_chain_in_time() {
    let mut pair = Pair::open();
    pair.alice.handle(Party::offer(1, 7_000_000)).unwrap();
    pair.talk();
    pair.bob.handle(Input::Block(Height::new(500 - CLAIM_WINDOW - 1))).unwrap();
    pair.bob.fulfills(1);
    pair.disconnects();
    let Output::Idle { act_by } = pair.bob.channel.poll() else { panic!() };
    assert_eq!(act_by, Some(Height::new(500 - CLAIM_WINDOW)));
    assert!(pair.bob.open().life.failed.is_none());
    pair.bob.handle(Input::Block(act_by.unwrap())).unwrap();
    published_commitment(&pair.bob, &pair.funding_output());
    let kept = pair.bob.open().contract.htlcs.values().next().unwrap().removal.clone();
    assert_eq!(kept, Some(Removal::Fulfilled(preimage(1))), "HE needs it");
}

#[test]
fn the_peers_error_fails_the_channel_and_is_shown_without_tricks() {
    let mut pair = Pair::open();
    pair.alice_pays(400_000_000, 1);
    let channel_id = pair.alice.channel.channel_id();
    let data = format!("bye\u{1b}[2J\n{}", "x".repeat(9_000));
    let error = Message::Error(ErrorMessage { channel_id, data });
    assert!(matches!(pair.alice.hears(error), Verdict::Failed(_)));
    published_commitment(&pair.alice, &pair.funding_output());
    let reason = pair.alice.open().life.failed.clone().unwrap();
    assert!(reason.starts_with("the peer said: bye[2J"), "{reason}");
    assert!(reason.len() < 500);
}

#[test]
fn a_warning_does_not() {
    let mut pair = Pair::open();
    let channel_id = pair.alice.channel.channel_id();
    let data = "just saying".into();
    let warning = Message::Warning(lightning::ln::msgs::WarningMessage { channel_id, data });
    assert_eq!(pair.alice.hears(warning), Verdict::Fine);
    pair.alice_pays(1_000_000, 1);
}

#[test]
fn the_commitment_published_is_the_last_that_the_peer_signed() {
    // Alice fails while her revocation for the state before waits for the disk.
    let mut pair = Pair::open();
    pair.alice_pays(400_000_000, 0);
    pair.bob.handle(Party::offer(1, 7_000_000)).unwrap();
    let messages: Vec<_> = pair.bob.sent.drain(..).collect();
    let number = pair.alice.open().contract.state.local_number;
    for message in messages {
        pair.alice.channel.handle(Input::Message(message)).unwrap();
    }
    pair.alice.channel.handle(force_close()).unwrap();
    pair.alice.drain();
    assert_eq!(pair.alice.is_saying(), ["error"], "the revocation stays unsaid");
    assert_eq!(pair.alice.open().contract.state.local_number, number + 1);
    published_commitment(&pair.alice, &pair.funding_output());
}

#[test]
fn every_state_on_the_way_can_be_published() {
    for steps in 0..30 {
        let mut pair = Pair::open();
        pair.alice_pays(400_000_000, 0);
        pair.alice.handle(Party::offer(1, 50_000_000)).unwrap();
        pair.bob.handle(Party::offer(2, 30_000_000)).unwrap();
        for step in 0..steps {
            let _ = match step % 2 {
                0 => Pair::deliver(&mut pair.alice, &mut pair.bob),
                _ => Pair::deliver(&mut pair.bob, &mut pair.alice),
            };
            if step == 12 {
                pair.bob.fulfills(1);
            }
        }
        let funding = pair.funding_output();
        pair.alice.handle(force_close()).unwrap();
        pair.bob.handle(force_close()).unwrap();
        let (a, b) = (
            published_commitment(&pair.alice, &funding),
            published_commitment(&pair.bob, &funding),
        );
        // Each knows the other's for what it is, whichever confirms.
        let sides = [(&mut pair.alice, ALICE, b), (&mut pair.bob, BOB, a)];
        for (party, seed, theirs) in sides {
            party.handle(spent_by(theirs.clone())).unwrap();
            let told = party
                .events
                .iter()
                .any(|event| matches!(event, Event::Spent { spend: Spend::Remote, .. }));
            assert!(told, "after {steps}: {}", party.name);
            delivers(party, seed, &theirs);
        }
    }
}

#[test]
fn a_revoked_commitment_is_not_taken_for_a_mutual_close() {
    // With static_remotekey, state 0 of a channel whose money is all the opener's has one output:
    // to_local. The opener names just that script in shutdown, and publishes the revoked state.
    let mut pair =
        Pair::open_with(|open, _| open.channel_type.format = CommitmentFormat::StaticRemoteKey);
    pair.alice.handle(force_close()).unwrap();
    let revoked = pair.alice.published.last().unwrap().clone();
    assert_eq!(revoked.output.len(), 1);
    let mut pair =
        Pair::open_with(|open, _| open.channel_type.format = CommitmentFormat::StaticRemoteKey);
    pair.alice_pays(900_000_000, 1);
    let script = revoked.output[0].script_pubkey.clone();
    pair.alice
        .handle(Input::Command(Command::Close { script, feerate: None, max_feerate: None }))
        .unwrap();
    let ours = Input::Command(Command::Close {
        script: wallet_script(2),
        feerate: None,
        max_feerate: None,
    });
    pair.bob.handle(ours).unwrap();
    pair.talk();
    pair.bob.handle(spent_by(revoked)).unwrap();
    let breach = |event: &Event| matches!(event, Event::Spent { spend: Spend::Revoked, .. });
    assert!(pair.bob.events.iter().any(breach));
    assert_eq!(pair.bob.balance(), Msat::new(900_000_000));
}

#[test]
fn the_peers_commitment_in_a_block_fails_the_channel() {
    let mut pair = Pair::open();
    pair.alice_pays(400_000_000, 1);
    pair.alice.handle(force_close()).unwrap();
    let tx = pair.alice.published.last().unwrap().clone();
    pair.bob.published.clear();
    pair.bob.handle(spent_by(tx)).unwrap();
    assert!(pair.bob.open().life.failed.is_some());
    assert!(pair.bob.published.is_empty(), "F is gone: ours has nothing to spend");
    pair.bob.crashes();
    assert!(pair.bob.published.is_empty());
    assert!(Pair::open().alice.open().claims().is_none());
}
