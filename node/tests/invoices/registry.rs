//! Which HTLC pays an invoice: the rules as a table, and the register as rows.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(clippy::arithmetic_side_effects)]

use crate::disk::Disk;
use fulmen_channel::amount::{Height, Msat};
use fulmen_channel::onchain::deadline::CLAIM_WINDOW;
use fulmen_channel::payment::Preimage;
use fulmen_node::desk::{decode, Desk, Pending};
use fulmen_node::invoices::registry::{
    accept, add, cancel, expire, find, receive, InvoiceError, MAX_EXPIRY,
};
use fulmen_node::invoices::{
    Incoming, Invoice, InvoiceEvent, InvoiceNews, InvoiceState, Told, Verdict,
};
use fulmen_node::onion::{FailureMessage, Payload, PaymentData};
use fulmen_node::store::{Table, Unit};

const NOW: u64 = 1_800_000_000;
const HEIGHT: Height = Height::new(700_000);
const SECRET: [u8; 32] = [5; 32];

fn invoice(preimage: u8) -> Invoice {
    let preimage = Preimage([preimage; 32]);
    Invoice {
        add_index: 0,
        settle_index: 0,
        memo: "tea".into(),
        description_hash: None,
        preimage,
        payment_hash: preimage.hash(),
        payment_secret: SECRET,
        value: Some(Msat::new(1_000)),
        creation_date: NOW,
        settle_date: 0,
        expiry: 3_600,
        cltv_expiry: 80,
        state: InvoiceState::Open,
        amt_paid: Msat::ZERO,
        payment_request: String::new(),
        private: false,
        fallback: String::new(),
        htlcs: vec![],
    }
}

fn payload(amount: u64) -> Payload {
    Payload {
        amt_to_forward: Msat::new(amount),
        outgoing_cltv: HEIGHT.plus(80),
        payment_data: Some(PaymentData { payment_secret: SECRET, total: Msat::new(amount) }),
        ..Payload::default()
    }
}

fn htlc<'a>(invoice: &Invoice, payload: &'a Payload) -> Incoming<'a> {
    Incoming {
        channel: [7; 32],
        htlc_id: 3,
        amount: payload.amt_to_forward,
        payment_hash: invoice.payment_hash,
        cltv_expiry: payload.outgoing_cltv,
        payload,
        now: NOW + 10,
        height: HEIGHT,
    }
}

#[derive(Debug, PartialEq)]
enum Answer {
    Settled,
    Unknown,
    LowCltv,
    LowAmount,
}
use Answer::*;

fn judge(invoice: &Invoice, htlc: &Incoming<'_>) -> Answer {
    match invoice.receive(htlc, 9) {
        Verdict::Settle { preimage, changed: Some(changed) } => {
            assert_eq!(preimage.hash(), invoice.payment_hash);
            assert_eq!((changed.state, changed.settle_index), (InvoiceState::Settled, 9));
            assert_eq!((changed.amt_paid, changed.settle_date), (htlc.amount, htlc.now));
            Settled
        }
        Verdict::Fail(FailureMessage::IncorrectOrUnknownPaymentDetails { amount, height }) => {
            assert_eq!((amount, height), (htlc.amount, htlc.height));
            Unknown
        }
        Verdict::Fail(FailureMessage::FinalIncorrectCltvExpiry { cltv }) => {
            assert_eq!(cltv, htlc.cltv_expiry);
            LowCltv
        }
        Verdict::Fail(FailureMessage::FinalIncorrectHtlcAmount { amount }) => {
            assert_eq!(amount, htlc.amount);
            LowAmount
        }
        other => panic!("{other:?}"),
    }
}

