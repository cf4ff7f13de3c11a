//! The calls, one a file: each turns a request into a question or command for the node, and what
//! comes of it into the answer.

pub mod add_invoice;
pub mod channel_backups;
pub mod channel_balance;
pub mod channel_risk;
pub mod close_channel;
pub mod closed_channels;
pub mod connect_peer;
pub mod debug_level;
pub mod decode_pay_req;
pub mod explain_channel;
mod failure;
pub mod get_info;
pub mod get_recovery_info;
pub mod invoices;
pub mod list_aliases;
pub mod list_channels;
pub mod list_payments;
pub mod list_peers;
pub mod macaroons;
pub mod open_channel;
mod payment;
pub mod pending_channels;
pub mod send_coins;
pub mod send_payment;
pub mod subscribe_invoices;
pub mod sweeps;
pub mod tower_coverage;
pub mod towers;
pub mod transactions;
pub mod wallet;

use bitcoin::OutPoint;
use fulmen_channel::amount::{Msat, Sat};
use fulmen_channel::params::CommitmentFormat;
use fulmen_proto::lnrpc;
use std::collections::BTreeMap;
use tonic::Status;

/// An error in lnd's manner: code 2 and a bare text.
pub fn failed(text: impl std::fmt::Display) -> Status {
    Status::unknown(text.to_string())
}

/// A BOLT 11 text without spaces around it and `lightning:` before it.
pub(super) fn bare(text: &str) -> &str {
    let text = text.trim();
    match text.split_at_checked("lightning:".len()) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("lightning:") => rest,
        _ => text,
    }
}

/// Satoshi as the API's signed number.
pub(super) fn sat(amount: Sat) -> i64 {
    i64::try_from(amount.sat()).unwrap_or(i64::MAX)
}

/// Whole satoshi of a balance.
pub(super) fn floor(amount: Msat) -> i64 {
    sat(amount.floor())
}

/// Both units.
pub(super) fn amount(amount: Msat) -> lnrpc::Amount {
    lnrpc::Amount { sat: amount.floor().sat(), msat: amount.msat() }
}

/// `txid:index`.
pub(super) fn channel_point(outpoint: OutPoint) -> String {
    format!("{}:{}", outpoint.txid, outpoint.vout)
}

/// The API's name of a format.
pub(super) fn commitment_type(format: CommitmentFormat) -> i32 {
    match format {
        CommitmentFormat::StaticRemoteKey => lnrpc::CommitmentType::StaticRemoteKey.into(),
        CommitmentFormat::Anchors => lnrpc::CommitmentType::Anchors.into(),
    }
}

/// Feature bits with their names (BOLT 9).
pub(super) fn features(bytes_le: &[u8]) -> BTreeMap<u32, lnrpc::Feature> {
    let bits = bytes_le.iter().zip(0u32..).flat_map(|(byte, at)| {
        (0u32..8).filter_map(move |bit| {
            (byte >> bit & 1 == 1).then_some(at.saturating_mul(8).saturating_add(bit))
        })
    });
    let feature = |bit: u32| {
        let name = feature_name(bit & !1);
        let feature = lnrpc::Feature {
            name: name.unwrap_or("unknown").into(),
            is_required: bit % 2 == 0,
            is_known: name.is_some(),
        };
        (bit, feature)
    };
    bits.map(feature).collect()
}

fn feature_name(even: u32) -> Option<&'static str> {
    Some(match even {
        0 => "data-loss-protect",
        4 => "upfront-shutdown-script",
        6 => "gossip-queries",
        8 => "tlv-onion",
        10 => "ext-gossip-queries",
        12 => "static-remote-key",
        14 => "payment-addr",
        16 => "multi-path-payments",
        18 => "wumbo-channels",
        22 => "anchors-zero-fee-htlc-tx",
        24 => "route-blinding",
        26 => "shutdown-any-segwit",
        28 => "dual-fund",
        34 => "quiescence",
        38 => "onion-messages",
        42 => "peer-storage",
        44 => "explicit-commitment-type",
        46 => "scid-alias",
        48 => "payment-metadata",
        50 => "zero-conf",
        54 => "keysend",
        60 => "simple-close",
        62 => "splice",
        _ => return None,
    })
}

/// Rows of an index, page by page, until `wanted` of them pass the filter. In the order of their
/// index, whichever way they were searched.
pub(super) fn pages<R>(
    offset: u64,
    wanted: usize,
    reversed: bool,
    page: impl Fn(u64, usize) -> Result<Vec<R>, crate::store::StoreError>,
    index: impl Fn(&R) -> u64,
    filter: impl Fn(&R) -> bool,
) -> Result<Vec<R>, Status> {
    const PAGE: usize = 1_000;
    let (mut found, mut offset) = (Vec::new(), offset);
    loop {
        let rows = page(offset, PAGE).map_err(failed)?;
        let more = rows.len() == PAGE;
        let next = if reversed { rows.first() } else { rows.last() };
        offset = next.map_or(0, &index);
        let mut passing: Vec<R> = rows.into_iter().filter(&filter).collect();
        let room = wanted.saturating_sub(found.len());
        if reversed {
            passing.drain(..passing.len().saturating_sub(room));
            passing.append(&mut found);
            found = passing;
        } else {
            passing.truncate(room);
            found.append(&mut passing);
        }
        if !more || found.len() >= wanted || (reversed && offset <= 1) {
            return Ok(found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::bare;

    #[test]
    fn the_scheme_before_an_invoice_is_dropped_in_any_case() {
        for text in ["lnbc1", "lightning:lnbc1", " LIGHTNING:lnbc1\n", "Lightning:lnbc1"] {
            assert_eq!(bare(text), "lnbc1");
        }
        for text in ["", "lightning", "ビットコインビットコイン"] {
            assert_eq!(bare(text), text);
        }
    }
}
