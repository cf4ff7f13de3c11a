//! payinvoice, sendpayment, trackpayment: asking, watching, ending.

use super::mock::{one, start, Answer, Call, Daemon};
use super::pty::Pty;
use fulmen_proto::lnrpc::payment::PaymentStatus;
use fulmen_proto::lnrpc::{PayReq, Payment, PaymentFailureReason};
use fulmen_proto::routerrpc::{SendPaymentRequest, TrackPaymentRequest};
use prost::Message;
use serde_json::{json, Value};
use tonic::Status;

fn payment(status: PaymentStatus) -> Payment {
    let mut payment = Payment { value_msat: 5_000_000, ..Payment::default() };
    payment.payment_hash = "aa".repeat(32);
    payment.set_status(status);
    if status == PaymentStatus::Failed {
        payment.set_failure_reason(PaymentFailureReason::FailureReasonNoRoute);
    }
    payment
}

/// Reads every invoice as 5,000 sat and sends the updates that `end` needs.
fn script(end: PaymentStatus) -> impl Fn(&Call) -> Answer + Send + Sync {
    move |call| match call.path.as_str() {
        "/lnrpc.Lightning/DecodePayReq" => one(&PayReq {
            num_satoshis: 5000,
            num_msat: 5_000_000,
            description: "tea".into(),
            destination: "02bf".into(),
            ..PayReq::default()
        }),
        "/routerrpc.Router/SendPaymentV2" => {
            let quiet = call.request::<SendPaymentRequest>().no_inflight_updates;
            let updates = [PaymentStatus::InFlight, end];
            let sent = updates.into_iter().skip(usize::from(quiet));
            Ok(sent.map(|status| payment(status).encode_to_vec()).collect())
        }
        "/routerrpc.Router/TrackPaymentV2" => {
            assert_eq!(call.request::<TrackPaymentRequest>().payment_hash, [0xaa; 32]);
            one(&payment(end))
        }
        other => Err(Status::unknown(format!("nobody asked for {other}"))),
    }
}

fn statuses(stdout: &str) -> Vec<Value> {
    let values = serde_json::Deserializer::from_str(stdout).into_iter::<Value>();
    values.map(|value| value.unwrap()["status"].clone()).collect()
}

async fn paying(end: PaymentStatus) -> Daemon {
    start(script(end)).await
}

#[tokio::test]
async fn payinvoice_prints_the_end_of_the_payment() {
    let daemon = paying(PaymentStatus::Succeeded).await;
    let ended = daemon.cli("payinvoice --force lightning:lnbcrt1x").await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    assert_eq!(statuses(&ended.stdout), [json!("SUCCEEDED")]);
    let paths = ["/lnrpc.Lightning/DecodePayReq", "/routerrpc.Router/SendPaymentV2"];
    assert_eq!(daemon.paths(), paths);
    let asked: SendPaymentRequest = daemon.call(1).request();
    assert_eq!((asked.payment_request.as_str(), asked.amt), ("lnbcrt1x", 0));
    assert_eq!((asked.fee_limit_sat, asked.timeout_seconds, asked.max_parts), (250, 60, 16));

    let ended = daemon.cli("sendpayment --force --json --pay_req lnbcrt1x").await;
    assert_eq!((ended.code, statuses(&ended.stdout)), (Some(0), vec![json!("SUCCEEDED")]));
    let ended = daemon.cli("payinvoice -f --json --inflight_updates lnbcrt1x").await;
    assert_eq!(statuses(&ended.stdout), [json!("IN_FLIGHT"), json!("SUCCEEDED")]);
}

#[tokio::test]
async fn payinvoice_asks_first() {
    let daemon = paying(PaymentStatus::Succeeded).await;
    for (reply, code) in [("yes\n", 0), ("no\n", 1), ("", 1)] {
        let ended = daemon.cli_with_input("payinvoice lnbcrt1x", reply).await;
        assert_eq!(ended.code, Some(code), "{reply:?}");
        assert!(ended.stderr.contains("Amount (in satoshis): 5000"), "{}", ended.stderr);
        assert_eq!(ended.stderr.contains("payment canceled"), code == 1, "{}", ended.stderr);
        assert_eq!(statuses(&ended.stdout).len(), usize::from(code == 0));
    }
    assert_eq!(daemon.paths().len(), 4);
    let ended = daemon.cli("payinvoice --amt 3 --force lnbcrt1x").await;
    assert!(ended.stderr.contains("leave --amt out"), "{}", ended.stderr);
}

#[tokio::test]
async fn a_failed_payment_is_printed_and_fails_the_command() {
    let daemon = paying(PaymentStatus::Failed).await;
    let failed = "[fulmen-cli] payment failed: FAILURE_REASON_NO_ROUTE\n";
    let ended = daemon.cli("payinvoice --force lnbcrt1x").await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(1), failed));
    assert_eq!(statuses(&ended.stdout), [json!("FAILED")]);
    let ended = daemon.cli(&format!("trackpayment {}", "aa".repeat(32))).await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(1), failed));
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_no_success() {
    let daemon = paying(PaymentStatus::InFlight).await;
    let ended = daemon.cli("payinvoice --force lnbcrt1x").await;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
    assert!(ended.stderr.contains("track it"), "{}", ended.stderr);
}

#[tokio::test]
async fn keysend_draws_its_own_preimage() {
    let daemon = paying(PaymentStatus::Succeeded).await;
    for _ in 0..2 {
        let ended = daemon.cli("sendpayment --dest 02bf --amt 5 --keysend").await;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    }
    let asked = [daemon.call(0), daemon.call(1)].map(|call| call.request::<SendPaymentRequest>());
    assert_eq!(asked[0].dest_custom_records[&5_482_373_484].len(), 32);
    assert_ne!(asked[0].payment_hash, asked[1].payment_hash);
}

#[tokio::test]
async fn on_a_terminal_a_payment_is_drawn_as_it_goes() {
    let daemon = paying(PaymentStatus::Succeeded).await;
    let answers = [("Confirm payment (yes/no): ", "yes\n")];
    let (code, shown) = Pty::run(&daemon, "payinvoice lnbcrt1x", &answers).await;
    assert_eq!(code, Some(0), "{shown}");
    let (in_flight, ended) = shown.split_once("Payment status: IN_FLIGHT").unwrap();
    assert!(in_flight.contains("HTLC_STATE"), "{shown}");
    // four lines up, and what stood there is gone
    assert!(ended.contains("\x1b[4A\x1b[J") && ended.contains("Payment status: SUCCEEDED"));
    assert!(!shown.contains("\"status\""), "{shown}");
    let (code, shown) = Pty::run(&daemon, "payinvoice --json -f lnbcrt1x", &[]).await;
    assert_eq!((code, shown.contains("\"status\": \"SUCCEEDED\"")), (Some(0), true), "{shown}");
}