type Change = fn(&mut Invoice, &mut Payload, &mut Incoming<'static>);

/// One thing changed of an HTLC that pays, and the answer.
const RULES: [(&str, Change, Answer); 33] = [
    ("as asked", |_, _, _| {}, Settled),
    ("one less", |_, p, h| sum(p, h, 999), Unknown),
    ("twice as much", |_, p, h| sum(p, h, 2_000), Settled),
    ("more than twice", |_, p, h| sum(p, h, 2_001), Unknown),
    ("any amount, 1", |i, p, h| (i.value = None, sum(p, h, 1)).1, Settled),
    ("any amount, much", |i, p, h| (i.value = None, sum(p, h, u64::MAX)).1, Settled),
    (
        "value at the limit",
        |i, p, h| (i.value = Some(Msat::new(u64::MAX)), sum(p, h, 1)).1,
        Unknown,
    ),
    ("HTLC brings more than the onion says", |_, _, h| h.amount = Msat::new(1_001), Settled),
    ("HTLC brings less than the onion says", |_, _, h| h.amount = Msat::new(999), LowAmount),
    ("HTLC brings nothing", |_, _, h| h.amount = Msat::ZERO, LowAmount),
    ("one part of two", |_, p, _| p.amt_to_forward = Msat::new(500), Unknown),
    ("more than its total", |_, p, h| (sum(p, h, 1_001), total(p, 1_000)).1, Unknown),
    ("no payment data", |_, p, _| p.payment_data = None, Unknown),
    ("wrong secret", |_, p, _| p.payment_data.as_mut().unwrap().payment_secret[31] = 4, Unknown),
    ("a longer expiry", |_, _, h| h.cltv_expiry = HEIGHT.plus(2_000), Settled),
    ("the longest expiry", |_, _, h| h.cltv_expiry = Height::new(u32::MAX), Settled),
    ("a block less than the onion says", |_, p, _| p.outgoing_cltv = HEIGHT.plus(81), LowCltv),
    ("a block less than asked", |_, p, h| cltv(p, h, 79), Unknown),
    ("a block passed", |_, _, h| h.height = HEIGHT.plus(1), Unknown),
    ("expired HTLC", |_, p, h| cltv(p, h, 0), Unknown),
    ("asks for little, in time", |i, p, h| (i.cltv_expiry = 1, cltv(p, h, 18)).1, Settled),
    ("asks for little, claim window", |i, p, h| (i.cltv_expiry = 1, cltv(p, h, 17)).1, Unknown),
    ("height at the limit", |_, _, h| h.height = Height::new(u32::MAX), Unknown),
    ("last second", |_, _, h| h.now = NOW + 3_600, Settled),
    ("expired", |_, _, h| h.now = NOW + 3_601, Unknown),
    ("our clock went back", |_, _, h| h.now = 0, Settled),
    ("cancelled", |i, _, _| i.state = InvoiceState::Canceled, Unknown),
    ("held by another", |i, _, _| i.state = InvoiceState::Accepted, Unknown),
    ("settled by another", |i, _, _| i.state = InvoiceState::Settled, Unknown),
    ("wrong secret and too little", |_, p, h| (p.payment_data = None, less(h)).1, Unknown),
    ("expired and too little", |_, _, h| (h.now = NOW + 3_601, less(h)).1, Unknown),
    ("names a channel", |_, p, _| p.short_channel_id = Some(1), Settled),
    ("records of the sender", |_, p, _| drop(p.records.insert(65_537, vec![1])), Settled),
];

fn sum(payload: &mut Payload, htlc: &mut Incoming<'static>, amount: u64) {
    htlc.amount = Msat::new(amount);
    payload.amt_to_forward = Msat::new(amount);
    total(payload, amount);
}

fn total(payload: &mut Payload, amount: u64) {
    payload.payment_data.as_mut().unwrap().total = Msat::new(amount);
}

fn cltv(payload: &mut Payload, htlc: &mut Incoming<'static>, blocks: u32) {
    payload.outgoing_cltv = HEIGHT.plus(blocks);
    htlc.cltv_expiry = HEIGHT.plus(blocks);
}

fn less(htlc: &mut Incoming<'static>) {
    htlc.amount = Msat::new(1);
}

#[test]
fn the_rules() {
    for (name, change, expected) in RULES {
        let mut invoice = invoice(1);
        let mut told = payload(1_000);
        // Leaked, so that the changes can be plain functions.
        let mut given = htlc(&invoice, Box::leak(Box::new(told.clone())));
        change(&mut invoice, &mut told, &mut given);
        let given = Incoming { payload: &told, ..given };
        assert_eq!(judge(&invoice, &given), expected, "{name}");
    }
}

#[test]
fn the_register_numbers_finds_and_settles() {
    let (mut disk, mut pending) = (Disk::default(), Pending::default());
    let mut unit = Unit::new();
    let mut desk = Desk::new(&disk, &mut pending, &mut unit);
    for i in 1..=3u8 {
        assert_eq!(add(&mut desk, invoice(i)).unwrap().add_index, u64::from(i));
    }
    assert_eq!(add(&mut desk, invoice(2)), Err(InvoiceError::Exists));
    assert_eq!(InvoiceError::Exists.to_string(), "invoice with payment hash already exists");

    // Two HTLCs for one invoice, the second before anything is durable.
    let told = payload(1_000);
    let first = htlc(&invoice(2), &told);
    let other = Incoming { htlc_id: 4, ..first.clone() };
    let settled = receive(&mut desk, &first).unwrap();
    let Verdict::Settle { changed: Some(changed), .. } = &settled else { panic!("{settled:?}") };
    assert_eq!(changed.settle_index, 1);
    assert!(matches!(receive(&mut desk, &other), Ok(Verdict::Fail(_))));

    disk.apply(&unit);
    let mark = pending.mark();
    pending.durable(mark);
    let again = |disk: &Disk, pending: &mut Pending, incoming: &Incoming<'_>| {
        let mut unit = Unit::new();
        let verdict = receive(&mut Desk::new(disk, pending, &mut unit), incoming).unwrap();
        (verdict, unit)
    };
    // After a restart the same HTLC comes again, later, past the expiry, and settles again.
    let replay = Incoming { now: NOW + 99_999, height: HEIGHT.plus(79), ..first.clone() };
    let settle = Verdict::Settle { preimage: Preimage([2; 32]), changed: None };
    assert_eq!(again(&disk, &mut Pending::default(), &replay), (settle, Unit::new()));
    // The same id on another channel is another HTLC.
    let elsewhere = Incoming { channel: [8; 32], ..first.clone() };
    for stranger in [other, elsewhere] {
        let (verdict, unit) = again(&disk, &mut pending, &stranger);
        assert_eq!(verdict, Verdict::Fail(stranger.unknown()));
        assert!(unit.is_empty());
    }
    let (verdict, unit) = again(&disk, &mut pending, &htlc(&invoice(3), &told));
    let Verdict::Settle { changed: Some(changed), .. } = verdict else { panic!() };
    assert_eq!(changed.settle_index, 2);
    disk.apply(&unit);

    let stored = disk.table(Table::Invoice);
    let stored: Vec<Invoice> = stored.iter().map(|(_, row)| decode(row).unwrap()).collect();
    let states: Vec<_> = stored.iter().map(|invoice| invoice.state).collect();
    assert_eq!(states, [InvoiceState::Open, InvoiceState::Settled, InvoiceState::Settled]);
    assert_eq!(disk.table(Table::Preimage).len(), 2);
    let key = |n: u64| n.to_be_bytes().to_vec();
    assert_eq!(disk.table(Table::InvoiceBySettle), [(key(1), key(2)), (key(2), key(3))]);
    let unheard = htlc(&invoice(9), &told);
    assert_eq!(again(&disk, &mut pending, &unheard).0, Verdict::Fail(unheard.unknown()));
}

