//! Payer and payee around one channel, told everything twice and stopped at every step.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(clippy::arithmetic_side_effects)]

use crate::disk::Disk;
use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};
use fulmen_channel::amount::{Height, Msat};
use fulmen_channel::contract::commitments::Offer;
use fulmen_channel::contract::htlc::Removal;
use fulmen_channel::output::{Received, Resolved};
use fulmen_channel::payment::Preimage;
use fulmen_node::desk::{decode, Desk, Pending};
use fulmen_node::invoices::{registry, Invoice, InvoiceState};
use fulmen_node::onion::failure::{open, Opened};
use fulmen_node::onion::{build, FailureMessage, Payload, PaymentData};
use fulmen_node::payments::{lifecycle, Payment, Request, Status, Terms, Usable, World};
use fulmen_node::store::{StoreError, Table, Unit};
use fulmen_node::switch::{self, attempt_of, read_onion, Action, Circuit, Origin};
use lightning::ln::msgs::{OnionPacket, UpdateAddHTLC};
use lightning::ln::types::ChannelId;
use lightning::types::payment::PaymentHash;
use lightning::util::ser::Readable;
use std::collections::BTreeSet;

const CHANNEL: [u8; 32] = [1; 32];
const HEIGHT: Height = Height::new(800_000);
const NOW: u64 = 1_800_000_000;
const PREIMAGE: Preimage = Preimage([6; 32]);
const AMOUNT: Msat = Msat::new(5_000);

fn secret(byte: u8) -> SecretKey {
    SecretKey::from_slice(&[byte; 32]).unwrap()
}

fn node(byte: u8) -> PublicKey {
    secret(byte).public_key(&Secp256k1::new())
}

/// A node that may stop at any time: with what it had written, or without the last unit.
struct Node {
    id: u8,
    disk: Disk,
    pending: Pending,
}

/// What the disk is made to do with a step's unit.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Fate {
    /// It becomes durable, and the node goes on.
    Written,
    /// It becomes durable, and the node stops and starts.
    WrittenThenStopped,
    /// The node stops before it is durable, and starts again: the step is told again.
    Lost,
    /// It waits, and the step is told again before it is durable.
    Waiting,
}
const FATES: [Fate; 4] = [Fate::Written, Fate::WrittenThenStopped, Fate::Lost, Fate::Waiting];

impl Node {
    fn new(id: u8) -> Node {
        Node { id, disk: Disk::default(), pending: Pending::default() }
    }

    fn run<T, E>(
        &mut self,
        step: &dyn Fn(&mut Desk<'_>, &mut World<'_>) -> Result<T, E>,
    ) -> (Result<T, E>, Unit) {
        let mut unit = Unit::new();
        let channels = [Usable {
            channel: CHANNEL,
            short_channel_id: 1,
            aliases: Vec::new(),
            peer: node(3 - self.id),
            spendable: Msat::new(1_000_000),
            minimum: Msat::new(1),
        }];
        let mut desk = Desk::new(&self.disk, &mut self.pending, &mut unit);
        let mut world = World {
            given_up: &Default::default(),
            now_ns: NOW * 1_000_000_000,
            height: HEIGHT,
            node: node(self.id),
            channels: &channels,
            entropy: &mut || [9; 32],
        };
        (step(&mut desk, &mut world), unit)
    }

    /// Takes a step that is told once, or again, as `fate` has it. Gives what it did at last.
    fn told<T>(
        &mut self,
        fate: Fate,
        step: &dyn Fn(&mut Desk<'_>, &mut World<'_>) -> Result<T, StoreError>,
    ) -> T {
        let (first, unit) = self.run(step);
        let first = first.unwrap();
        match fate {
            Fate::Written => {
                self.disk.apply(&unit);
                self.pending.durable(self.pending.mark());
                first
            }
            Fate::WrittenThenStopped => {
                self.disk.apply(&unit);
                self.pending = Pending::default();
                self.run(step).0.unwrap()
            }
            Fate::Lost => {
                self.pending = Pending::default();
                let (again, unit) = self.run(step);
                self.disk.apply(&unit);
                again.unwrap()
            }
            Fate::Waiting => {
                let (again, more) = self.run(step);
                self.disk.apply(&unit);
                self.disk.apply(&more);
                again.unwrap()
            }
        }
    }

