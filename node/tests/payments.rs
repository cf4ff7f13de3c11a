//! Payments: what may be begun, which way it goes, how it ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(clippy::arithmetic_side_effects)]

use crate::disk::Disk;
use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};
use bitcoin::Network;
use fulmen_channel::amount::{Height, Msat};
use fulmen_channel::contract::htlc::Removal;
use fulmen_channel::payment::{PaymentHash, Preimage};
use fulmen_node::desk::{decode, Desk, Pending};
use fulmen_node::invoices::bolt11::{Bolt11Error, Description, PayReq};
use fulmen_node::onion::failure::{seal, wrap};
use fulmen_node::onion::{peel, sphinx, FailureMessage, PaymentData, Peeled};
use fulmen_node::payments::lifecycle::{find, refused, resolved, start, succeeded};
use fulmen_node::payments::{
    Attempt, AttemptFailure, FailureReason, Hop, Launch, Limits, PayError, Payment, Request, Route,
    Status, Step, Terms, Usable, World,
};
use fulmen_node::store::{Table, Unit};
use lightning::ln::msgs::OnionPacket;
use lightning::util::ser::Readable;
use std::collections::BTreeMap;

const HEIGHT: Height = Height::new(800_000);
const PREIMAGE: Preimage = Preimage([6; 32]);
const DEADLINE: u64 = 1_000;

fn secret(byte: u8) -> SecretKey {
    SecretKey::from_slice(&[byte; 32]).unwrap()
}

fn node(byte: u8) -> PublicKey {
    secret(byte).public_key(&Secp256k1::new())
}

fn terms() -> Terms {
    Terms {
        destination: node(2),
        amount: Msat::new(5_000),
        payment_secret: [8; 32],
        metadata: Some(vec![1, 2]),
        final_cltv_delta: 80,
        fee_limit: Msat::ZERO,
        cltv_limit: 2_016,
        deadline_ns: DEADLINE,
        outgoing: vec![],
        records: BTreeMap::from([(65_537, vec![3])]),
    }
}

fn request(terms: Terms) -> Request {
    Request { payment_hash: PREIMAGE.hash(), payment_request: "lnbc1".into(), terms }
}

fn usable(channel: u8, peer: u8, spendable: u64) -> Usable {
    Usable {
        channel: [channel; 32],
        short_channel_id: u64::from(channel),
        aliases: Vec::new(),
        peer: node(peer),
        spendable: Msat::new(spendable),
        minimum: Msat::new(1),
    }
}

/// A node's payments: rows, channels, a clock.
struct Payer {
    disk: Disk,
    pending: Pending,
    channels: Vec<Usable>,
    now: u64,
}

impl Payer {
    fn new(channels: Vec<Usable>) -> Payer {
        Payer { disk: Disk::default(), pending: Pending::default(), channels, now: 10 }
    }

