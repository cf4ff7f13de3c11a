//! What is done about an HTLC, as a table: (who offered it, how far it is, value, feerate, what
//! became of it further on, height) → what to do. It expires at height 500.

use crate::support::{preimage, Pair, Party};
use fulmen_channel::amount::{FeeratePerKw, Height, Msat, Sat};
use fulmen_channel::contract::htlc::{Htlc, Removal, Stage};
use fulmen_channel::input::Input;
use fulmen_channel::message::Message;
use fulmen_channel::onchain::deadline::Deed::{self, Close, FailBack, Fulfill, Wait, Warn};
use fulmen_channel::onchain::deadline::{
    Case, Doubt, Downstream, Terms, Why, CLAIM_WINDOW, GRACE, HESITATION, LAST_CALL, NOTICE,
};
use fulmen_channel::params::{CommitmentFormat, Side};
use Downstream::{Failed, Fulfilled, Stands};
use Side::{Local, Remote};
use Why::{Expired, Preimage};

/// Height, then what to do.
type Row = (u32, Deed);

fn htlc(stage: Stage, removal: Option<Removal>, sat: u64) -> Htlc {
    Htlc {
        stage,
        amount: Msat::new(sat * 1_000),
        payment_hash: preimage(1).hash(),
        cltv_expiry: Height::new(500),
        removal,
        first_remote: None,
        memo: Vec::new(),
        over_dust_exposure: false,
    }
}

fn terms(urgent: u32) -> Terms {
    Terms {
        format: CommitmentFormat::Anchors,
        dust_limit: Sat::new(354),
        commitment: FeeratePerKw::new(253),
        urgent: FeeratePerKw::new(urgent),
    }
}

#[track_caller]
fn check(offerer: Side, htlc: &Htlc, urgent: u32, downstream: Downstream, rows: &[Row]) {
    let case = Case { offerer, htlc, terms: terms(urgent), downstream };
    for (height, deed) in rows {
        assert_eq!(case.decide(Height::new(*height)), *deed, "at {height}: {case:?}");
    }
}

fn until(height: u32) -> Deed {
    Wait(Some(Height::new(height)))
}

fn paid() -> Option<Removal> {
    Some(Removal::Fulfilled(preimage(1)))
}

fn failed() -> Option<Removal> {
    Some(Removal::Failed(vec![]))
}

#[test]
fn an_htlc_we_offered_closes_when_it_has_outlived_its_grace() {
    let none = Downstream::None;
    let rows = [
        (1, until(500)),
        (499, until(500)),
        (500, Warn),
        (501, Warn),
        (502, Close(Expired)),
        (900, Close(Expired)),
    ];
    assert_eq!(500 + GRACE, 502);
    for (stage, removal) in [
        (Stage::AddSigned, None),
        (Stage::Locked, None),
        // The peer could still take it by its last commitment but one.
        (Stage::RemoveProposed, failed()),
        (Stage::RemoveAcked, failed()),
        // Shown, and not yet off our commitment.
        (Stage::RemoveProposed, paid()),
    ] {
        check(Local, &htlc(stage, removal, 7_000), 253, none, &rows);
    }
    let nothing = [(1, Wait(None)), (500, Wait(None)), (900, Wait(None))];
    check(Local, &htlc(Stage::Proposed, None, 7_000), 253, none, &nothing);
    check(Local, &htlc(Stage::RemoveSigned, paid(), 7_000), 253, none, &nothing);
}

