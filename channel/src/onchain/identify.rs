//! Who published what spends F, and which of its outputs is our own balance (RD or D).

use crate::keys::signer::Signer;
use crate::output::Spend;
use crate::params::Side;
use crate::protocol::failing::outpoint;
use crate::protocol::open::{Delivery, Open};
use crate::script::to_remote;
use crate::transactions::commitment::number_of;
use bitcoin::Transaction;

/// Tells the transactions apart that may spend F. Both keys of F sign only commitments, which
/// carry their number, and ES, which carries none: that tells them apart, whatever they pay to.
pub fn identify(open: &Open, tx: &Transaction, signer: &dyn Signer) -> Spend {
    let txid = tx.compute_txid();
    let Some(number) = number_of(tx, open.contract.obscuring_factor()) else {
        return Spend::Mutual;
    };
    if open.contract.local_draft(signer).tx.txid == txid {
        return Spend::Local;
    }
    let state = &open.contract.state;
    let unrevoked = state.awaiting_revocation.then(|| state.remote_number.saturating_sub(1));
    if open.contract.remote_draft().tx.txid == txid || Some(number) == unrevoked {
        return Spend::Remote;
    }
    Spend::Other
}

/// Our own balance in a published commitment.
pub fn our_delivery(
    open: &Open,
    tx: &Transaction,
    spend: Spend,
    signer: &dyn Signer,
) -> Option<Delivery> {
    let number = open.contract.state.local_number;
    let index = match spend {
        Spend::Mutual => return None,
        Spend::Local => usize::try_from(open.contract.local_draft(signer).tx.to_local?).ok()?,
        Spend::Remote | Spend::Other => {
            let params = &open.contract.params;
            let payment = params.side(Side::Local).basepoints.payment;
            let script = to_remote::script_pubkey(params.format, &payment);
            tx.output.iter().position(|out| out.script_pubkey == script)?
        }
    };
    let value = tx.output.get(index)?.value.into();
    let revocable = spend == Spend::Local;
    Some(Delivery { outpoint: outpoint(tx, index)?, value, revocable, number })
}
