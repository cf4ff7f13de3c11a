//! Who published what spends F, and which of its outputs is our own balance (RD or D).

use crate::amount::Sat;
use crate::contract::htlc::PenaltyRecord;
use crate::contract::Commitments;
use crate::keys::signer::Signer;
use crate::onchain::published::{Published, Whose};
use crate::onchain::{local_commitment, remote_commitment, revoked_commitment};
use crate::output::Spend;
use crate::params::Side;
use crate::script::to_remote;
use crate::transactions::commitment::{number_of, HtlcRef};
use bitcoin::{OutPoint, Transaction};
use serde::{Deserialize, Serialize};

/// Our own balance in an output of a published commitment (D or RD).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// The output.
    pub outpoint: OutPoint,
    /// What it holds.
    pub value: Sat,
    /// RD on our own commitment, D on the peer's.
    pub revocable: bool,
    /// Number of our commitment, for its keys (RD only).
    pub number: u64,
}

/// Reads the commitment `tx`, whoever's it is; nothing for ES. Both keys of F sign only
/// commitments, which carry their number, and ES, which carries none: that tells them apart,
/// whatever they pay to. `records` are the HTLCs that were ever on the peer's commitments; only a
/// revoked one needs them.
pub fn published(
    contract: &Commitments,
    tx: &Transaction,
    signer: &dyn Signer,
    records: &[(HtlcRef, PenaltyRecord)],
) -> Option<Published> {
    let number = number_of(tx, contract.obscuring_factor())?;
    let local = local_commitment::read(contract, signer);
    if local.txid == tx.compute_txid() {
        return Some(local);
    }
    let state = &contract.state;
    let before_latest = state.awaiting_revocation.then_some(state.revoking_point).flatten();
    if number == state.remote_number {
        return Some(remote_commitment::read(contract, tx, number, state.remote_point));
    }
    match before_latest {
        Some(point) if number.checked_add(1) == Some(state.remote_number) => {
            Some(remote_commitment::read(contract, tx, number, point))
        }
        _ => {
            let revoked = revoked_commitment::read(contract, tx, number, records);
            Some(revoked.unwrap_or_else(|| remote_commitment::read_newer(contract, tx, number)))
        }
    }
}

/// Whose doing it is.
pub fn spend_of(published: Option<&Published>) -> Spend {
    match published.map(|published| published.whose) {
        None => Spend::Mutual,
        Some(Whose::Local(_)) => Spend::Local,
        Some(Whose::Remote) => Spend::Remote,
        Some(Whose::Revoked(_)) => Spend::Revoked,
        Some(Whose::Newer) => Spend::Other,
    }
}

/// Our own balance in a published commitment.
pub fn our_delivery(
    contract: &Commitments,
    tx: &Transaction,
    spend: Spend,
    signer: &dyn Signer,
) -> Option<Delivery> {
    let number = contract.state.local_number;
    let index = match spend {
        Spend::Mutual => return None,
        Spend::Local => usize::try_from(contract.local_draft(signer).tx.to_local?).ok()?,
        Spend::Remote | Spend::Revoked | Spend::Other => {
            let params = &contract.params;
            let payment = params.side(Side::Local).basepoints.payment;
            let script = to_remote::script_pubkey(params.format, &payment);
            tx.output.iter().position(|out| out.script_pubkey == script)?
        }
    };
    let value = tx.output.get(index)?.value.into();
    let revocable = spend == Spend::Local;
    let outpoint = OutPoint { txid: tx.compute_txid(), vout: u32::try_from(index).ok()? };
    Some(Delivery { outpoint, value, revocable, number })
}
