//! Who published what spends F.

use crate::contract::htlc::PenaltyRecord;
use crate::contract::Commitments;
use crate::keys::signer::Signer;
use crate::onchain::published::{Published, Whose};
use crate::onchain::{local_commitment, remote_commitment, revoked_commitment};
use crate::output::Spend;
use crate::transactions::commitment::{number_of, HtlcRef};
use bitcoin::Transaction;

/// Reads the commitment `tx`, whoever's it is; nothing if it carries no number, as every commitment
/// does and ES does not: that tells them apart, whatever they pay to. `records` are the HTLCs that
/// were ever on the peer's commitments; only a revoked one needs them.
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
    if let Some(other) = local_commitment::read_other(contract, tx, (number, local.whose), signer) {
        return Some(other);
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

/// Whose doing a commitment is.
pub fn spend_of(published: &Published) -> Spend {
    match published.whose {
        Whose::Local(_) => Spend::Local,
        Whose::Remote => Spend::Remote,
        Whose::Revoked(_) => Spend::Revoked,
        Whose::Newer => Spend::Other,
    }
}
