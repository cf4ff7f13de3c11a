//! sendpayment and payinvoice.

use super::invoices::bare;
use super::payments::watch;
use crate::connect::{Lightning, Node};
use crate::error::CliError;
use crate::parse::{duration, hex_bytes, records, Positionals};
use crate::terminal::confirmed;
use bitcoin_hashes::{sha256, Hash};
use clap::Args;
use fulmen_proto::lnrpc::{PayReq, PayReqString};
use fulmen_proto::routerrpc::SendPaymentRequest;
use std::time::Duration;

/// Custom record in which a spontaneous payment carries its preimage.
const KEYSEND_RECORD: u64 = 5_482_373_484;
/// Amounts up to this many satoshis may cost as much again in fees unless a limit is given, larger
/// ones 5 %.
const SMALL_AMOUNT: i64 = 1_000;

/// Flags of both commands.
#[derive(Debug, Args)]
#[command(rename_all = "snake_case")]
pub(super) struct PayFlags {
    /// The BOLT 11 string to pay
    #[arg(long)]
    pay_req: Option<String>,
    /// Most satoshis of fee
    #[arg(long, conflicts_with = "fee_limit_percent")]
    fee_limit: Option<i64>,
    /// Most percent of the amount as fee
    #[arg(long)]
    fee_limit_percent: Option<i64>,
    /// When to stop trying
    #[arg(long, value_parser = duration, default_value = "60s", value_name = "DURATION")]
    timeout: Duration,
    /// Stop trying when this command ends
    #[arg(long)]
    cancelable: bool,
    /// Most blocks that the money may be locked
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    cltv_limit: u32,
    /// Arrive by this node (its id in hex)
    #[arg(long)]
    last_hop: Option<String>,
    /// Leave by this channel; may be repeated
    #[arg(long)]
    outgoing_chan_id: Vec<u64>,
    /// Do not ask before paying
    #[arg(long, short)]
    force: bool,
    /// Allow paying ourselves in a circle
    #[arg(long)]
    allow_self_payment: bool,
    /// Custom records for the receiver: number=hex, with commas between
    #[arg(long)]
    data: Option<String>,
    /// With --json, print updates while the payment is in flight too
    #[arg(long)]
    inflight_updates: bool,
    /// Most parts to split the payment into
    #[arg(long, default_value_t = 16)]
    max_parts: u32,
    /// Print nothing but JSON
    #[arg(long)]
    json: bool,
    /// Most satoshis of one part
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    max_shard_size_sat: u64,
    /// Most millisatoshis of one part
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    #[arg(conflicts_with = "max_shard_size_sat")]
    max_shard_size_msat: u64,
    /// Pay as AMP
    #[arg(long)]
    amp: bool,
    /// -1 prefers cheap routes, 1 likely ones
    #[arg(long, default_value_t = 0.0, hide_default_value = true)]
    time_pref: f64,
}

/// sendpayment
#[derive(Debug, Args)]
#[command(rename_all = "snake_case")]
pub struct SendPayment {
    /// Node id, satoshis, payment hash, delta of the last hop: those not given as flags
    #[arg(value_name = "DEST AMT PAYMENT_HASH FINAL_CLTV_DELTA")]
    words: Vec<String>,
    #[command(flatten)]
    flags: PayFlags,
    /// Id of the node to pay, in hex
    #[arg(long, short)]
    dest: Option<String>,
    /// Satoshis
    #[arg(long, short)]
    amt: Option<i64>,
    /// Payment hash in hex
    #[arg(long, short = 'r')]
    payment_hash: Option<String>,
    /// Blocks that the last HTLC must have left
    #[arg(long)]
    final_cltv_delta: Option<i32>,
    /// The payment address that the receiver gave, in hex
    #[arg(long)]
    pay_addr: Option<String>,
    /// Pay without an invoice: we choose the preimage
    #[arg(long)]
    keysend: bool,
}

/// payinvoice
#[derive(Debug, Args)]
#[command(rename_all = "snake_case")]
pub struct PayInvoice {
    /// The BOLT 11 string, if not given as flag
    #[arg(value_name = "PAY_REQ")]
    words: Vec<String>,
    #[command(flatten)]
    pub(super) flags: PayFlags,
    /// Satoshis, for an invoice that names no amount
    #[arg(long)]
    amt: Option<i64>,
}

impl PayInvoice {
    pub(super) async fn run(self, node: &mut Node) -> Result<(), CliError> {
        let mut words = Positionals::new(&self.words);
        let pay_req: String = words.need(self.flags.pay_req.clone(), "pay_req")?;
        words.end()?;
        let request = self.flags.to_invoice(&pay_req, self.amt, &mut node.lightning).await?;
        self.flags.send(request, node).await
    }
}

impl SendPayment {
    pub(super) async fn run(self, node: &mut Node) -> Result<(), CliError> {
        let request = match &self.flags.pay_req {
            Some(req) => self.flags.to_invoice(req, self.amt, &mut node.lightning).await?,
            None => self.by_hand(rand::random())?,
        };
        self.flags.send(request, node).await
    }

