//! Invoices: addinvoice, lookupinvoice, listinvoices, decodepayreq.

use crate::error::CliError;
use crate::parse::{hex_bytes, Positionals};
use clap::Args;
use fulmen_proto::lnrpc::{Invoice, ListInvoiceRequest, PayReqString, PaymentHash};

/// addinvoice
#[derive(Debug, Args)]
#[command(rename_all = "snake_case")]
pub struct AddInvoice {
    /// Satoshis asked for and preimage: those not given as flags
    #[arg(value_name = "AMT PREIMAGE")]
    words: Vec<String>,
    /// What it is for; the payer reads it
    #[arg(long, default_value = "", hide_default_value = true)]
    memo: String,
    /// Preimage, 32 bytes in hex [default: drawn by the daemon]
    #[arg(long)]
    preimage: Option<String>,
    /// Satoshis asked for; 0 lets the payer choose
    #[arg(long, conflicts_with = "amt_msat")]
    amt: Option<i64>,
    /// Millisatoshis asked for
    #[arg(long)]
    amt_msat: Option<i64>,
    /// SHA256 of a description that is given elsewhere, in hex
    #[arg(long)]
    description_hash: Option<String>,
    /// Address on chain to pay to if Lightning fails
    #[arg(long, default_value = "", hide_default_value = true)]
    fallback_addr: String,
    /// Seconds for which it may be paid
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    expiry: i64,
    /// Blocks that the last HTLC must have left
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    cltv_expiry_delta: u64,
    /// Name channels that are not announced
    #[arg(long)]
    private: bool,
    /// Make an AMP invoice
    #[arg(long)]
    amp: bool,
    /// Hide the node behind blinded paths
    #[arg(long)]
    blind: bool,
}

impl AddInvoice {
    pub(super) fn request(self) -> Result<Invoice, CliError> {
        let mut words = Positionals::new(&self.words);
        let value = match self.amt_msat {
            Some(_) => 0,
            None => words.or(self.amt, "amt")?.unwrap_or(0),
        };
        let preimage: Option<String> = words.or(self.preimage, "preimage")?;
        words.end()?;
        Ok(Invoice {
            memo: self.memo,
            r_preimage: hex_bytes(preimage.as_deref(), "preimage")?,
            value,
            value_msat: self.amt_msat.unwrap_or(0),
            description_hash: hex_bytes(self.description_hash.as_deref(), "description_hash")?,
            fallback_addr: self.fallback_addr,
            expiry: self.expiry,
            cltv_expiry: self.cltv_expiry_delta,
            private: self.private,
            is_amp: self.amp,
            is_blinded: self.blind,
            ..Invoice::default()
        })
    }
}

/// lookupinvoice
#[derive(Debug, Args)]
pub struct LookupInvoice {
    /// Payment hash in hex, if not given as flag
    #[arg(value_name = "RHASH")]
    words: Vec<String>,
    /// Payment hash in hex
    #[arg(long)]
    rhash: Option<String>,
}

impl LookupInvoice {
    pub(super) fn request(self) -> Result<PaymentHash, CliError> {
        let mut words = Positionals::new(&self.words);
        let hash: String = words.need(self.rhash, "rhash")?;
        words.end()?;
        let r_hash = hex_bytes(Some(&hash), "rhash")?;
        Ok(PaymentHash { r_hash, ..PaymentHash::default() })
    }
}

/// listinvoices
#[derive(Debug, Args)]
#[command(rename_all = "snake_case")]
pub struct ListInvoices {
    /// Only invoices that are not settled or cancelled
    #[arg(long)]
    pending_only: bool,
    /// add_index to start after, or with newest first to end before
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    index_offset: u64,
    /// Most invoices to show
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    max_invoices: u64,
    /// Take the page from the oldest on instead of from the newest
    #[arg(long = "paginate-forwards", alias = "paginate_forwards")]
    paginate_forwards: bool,
    /// Only invoices made at this time or later, in seconds since 1970
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    creation_date_start: u64,
    /// Only invoices made at this time or before, in seconds since 1970
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    creation_date_end: u64,
}

impl ListInvoices {
    pub(super) fn request(self) -> ListInvoiceRequest {
        ListInvoiceRequest {
            pending_only: self.pending_only,
            index_offset: self.index_offset,
            num_max_invoices: self.max_invoices,
            reversed: !self.paginate_forwards,
            creation_date_start: self.creation_date_start,
            creation_date_end: self.creation_date_end,
        }
    }
}

/// decodepayreq
#[derive(Debug, Args)]
pub struct DecodePayReq {
    /// The BOLT 11 string, if not given as flag
    #[arg(value_name = "PAY_REQ")]
    words: Vec<String>,
    /// The BOLT 11 string
    #[arg(long = "pay_req")]
    pay_req: Option<String>,
}

impl DecodePayReq {
    pub(super) fn request(self) -> Result<PayReqString, CliError> {
        let mut words = Positionals::new(&self.words);
        let pay_req: String = words.need(self.pay_req, "pay_req")?;
        words.end()?;
        Ok(PayReqString { pay_req: bare(&pay_req) })
    }
}

/// A BOLT 11 string without `lightning:` before it.
pub(super) fn bare(pay_req: &str) -> String {
    let pay_req = pay_req.trim();
    match pay_req.split_at_checked("lightning:".len()) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("lightning:") => rest.to_owned(),
        _ => pay_req.to_owned(),
    }
}
