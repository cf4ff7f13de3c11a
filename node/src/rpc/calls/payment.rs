//! Payments as the API shows them.

use super::failure::failure;
use super::{floor, sat};
use crate::node::Node;
use crate::payments::{Attempt, Payment, Route, Status, Terms};
use fulmen_channel::amount::{Msat, Sat};
use fulmen_proto::lnrpc::payment::PaymentStatus;
use fulmen_proto::lnrpc::{self, htlc_attempt::HtlcStatus};
use std::collections::BTreeMap;

/// What channels hold, by id: for the capacities that routes show.
pub(super) fn capacities(node: &Node) -> BTreeMap<[u8; 32], Sat> {
    node.services.registry.capacities()
}

fn msat(amount: Msat) -> i64 {
    i64::try_from(amount.msat()).unwrap_or(i64::MAX)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A payment.
pub(super) fn to_rpc(payment: &Payment, capacities: &BTreeMap<[u8; 32], Sat>) -> lnrpc::Payment {
    let (fee, value) = (payment.fee(), payment.terms.amount);
    let status = match payment.status {
        Status::InFlight => PaymentStatus::InFlight,
        Status::Succeeded => PaymentStatus::Succeeded,
        Status::Failed => PaymentStatus::Failed,
    };
    let htlc = |attempt: &Attempt| htlc(attempt, &payment.terms, capacities);
    lnrpc::Payment {
        payment_hash: payment.payment_hash.to_string(),
        value: floor(value),
        value_sat: floor(value),
        value_msat: msat(value),
        creation_date: signed(payment.creation_time_ns / 1_000_000_000),
        creation_time_ns: signed(payment.creation_time_ns),
        fee: floor(fee),
        fee_sat: floor(fee),
        fee_msat: msat(fee),
        payment_preimage: hex::encode(payment.preimage.map_or([0; 32], |preimage| preimage.0)),
        payment_request: payment.payment_request.clone(),
        status: status.into(),
        htlcs: payment.attempts.iter().map(htlc).collect(),
        payment_index: payment.payment_index,
        failure_reason: payment.failure_reason.map_or(0, |reason| reason as i32),
        ..Default::default()
    }
}

fn htlc(
    attempt: &Attempt,
    terms: &Terms,
    capacities: &BTreeMap<[u8; 32], Sat>,
) -> lnrpc::HtlcAttempt {
    let status = match attempt.status {
        Status::InFlight => HtlcStatus::InFlight,
        Status::Succeeded => HtlcStatus::Succeeded,
        Status::Failed => HtlcStatus::Failed,
    };
    lnrpc::HtlcAttempt {
        attempt_id: attempt.attempt_id,
        status: status.into(),
        route: Some(route(&attempt.route, terms, capacities)),
        attempt_time_ns: signed(attempt.attempt_time_ns),
        resolve_time_ns: signed(attempt.resolve_time_ns),
        failure: attempt.failure.as_ref().map(failure),
        preimage: attempt.preimage.map(|preimage| preimage.0.to_vec()).unwrap_or_default(),
    }
}

/// A route.
pub(super) fn route(
    route: &Route,
    terms: &Terms,
    capacities: &BTreeMap<[u8; 32], Sat>,
) -> lnrpc::Route {
    let mut brought = route.amount;
    let mut hops = Vec::new();
    for (place, hop) in route.hops.iter().enumerate() {
        let fee = brought.saturating_sub(hop.amount);
        brought = hop.amount;
        let is_first = place == 0;
        let is_last = place.saturating_add(1) == route.hops.len();
        let capacity = capacities.get(&route.channel).filter(|_| is_first);
        hops.push(lnrpc::Hop {
            chan_id: hop.short_channel_id,
            chan_capacity: capacity.map_or(0, |capacity| sat(*capacity)),
            amt_to_forward: floor(hop.amount),
            amt_to_forward_msat: msat(hop.amount),
            fee: floor(fee),
            fee_msat: msat(fee),
            expiry: hop.cltv.number(),
            pub_key: hop.node.to_string(),
            tlv_payload: true,
            mpp_record: is_last.then(|| lnrpc::MppRecord {
                payment_addr: terms.payment_secret.to_vec(),
                total_amt_msat: msat(terms.amount),
            }),
            metadata: terms.metadata.clone().filter(|_| is_last).unwrap_or_default(),
            custom_records: terms.records.clone().into_iter().filter(|_| is_last).collect(),
            ..Default::default()
        });
    }
    lnrpc::Route {
        total_time_lock: route.cltv.number(),
        total_fees: floor(route.fees()),
        total_fees_msat: msat(route.fees()),
        total_amt: floor(route.amount),
        total_amt_msat: msat(route.amount),
        hops,
        ..Default::default()
    }
}
