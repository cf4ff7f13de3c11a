//! Closing together (BOLT 2, channel close): both say where their share goes, the HTLCs run out,
//! and ES is signed by both. How they come to ES depends on what both offered in init.
//!
//! ```text
//!   shutdown     who wants to close, and the scripts
//!   simple       option_simple_close: each side makes an ES of its own and pays for it
//!   negotiated   without it: one ES, the funder pays, both haggle about the fee
//!   patience     a peer that does not answer is told so
//! ```

mod negotiated;
mod patience;
mod shutdown;
mod simple;

pub use patience::PATIENCE;
pub use shutdown::is_shutdown_script;

use super::open::{Open, Tools};
use crate::amount::{FeeratePerKw, Sat};
use crate::contract::balance::{Balances, View};
use crate::keys::curve::VerifyJob;
use crate::output::{Event, Output, Settled};
use crate::params::Side;
use crate::transactions::closing::ClosingTx;
use crate::transactions::weight::dust_threshold;
use bitcoin::secp256k1::ecdsa::Signature;
use bitcoin::{ScriptBuf, Transaction, TxOut};
use lightning::ln::msgs;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;

/// What closing together has come to, beside [`super::open::Life`]: a row, written once somebody
/// wants to close.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closing {
    /// Who wanted it first, as far as we know.
    pub begun_by: Option<Side>,
    /// The most we were asked to pay.
    pub max_feerate: Option<FeeratePerKw>,
    /// The last fee we offered in closing_complete.
    pub fee: Option<Sat>,
    /// Our ES of closing_complete, signed by both: the last version.
    pub ours: Option<Transaction>,
    /// The peer's ES of closing_complete, signed by both: the last version.
    pub theirs: Option<Transaction>,
    /// Every script that we said our share goes to: an older version may be the one that confirms.
    pub scripts: Vec<ScriptBuf>,
}

/// What was said about closing since the connection is up. It begins anew with each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Talk {
    /// The peer has said shutdown.
    pub(super) shutdown_heard: bool,
    /// The fees of closing_signed.
    negotiation: Option<negotiated::Negotiation>,
    /// Our closing_complete that the peer has not answered.
    offered: Option<Box<msgs::ClosingComplete>>,
    /// What we last offered in closing_complete.
    plan: Option<simple::Plan>,
    /// Minutes that the peer owes us an answer.
    waited: u32,
}

impl Open {
    /// Every ES that must be published, the cheapest first: a dearer one replaces it.
    pub fn settlements(&self) -> Vec<&Transaction> {
        let each = [&self.life.mutual_close, &self.closing.theirs, &self.closing.ours];
        let mut each: Vec<&Transaction> = each.into_iter().flatten().collect();
        let paid =
            |tx: &Transaction| tx.output.iter().map(|out| out.value).sum::<bitcoin::Amount>();
        each.sort_by_key(|tx| Reverse(paid(tx)));
        each
    }

    /// Whether an ES is signed by both.
    pub fn is_settled(&self) -> bool {
        !self.settlements().is_empty()
    }

    /// Which output of an ES pays us, whichever version it is, and which the peer.
    pub fn shares_in<'a>(&self, es: &'a Transaction) -> [Option<&'a TxOut>; 2] {
        let said = |script: &ScriptBuf| {
            self.closing.scripts.contains(script)
                || self.life.shutdown_sent.as_ref() == Some(script)
        };
        let ours = es.output.iter().find(|out| said(&out.script_pubkey));
        [ours, es.output.iter().find(|out| Some(*out) != ours)]
    }

    /// Whether `tx`, which spends F and is no commitment, is an ES that we signed. Not every
    /// version is kept: the peer may have had our signature on others, at other fees and to other
    /// scripts of its own. But each is made after both said shutdown, pays us to a script that we
    /// said then, pays the peer no more than it has, and costs us only a fee that we are to pay.
    pub(in crate::protocol) fn is_agreed(&self, tx: &Transaction) -> bool {
        let txid = tx.compute_txid();
        if self.settlements().iter().any(|es| es.compute_txid() == txid) {
            return true;
        }
        let [ours, theirs] = self.shares_in(tx);
        let outputs = usize::from(ours.is_some()).saturating_add(usize::from(theirs.is_some()));
        if !self.both_shut() || !self.contract.htlcs.is_empty() || outputs != tx.output.len() {
            return false;
        }
        let balances = self.closing_balances();
        let fixed = &self.contract.params.remote.upfront_shutdown_script;
        let theirs_fits = theirs.is_none_or(|out| {
            let to_them = fixed.as_ref().is_none_or(|fixed| *fixed == out.script_pubkey);
            to_them && Sat::from(out.value) <= balances.remote.floor()
        });
        // Our part of a simple ES of our own, and of what we funded, is less by the fee.
        let we_pay = self.closing.fee.is_some() || self.contract.params.funder == Side::Local;
        let ours_fits = match ours {
            Some(out) if out.script_pubkey.is_op_return() => true,
            Some(out) => we_pay || Sat::from(out.value) >= balances.local.floor(),
            None => we_pay || balances.local.floor() < self.left_out_below(),
        };
        theirs_fits && ours_fits
    }

    /// An output of ours that is worth less than this may be left out of an ES.
    fn left_out_below(&self) -> Sat {
        let params = &self.contract.params;
        let script = self.life.shutdown_sent.clone().unwrap_or_default();
        dust_threshold(&script).max(params.local.dust_limit).max(params.remote.dust_limit)
    }

    fn closing_balances(&self) -> Balances {
        self.contract.content(Side::Local, View::Signed).balances
    }

    fn both_shut(&self) -> bool {
        self.life.shutdown_sent.is_some() && self.life.shutdown_received.is_some()
    }

    fn closing_sighash(&self, tx: &ClosingTx) -> [u8; 32] {
        let params = &self.contract.params;
        tx.sighash(&params.local.basepoints.funding, &params.remote.basepoints.funding)
    }

    fn is_signed_by_peer(&self, tx: &ClosingTx, signature: Signature, tools: &Tools<'_>) -> bool {
        let key = self.contract.params.remote.basepoints.funding;
        let sighash = self.closing_sighash(tx);
        tools.curve.verify(&[VerifyJob { key, sighash, signature }]).is_ok()
    }

    /// ES with both signatures, on its way once it is durable; the caller keeps it.
    fn publish_es(
        &mut self,
        tx: &ClosingTx,
        theirs: &Signature,
        ours: bool,
        tools: &mut Tools<'_>,
    ) -> Transaction {
        let signature = tools.signer.sign_funding(self.closing_sighash(tx));
        let params = &self.contract.params;
        let signed = tx.signed(
            (&params.local.basepoints.funding, &signature),
            (&params.remote.basepoints.funding, theirs),
        );
        let paid = signed.output.iter().map(|out| Sat::from(out.value));
        let paid = paid.fold(Sat::ZERO, Sat::saturating_add);
        let settled = Settled {
            txid: signed.compute_txid(),
            ours,
            awaits_ours: !ours && self.awaits_own_version(),
            fee: tx.capacity.saturating_sub(paid),
            weight: signed.weight().to_wu(),
            output: tx.local,
        };
        tools.out.stage(Output::Broadcast(Box::new(signed.clone())));
        tools.out.stage(Output::Event(Event::Closing(settled)));
        signed
    }
}