    /// One step, durable at once unless it failed.
    fn step<T, E>(
        &mut self,
        step: impl FnOnce(&mut Desk<'_>, &mut World<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut unit = Unit::new();
        let mut desk = Desk::new(&self.disk, &mut self.pending, &mut unit);
        let mut world = World {
            given_up: &Default::default(),
            now_ns: self.now,
            height: HEIGHT,
            node: node(1),
            channels: &self.channels,
            // A generator that is broken: the same bytes always.
            entropy: &mut || [77; 32],
        };
        let done = step(&mut desk, &mut world)?;
        self.disk.apply(&unit);
        let mark = self.pending.mark();
        self.pending.durable(mark);
        Ok(done)
    }

    fn start(&mut self, request: Request) -> Result<Step, PayError> {
        self.step(|desk, world| start(desk, request, world))
    }

    fn resolved(&mut self, attempt_id: u64, removal: &Removal) -> Step {
        self.step(|desk, world| resolved(desk, attempt_id, removal, world)).unwrap()
    }

    fn succeeded(&mut self, attempt_id: u64, preimage: Preimage) -> Step {
        self.step(|desk, world| succeeded(desk, attempt_id, preimage, world.now_ns)).unwrap()
    }

    fn store(&mut self, payment: &Payment) {
        let mut unit = Unit::new();
        let mut desk = Desk::new(&self.disk, &mut self.pending, &mut unit);
        desk.write(&payment.payment_index.to_be_bytes(), payment);
        self.disk.apply(&unit);
    }

    fn payment(&mut self) -> Payment {
        self.step(|desk, _| find(desk, &PREIMAGE.hash())).unwrap().unwrap()
    }

    fn launch(&mut self, terms: Terms) -> Launch {
        self.start(request(terms)).unwrap().launch.unwrap()
    }

    /// What `failing` would answer on the way of the last attempt.
    fn failure(&mut self, failing: usize, message: &FailureMessage) -> Removal {
        let payment = self.payment();
        let attempt = payment.attempts.last().unwrap();
        let key = SecretKey::from_slice(&attempt.session_key).unwrap();
        let secrets = sphinx::shared_secrets(&key, attempt.route.nodes()).unwrap();
        let mut reason = seal(&secrets[failing], message);
        secrets[..failing].iter().rev().for_each(|secret| wrap(secret, &mut reason));
        Removal::Failed(reason)
    }
}

#[test]
fn the_payee_reads_what_was_agreed() {
    let mut payer = Payer::new(vec![usable(1, 2, 9_000)]);
    let step = payer.start(request(terms())).unwrap();
    let launch = step.launch.unwrap();
    assert_eq!((launch.channel, launch.amount), ([1; 32], Msat::new(5_000)));
    assert_eq!((launch.payment_hash, launch.cltv_expiry), (PREIMAGE.hash(), HEIGHT.plus(83)));

    let packet = OnionPacket::read(&mut &launch.onion[..]).unwrap();
    let peeled = peel(&secret(2), &packet, &PREIMAGE.hash().0).unwrap();
    let Peeled::Final { payload, .. } = peeled else { panic!("{peeled:?}") };
    assert_eq!(payload.amt_to_forward, Msat::new(5_000));
    assert_eq!(payload.outgoing_cltv, launch.cltv_expiry);
    let data = PaymentData { payment_secret: [8; 32], total: Msat::new(5_000) };
    assert_eq!((payload.payment_data, payload.payment_metadata), (Some(data), Some(vec![1, 2])));
    assert_eq!(payload.records, terms().records);

    let payment = *step.changed.unwrap();
    assert_eq!((payment.payment_index, payment.status), (1, Status::InFlight));
    assert_eq!((payment.creation_time_ns, payment.attempts.len()), (10, 1));
    assert_eq!(payment, payer.payment());
}

#[test]
fn what_cannot_be_begun() {
    type Change = fn(&mut Terms);
    let cases: [(Change, &str); 6] = [
        (|t| t.destination = node(1), "self-payments not allowed"),
        (|t| t.amount = Msat::ZERO, "0 msat is not an amount that can be paid"),
        (|t| t.amount = Msat::new(u64::MAX), "is not an amount that can be paid"),
        (|t| t.cltv_limit = 82, "cltv limit 82 should be greater than 83"),
        (|t| t.final_cltv_delta = u32::MAX, "cltv limit 2016 should be greater than 4294967295"),
        (|t| t.metadata = Some(vec![0; 1_300]), "do not fit into an onion"),
    ];
    for (change, expected) in cases {
        let mut payer = Payer::new(vec![usable(1, 2, u64::MAX)]);
        let mut terms = terms();
        change(&mut terms);
        let error = payer.start(request(terms)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(payer.disk, Disk::default());
    }
}

#[test]
fn which_channel_is_taken() {
    let lists: [(Vec<Usable>, Result<u8, FailureReason>); 8] = [
        (vec![], Err(FailureReason::InsufficientBalance)),
        (vec![usable(1, 2, 4_999)], Err(FailureReason::InsufficientBalance)),
        (vec![usable(1, 2, 5_000)], Ok(1)),
        (vec![usable(1, 3, 5_000)], Err(FailureReason::NoRoute)),
        (vec![usable(1, 2, 3_000), usable(2, 2, 3_000)], Err(FailureReason::NoRoute)),
        (vec![usable(1, 2, 5_000), usable(2, 2, 6_000), usable(3, 3, 9_000)], Ok(2)),
        (vec![usable(1, 2, 6_000), usable(2, 2, 6_000)], Ok(2)),
        (
            vec![Usable { minimum: Msat::new(5_001), ..usable(1, 2, 9_000) }],
            Err(FailureReason::NoRoute),
        ),
    ];
    for (channels, expected) in lists {
        let mut payer = Payer::new(channels);
        let step = payer.start(request(terms())).unwrap();
        let payment = step.changed.unwrap();
        match expected {
            Ok(channel) => assert_eq!(step.launch.unwrap().channel, [channel; 32]),
            Err(reason) => {
                assert_eq!(
                    (payment.status, payment.failure_reason),
                    (Status::Failed, Some(reason))
                );
                assert_eq!(step.launch, None);
            }
        }
    }
    let mut payer = Payer::new(vec![usable(1, 2, 6_000), usable(2, 2, 7_000)]);
    assert_eq!(payer.launch(Terms { outgoing: vec![1, 9], ..terms() }).channel, [1; 32]);
}

#[test]
fn a_hash_is_paid_once() {
    let mut payer = Payer::new(vec![usable(1, 2, 9_000)]);
    let launch = payer.launch(terms());
    let before = payer.disk.clone();
    let again = payer.start(request(terms())).unwrap_err();
    assert_eq!(
        (again.to_string(), again),
        ("payment is in transition".into(), PayError::InTransition)
    );
    assert_eq!(payer.disk, before);

    let step = payer.succeeded(launch.attempt_id, PREIMAGE);
    let payment = step.changed.unwrap();
    assert_eq!((payment.status, payment.preimage), (Status::Succeeded, Some(PREIMAGE)));
    assert_eq!((payment.attempts[0].status, payment.fee()), (Status::Succeeded, Msat::ZERO));
    assert_eq!(payer.disk.table(Table::Preimage), [(PREIMAGE.hash().0.to_vec(), vec![6; 32])]);

    let again = payer.start(request(terms())).unwrap_err();
    assert_eq!(
        (again.to_string(), again),
        ("invoice is already paid".into(), PayError::AlreadyPaid)
    );
    // News that come again, and a removal that says otherwise, change nothing.
    let before = payer.disk.clone();
    assert_eq!(payer.succeeded(launch.attempt_id, PREIMAGE), Step::default());
    assert_eq!(payer.resolved(launch.attempt_id, &Removal::Fulfilled(PREIMAGE)), Step::default());
    assert_eq!(payer.resolved(launch.attempt_id, &Removal::Failed(vec![1])), Step::default());
    assert_eq!(payer.disk, before);
}

#[test]
fn a_failed_payment_may_be_made_again_under_a_new_number() {
    let mut payer = Payer::new(vec![usable(1, 2, 9_000)]);
    let first = payer.launch(terms());
    let unknown =
        FailureMessage::IncorrectOrUnknownPaymentDetails { amount: terms().amount, height: HEIGHT };
    let removal = payer.failure(0, &unknown);
    let payment = *payer.resolved(first.attempt_id, &removal).changed.unwrap();
    assert_eq!(payment.failure_reason, Some(FailureReason::IncorrectPaymentDetails));
    let said = AttemptFailure::Hop { hop: 0, message: Some(unknown) };
    assert_eq!(payment.attempts[0].failure, Some(said));

    let second = payer.launch(terms());
    assert_ne!(second.attempt_id, first.attempt_id);
    assert_ne!(second.onion, first.onion, "another session key, although the random bytes repeat");
    let rows = payer.disk.table(Table::Payment);
    assert_eq!(rows.len(), 1);
    let payment: Payment = decode(&rows[0].1).unwrap();
    assert_eq!((payment.payment_index, payment.status), (2, Status::InFlight));
    // News of the first attempt do not touch the second.
    assert_eq!(payer.resolved(first.attempt_id, &removal), Step::default());
    assert_eq!(payer.payment(), payment);
}

#[test]
fn failures_that_leave_another_way_are_tried_again() {
    let details =
        FailureMessage::IncorrectOrUnknownPaymentDetails { amount: Msat::new(1), height: HEIGHT };
    use FailureReason::{Error, IncorrectPaymentDetails};
    let sealed: [(FailureMessage, Option<FailureReason>); 9] = [
        (details, Some(IncorrectPaymentDetails)),
        (FailureMessage::PermanentNodeFailure, Some(Error)),
        (FailureMessage::RequiredNodeFeatureMissing, Some(Error)),
        (FailureMessage::InvalidOnionPayload { kind: 8, offset: 1 }, Some(Error)),
        (FailureMessage::Other { code: 0x4010, data: vec![] }, Some(Error)),
        (FailureMessage::TemporaryNodeFailure, None),
        (FailureMessage::MppTimeout, None),
        (FailureMessage::FinalIncorrectHtlcAmount { amount: Msat::new(1) }, None),
        (FailureMessage::InvalidOnionHmac([1; 32]), None),
    ];
    for (message, expected) in sealed {
        let mut payer = Payer::new(vec![usable(1, 2, 9_000), usable(2, 2, 8_000)]);
        let launch = payer.launch(terms());
        let removal = payer.failure(0, &message);
        let step = payer.resolved(launch.attempt_id, &removal);
        let payment = step.changed.unwrap();
        assert_eq!(payment.failure_reason, expected, "{message:?}");
        assert_eq!(step.launch.map(|next| next.channel), expected.map_or(Some([2; 32]), |_| None));
    }
    let unsealed = [
        Removal::Failed(vec![1; 292]),
        Removal::Failed(vec![]),
        Removal::Malformed { sha256_of_onion: [1; 32], code: 0xc005 },
        Removal::Malformed { sha256_of_onion: [1; 32], code: 0xc0ff },
    ];
    for removal in unsealed {
        let mut payer = Payer::new(vec![usable(1, 2, 9_000), usable(2, 2, 8_000)]);
        let first = payer.launch(terms());
        let second = payer.resolved(first.attempt_id, &removal).launch.unwrap();
        assert_eq!(second.channel, [2; 32]);
        assert_ne!(second.onion, first.onion);
        let step = payer.resolved(second.attempt_id, &removal);
        let payment = step.changed.unwrap();
        assert_eq!(step.launch, None, "each channel once");
        assert_eq!(payment.failure_reason, Some(FailureReason::NoRoute));
        let keys: Vec<_> = payment.attempts.iter().map(|attempt| attempt.session_key).collect();
        assert_ne!(keys[0], keys[1]);
        assert!(payment.attempts.iter().all(|attempt| attempt.status == Status::Failed));
    }
}

#[test]
fn refused_and_late() {
    let mut payer = Payer::new(vec![usable(1, 2, 9_000), usable(2, 2, 8_000), usable(3, 2, 7_000)]);
    let first = payer.launch(terms());
    let refuse = |payer: &mut Payer, id| {
        payer.step(|desk, world| refused(desk, id, "full".into(), world)).unwrap()
    };
    let second = refuse(&mut payer, first.attempt_id).launch.unwrap();
    assert_eq!(refuse(&mut payer, first.attempt_id), Step::default(), "said twice");
    payer.now = DEADLINE;
    let payment = refuse(&mut payer, second.attempt_id).changed.unwrap();
    assert_eq!(payment.failure_reason, Some(FailureReason::Timeout));
    assert_eq!(payment.attempts.len(), 2);
    assert_eq!(payment.attempts[1].failure, Some(AttemptFailure::Local("full".into())));
    assert_eq!(payment.attempts[1].resolve_time_ns, DEADLINE);
    // Money that went all the same is not denied.
    let payment = payer.succeeded(second.attempt_id, PREIMAGE).changed.unwrap();
    assert_eq!((payment.status, payment.failure_reason), (Status::Succeeded, None));
}

#[test]
fn only_the_right_preimage_of_a_known_attempt_counts() {
    let mut payer = Payer::new(vec![usable(1, 2, 9_000)]);
    let launch = payer.launch(terms());
    assert_eq!(payer.succeeded(launch.attempt_id, Preimage([7; 32])), Step::default());
    assert_eq!(payer.succeeded(launch.attempt_id + 1, PREIMAGE), Step::default());
    assert_eq!(payer.succeeded(u64::MAX, PREIMAGE), Step::default());
    assert_eq!(payer.resolved(u64::MAX, &Removal::Failed(vec![])), Step::default());
    assert_eq!(payer.payment().status, Status::InFlight);
}

/// Routes of several hops are not found yet, but their attempts can be kept, and their failures
/// read.
#[test]
fn a_route_of_three_hops() {
    let mut payer = Payer::new(vec![usable(1, 2, 9_000)]);
    let launch = payer.launch(terms());
    let mut payment = payer.payment();
    let hop = |n: u8, amount, cltv| Hop {
        node: node(n),
        short_channel_id: u64::from(n),
        amount: Msat::new(amount),
        cltv: HEIGHT.plus(cltv),
    };
    let route = Route {
        channel: [1; 32],
        amount: Msat::new(5_300),
        cltv: HEIGHT.plus(163),
        hops: vec![hop(2, 5_100, 123), hop(3, 5_000, 83), hop(4, 5_000, 83)],
    };
    assert_eq!(route.fees(), Msat::new(300));
    let key = secret(50);
    let onion = route.onion(&key, &PREIMAGE.hash(), &payment.terms).unwrap();
    let mut packet = OnionPacket::read(&mut &onion[..]).unwrap();
    for (n, next, amount) in [(2, 3, 5_100), (3, 4, 5_000)] {
        let peeled = peel(&secret(n), &packet, &PREIMAGE.hash().0).unwrap();
        let Peeled::Forward { payload, next: onward, .. } = peeled else { panic!("{peeled:?}") };
        assert_eq!(payload.short_channel_id, Some(next));
        assert_eq!((payload.amt_to_forward, payload.payment_data), (Msat::new(amount), None));
        assert!(payload.records.is_empty());
        packet = *onward;
    }
    let peeled = peel(&secret(4), &packet, &PREIMAGE.hash().0).unwrap();
    assert!(matches!(peeled, Peeled::Final { .. }));

    // The attempt as it would be stored, and what each hop would answer.
    payment.attempts[0] =
        Attempt { session_key: key.secret_bytes(), route, ..payment.attempts[0].clone() };
    for (failing, reason) in
        [(0, FailureReason::NoRoute), (1, FailureReason::NoRoute), (2, FailureReason::Error)]
    {
        payer.store(&payment);
        let removal = payer.failure(failing, &FailureMessage::PermanentNodeFailure);
        let failed = payer.resolved(launch.attempt_id, &removal).changed.unwrap();
        assert_eq!(failed.failure_reason, Some(reason), "hop {failing}");
        let message = Some(FailureMessage::PermanentNodeFailure);
        let said = AttemptFailure::Hop { hop: failing, message };
        assert_eq!(failed.attempts[0].failure, Some(said));
    }
    payer.store(&payment);
    let paid = payer.succeeded(launch.attempt_id, PREIMAGE).changed.unwrap();
    assert_eq!(paid.fee(), Msat::new(300));
}

#[test]
fn an_invoice_and_an_amount() {
    let read = |amount: Option<u64>| PayReq {
        currency: lightning_invoice::Currency::Regtest,
        payee: node(2),
        payment_hash: PaymentHash([3; 32]),
        payment_secret: [4; 32],
        amount: amount.map(Msat::new),
        timestamp: 100,
        expiry: 60,
        description: Description::Text(String::new()),
        min_final_cltv: 40,
        fallbacks: vec![],
        route_hints: vec![],
        metadata: Some(vec![5]),
        features: vec![8, 14],
        bad_field: None,
    };
    let ask = |invoice: Option<u64>, amount: Option<u64>, now| {
        let limits = Limits {
            fee_limit: Msat::new(1),
            cltv_limit: 2,
            deadline_ns: 3,
            outgoing: vec![4],
            records: BTreeMap::new(),
        };
        let amount = amount.map(Msat::new);
        Request::for_invoice("text", read(invoice), amount, limits, Network::Regtest, now)
    };
    let paid = |request: Result<Request, PayError>| request.unwrap().terms.amount.msat();
    assert_eq!(paid(ask(Some(7), None, 160)), 7);
    assert_eq!(paid(ask(Some(7), Some(0), 160)), 7);
    assert_eq!(paid(ask(None, Some(9), 160)), 9);
    let error = |request: Result<Request, PayError>| request.unwrap_err().to_string();
    let missing = "amount must be specified when paying a zero amount invoice";
    assert_eq!(error(ask(None, None, 160)), missing);
    assert_eq!(error(ask(None, Some(0), 160)), missing);
    let given = "amount must not be specified when paying a non-zero  amount invoice";
    assert_eq!(error(ask(Some(7), Some(7), 160)), given);
    let expired = PayError::Invoice(Bolt11Error::Expired(160));
    assert_eq!(ask(Some(7), None, 161), Err(expired));

    let request = ask(Some(7), None, 100).unwrap();
    assert_eq!((request.payment_hash, request.terms.destination), (PaymentHash([3; 32]), node(2)));
    assert_eq!((request.terms.payment_secret, request.terms.final_cltv_delta), ([4; 32], 40));
    assert_eq!((request.terms.metadata, request.terms.outgoing), (Some(vec![5]), vec![4]));
}