#[test]
fn nobody_closes_for_what_is_not_worth_its_fees() {
    let (none, nothing) =
        (Downstream::None, [(1, Wait(None)), (490, Wait(None)), (900, Wait(None))]);
    let closes = [(900, Close(Expired))];
    // Below the dust limit it has no output, at 353 sat; the fees of HT and HTRD are for 666 + 320
    // units of weight, those of HE and HERD for (706 + 320).
    for (sat, urgent, worth) in [
        (353, 253, false),
        (354, 253, true),
        (986, 1_000, false),
        (987, 1_000, true),
        (73_950, 75_000, false),
        (73_951, 75_000, true),
    ] {
        let rows = if worth { &closes[..] } else { &nothing[..] };
        check(Local, &htlc(Stage::Locked, None, sat), urgent, none, rows);
    }
    let told = |sat| htlc(Stage::RemoveProposed, paid(), sat);
    check(Remote, &told(1_026), 1_000, none, &nothing);
    check(Remote, &told(1_027), 1_000, none, &[(490, Close(Preimage))]);
    // Without anchors HT pays by the commitment's feerate, and is trimmed by it.
    let mut old = terms(1_000);
    (old.format, old.commitment) = (CommitmentFormat::StaticRemoteKey, FeeratePerKw::new(10_000));
    assert_eq!(old.gain(true, Msat::new(6_983_000)), None, "trimmed");
    // 6,630 sat of fee for HT, 320 for HTRD.
    assert_eq!(old.gain(true, Msat::new(6_984_000)), Some(Sat::new(34)));
}

#[test]
fn a_preimage_goes_on_chain_while_it_still_counts() {
    let window = 500 - CLAIM_WINDOW;
    let rows = [
        (1, until(window - NOTICE)),
        (window - NOTICE, Warn),
        (window - 1, Warn),
        (window, Close(Preimage)),
        (600, Close(Preimage)),
    ];
    for stage in [Stage::RemoveProposed, Stage::RemoveSigned, Stage::RemoveRevoked] {
        check(Remote, &htlc(stage, paid(), 7_000), 253, Downstream::None, &rows);
    }
    let nothing = [(1, Wait(None)), (600, Wait(None))];
    check(Remote, &htlc(Stage::RemoveAcked, paid(), 7_000), 253, Downstream::None, &nothing);
    check(Remote, &htlc(Stage::RemoveProposed, failed(), 7_000), 253, Downstream::None, &nothing);
    // It came from further on: shown first, and never failed back, whatever it is worth.
    let stands = htlc(Stage::Locked, None, 7_000);
    check(Remote, &stands, 253, Fulfilled, &[(1, Fulfill), (481, Fulfill), (482, Close(Preimage))]);
    check(Remote, &htlc(Stage::Locked, None, 100), 253, Fulfilled, &[(1, Fulfill), (600, Fulfill)]);
}

#[test]
fn what_was_passed_on_is_failed_back_early_only_if_nobody_would_claim_it() {
    let free = FailBack { risk: Msat::ZERO };
    let stands = htlc(Stage::Locked, None, 7_000);
    check(Remote, &stands, 253, Failed, &[(1, free), (600, free)]);
    check(Remote, &stands, 253, Downstream::None, &[(481, until(482)), (482, free), (600, free)]);
    let (expiry, lost) = (Height::new(420), FailBack { risk: stands.amount });
    let worth = Stands { expiry, gain: Some(Sat::new(1)) };
    check(Remote, &stands, 253, worth, &[(1, Wait(None)), (600, Wait(None))]);
    let worthless = Stands { expiry, gain: None };
    check(Remote, &stands, 253, worthless, &[(421, until(482)), (481, until(482)), (482, lost)]);
    // With no room between the two, not before the one further on has expired.
    let tight = Stands { expiry: Height::new(495), gain: None };
    check(Remote, &stands, 253, tight, &[(482, until(496)), (495, until(496)), (496, lost)]);
}

#[test]
fn a_state_that_may_be_old_is_not_published_at_once() {
    let (asked, at) = (Doubt::Since(Height::new(600)), Height::new);
    assert_eq!((HESITATION, LAST_CALL), (6, 12));
    // The HTLC expires at 500.
    for (doubt, why, height, waits) in [
        (Doubt::None, Expired, 502, false),
        (Doubt::None, Preimage, 482, false),
        // What has expired stays ours to take: whenever somebody has answered, or could have.
        (Doubt::Unasked, Expired, 502, true),
        (Doubt::Unasked, Expired, 900, true),
        (asked, Expired, 600, true),
        (asked, Expired, 605, true),
        (asked, Expired, 606, false),
        // A preimage counts until its HTLC expires only.
        (Doubt::Unasked, Preimage, 482, true),
        (Doubt::Unasked, Preimage, 487, true),
        (Doubt::Unasked, Preimage, 488, false),
        (Doubt::Since(at(480)), Preimage, 485, true),
        (Doubt::Since(at(480)), Preimage, 486, false),
        (Doubt::Since(at(486)), Preimage, 487, true),
        (Doubt::Since(at(486)), Preimage, 488, false),
    ] {
        let held = doubt.holds_back(why, at(500), at(height));
        assert_eq!(held, waits, "{doubt:?} {why:?} at {height}");
    }
}

