//! An output that we may take, and how: what a sweeper puts into transactions.

use crate::amount::Height;
use crate::keys::curve::Curve;
use crate::keys::signer::Signer;
use crate::onchain::published::{Published, Whose};
use crate::transactions::commitment::HtlcRef;
use crate::transactions::spend::{Key, Spend};
use bitcoin::secp256k1::SecretKey;
use bitcoin::sighash::EcdsaSighashType;
use bitcoin::{Transaction, TxOut};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The paper's name for what takes an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[allow(clippy::upper_case_acronyms, missing_docs)] // [`crate::transactions`] draws each
pub enum Name {
    D,
    RD,
    BR,
    HT,
    HE,
    HTRD,
    HERD,
    HED,
    HTD,
    HBR,
    HTBR,
    HEBR,
    Anchor,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// What a transaction must pay that has this input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pays {
    /// Whatever we like.
    Anything,
    /// This output, at the same place among the outputs as the input among the inputs: HT and HE
    /// with anchors. The lock time must be the input's own, no later.
    Beside(TxOut),
    /// This output and nothing else: HT and HE of a static_remotekey channel.
    Only(TxOut),
}

/// An output that we may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// What takes it.
    pub name: Name,
    /// The HTLC that it is about.
    pub htlc: Option<HtlcRef>,
    /// The input.
    pub spend: Spend,
    /// What it asks of the rest of the transaction.
    pub pays: Pays,
    /// The first block that it may be in.
    pub from: Height,
    /// The first block in which somebody else may take the output too.
    pub until: Option<Height>,
}

impl Claim {
    pub(crate) fn new(name: Name, spend: Spend) -> Self {
        let (htlc, until) = (None, None);
        Claim { name, htlc, spend, pays: Pays::Anything, from: Height::default(), until }
    }

    pub(super) fn for_htlc(self, htlc: HtlcRef) -> Self {
        Claim { htlc: Some(htlc), ..self }
    }

    pub(super) fn until(self, until: Height) -> Self {
        Claim { until: Some(until), ..self }
    }

    /// With the first block that may hold it, the output being in one of height `confirmed`
    /// (BIP 68, and a lock time of L allows the block after L).
    pub(crate) fn confirmed_at(self, confirmed: Height) -> Self {
        let sequence = self.spend.sequence;
        let delay = match sequence.is_height_locked() {
            true => sequence.to_consensus_u32() & 0xffff,
            false => 0,
        };
        let expired = match self.spend.lock_time {
            lock_time if lock_time == Height::default() => lock_time,
            lock_time => lock_time.plus(1),
        };
        Claim { from: confirmed.plus(delay).max(expired), ..self }
    }

    /// Signs input `input` of `tx`, which is this claim on `published`. Whether there is such an
    /// input.
    pub fn sign(
        &self,
        published: &Published,
        tx: &mut Transaction,
        input: usize,
        (signer, curve): (&dyn Signer, &dyn Curve),
    ) -> bool {
        let kind = EcdsaSighashType::All;
        let Some(sighash) = self.spend.sighash(tx, input, kind) else { return false };
        let number = published.number;
        let signature = match (self.spend.key, published.whose) {
            (Key::Funding, _) => Some(signer.sign_funding(sighash)),
            (Key::Payment, _) => Some(signer.sign_payment(sighash)),
            (Key::Delayed, _) => Some(signer.sign_delayed(number, sighash)),
            (Key::OwnHtlc, _) => Some(signer.sign_local_htlc(number, sighash)),
            (Key::Htlc, _) => signer.sign_remote_htlcs(&published.point, &[sighash], curve).pop(),
            (Key::Revocation, Whose::Revoked(secret)) => SecretKey::from_slice(&secret)
                .ok()
                .map(|secret| signer.sign_revocation(&secret, sighash)),
            (Key::Revocation, _) => None,
        };
        match (signature, tx.input.get_mut(input)) {
            (Some(signature), Some(input)) => {
                input.witness = self.spend.witness(&signature, kind);
                true
            }
            _ => false,
        }
    }
}
