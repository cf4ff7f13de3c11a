//! SendPaymentV2, TrackPaymentV2 and SendPaymentSync.

use super::payment::{capacities, route, to_rpc};
use super::{bare, failed};
use crate::clock;
use crate::invoices::bolt11;
use crate::node::Node;
use crate::payments::{
    FailureReason, Limits, PayError, Payment, Request, Status, DEFAULT_CLTV_LIMIT,
};
use crate::switchboard::Switchboard;
use bitcoin::secp256k1::PublicKey;
use fulmen_channel::amount::{Msat, Sat};
use fulmen_channel::payment::PaymentHash;
use fulmen_proto::{lnrpc, routerrpc};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tonic::{Code, Status as RpcStatus};

/// How long attempts are made if the caller does not say, as lnd.
const DEFAULT_TIMEOUT_SECONDS: u64 = 60;

/// What both calls ask for.
struct Asked {
    payment_request: String,
    dest: Vec<u8>,
    payment_hash: Vec<u8>,
    payment_addr: Vec<u8>,
    final_cltv_delta: i32,
    amount: Option<Msat>,
    fee_limit: Option<Msat>,
    cltv_limit: u32,
    timeout_seconds: u64,
    outgoing: Vec<u64>,
    records: BTreeMap<u64, Vec<u8>>,
}

type Answers = mpsc::Receiver<Result<lnrpc::Payment, RpcStatus>>;

/// Pays; tells of each change until the payment is over.
pub async fn send_payment_v2(
    node: &Node,
    request: routerrpc::SendPaymentRequest,
) -> Result<Answers, RpcStatus> {
    refuse_unbuilt(&[
        ("amp", request.amp),
        ("last_hop_pubkey", !request.last_hop_pubkey.is_empty()),
        ("route_hints", !request.route_hints.is_empty()),
        ("first_hop_custom_records", !request.first_hop_custom_records.is_empty()),
    ])?;
    let timeout_seconds = u64::try_from(request.timeout_seconds)
        .map_err(|_| failed("timeout_seconds must not be negative"))?;
    let cltv_limit =
        u32::try_from(request.cltv_limit).map_err(|_| failed("cltv_limit must not be negative"))?;
    let outgoing = chosen(request.outgoing_chan_ids, request.outgoing_chan_id);
    let asked = Asked {
        payment_request: request.payment_request,
        dest: request.dest,
        payment_hash: request.payment_hash,
        payment_addr: request.payment_addr,
        final_cltv_delta: request.final_cltv_delta,
        amount: amount(request.amt, request.amt_msat)?,
        fee_limit: amount(request.fee_limit_sat, request.fee_limit_msat)?,
        cltv_limit,
        timeout_seconds,
        outgoing,
        records: request.dest_custom_records.into_iter().collect(),
    };
    let news = begin(node, asked).await?;
    let payment_hash = news.borrow().payment_hash;
    let answers = follow(news, request.no_inflight_updates, capacities(node));
    if !request.cancelable {
        return Ok(answers);
    }
    Ok(cancelable(answers, node.switchboard.clone(), payment_hash))
}

/// Passes the answers on; a caller that goes away before the last one ends further attempts.
fn cancelable(
    mut answers: Answers,
    switchboard: Arc<Switchboard>,
    payment_hash: PaymentHash,
) -> Answers {
    let (to_caller, passed) = mpsc::channel(4);
    tokio::spawn(async move {
        loop {
            let gone = tokio::select! {
                answer = answers.recv() => match answer {
                    Some(answer) => to_caller.send(answer).await.is_err(),
                    None => return,
                },
                () = to_caller.closed() => true,
            };
            if gone {
                return switchboard.give_up(payment_hash);
            }
        }
    });
    passed
}

/// Tells of a payment: as it is now, and each change until it is over.
pub fn track_payment_v2(
    node: &Node,
    request: routerrpc::TrackPaymentRequest,
) -> Result<Answers, RpcStatus> {
    let hash = hash_of(&request.payment_hash)?;
    let found = node.switchboard.track(&hash).map_err(failed)?;
    let unknown = || RpcStatus::new(Code::NotFound, "payment isn't initiated");
    let news = found.ok_or_else(unknown)?;
    Ok(follow(news, request.no_inflight_updates, capacities(node)))
}