#[test]
fn what_was_held_is_settled_as_long_as_it_can_be_claimed_and_nothing_else() {
    let (mut disk, mut pending, mut unit) = (Disk::default(), Pending::default(), Unit::new());
    let mut desk = Desk::new(&disk, &mut pending, &mut unit);
    let told = payload(1_000);
    for i in [1, 2] {
        add(&mut desk, invoice(i)).unwrap();
    }
    let held = htlc(&invoice(1), &told);
    fn late<'a>(of: &Incoming<'a>) -> Incoming<'a> {
        Incoming { now: NOW + 99_999, height: of.cltv_expiry.minus(CLAIM_WINDOW), ..of.clone() }
    }
    let never = htlc(&invoice(2), &told);
    // What comes too late already is not taken in.
    accept(&mut desk, &late(&never)).unwrap();
    accept(&mut desk, &htlc(&invoice(9), &told)).unwrap();
    for _ in 0..2 {
        accept(&mut desk, &held).unwrap();
        let accepted = find(&desk, &held.payment_hash).unwrap().unwrap();
        assert_eq!(accepted.state, InvoiceState::Accepted);
        assert_eq!((accepted.settle_index, accepted.amt_paid), (0, Msat::ZERO));
        assert_eq!((accepted.htlcs.len(), accepted.htlcs[0].resolve_time), (1, 0));
    }
    // Time does not cancel it, and nobody else pays it.
    expire(&mut desk, &[held.payment_hash], NOW + 99_999).unwrap();
    let other = Incoming { htlc_id: 4, ..held.clone() };
    assert!(matches!(receive(&mut desk, &other), Ok(Verdict::Fail(_))));
    disk.apply(&unit);

    let (mut pending, mut unit) = (Pending::default(), Unit::new());
    let mut desk = Desk::new(&disk, &mut pending, &mut unit);
    let verdict = receive(&mut desk, &late(&never)).unwrap();
    assert_eq!(verdict, Verdict::Fail(late(&never).unknown()));
    let too_late = Incoming { height: late(&held).height.plus(1), ..late(&held) };
    let verdict = receive(&mut desk, &too_late).unwrap();
    assert_eq!(verdict, Verdict::Fail(too_late.unknown()), "its payer may soon take it back");
    let verdict = receive(&mut desk, &late(&held)).unwrap();
    let Verdict::Settle { changed: Some(changed), .. } = &verdict else { panic!("{verdict:?}") };
    assert_eq!((changed.state, changed.settle_index), (InvoiceState::Settled, 1));
    assert_eq!((changed.amt_paid, changed.settle_date), (held.amount, NOW + 99_999));
    let taken = &changed.htlcs[0];
    assert_eq!((changed.htlcs.len(), taken.accept_height), (1, HEIGHT));
    assert_eq!((taken.accept_time, taken.resolve_time), (NOW + 10, NOW + 99_999));
    let again = Verdict::Settle { preimage: Preimage([1; 32]), changed: None };
    assert_eq!(receive(&mut desk, &held), Ok(again));
}

