//! A commitment in a block: whose it is, which, and what each of its outputs is. All that later
//! claims need is in here, so that it is read once and kept as one row.
//!
//! ```text
//!   F is spent by a transaction ─▶ identify ─▶ local_commitment   ─┐
//!                                              remote_commitment  ─┼─▶ Published
//!                                              revoked_commitment ─┘
//! ```

use crate::amount::{FeeratePerKw, Sat};
use crate::contract::Commitments;
use crate::keys::CommitmentKeys;
use crate::params::Side;
use crate::script;
use crate::transactions::commitment::{CommitmentContext, Htlc, HtlcRef};
use bitcoin::secp256k1::ecdsa::Signature;
use bitcoin::secp256k1::PublicKey;
use bitcoin::{OutPoint, ScriptBuf, Transaction, Txid};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Whose commitment it is, and what that means for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Whose {
    /// Our own; HT and HE of our latest were signed for this feerate.
    Local(FeeratePerKw),
    /// The peer's latest, or the one before it while that is not revoked.
    Remote,
    /// One that the peer had revoked with this secret: a breach.
    Revoked([u8; 32]),
    /// One of the peer's that we have never heard of: our state is old. Only our balance on it can
    /// be told.
    Newer,
}

/// What an output of a commitment is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// The broadcaster's balance, after a delay.
    ToLocal,
    /// The countersigner's balance.
    ToRemote,
    /// The anchor of this side.
    Anchor(Side),
    /// An HTLC; with the peer's signature on its HT or HE if the commitment is ours.
    Htlc(HtlcRef, Htlc, Option<Signature>),
}

/// A commitment in a block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// Its id.
    pub txid: Txid,
    /// Whose it is.
    pub whose: Whose,
    /// Its number, counting up from 0.
    pub number: u64,
    /// The per-commitment point of its keys.
    pub point: PublicKey,
    /// Its outputs by their place: what each holds and is.
    pub outputs: BTreeMap<u32, (Sat, Role)>,
}

impl Published {
    /// Who could broadcast it.
    pub fn broadcaster(&self) -> Side {
        match self.whose {
            Whose::Local(_) => Side::Local,
            Whose::Remote | Whose::Revoked(_) | Whose::Newer => Side::Remote,
        }
    }

    /// The keys of this commitment.
    pub fn keys(&self, contract: &Commitments) -> CommitmentKeys {
        keys(contract, self.broadcaster(), &self.point)
    }

    /// Whether it was made after what our books know: our state is old then, and only our balance
    /// on it can be told.
    pub fn is_later(&self, contract: &Commitments) -> bool {
        let own = matches!(self.whose, Whose::Local(_));
        self.whose == Whose::Newer || own && self.number > contract.state.local_number
    }

    /// Its output at this place, as later transactions name it.
    pub fn outpoint(&self, place: u32) -> OutPoint {
        OutPoint { txid: self.txid, vout: place }
    }

    /// The HTLC in the output at this place.
    pub fn htlc(&self, place: u32) -> Option<(HtlcRef, Htlc)> {
        match self.outputs.get(&place)? {
            (_, Role::Htlc(tag, htlc, _)) => Some((*tag, *htlc)),
            _ => None,
        }
    }
}

/// The keys of a commitment of `broadcaster` with this point.
pub(super) fn keys(contract: &Commitments, broadcaster: Side, point: &PublicKey) -> CommitmentKeys {
    let side = |side| &contract.params.side(side).basepoints;
    CommitmentKeys::derive(side(broadcaster), side(broadcaster.other()), point)
}

/// Tells what the outputs of the peer's commitment `tx` are, by their scripts. Of `htlcs` those
/// that were trimmed find no output. Outputs with the same script and value stand in the order of
/// their HTLCs' expiry (BOLT 3, output ordering).
pub(super) fn outputs_of(
    tx: &Transaction,
    context: &CommitmentContext,
    broadcaster: Side,
    mut htlcs: Vec<(HtlcRef, Htlc)>,
) -> BTreeMap<u32, (Sat, Role)> {
    let keys = context.keys;
    let anchor = |key: &PublicKey| script::anchor::witness_script(key).to_p2wsh();
    let to_remote = script::to_remote::script_pubkey(context.format, &keys.countersigner_payment);
    let mut roles: Vec<(Option<Sat>, ScriptBuf, Role)> = vec![
        (None, context.to_local_script().to_p2wsh(), Role::ToLocal),
        (None, to_remote, Role::ToRemote),
        (None, anchor(&keys.broadcaster_funding), Role::Anchor(broadcaster)),
        (None, anchor(&keys.countersigner_funding), Role::Anchor(broadcaster.other())),
    ];
    htlcs.sort_by_key(|(tag, htlc)| (htlc.cltv_expiry, *tag));
    roles.extend(htlcs.into_iter().map(|(tag, htlc)| {
        let script = context.htlc_script(&htlc).to_p2wsh();
        (Some(htlc.amount.floor()), script, Role::Htlc(tag, htlc, None))
    }));
    let mut outputs = BTreeMap::new();
    for (place, output) in (0..).zip(&tx.output) {
        let value: Sat = output.value.into();
        let found = roles.iter().position(|(worth, script, _)| {
            *script == output.script_pubkey && worth.is_none_or(|worth| worth == value)
        });
        if let Some(found) = found {
            outputs.insert(place, (value, roles.remove(found).2));
        }
    }
    outputs
}
