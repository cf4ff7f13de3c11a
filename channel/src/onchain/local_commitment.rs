//! Our own commitment C is in a block: RD for our balance, HT and HE for the HTLCs, and HTRD and
//! HERD for what those pay (BOLT 5, unilateral close handling: local commitment transaction).
//!
//! ```text
//! F ── C ─┬─ to_local ─────── RD                  after to_self_delay
//!         ├─ offered HTLC ─── HT ── HTRD          after cltv_expiry, then the delay
//!         └─ received HTLC ── HE ── HERD          with the preimage, then the delay
//! ```

use super::claim::{Claim, Name, Pays};
use super::published::{keys, outputs_of, Published, Role, Whose};
use crate::amount::{FeeratePerKw, Sat};
use crate::contract::Commitments;
use crate::keys::signer::Signer;
use crate::params::{CommitmentFormat, Side};
use crate::payment::Preimage;
use crate::transactions::commitment::{CommitmentContext, Htlc, HtlcRef};
use crate::transactions::{
    htlc_revocable_delivery, htlc_success, htlc_timeout, revocable_delivery,
};
use bitcoin::secp256k1::ecdsa::Signature;
use bitcoin::{OutPoint, Transaction, TxOut};
use std::collections::BTreeMap;

/// Our latest commitment, as it would stand in a block.
pub fn read(contract: &Commitments, signer: &dyn Signer) -> Published {
    let tx = contract.local_draft(signer).tx;
    let mut outputs = BTreeMap::new();
    let mut place = |at: Option<u32>, role: Role| {
        let output = at.and_then(|at| tx.tx.output.get(usize::try_from(at).ok()?));
        if let (Some(at), Some(output)) = (at, output) {
            outputs.insert(at, (output.value.into(), role));
        }
    };
    place(tx.to_local, Role::ToLocal);
    place(tx.to_remote, Role::ToRemote);
    place(tx.broadcaster_anchor, Role::Anchor(Side::Local));
    place(tx.countersigner_anchor, Role::Anchor(Side::Remote));
    for (htlc, signature) in tx.htlcs.iter().zip(&contract.funding.htlc_signatures) {
        place(Some(htlc.output), Role::Htlc(htlc.tag, htlc.htlc, Some(*signature)));
    }
    let number = contract.state.local_number;
    let point = signer.per_commitment_point(number);
    Published { txid: tx.txid, whose: Whose::Local(tx.feerate), number, point, outputs }
}

/// Another commitment of our own, told by to_local: one that is newer than our state, published
/// before an old copy of it was put back; or an older one, which somebody brought out against all
/// rules. Of it we know our balance only, so that `whose` may be that of our latest.
pub fn read_other(
    contract: &Commitments,
    tx: &Transaction,
    (number, whose): (u64, Whose),
    signer: &dyn Signer,
) -> Option<Published> {
    let point = signer.per_commitment_point(number);
    let keys = keys(contract, Side::Local, &point);
    let context = contract.context(Side::Local, &keys);
    let mut outputs = outputs_of(tx, &context, Side::Local, Vec::new());
    outputs.retain(|_, (_, role)| *role == Role::ToLocal);
    (!outputs.is_empty()).then(|| Published {
        txid: tx.compute_txid(),
        whose,
        number,
        point,
        outputs,
    })
}

/// RD.
pub(super) fn balance(context: &CommitmentContext, outpoint: OutPoint, value: Sat) -> Claim {
    Claim::new(Name::RD, revocable_delivery::spend(context, outpoint, value))
}

/// HT for an HTLC we offered, HE for one we received and whose preimage we know.
pub(super) fn htlc(
    context: &CommitmentContext,
    outpoint: OutPoint,
    (tag, htlc): (HtlcRef, &Htlc),
    countersigner: &Signature,
    (feerate, preimage): (FeeratePerKw, Option<Preimage>),
) -> Option<Claim> {
    let (format, script) = (context.format, context.htlc_script(htlc));
    let revocable = context.to_local_script().to_p2wsh();
    let (name, spend, tx) = if htlc.offered {
        let expiry = htlc.cltv_expiry;
        let spend = htlc_timeout::spend(format, htlc, script, outpoint, countersigner);
        let (amount, to) = (htlc.amount, &revocable);
        let tx = htlc_timeout::build(format, feerate, outpoint, amount, expiry, to);
        (Name::HT, spend, tx)
    } else {
        let preimage = preimage?;
        let spend = htlc_success::spend(format, htlc, script, outpoint, countersigner, &preimage);
        let tx = htlc_success::build(format, feerate, outpoint, htlc.amount, &revocable);
        (Name::HE, spend, tx)
    };
    let output: TxOut = tx.output.into_iter().next()?;
    let pays = match format {
        CommitmentFormat::Anchors => Pays::Beside(output),
        CommitmentFormat::StaticRemoteKey => Pays::Only(output),
    };
    let claim = Claim { pays, ..Claim::new(name, spend) }.for_htlc(tag);
    // From its expiry on the peer may take back what it offered.
    Some(if htlc.offered { claim } else { claim.until(htlc.cltv_expiry) })
}

/// HTRD or HERD: what HT or HE paid.
pub(super) fn second_stage(
    context: &CommitmentContext,
    outpoint: OutPoint,
    value: Sat,
    executed: bool,
) -> Claim {
    let name = if executed { Name::HERD } else { Name::HTRD };
    Claim::new(name, htlc_revocable_delivery::spend(context, outpoint, value))
}
