//! Who published what spends F, and which of its outputs is our own balance (RD or D).

use crate::keys::signer::Signer;
use crate::output::Spend;
use crate::params::Side;
use crate::protocol::failing::outpoint;
use crate::protocol::open::{Delivery, Open};
use crate::script::to_remote;
use bitcoin::Transaction;

/// Tells the transactions apart that may spend F.
pub fn identify(open: &Open, tx: &Transaction, signer: &dyn Signer) -> Spend {
    let txid = tx.compute_txid();
    let is = |candidate: &Transaction| candidate.compute_txid() == txid;
    if open.life.mutual_close.as_ref().is_some_and(is) || pays_only_shutdown_scripts(open, tx) {
        return Spend::Mutual;
    }
    if open.contract.local_draft(signer).tx.txid == txid {
        return Spend::Local;
    }
    if open.contract.remote_draft().tx.txid == txid {
        return Spend::Remote;
    }
    Spend::Other
}

/// ES as the peer may have completed it, when its last signature never reached us: nothing but the
/// two scripts of shutdown, which no commitment pays.
fn pays_only_shutdown_scripts(open: &Open, tx: &Transaction) -> bool {
    let scripts = [&open.life.shutdown_sent, &open.life.shutdown_received];
    let (Some(ours), Some(theirs)) = (scripts[0], scripts[1]) else { return false };
    tx.output.iter().all(|out| out.script_pubkey == *ours || out.script_pubkey == *theirs)
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