/// Pays; answers when the payment is over. A payment that failed is an answer, not an error.
pub async fn send_payment_sync(
    node: &Node,
    request: lnrpc::SendRequest,
) -> Result<lnrpc::SendResponse, RpcStatus> {
    let asked = asked_sync(request)?;
    let mut news = match begin(node, asked).await {
        Ok(news) => news,
        Err(status) => {
            let payment_error = status.message().to_owned();
            return Ok(lnrpc::SendResponse { payment_error, ..Default::default() });
        }
    };
    let over = news.wait_for(|payment| payment.status != Status::InFlight).await;
    let payment = over.map_err(|_| failed("the node is shutting down"))?.clone();
    let payment_hash = payment.payment_hash.0.to_vec();
    let succeeded = payment.attempts.iter().find(|attempt| attempt.status == Status::Succeeded);
    let (Some(preimage), Some(attempt)) = (payment.preimage, succeeded) else {
        let payment_error = reason(payment.failure_reason).into();
        return Ok(lnrpc::SendResponse { payment_error, payment_hash, ..Default::default() });
    };
    let capacities = capacities(node);
    Ok(lnrpc::SendResponse {
        payment_error: String::new(),
        payment_preimage: preimage.0.to_vec(),
        payment_route: Some(route(&attempt.route, &payment.terms, &capacities)),
        payment_hash,
    })
}

/// What would change where the money goes or when it stops, and is not built, is refused.
fn refuse_unbuilt(asked: &[(&str, bool)]) -> Result<(), RpcStatus> {
    match asked.iter().find(|(_, asked)| *asked) {
        Some((name, _)) => Err(failed(format!("{name} is not built into fulmen yet"))),
        None => Ok(()),
    }
}

fn asked_sync(request: lnrpc::SendRequest) -> Result<Asked, RpcStatus> {
    use lnrpc::fee_limit::Limit;
    refuse_unbuilt(&[("last_hop_pubkey", !request.last_hop_pubkey.is_empty())])?;
    let (dest_text, hash_text) = (&request.dest_string, &request.payment_hash_string);
    let bytes = |bytes: &[u8], text: &str| match bytes.is_empty() {
        false => Ok(bytes.to_vec()),
        true => hex::decode(text).map_err(failed),
    };
    let asked_amount = amount(request.amt, request.amt_msat)?;
    let fee_limit = match request.fee_limit.and_then(|limit| limit.limit) {
        Some(Limit::Fixed(sat)) => amount(sat, 0)?.or(Some(Msat::ZERO)),
        Some(Limit::FixedMsat(msat)) => amount(0, msat)?.or(Some(Msat::ZERO)),
        // Direct channels cost nothing: any share of the amount is enough.
        Some(Limit::Percent(_)) | None => None,
    };
    Ok(Asked {
        dest: bytes(&request.dest, dest_text)?,
        payment_hash: bytes(&request.payment_hash, hash_text)?,
        payment_request: request.payment_request,
        payment_addr: request.payment_addr,
        final_cltv_delta: request.final_cltv_delta,
        amount: asked_amount,
        fee_limit,
        cltv_limit: request.cltv_limit,
        timeout_seconds: 0,
        outgoing: chosen(Vec::new(), request.outgoing_chan_id),
        records: request.dest_custom_records.into_iter().collect(),
    })
}

fn chosen(mut many: Vec<u64>, one: u64) -> Vec<u64> {
    if one != 0 {
        many.push(one);
    }
    many
}

fn amount(sat: i64, msat: i64) -> Result<Option<Msat>, RpcStatus> {
    let positive = |number: i64| {
        u64::try_from(number).map_err(|_| failed("payments of negative value are not allowed"))
    };
    match (positive(sat)?, positive(msat)?) {
        (0, 0) => Ok(None),
        (0, msat) => Ok(Some(Msat::new(msat))),
        (sat, 0) => {
            let amount = Sat::new(sat).to_msat();
            amount.map(Some).ok_or_else(|| failed("the amount is more than all bitcoin"))
        }
        _ => Err(failed("amt and amt_msat are mutually exclusive")),
    }
}

async fn begin(node: &Node, asked: Asked) -> Result<watch::Receiver<Payment>, RpcStatus> {
    let request = request(node, asked)?;
    node.switchboard.pay(request).await.map_err(refusal)
}

/// lnd's codes: 6 for what was begun before, 2 for the rest.
fn refusal(error: PayError) -> RpcStatus {
    match error {
        PayError::AlreadyPaid | PayError::InTransition => {
            RpcStatus::new(Code::AlreadyExists, error.to_string())
        }
        error => failed(error),
    }
}

