//! Who published what spends F, and which of its outputs is our own balance (RD or D).

use crate::amount::Sat;
use crate::contract::Commitments;
use crate::keys::signer::Signer;
use crate::output::Spend;
use crate::params::Side;
use crate::script::to_remote;
use crate::transactions::commitment::number_of;
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

/// Tells the transactions apart that may spend F. Both keys of F sign only commitments, which
/// carry their number, and ES, which carries none: that tells them apart, whatever they pay to.
pub fn identify(contract: &Commitments, tx: &Transaction, signer: &dyn Signer) -> Spend {
    let txid = tx.compute_txid();
    let Some(number) = number_of(tx, contract.obscuring_factor()) else {
        return Spend::Mutual;
    };
    if contract.local_draft(signer).tx.txid == txid {
        return Spend::Local;
    }
    let state = &contract.state;
    let unrevoked = state.awaiting_revocation.then(|| state.remote_number.saturating_sub(1));
    if contract.remote_draft().tx.txid == txid || Some(number) == unrevoked {
        return Spend::Remote;
    }
    Spend::Other
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
        Spend::Remote | Spend::Other => {
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
