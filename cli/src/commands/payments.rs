//! Payments after they were started: trackpayment, listpayments, and watching one to its end.

use crate::connect::Node;
use crate::error::CliError;
use crate::parse::hex_bytes;
use crate::print::Format;
use crate::progress::{self, Live};
use crate::terminal::{canvas, shows_progress};
use clap::Args;
use fulmen_proto::lnrpc::payment::PaymentStatus;
use fulmen_proto::lnrpc::{ListPaymentsRequest, Payment};
use fulmen_proto::routerrpc::TrackPaymentRequest;
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

    pub(super) async fn run(self, node: &mut Node) -> Result<(), CliError> {
        let updates = node.router.track_payment_v2(self.request()?).await?.into_inner();
        watch(updates, self.json, node.format).await
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

/// Follows a payment to its end. On a terminal it is drawn as it goes; elsewhere, and with `json`,
/// its end is printed, with `json` every update.
pub(super) async fn watch(
    mut updates: Streaming<Payment>,
    json: bool,
    format: Format,
) -> Result<(), CliError> {
    let mut live = (!json && shows_progress()).then(Live::default);
    while let Some(payment) = updates.message().await? {
        let ended = matches!(payment.status(), PaymentStatus::Succeeded | PaymentStatus::Failed);
        match &mut live {
            Some(live) => live.draw(&progress::payment(&payment, canvas())),
            None if json || ended => format.answer(&payment)?,
            None => {}
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
