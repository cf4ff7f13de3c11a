//! AddInvoice.

use super::failed;
use crate::clock::unix_time;
use crate::invoices::bolt11::{self, Description, Draft};
use crate::invoices::{Invoice, InvoiceState, DEFAULT_FINAL_CLTV};
use crate::node::Node;
use bitcoin::secp256k1::rand::{rngs::OsRng, RngCore};
use bitcoin::secp256k1::Secp256k1;
use fulmen_channel::amount::Msat;
use fulmen_channel::payment::Preimage;
use fulmen_proto::lnrpc;
use lightning_invoice::{RouteHint, RouteHintHop, RoutingFees};
use tonic::Status;

/// How long an invoice stays valid if the caller does not say, as lnd: a day.
const DEFAULT_EXPIRY: u64 = 86_400;
/// The longest description, as BOLT 11 can carry.
const MAX_MEMO: usize = 639;
/// How many channels an invoice hints at, at most.
const MAX_HINTS: usize = 20;

/// Makes an invoice and takes it into the register.
pub async fn add_invoice(
    node: &Node,
    request: lnrpc::Invoice,
) -> Result<lnrpc::AddInvoiceResponse, Status> {
    let draft = draft(node, &request).await?;
    let preimage = preimage(&request)?;
    let draft = Draft { payment_hash: preimage.hash(), ..draft };
    let fallback = draft.fallback.as_ref().map(ToString::to_string).unwrap_or_default();
    let (value, secret) = (draft.amount, draft.payment_secret);
    let (creation_date, expiry, cltv_expiry) =
        (draft.timestamp, draft.expiry, draft.min_final_cltv);
    let node_secret = node.services.keys.node_secret();
    let sign = |hash: &bitcoin::secp256k1::Message| {
        Secp256k1::signing_only().sign_ecdsa_recoverable(hash, &node_secret)
    };
    let payment_request = bolt11::make(draft, sign).map_err(failed)?;
    let invoice = Invoice {
        add_index: 0,
        settle_index: 0,
        memo: request.memo,
        description_hash: request.description_hash.try_into().ok(),
        preimage,
        payment_hash: preimage.hash(),
        payment_secret: secret,
        value,
        creation_date,
        settle_date: 0,
        expiry,
        cltv_expiry,
        state: InvoiceState::Open,
        amt_paid: Msat::ZERO,
        payment_request,
        private: request.private,
        fallback,
        htlcs: Vec::new(),
    };
    let invoice = node.switchboard.add_invoice(invoice).await.map_err(failed)?;
    Ok(lnrpc::AddInvoiceResponse {
        r_hash: invoice.payment_hash.0.to_vec(),
        payment_request: invoice.payment_request,
        add_index: invoice.add_index,
        payment_addr: invoice.payment_secret.to_vec(),
    })
}

async fn draft(node: &Node, request: &lnrpc::Invoice) -> Result<Draft, Status> {
    if request.is_amp || request.is_blinded || request.is_keysend {
        return Err(failed("AMP, keysend and blinded invoices are not built into fulmen yet"));
    }
    if request.memo.len() > MAX_MEMO {
        let length = request.memo.len();
        return Err(failed(format!("memo too large: {length} bytes (maxsize={MAX_MEMO})")));
    }
    let description = match request.description_hash.len() {
        0 => Description::Text(request.memo.clone()),
        _ => Description::Hash(request.description_hash.as_slice().try_into().map_err(|_| {
            failed(format!(
                "description hash is {} bytes, must be 32",
                request.description_hash.len()
            ))
        })?),
    };
    let mut payment_secret = [0; 32];
    OsRng.fill_bytes(&mut payment_secret);
    let fallback = match request.fallback_addr.as_str() {
        "" => None,
        text => Some(bolt11::parse_fallback(text, node.config.network).map_err(failed)?),
    };
    let expiry = match request.expiry {
        0 => DEFAULT_EXPIRY,
        seconds => u64::try_from(seconds).map_err(|_| failed("expiry must be positive"))?,
    };
    let min_final_cltv = match request.cltv_expiry {
        0 => DEFAULT_FINAL_CLTV,
        blocks => u32::try_from(blocks).map_err(|_| failed("cltv_expiry is too large"))?,
    };
    Ok(Draft {
        network: node.config.network,
        amount: amount(request)?,
        description,
        payment_hash: fulmen_channel::payment::PaymentHash([0; 32]),
        payment_secret,
        timestamp: unix_time(),
        expiry,
        min_final_cltv,
        fallback,
        route_hints: if request.private { hints(node).await } else { Vec::new() },
    })
}

fn amount(request: &lnrpc::Invoice) -> Result<Option<Msat>, Status> {
    let positive = |number: i64| {
        u64::try_from(number).map_err(|_| failed("payments of negative value are not allowed"))
    };
    match (positive(request.value)?, positive(request.value_msat)?) {
        (0, 0) => Ok(None),
        (sat, 0) => match sat.checked_mul(1_000).map(Msat::new) {
            Some(amount) if amount <= Msat::MAX_MONEY => Ok(Some(amount)),
            _ => Err(failed("the amount is more than all bitcoin")),
        },
        (0, msat) if Msat::new(msat) <= Msat::MAX_MONEY => Ok(Some(Msat::new(msat))),
        (0, _) => Err(failed("the amount is more than all bitcoin")),
        _ => Err(failed("value and value_msat are mutually exclusive")),
    }
}

fn preimage(request: &lnrpc::Invoice) -> Result<Preimage, Status> {
    let mut bytes = [0; 32];
    match request.r_preimage.len() {
        0 => OsRng.fill_bytes(&mut bytes),
        32 => bytes.copy_from_slice(&request.r_preimage),
        n => return Err(failed(format!("payment preimage must be exactly 32 bytes, is {n}"))),
    }
    if !request.r_hash.is_empty() && request.r_hash != Preimage(bytes).hash().0 {
        return Err(failed("the payment hash is the preimage's; leave it out"));
    }
    Ok(Preimage(bytes))
}

/// Private channels that lead to us, as their peers told of them.
async fn hints(node: &Node) -> Vec<RouteHint> {
    let mut hints = Vec::new();
    for handle in node.services.registry.all() {
        let Some(snapshot) = handle.describe().await else { continue };
        let Some(funded) = snapshot.funded.filter(|_| snapshot.phase == "open") else { continue };
        let (Some(scid), Some(update)) = (funded.told_as, funded.remote_update) else { continue };
        if funded.params.announce || hints.len() >= MAX_HINTS {
            continue;
        }
        hints.push(RouteHint(vec![RouteHintHop {
            src_node_id: snapshot.peer,
            short_channel_id: scid,
            fees: RoutingFees {
                base_msat: update.contents.fee_base_msat,
                proportional_millionths: update.contents.fee_proportional_millionths,
            },
            cltv_expiry_delta: update.contents.cltv_expiry_delta,
            htlc_minimum_msat: None,
            htlc_maximum_msat: None,
        }]));
    }
    hints
}