#[test]
fn cancelled_is_not_paid_and_settled_is_not_cancelled() {
    let (disk, mut pending, mut unit) = (Disk::default(), Pending::default(), Unit::new());
    let mut desk = Desk::new(&disk, &mut pending, &mut unit);
    let told = payload(1_000);
    let (one, two) = (invoice(1), invoice(2));
    add(&mut desk, one.clone()).unwrap();
    add(&mut desk, two.clone()).unwrap();
    let state = |desk: &Desk<'_>| find(desk, &one.payment_hash).unwrap().unwrap().state;
    for _ in 0..2 {
        cancel(&mut desk, &one.payment_hash).unwrap();
        assert_eq!(state(&desk), InvoiceState::Canceled);
    }
    assert!(matches!(receive(&mut desk, &htlc(&one, &told)), Ok(Verdict::Fail(_))));
    assert!(matches!(receive(&mut desk, &htlc(&two, &told)), Ok(Verdict::Settle { .. })));
    assert_eq!(cancel(&mut desk, &two.payment_hash), Err(InvoiceError::Settled));
    assert_eq!(cancel(&mut desk, &invoice(3).payment_hash), Err(InvoiceError::Unknown));
    // A hash that was used once is not used again.
    assert_eq!(add(&mut desk, one), Err(InvoiceError::Exists));
}

