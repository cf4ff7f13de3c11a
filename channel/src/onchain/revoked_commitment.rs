//! A commitment that the peer had revoked is in a block: all of it is ours (BOLT 5, revoked
//! transaction close handling).
//!
//! ```text
//! F ── revoked C ─┬─ to_local ── BR             before to_self_delay is over
//!                 ├─ to_remote ─ D
//!                 └─ HTLC ─┬──── HBR            before the cheater's HT or HE, or else
//!                          └─ HT, HE ── HTBR, HEBR
//! ```
//!
//! With anchors the cheater may put several HT and HE, and inputs of its own, into one transaction:
//! whatever pays to to_local's script of the revoked state is ours, wherever it stands.

use super::claim::{Claim, Name};
use super::published::{keys, outputs_of, Published, Whose};
use crate::amount::{Height, Sat};
use crate::contract::htlc::PenaltyRecord;
use crate::contract::Commitments;
use crate::keys::curve::secp;
use crate::params::Side;
use crate::transactions::commitment::{CommitmentContext, Htlc, HtlcRef};
use crate::transactions::{breach_remedy, htlc_breach_remedy};
use bitcoin::secp256k1::SecretKey;
use bitcoin::{OutPoint, Transaction};

/// The peer's revoked commitment `number`. `records` are the HTLCs that were ever on commitments of
/// the peer's (rules 1.3). Nothing if `number` is not revoked.
pub fn read(
    contract: &Commitments,
    tx: &Transaction,
    number: u64,
    records: &[(HtlcRef, PenaltyRecord)],
) -> Option<Published> {
    let secret = contract.revocations.get(number)?;
    let point = SecretKey::from_slice(&secret).ok()?.public_key(secp());
    let keys = keys(contract, Side::Remote, &point);
    let context = contract.context(Side::Remote, &keys);
    let was_there = |record: &PenaltyRecord| {
        record.first <= number && record.last.is_none_or(|last| number <= last)
    };
    let htlcs = records.iter().filter(|(_, record)| was_there(record)).map(|(tag, record)| {
        let seen = Htlc {
            offered: tag.0 == Side::Remote,
            amount: record.amount,
            payment_hash: record.payment_hash,
            cltv_expiry: record.cltv_expiry,
        };
        (*tag, seen)
    });
    let outputs = outputs_of(tx, &context, Side::Remote, htlcs.collect());
    let whose = Whose::Revoked(secret);
    Some(Published { txid: tx.compute_txid(), whose, number, point, outputs })
}

/// BR; the cheater may take it once its delay after `confirmed` is over.
pub(super) fn balance(
    context: &CommitmentContext,
    outpoint: OutPoint,
    value: Sat,
    confirmed: Height,
) -> Claim {
    let until = confirmed.plus(u32::from(context.to_self_delay));
    Claim::new(Name::BR, breach_remedy::spend(context, outpoint, value)).until(until)
}

/// HBR; the cheater may go on to HE in the next block, to HT when the HTLC has expired.
pub(super) fn htlc(
    context: &CommitmentContext,
    outpoint: OutPoint,
    (tag, htlc): (HtlcRef, &Htlc),
    confirmed: Height,
) -> Claim {
    let next = confirmed.plus(1);
    let until = if htlc.offered { next.max(htlc.cltv_expiry.plus(1)) } else { next };
    let spend = htlc_breach_remedy::spend(context, htlc, outpoint);
    Claim::new(Name::HBR, spend).for_htlc(tag).until(until)
}

/// HTBR or HEBR: what the cheater's HT or HE paid.
pub(super) fn second_stage(
    context: &CommitmentContext,
    outpoint: OutPoint,
    value: Sat,
    (executed, confirmed): (bool, Height),
) -> Claim {
    let name = if executed { Name::HEBR } else { Name::HTBR };
    let until = confirmed.plus(u32::from(context.to_self_delay));
    let spend = htlc_breach_remedy::second_stage(context, outpoint, value);
    Claim::new(name, spend).until(until)
}
