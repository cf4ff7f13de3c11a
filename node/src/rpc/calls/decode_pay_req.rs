//! DecodePayReq.

use super::{bare, failed, features, floor};
use crate::invoices::bolt11::{self, Description};
use crate::node::Node;
use fulmen_channel::amount::Msat;
use fulmen_proto::lnrpc;
use lightning_invoice::RouteHint;
use tonic::Status;

/// The features of our own invoices, the lowest byte first: var_onion and payment_secret required.
pub(super) const FINAL_FEATURES: [u8; 2] = [0, 0b0100_0001];

/// What a BOLT 11 text says.
pub fn decode_pay_req(node: &Node, request: lnrpc::PayReqString) -> Result<lnrpc::PayReq, Status> {
    let read = bolt11::read(bare(&request.pay_req)).map_err(failed)?;
    // Whether it can be paid otherwise is for who pays it to find out.
    let payable = read.check_payable(node.config.network, read.timestamp);
    if let Err(error @ bolt11::Bolt11Error::WrongNetwork(_)) = payable {
        return Err(failed(error));
    }
    let amount = read.amount.unwrap_or(Msat::ZERO);
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let (description, description_hash) = match &read.description {
        Description::Text(text) => (text.clone(), String::new()),
        Description::Hash(hash) => (String::new(), hex::encode(hash)),
    };
    Ok(lnrpc::PayReq {
        destination: read.payee.to_string(),
        payment_hash: read.payment_hash.to_string(),
        num_satoshis: floor(amount),
        num_msat: signed(amount.msat()),
        timestamp: signed(read.timestamp),
        expiry: signed(read.expiry),
        description,
        description_hash,
        fallback_addr: read.fallbacks.first().map(ToString::to_string).unwrap_or_default(),
        cltv_expiry: i64::from(read.min_final_cltv),
        route_hints: route_hints(&read.route_hints),
        payment_addr: read.payment_secret.to_vec(),
        features: features(&bits(&read.features)),
        ..Default::default()
    })
}

/// Feature bits as bytes, the lowest first.
fn bits(set: &[u32]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for bit in set {
        let at = usize::try_from(bit / 8).unwrap_or(0);
        if bytes.len() <= at {
            bytes.resize(at.saturating_add(1), 0u8);
        }
        if let Some(byte) = bytes.get_mut(at) {
            *byte |= 1 << (bit % 8);
        }
    }
    bytes
}

pub(super) fn route_hints(hints: &[RouteHint]) -> Vec<lnrpc::RouteHint> {
    let hop = |hop: &lightning_invoice::RouteHintHop| lnrpc::HopHint {
        node_id: hop.src_node_id.to_string(),
        chan_id: hop.short_channel_id,
        fee_base_msat: hop.fees.base_msat,
        fee_proportional_millionths: hop.fees.proportional_millionths,
        cltv_expiry_delta: u32::from(hop.cltv_expiry_delta),
    };
    let hint = |hint: &RouteHint| lnrpc::RouteHint { hop_hints: hint.0.iter().map(hop).collect() };
    hints.iter().map(hint).collect()
}