fn request(node: &Node, asked: Asked) -> Result<Request, RpcStatus> {
    let now = clock::now();
    let seconds = match asked.timeout_seconds {
        0 => DEFAULT_TIMEOUT_SECONDS,
        seconds => seconds,
    };
    let deadline = now.saturating_add(std::time::Duration::from_secs(seconds));
    let limits = Limits {
        fee_limit: asked.fee_limit.unwrap_or(Msat::ZERO),
        cltv_limit: if asked.cltv_limit == 0 { DEFAULT_CLTV_LIMIT } else { asked.cltv_limit },
        deadline_ns: u64::try_from(deadline.as_nanos()).unwrap_or(u64::MAX),
        outgoing: asked.outgoing,
        records: asked.records,
    };
    if !asked.payment_request.is_empty() {
        let by_hand = !asked.dest.is_empty() || !asked.payment_hash.is_empty();
        if by_hand {
            return Err(failed("dest and payment_hash cannot be given with a payment request"));
        }
        let text = bare(&asked.payment_request);
        let read = bolt11::read(text).map_err(failed)?;
        let network = node.config.network;
        return Request::for_invoice(text, read, asked.amount, limits, network, now.as_secs())
            .map_err(refusal);
    }
    let destination = PublicKey::from_slice(&asked.dest)
        .map_err(|_| failed("a payment needs a payment request, or dest and payment_hash"))?;
    let secret = asked.payment_addr.as_slice().try_into();
    let payment_secret = secret.map_err(|_| failed("payment_addr must be 32 bytes"))?;
    let delta = u32::try_from(asked.final_cltv_delta).unwrap_or(0);
    Ok(Request {
        payment_hash: hash_of(&asked.payment_hash)?,
        payment_request: String::new(),
        terms: crate::payments::Terms {
            destination,
            amount: asked.amount.ok_or_else(|| failed("amount must be specified"))?,
            payment_secret,
            metadata: None,
            final_cltv_delta: if delta == 0 { crate::invoices::DEFAULT_FINAL_CLTV } else { delta },
            fee_limit: limits.fee_limit,
            cltv_limit: limits.cltv_limit,
            deadline_ns: limits.deadline_ns,
            outgoing: limits.outgoing,
            records: limits.records,
        },
    })
}

fn hash_of(bytes: &[u8]) -> Result<PaymentHash, RpcStatus> {
    let length = bytes.len();
    let hash = bytes.try_into().map(PaymentHash);
    hash.map_err(|_| failed(format!("payment hash must be exactly 32 bytes, is instead {length}")))
}

fn follow(
    mut news: watch::Receiver<Payment>,
    only_the_end: bool,
    capacities: BTreeMap<[u8; 32], Sat>,
) -> Answers {
    let (answers, receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        loop {
            let payment = news.borrow_and_update().clone();
            let over = payment.status != Status::InFlight;
            let told = over || !only_the_end;
            if told && answers.send(Ok(to_rpc(&payment, &capacities))).await.is_err() || over {
                return;
            }
            tokio::select! {
                changed = news.changed() => if changed.is_err() {
                    return;
                },
                () = answers.closed() => return,
            }
        }
    });
    receiver
}

/// Why a payment failed, in lnd's words.
fn reason(reason: Option<FailureReason>) -> &'static str {
    match reason {
        Some(FailureReason::Timeout) => "timeout",
        Some(FailureReason::NoRoute) => "no_route",
        Some(FailureReason::Error) | None => "error",
        Some(FailureReason::IncorrectPaymentDetails) => "incorrect_payment_details",
        Some(FailureReason::InsufficientBalance) => "insufficient_balance",
        Some(FailureReason::Canceled) => "canceled",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_come_in_one_of_two_units() {
        assert_eq!(amount(0, 0).unwrap(), None);
        assert_eq!(amount(3, 0).unwrap(), Some(Msat::new(3_000)));
        assert_eq!(amount(0, 3).unwrap(), Some(Msat::new(3)));
        for (sat, msat) in [(-1, 0), (0, -1), (1, 1), (i64::MAX, 0), (i64::MIN, 0)] {
            assert!(amount(sat, msat).is_err(), "{sat} {msat}");
        }
    }

    #[test]
    fn what_is_not_built_is_refused_and_not_dropped() {
        let request = lnrpc::SendRequest { last_hop_pubkey: vec![2], ..Default::default() };
        let refused = asked_sync(request).err().unwrap();
        assert_eq!(refused.message(), "last_hop_pubkey is not built into fulmen yet");
        assert!(asked_sync(lnrpc::SendRequest::default()).is_ok());
    }
}
