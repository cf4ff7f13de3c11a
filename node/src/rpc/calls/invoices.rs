//! LookupInvoice and ListInvoices.

use super::decode_pay_req::{route_hints, FINAL_FEATURES};
use super::{failed, features, floor};
use crate::invoices::{bolt11, Invoice, InvoiceHtlc, InvoiceState};
use crate::node::Node;
use fulmen_channel::amount::Msat;
use fulmen_channel::payment::PaymentHash;
use fulmen_proto::lnrpc;
use tonic::{Code, Status};

/// How many invoices are listed if the caller does not say, as lnd.
const DEFAULT_PAGE: u64 = 100;

/// The invoice with a hash, given as bytes or in hex.
pub async fn lookup_invoice(
    node: &Node,
    request: lnrpc::PaymentHash,
) -> Result<lnrpc::Invoice, Status> {
    let bytes = match request.r_hash.is_empty() {
        false => request.r_hash,
        true => hex::decode(&request.r_hash_str).map_err(failed)?,
    };
    let length = bytes.len();
    let hash: [u8; 32] = bytes.try_into().map_err(|_| {
        failed(format!("payment hash must be exactly 32 bytes, is instead {length}"))
    })?;
    let found = node.switchboard.invoice(&PaymentHash(hash)).map_err(failed)?;
    let invoice = found.ok_or_else(|| Status::new(Code::NotFound, "unable to locate invoice"))?;
    Ok(to_rpc(node, &invoice).await)
}

/// Invoices by add index.
pub async fn list_invoices(
    node: &Node,
    request: lnrpc::ListInvoiceRequest,
) -> Result<lnrpc::ListInvoiceResponse, Status> {
    let wanted = match request.num_max_invoices {
        0 => DEFAULT_PAGE,
        number => number,
    };
    let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
    let filter = |invoice: &Invoice| {
        let pending = matches!(invoice.state, InvoiceState::Open | InvoiceState::Accepted);
        (!request.pending_only || pending)
            && (request.creation_date_start == 0
                || invoice.creation_date >= request.creation_date_start)
            && (request.creation_date_end == 0
                || invoice.creation_date <= request.creation_date_end)
    };
    let page = |offset, limit| node.switchboard.page::<Invoice>(offset, limit, request.reversed);
    let index = |invoice: &Invoice| invoice.add_index;
    let found = super::pages(request.index_offset, wanted, request.reversed, page, index, filter)?;
    let mut invoices = Vec::with_capacity(found.len());
    for invoice in &found {
        invoices.push(to_rpc(node, invoice).await);
    }
    Ok(lnrpc::ListInvoiceResponse {
        first_index_offset: found.first().map_or(0, index),
        last_index_offset: found.last().map_or(0, index),
        invoices,
    })
}

/// An invoice as the API shows it.
pub(super) async fn to_rpc(node: &Node, invoice: &Invoice) -> lnrpc::Invoice {
    let state = match invoice.state {
        InvoiceState::Open => lnrpc::invoice::InvoiceState::Open,
        InvoiceState::Settled => lnrpc::invoice::InvoiceState::Settled,
        InvoiceState::Canceled => lnrpc::invoice::InvoiceState::Canceled,
        InvoiceState::Accepted => lnrpc::invoice::InvoiceState::Accepted,
    };
    let value = invoice.value.unwrap_or(Msat::ZERO);
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let msat = |amount: Msat| signed(amount.msat());
    let hints = bolt11::read(&invoice.payment_request).map(|read| route_hints(&read.route_hints));
    let mut htlcs = Vec::new();
    for taken in &invoice.htlcs {
        htlcs.push(htlc(node, taken).await);
    }
    lnrpc::Invoice {
        memo: invoice.memo.clone(),
        r_preimage: invoice.preimage.0.to_vec(),
        r_hash: invoice.payment_hash.0.to_vec(),
        value: floor(value),
        value_msat: msat(value),
        settled: invoice.state == InvoiceState::Settled,
        creation_date: signed(invoice.creation_date),
        settle_date: signed(invoice.settle_date),
        payment_request: invoice.payment_request.clone(),
        description_hash: invoice.description_hash.map(|hash| hash.to_vec()).unwrap_or_default(),
        expiry: signed(invoice.expiry),
        fallback_addr: invoice.fallback.clone(),
        cltv_expiry: u64::from(invoice.cltv_expiry),
        route_hints: hints.unwrap_or_default(),
        private: invoice.private,
        add_index: invoice.add_index,
        settle_index: invoice.settle_index,
        amt_paid: msat(invoice.amt_paid),
        amt_paid_sat: floor(invoice.amt_paid),
        amt_paid_msat: msat(invoice.amt_paid),
        state: state.into(),
        htlcs,
        features: features(&FINAL_FEATURES),
        payment_addr: invoice.payment_secret.to_vec(),
        ..Default::default()
    }
}

async fn htlc(node: &Node, htlc: &InvoiceHtlc) -> lnrpc::InvoiceHtlc {
    let id = lightning::ln::types::ChannelId(htlc.channel);
    let channel = match node.services.registry.by_id(&id) {
        Some(handle) => handle.describe().await.and_then(|snapshot| snapshot.funded),
        None => None,
    };
    let state = match htlc.resolve_time {
        0 => lnrpc::InvoiceHtlcState::Accepted,
        _ => lnrpc::InvoiceHtlcState::Settled,
    };
    let height = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    lnrpc::InvoiceHtlc {
        chan_id: channel.and_then(|funded| funded.listed_as).unwrap_or(0),
        htlc_index: htlc.htlc_id,
        amt_msat: htlc.amount.msat(),
        accept_height: height(htlc.accept_height.number()),
        accept_time: i64::try_from(htlc.accept_time).unwrap_or(i64::MAX),
        resolve_time: i64::try_from(htlc.resolve_time).unwrap_or(i64::MAX),
        expiry_height: height(htlc.expiry_height.number()),
        state: state.into(),
        custom_records: htlc.records.clone().into_iter().collect(),
        mpp_total_amt_msat: htlc.total.msat(),
        ..Default::default()
    }
}