    fn invoice(&mut self) -> Invoice {
        let step = |desk: &mut Desk<'_>, _: &mut World<'_>| registry::find(desk, &PREIMAGE.hash());
        self.run(&step).0.unwrap().unwrap()
    }

    fn payment(&mut self) -> Payment {
        let step = |desk: &mut Desk<'_>, _: &mut World<'_>| lifecycle::find(desk, &PREIMAGE.hash());
        self.run(&step).0.unwrap().unwrap()
    }

    fn circuits(&self) -> Vec<Circuit> {
        let rows = self.disk.table(Table::Circuit);
        rows.iter().map(|(_, row)| decode(row).unwrap()).collect()
    }

    fn pay(&mut self) -> Box<Offer> {
        let request = Request {
            payment_hash: PREIMAGE.hash(),
            payment_request: String::new(),
            terms: Terms {
                destination: node(2),
                amount: AMOUNT,
                payment_secret: [8; 32],
                metadata: None,
                final_cltv_delta: 80,
                fee_limit: Msat::ZERO,
                cltv_limit: 2_016,
                deadline_ns: u64::MAX,
                outgoing: vec![],
                records: Default::default(),
            },
        };
        let (actions, unit) = self.run(&|desk, world| switch::pay(desk, request.clone(), world));
        self.disk.apply(&unit);
        let actions = actions.unwrap();
        assert!(
            matches!(&actions[0], Action::Payment(payment) if payment.status == Status::InFlight)
        );
        let Action::Offer { channel: CHANNEL, offer, .. } = &actions[1] else { panic!() };
        offer.clone()
    }
}

fn add_invoice(payee: &mut Node) {
    let invoice = Invoice {
        add_index: 0,
        settle_index: 0,
        memo: String::new(),
        description_hash: None,
        preimage: PREIMAGE,
        payment_hash: PREIMAGE.hash(),
        payment_secret: [8; 32],
        value: Some(AMOUNT),
        creation_date: NOW,
        settle_date: 0,
        expiry: 60,
        cltv_expiry: 80,
        state: InvoiceState::Open,
        amt_paid: Msat::ZERO,
        payment_request: String::new(),
        private: false,
        fallback: String::new(),
        htlcs: vec![],
    };
    let (added, unit) = payee.run(&|desk, _| registry::add(desk, invoice.clone()));
    added.unwrap();
    payee.disk.apply(&unit);
}

fn add(onion: OnionPacket) -> UpdateAddHTLC {
    UpdateAddHTLC {
        channel_id: ChannelId(CHANNEL),
        htlc_id: 4,
        amount_msat: AMOUNT.msat(),
        payment_hash: PaymentHash(PREIMAGE.hash().0),
        cltv_expiry: HEIGHT.plus(83).number(),
        skimmed_fee_msat: None,
        onion_routing_packet: onion,
        blinding_point: None,
        hold_htlc: None,
    }
}

fn htlc(memo: Vec<u8>) -> Received {
    Received {
        id: 4,
        amount: AMOUNT,
        payment_hash: PREIMAGE.hash(),
        cltv_expiry: HEIGHT.plus(83),
        memo,
        over_dust_exposure: false,
    }
}

/// The offer as it reaches the payee, its onion read on receipt.
fn arrive(offer: &Offer) -> Received {
    let packet = OnionPacket::read(&mut &offer.onion[..]).unwrap();
    htlc(read_onion(&secret(2), &add(packet)))
}

fn removal(actions: &[Action]) -> Removal {
    match actions.last() {
        Some(Action::Remove { channel: CHANNEL, id: 4, removal }) => removal.clone(),
        other => panic!("{other:?}"),
    }
}

fn over(offer: &Offer, removal: &Removal) -> Resolved {
    Resolved {
        id: 0,
        amount: offer.amount,
        payment_hash: offer.payment_hash,
        removal: removal.clone(),
        memo: offer.memo.clone(),
    }
}

