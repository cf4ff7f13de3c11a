//! The node's events as JSON, one line each, as they come.

use ldk_node::lightning_types::payment::PaymentHash;
use ldk_node::Event;
use serde_json::{json, Value};

/// The line for an event: its name and what a test waits for.
pub fn to_json(event: &Event) -> Value {
    match event {
        Event::PaymentSuccessful { payment_hash, fee_paid_msat, payment_preimage, .. } => json!({
            "event": "payment_successful",
            "payment_hash": hash(payment_hash),
            "preimage": payment_preimage.map(|preimage| preimage.to_string()),
            "fee_msat": fee_paid_msat,
        }),
        Event::PaymentFailed { payment_hash, reason, .. } => json!({
            "event": "payment_failed",
            "payment_hash": payment_hash.as_ref().map(hash),
            "reason": reason.map(|reason| format!("{reason:?}")),
        }),
        Event::PaymentReceived { payment_hash, amount_msat, .. } => json!({
            "event": "payment_received",
            "payment_hash": hash(payment_hash),
            "msat": amount_msat,
        }),
        Event::PaymentClaimable { payment_hash, claimable_amount_msat, .. } => json!({
            "event": "payment_claimable",
            "payment_hash": hash(payment_hash),
            "msat": claimable_amount_msat,
        }),
        Event::ChannelPending { user_channel_id, counterparty_node_id, funding_txo, .. } => {
            json!({
                "event": "channel_pending",
                "channel": user_channel_id.0.to_string(),
                "node_id": counterparty_node_id.to_string(),
                "funding": funding_txo.to_string(),
            })
        }
        Event::ChannelReady { user_channel_id, counterparty_node_id, .. } => json!({
            "event": "channel_ready",
            "channel": user_channel_id.0.to_string(),
            "node_id": counterparty_node_id.map(|id| id.to_string()),
        }),
        Event::ChannelClosed { user_channel_id, reason, .. } => json!({
            "event": "channel_closed",
            "channel": user_channel_id.0.to_string(),
            "reason": reason.as_ref().map(|reason| reason.to_string()),
        }),
        other => json!({ "event": "other", "what": format!("{other:?}") }),
    }
}

fn hash(hash: &PaymentHash) -> String {
    hash.to_string()
}