/// Whether Alice's channel is failed by the block of this height.
fn fails_at(pair: &mut Pair, height: u32) -> bool {
    pair.alice.handle(Input::Block(Height::new(height))).unwrap();
    pair.alice.open().life.failed.is_some()
}

#[test]
fn an_old_htlc_closes_a_channel_only_once_somebody_could_answer() {
    let with_htlc = || {
        let mut pair = Pair::open();
        pair.alice.handle(Party::offer(1, 7_000_000)).unwrap();
        pair.talk();
        pair.alice.crashes();
        assert!(!fails_at(&mut pair, 700), "blocks are still being read");
        pair
    };
    // Nobody answers.
    let mut pair = with_htlc();
    pair.alice.handle(Input::PeersMayTell(Height::new(700))).unwrap();
    assert!(!fails_at(&mut pair, 705));
    assert!(fails_at(&mut pair, 706));
    // Another peer has kept just our number; less would prove nothing.
    let mut pair = with_htlc();
    let number = pair.alice.open().contract.state.local_number;
    pair.alice.handle(Input::PeersMayTell(Height::new(700))).unwrap();
    pair.alice.handle(Input::Witnessed(number - 1)).unwrap();
    assert!(!fails_at(&mut pair, 701));
    pair.alice.handle(Input::Witnessed(number)).unwrap();
    assert!(fails_at(&mut pair, 702));
    // The peer is in step, but does not fail the HTLC.
    let mut pair = with_htlc();
    pair.reconnects();
    assert!(fails_at(&mut pair, 701));
}

#[test]
fn a_copy_that_turns_out_to_be_old_is_not_published() {
    let mut pair = Pair::open();
    pair.alice.handle(Party::offer(1, 7_000_000)).unwrap();
    pair.talk();
    let old = pair.alice.disk.clone();
    pair.bob.fulfills(1);
    pair.talk();
    let now = pair.alice.open().contract.state.local_number;
    pair.alice.disk = old;
    pair.alice.crashes();
    pair.alice.published.clear();
    assert!(!fails_at(&mut pair, 700));
    pair.alice.handle(Input::PeersMayTell(Height::new(700))).unwrap();
    pair.alice.handle(Input::Witnessed(now)).unwrap();
    assert!(pair.alice.open().life.behind);
    fails_at(&mut pair, 900);
    assert!(pair.alice.published.is_empty());
}

#[test]
fn the_peer_is_warned_once_and_the_connection_made_anew_before_the_close() {
    let mut pair = Pair::open();
    pair.alice.handle(Party::offer(1, 7_000_000)).unwrap();
    pair.alice.handle(Party::offer(2, 300_000)).unwrap();
    pair.talk();
    let block = |pair: &mut Pair, height| {
        pair.alice.handle(Input::Block(Height::new(height))).unwrap();
        std::mem::take(&mut pair.alice.wants_disconnect)
    };
    assert!(!block(&mut pair, 499));
    assert!(block(&mut pair, 500), "the HTLC of 7,000 sat is late");
    let warning = pair.alice.sent.iter().any(|said| matches!(said, Message::Warning(_)));
    assert!(warning && pair.alice.open().life.failed.is_none());
    pair.reconnects();
    assert!(!block(&mut pair, 501), "once is enough");
    pair.bob.fulfills(1);
    pair.talk();
    // What is left has no output, and so no deadline.
    assert!(!block(&mut pair, 900));
    assert!(pair.alice.open().life.failed.is_none());
}