#[test]
fn what_could_not_be_claimed_in_time_is_not_asked_for() {
    let (disk, mut pending, mut unit) = (Disk::default(), Pending::default(), Unit::new());
    let mut desk = Desk::new(&disk, &mut pending, &mut unit);
    for (cltv_expiry, expiry, fine) in [
        (17, 60, Err(InvoiceError::Cltv)),
        (0, 60, Err(InvoiceError::Cltv)),
        (65_536, 60, Err(InvoiceError::Cltv)),
        (18, 0, Err(InvoiceError::Expiry)),
        (18, MAX_EXPIRY + 1, Err(InvoiceError::Expiry)),
        (18, MAX_EXPIRY, Ok(())),
    ] {
        let result = add(&mut desk, Invoice { cltv_expiry, expiry, ..invoice(1) });
        assert_eq!(result.map(|_| ()), fine);
    }
    let stranger = Invoice { payment_hash: invoice(3).payment_hash, ..invoice(2) };
    assert_eq!(add(&mut desk, stranger), Err(InvoiceError::Preimage));
}

#[test]
fn what_expires_is_cancelled_unless_it_is_paid() {
    let (disk, mut pending, mut unit) = (Disk::default(), Pending::default(), Unit::new());
    let mut desk = Desk::new(&disk, &mut pending, &mut unit);
    let told = payload(1_000);
    let (open, paid, long) = (invoice(1), invoice(2), invoice(3));
    add(&mut desk, open.clone()).unwrap();
    add(&mut desk, paid.clone()).unwrap();
    add(&mut desk, Invoice { expiry: 9_999, ..long.clone() }).unwrap();
    receive(&mut desk, &htlc(&paid, &told)).unwrap();
    let hashes = [open.payment_hash, paid.payment_hash, long.payment_hash, invoice(4).payment_hash];
    let states = |desk: &Desk<'_>| {
        [&hashes[0], &hashes[1], &hashes[2]].map(|h| find(desk, h).unwrap().unwrap().state)
    };
    expire(&mut desk, &hashes, NOW + 3_600).unwrap();
    assert_eq!(states(&desk), [InvoiceState::Open, InvoiceState::Settled, InvoiceState::Open]);
    expire(&mut desk, &hashes, NOW + 3_601).unwrap();
    assert_eq!(states(&desk), [InvoiceState::Canceled, InvoiceState::Settled, InvoiceState::Open]);
}

#[test]
fn news_come_in_the_order_of_their_numbers_and_join_what_was_told() {
    let news = InvoiceNews::after(Told { add_index: 2, settle_index: 0 });
    let (told, mut first) = news.listen();
    assert_eq!(told, Told { add_index: 2, settle_index: 0 });
    let added = |add_index| Invoice { add_index, ..invoice(1) };
    let settled = |settle_index| Invoice { settle_index, ..invoice(2) };
    news.added(added(4));
    news.settled(settled(2));
    let (told, mut second) = news.listen();
    assert_eq!(told, Told { add_index: 2, settle_index: 0 }, "number 3 may still come");
    assert!(first.try_recv().is_err());
    news.added(added(3));
    news.settled(settled(1));
    news.settled(settled(3));
    let (told, mut third) = news.listen();
    assert_eq!(told, Told { add_index: 4, settle_index: 3 });
    assert!(third.try_recv().is_err());
    for listener in [&mut first, &mut second] {
        let heard: Vec<_> = std::iter::from_fn(|| listener.try_recv().ok())
            .map(|event| match event {
                InvoiceEvent::Added(invoice) => ("added", invoice.add_index),
                InvoiceEvent::Settled(invoice) => ("settled", invoice.settle_index),
            })
            .collect();
        let wanted = [("added", 3), ("added", 4), ("settled", 1), ("settled", 2), ("settled", 3)];
        assert_eq!(heard, wanted);
    }
}