#[test]
fn a_payment_is_made_once_whatever_is_lost_or_told_twice() {
    for (a, b, c) in FATES
        .iter()
        .flat_map(|a| FATES.iter().flat_map(move |b| FATES.iter().map(move |c| (*a, *b, *c))))
    {
        let (mut payer, mut payee) = (Node::new(1), Node::new(2));
        add_invoice(&mut payee);
        let offer = payer.pay();
        let attempt_id = attempt_of(&offer.memo).unwrap();
        assert_eq!(payer.circuits()[0].origin, Origin::Local(attempt_id));

        let arrived = arrive(&offer);
        let actions =
            payee.told(a, &|desk, _| switch::received(desk, CHANNEL, &arrived, NOW, HEIGHT));
        let fulfilled = removal(&actions);
        assert_eq!(fulfilled, Removal::Fulfilled(PREIMAGE), "{a:?}");
        let invoice = payee.invoice();
        assert_eq!((invoice.state, invoice.settle_index), (InvoiceState::Settled, 1));
        assert_eq!((invoice.htlcs.len(), invoice.amt_paid), (1, AMOUNT));

        payer.told(b, &|desk, world| switch::fulfilled(desk, &offer.memo, PREIMAGE, world.now_ns));
        assert_eq!(payer.payment().status, Status::Succeeded, "{b:?}");
        assert_eq!(payer.disk.table(Table::Preimage).len(), 1);
        assert_eq!(payer.circuits().len(), 1, "until it is over for good");

        let over = over(&offer, &fulfilled);
        let last = payer.told(c, &|desk, world| switch::resolved(desk, &over, world));
        assert_eq!(last, [], "nothing to tell again");
        let payment = payer.payment();
        assert_eq!((payment.status, payment.attempts.len()), (Status::Succeeded, 1));
        assert_eq!(payment.preimage, Some(PREIMAGE));
        assert_eq!(payer.circuits(), []);
    }
}

#[test]
fn a_failure_comes_back_and_is_read() {
    for (a, b) in FATES.iter().flat_map(|a| FATES.iter().map(move |b| (*a, *b))) {
        let (mut payer, mut payee) = (Node::new(1), Node::new(2));
        let offer = payer.pay();
        let arrived = arrive(&offer);
        let actions =
            payee.told(a, &|desk, _| switch::received(desk, CHANNEL, &arrived, NOW, HEIGHT));
        assert_eq!(actions.len(), 1);
        let failed = removal(&actions);
        let over = over(&offer, &failed);
        payer.told(b, &|desk, world| switch::resolved(desk, &over, world));
        let payment = payer.payment();
        assert_eq!(payment.status, Status::Failed, "{b:?}");
        let said = format!("{:?}", payment.attempts[0].failure);
        assert!(said.contains("IncorrectOrUnknownPaymentDetails"), "{said}");
        assert_eq!((payer.circuits(), payment.attempts.len()), (vec![], 1));
    }
}

/// What the payee answers to an onion of `hops`, opened as its sender would.
fn answer(hops: &[(PublicKey, Payload)], change: impl FnOnce(&mut Received)) -> Opened {
    let (packet, secrets) = build(&secret(30), hops, &PREIMAGE.hash().0).unwrap();
    let mut received = htlc(read_onion(&secret(2), &add(packet)));
    change(&mut received);
    match removal(&judge(&received)) {
        Removal::Failed(reason) => open(&secrets, &reason),
        other => panic!("{other:?}"),
    }
}

fn judge(received: &Received) -> Vec<Action> {
    let mut payee = Node::new(2);
    add_invoice(&mut payee);
    let before = payee.disk.clone();
    let step = |desk: &mut Desk<'_>, _: &mut World<'_>| {
        switch::received(desk, CHANNEL, received, NOW, HEIGHT)
    };
    let actions = payee.told(Fate::Written, &step);
    assert_eq!(payee.disk, before, "nothing is written for an HTLC that fails");
    actions
}

fn payload() -> Payload {
    Payload {
        amt_to_forward: AMOUNT,
        outgoing_cltv: HEIGHT.plus(83),
        payment_data: Some(PaymentData { payment_secret: [8; 32], total: AMOUNT }),
        ..Payload::default()
    }
}

fn from_payee(failure: FailureMessage) -> Opened {
    Opened::From { hop: 0, failure: Some(failure) }
}

#[test]
fn an_htlc_for_somebody_else_goes_nowhere() {
    let relay = Payload { short_channel_id: Some(42), payment_data: None, ..payload() };
    let hops = [(node(2), relay), (node(3), payload())];
    assert_eq!(answer(&hops, |_| {}), from_payee(FailureMessage::UnknownNextPeer));
}

