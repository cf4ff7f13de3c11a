//! The peer's commitment C is in a block, its latest or the one before that it has not revoked yet:
//! D for our balance, HED and HTD for the HTLCs (BOLT 5, unilateral close handling: remote
//! commitment transaction).
//!
//! ```text
//! F ── C ─┬─ to_remote ────── D
//!         ├─ offered HTLC ─── HED       they offered it: with the preimage, before cltv_expiry
//!         └─ received HTLC ── HTD       we offered it: after cltv_expiry
//! ```

use super::claim::{Claim, Name};
use super::published::{keys, outputs_of, Published, Role, Whose};
use crate::amount::Sat;
use crate::contract::htlc::{Presence, Stage};
use crate::contract::Commitments;
use crate::params::Side;
use crate::payment::Preimage;
use crate::transactions::commitment::{CommitmentContext, Htlc, HtlcRef};
use crate::transactions::{delivery, htlc_delivery};
use bitcoin::secp256k1::PublicKey;
use bitcoin::{OutPoint, Transaction};

/// The peer's commitment `number`, with the point of its keys.
pub fn read(contract: &Commitments, tx: &Transaction, number: u64, point: PublicKey) -> Published {
    let keys = keys(contract, Side::Remote, &point);
    let context = contract.context(Side::Remote, &keys);
    let before_latest = number < contract.state.remote_number;
    let htlcs = contract.htlcs.iter().filter(|((by, _), htlc)| {
        let added = htlc.first_remote.is_some_and(|first| first <= number);
        let on_latest = htlc.stage.on_commitment(Side::Remote, *by) == Presence::Present;
        added && (on_latest || before_latest && left_with_latest(*by, htlc.stage))
    });
    let htlcs = htlcs.map(|((by, id), htlc)| {
        let seen = Htlc {
            offered: *by == Side::Remote,
            amount: htlc.amount,
            payment_hash: htlc.payment_hash,
            cltv_expiry: htlc.cltv_expiry,
        };
        ((*by, *id), seen)
    });
    let outputs = outputs_of(tx, &context, Side::Remote, htlcs.collect());
    Published { txid: tx.compute_txid(), whose: Whose::Remote, number, point, outputs }
}

/// A commitment of the peer's that is newer than our state: of it we know our own balance only.
pub fn read_newer(contract: &Commitments, tx: &Transaction, number: u64) -> Published {
    let point = contract.state.remote_point;
    let keys = keys(contract, Side::Remote, &point);
    let context = contract.context(Side::Remote, &keys);
    let mut outputs = outputs_of(tx, &context, Side::Remote, Vec::new());
    outputs.retain(|_, (_, role)| *role == Role::ToRemote);
    Published { txid: tx.compute_txid(), whose: Whose::Newer, number, point, outputs }
}

/// Whether our signature on the peer's latest commitment removed the HTLC, the one before not being
/// revoked yet.
fn left_with_latest(offerer: Side, stage: Stage) -> bool {
    match offerer {
        Side::Local => stage == Stage::RemoveAcked,
        Side::Remote => stage == Stage::RemoveSigned,
    }
}

/// D. It needs no key of the commitment.
pub(super) fn balance(contract: &Commitments, outpoint: OutPoint, value: Sat) -> Claim {
    let params = &contract.params;
    let payment = &params.side(Side::Local).basepoints.payment;
    Claim::new(Name::D, delivery::spend(params.format, payment, outpoint, value))
}

/// HED for an HTLC we received and whose preimage we know, HTD for one we offered.
pub(super) fn htlc(
    context: &CommitmentContext,
    outpoint: OutPoint,
    (tag, htlc): (HtlcRef, &Htlc),
    preimage: Option<Preimage>,
) -> Option<Claim> {
    let claim = if htlc.offered {
        let spend = htlc_delivery::execution(context, htlc, outpoint, &preimage?);
        Claim::new(Name::HED, spend).until(htlc.cltv_expiry)
    } else {
        Claim::new(Name::HTD, htlc_delivery::timeout(context, htlc, outpoint))
    };
    Some(claim.for_htlc(tag))
}