    /// A payment without an invoice; `preimage` is used for keysend only.
    pub(super) fn by_hand(&self, preimage: [u8; 32]) -> Result<SendPaymentRequest, CliError> {
        let mut words = Positionals::new(&self.words);
        let dest: String = words.need(self.dest.clone(), "destination")?;
        let amt = words.need(self.amt, "amount")?;
        let mut request = self.flags.request(amt)?;
        request.payment_hash = if self.keysend {
            request.dest_custom_records.insert(KEYSEND_RECORD, preimage.to_vec());
            sha256::Hash::hash(&preimage).as_byte_array().to_vec()
        } else if self.flags.amp {
            Vec::new()
        } else {
            let hash: String = words.need(self.payment_hash.clone(), "payment hash")?;
            hex_bytes(Some(&hash), "payment hash")?
        };
        let delta = words.or(self.final_cltv_delta, "final cltv delta")?;
        words.end()?;
        Ok(SendPaymentRequest {
            dest: hex_bytes(Some(&dest), "destination")?,
            amt,
            final_cltv_delta: delta.unwrap_or(0),
            payment_addr: hex_bytes(self.pay_addr.as_deref(), "pay_addr")?,
            ..request
        })
    }
}

impl PayFlags {
    /// A payment to `pay_req`, after the daemon read it and the user agreed.
    async fn to_invoice(
        &self,
        pay_req: &str,
        amt: Option<i64>,
        lightning: &mut Lightning,
    ) -> Result<SendPaymentRequest, CliError> {
        let pay_req = bare(pay_req);
        let ask = PayReqString { pay_req: pay_req.clone() };
        let invoice = lightning.decode_pay_req(ask).await?.into_inner();
        let amount = match (invoice.num_msat, amt) {
            (0, None) => {
                return Err(CliError::text("the invoice names no amount: give one with --amt"));
            }
            (0, Some(amt)) => amt,
            (_, Some(_)) => {
                return Err(CliError::text("the invoice names the amount: leave --amt out"));
            }
            (_, None) => invoice.num_satoshis,
        };
        let mut request = self.request(amount)?;
        if !self.force && !agreed(&invoice, amount, request.fee_limit_sat)? {
            return Err(CliError::text("payment canceled"));
        }
        request.payment_request = pay_req;
        request.amt = amt.unwrap_or(0);
        Ok(request)
    }

    /// What does not depend on whom we pay; `amount` in satoshis.
    pub(super) fn request(&self, amount: i64) -> Result<SendPaymentRequest, CliError> {
        let seconds = i32::try_from(self.timeout.as_secs())
            .map_err(|_| CliError::text("the timeout is too long"))?;
        let from_sat = self.max_shard_size_sat.saturating_mul(1000);
        Ok(SendPaymentRequest {
            timeout_seconds: seconds,
            fee_limit_sat: self.fee_limit(amount),
            cltv_limit: i32::try_from(self.cltv_limit)
                .map_err(|_| CliError::text("the cltv limit is too large"))?,
            dest_custom_records: records(self.data.as_deref())?,
            last_hop_pubkey: hex_bytes(self.last_hop.as_deref(), "last hop")?,
            allow_self_payment: self.allow_self_payment,
            max_parts: self.max_parts,
            no_inflight_updates: self.json && !self.inflight_updates,
            outgoing_chan_ids: self.outgoing_chan_id.clone(),
            max_shard_size_msat: self.max_shard_size_msat.max(from_sat),
            amp: self.amp,
            time_pref: self.time_pref,
            cancelable: self.cancelable,
            ..SendPaymentRequest::default()
        })
    }

    /// Satoshis.
    fn fee_limit(&self, amount: i64) -> i64 {
        let percent = |p| amount.saturating_mul(p) / 100;
        match (self.fee_limit, self.fee_limit_percent) {
            (Some(limit), _) => limit,
            (None, Some(limit)) => percent(limit),
            (None, None) if amount <= SMALL_AMOUNT => amount,
            (None, None) => percent(5),
        }
    }

    async fn send(&self, request: SendPaymentRequest, node: &mut Node) -> Result<(), CliError> {
        let updates = node.router.send_payment_v2(request).await?.into_inner();
        watch(updates, self.json, node.format).await
    }
}

/// Shows what would be paid and asks; amounts in satoshis.
fn agreed(invoice: &PayReq, amount: i64, fee_limit: i64) -> Result<bool, CliError> {
    eprintln!("Payment hash: {}", invoice.payment_hash);
    eprintln!("Description: {}", invoice.description);
    eprintln!("Amount (in satoshis): {amount}");
    eprintln!("Fee limit (in satoshis): {fee_limit}");
    eprintln!("Destination: {}", invoice.destination);
    confirmed("Confirm payment (yes/no): ")
}