#[test]
fn a_payload_that_is_not_understood_is_named() {
    let mut bad = payload();
    bad.records.insert(1_000, vec![]);
    let offset = 1 + payload().encode().len() as u16;
    let failure = FailureMessage::InvalidOnionPayload { kind: 1_000, offset };
    assert_eq!(answer(&[(node(2), bad)], |_| {}), from_payee(failure));
}

#[test]
fn too_much_dust_is_failed_and_settles_nothing() {
    let opened = answer(&[(node(2), payload())], |htlc| htlc.over_dust_exposure = true);
    assert_eq!(opened, from_payee(FailureMessage::TemporaryNodeFailure));
}

#[test]
fn less_than_the_onion_says_is_failed() {
    let opened = answer(&[(node(2), payload())], |htlc| htlc.amount = Msat::new(4_999));
    let failure = FailureMessage::FinalIncorrectHtlcAmount { amount: Msat::new(4_999) };
    assert_eq!(opened, from_payee(failure));
}

#[test]
fn what_cannot_be_read_is_malformed() {
    let (packet, _) = build(&secret(30), &[(node(2), payload())], &PREIMAGE.hash().0).unwrap();
    let malformed = |received: &Received| match removal(&judge(received)) {
        Removal::Malformed { code, sha256_of_onion } => (code, sha256_of_onion),
        other => panic!("{other:?}"),
    };
    let version = add(OnionPacket { version: 1, ..packet.clone() });
    let (code, hash) = malformed(&htlc(read_onion(&secret(2), &version)));
    assert_eq!(code, 0xc004);
    assert_ne!(hash, [0; 32]);
    let stranger = htlc(read_onion(&secret(5), &add(packet.clone())));
    assert_eq!(malformed(&stranger).0, 0xc005);
    let blinded = UpdateAddHTLC { blinding_point: Some(node(7)), ..add(packet) };
    assert_eq!(malformed(&htlc(read_onion(&secret(2), &blinded))), (0xc018, [0; 32]));
    // No memo, a damaged one, one of a later version.
    let today = htlc(read_onion(&secret(2), &blinded)).memo[0];
    for memo in [vec![], vec![today], vec![today, 99], vec![today + 1, 0]] {
        assert_eq!(malformed(&htlc(memo)).0, 0xc005);
    }
}

#[test]
fn the_memo_holds_no_onion() {
    let (packet, _) = build(&secret(30), &[(node(2), payload())], &PREIMAGE.hash().0).unwrap();
    let memo = read_onion(&secret(2), &add(packet));
    assert!(memo.len() < 120, "{} bytes", memo.len());
    assert!(attempt_of(&[]).is_err() && attempt_of(&[memo[0] + 1, 0]).is_err());
}

#[test]
fn what_never_left_is_given_up_after_a_restart() {
    for was_sent in [true, false] {
        let mut payer = Node::new(1);
        let offer = payer.pay();
        payer.pending = Pending::default();
        let attempt_id = attempt_of(&offer.memo).unwrap();
        let live: BTreeSet<u64> = was_sent.then_some(attempt_id).into_iter().collect();
        let mut circuits = payer.circuits();
        assert_eq!(circuits.len(), 1);
        // Forwarded HTLCs are none of its business.
        let origin = Origin::Channel([2; 32], 1);
        circuits.push(Circuit { origin, ..circuits[0] });
        for again in [false, true] {
            let step = |desk: &mut Desk<'_>, world: &mut World<'_>| {
                switch::resume(desk, &circuits, &live, world)
            };
            let actions = payer.told(Fate::Written, &step);
            assert_eq!(actions.len(), usize::from(!was_sent && !again));
        }
        let status = if was_sent { Status::InFlight } else { Status::Failed };
        assert_eq!(payer.payment().status, status);
        assert_eq!(payer.circuits().len(), usize::from(was_sent));
    }
}

#[test]
fn rows_of_circuits_stand_together_by_origin() {
    let keys: Vec<_> = [
        Origin::Local(1),
        Origin::Local(256),
        Origin::Channel([0; 32], 2),
        Origin::Channel([0; 32], 300),
        Origin::Channel([1; 32], 1),
    ]
    .map(|origin| origin.key())
    .into();
    assert!(keys.windows(2).all(|pair| pair[0] < pair[1]));
}
