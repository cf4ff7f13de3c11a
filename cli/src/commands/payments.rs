//! Payments after they were started: trackpayment, listpayments, and watching one to its end.

use crate::connect::Router;
use crate::error::CliError;
use crate::parse::hex_bytes;
use crate::print::answer;
use clap::Args;
use fulmen_proto::lnrpc::payment::PaymentStatus;
use fulmen_proto::lnrpc::{htlc_attempt::HtlcStatus, ListPaymentsRequest, Payment};
use fulmen_proto::routerrpc::TrackPaymentRequest;
use std::io::IsTerminal;
use tonic::Streaming;

/// trackpayment
#[derive(Debug, Args)]
pub struct TrackPayment {
    /// Payment hash in hex
    hash: String,
    /// Print every update as JSON
    #[arg(long)]
    json: bool,
}

impl TrackPayment {
    pub(super) fn request(&self) -> Result<TrackPaymentRequest, CliError> {
        let payment_hash = hex_bytes(Some(&self.hash), "hash")?;
        Ok(TrackPaymentRequest { payment_hash, no_inflight_updates: false })
    }

    pub(super) async fn run(self, router: &mut Router) -> Result<(), CliError> {
        watch(router.track_payment_v2(self.request()?).await?.into_inner(), self.json).await
    }
}

/// listpayments
#[derive(Debug, Args)]
#[command(rename_all = "snake_case")]
pub struct ListPayments {
    /// Also payments that failed or are in flight
    #[arg(long)]
    include_incomplete: bool,
    /// payment_index to start after, or with newest first to end before
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    index_offset: u64,
    /// Most payments to show
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    max_payments: u64,
    /// Take the page from the oldest on instead of from the newest
    #[arg(long, alias = "paginate-forwards")]
    paginate_forwards: bool,
    /// Count all payments, whatever the page
    #[arg(long)]
    count_total_payments: bool,
    /// Only payments made at this time or later, in seconds since 1970
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    creation_date_start: u64,
    /// Only payments made at this time or before, in seconds since 1970
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    creation_date_end: u64,
    /// Leave the hops of the attempts out
    #[arg(long)]
    omit_hops: bool,
}

impl ListPayments {
    pub(super) fn request(self) -> ListPaymentsRequest {
        ListPaymentsRequest {
            include_incomplete: self.include_incomplete,
            index_offset: self.index_offset,
            max_payments: self.max_payments,
            reversed: !self.paginate_forwards,
            count_total_payments: self.count_total_payments,
            creation_date_start: self.creation_date_start,
            creation_date_end: self.creation_date_end,
            omit_hops: self.omit_hops,
        }
    }
}

/// Follows a payment. Prints its end as JSON, with `json` every update; otherwise tells on standard
/// error how it goes, if that is a terminal.
pub(super) async fn watch(mut updates: Streaming<Payment>, json: bool) -> Result<(), CliError> {
    let mut told = String::new();
    while let Some(payment) = updates.message().await? {
        let ended = matches!(payment.status(), PaymentStatus::Succeeded | PaymentStatus::Failed);
        if json || ended {
            answer(&payment)?;
        }
        let now = progress(&payment);
        if !json && now != told && std::io::stderr().is_terminal() {
            eprintln!("{now}");
            told = now;
        }
        if payment.status() == PaymentStatus::Failed {
            let reason = payment.failure_reason().as_str_name();
            return Err(CliError::text(format!("payment failed: {reason}")));
        }
        if ended {
            return Ok(());
        }
    }
    Err(CliError::text("the daemon ended the stream before the payment ended: track it"))
}

/// One line: the payment's state and its attempts, counted.
pub(super) fn progress(payment: &Payment) -> String {
    let count = |status| payment.htlcs.iter().filter(|htlc| htlc.status() == status).count();
    let (in_flight, failed) = (count(HtlcStatus::InFlight), count(HtlcStatus::Failed));
    let state = payment.status().as_str_name();
    let (amount, fee) = (payment.value_msat, payment.fee_msat);
    format!("{state}: {amount} msat, fee {fee} msat, HTLCs {in_flight} in flight, {failed} failed")
}
