//! The two commitments as transactions: built from their content, signed, checked. When a
//! signature is made, our local commitment is byte for byte the peer's remote one.

use super::balance::View;
use super::commitments::Commitments;
use crate::error::Violation;
use crate::keys::curve::{Curve, VerifyJob};
use crate::keys::signer::Signer;
use crate::params::Side;
use crate::transactions::commitment::{
    self, CommitmentContext, CommitmentKeys, CommitmentSpec, CommitmentTx, Htlc as SpecHtlc,
};
use bitcoin::secp256k1::ecdsa::Signature;
use bitcoin::secp256k1::PublicKey;
use bitcoin::Transaction;

/// What commitment_signed carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitmentSignatures {
    /// For the commitment itself.
    pub commitment: Signature,
    /// For its HT and HE, in output order.
    pub htlcs: Vec<Signature>,
}

/// A commitment of one side, built, with what it takes to sign or check it.
#[derive(Debug)]
pub struct Draft {
    /// The keys of this commitment.
    pub keys: CommitmentKeys,
    /// The transaction and what its outputs are.
    pub tx: CommitmentTx,
}

impl Commitments {
    /// Builds `holder`'s commitment `number` with the content that `view` names.
    pub fn draft(&self, holder: Side, number: u64, point: &PublicKey, view: View) -> Draft {
        let content = self.content(holder, view);
        let htlc = |(by, id, htlc): &(Side, u64, super::htlc::Htlc)| {
            let spec = SpecHtlc {
                offered: *by == holder,
                amount: htlc.amount,
                payment_hash: htlc.payment_hash,
                cltv_expiry: htlc.cltv_expiry,
            };
            ((*by, *id), spec)
        };
        let spec = CommitmentSpec {
            number,
            feerate: content.feerate,
            to_broadcaster: content.balances.of(holder),
            to_countersigner: content.balances.of(holder.other()),
            htlcs: content.htlcs.iter().map(htlc).collect(),
        };
        let (mine, theirs) = (self.params.side(holder), self.params.side(holder.other()));
        let keys = CommitmentKeys::derive(&mine.basepoints, &theirs.basepoints, point);
        let tx = commitment::build(&self.context(holder, &keys), &spec);
        Draft { keys, tx }
    }

    /// What the builders need to know besides the content.
    pub fn context<'a>(&self, holder: Side, keys: &'a CommitmentKeys) -> CommitmentContext<'a> {
        CommitmentContext {
            format: self.params.format,
            funding: self.funding.outpoint,
            capacity: self.funding.capacity,
            obscuring_factor: self.obscuring_factor(),
            dust_limit: self.params.side(holder).dust_limit,
            to_self_delay: self.params.side(holder.other()).to_self_delay,
            broadcaster_pays_fee: self.params.funder == holder,
            keys,
        }
    }

    /// What hides the number in this channel's commitments (BOLT 3).
    pub fn obscuring_factor(&self) -> u64 {
        let funder = self.params.funder;
        let payment = |side| &self.params.side(side).basepoints.payment;
        commitment::obscuring_factor(payment(funder), payment(funder.other()))
    }

    /// Signs the peer's next commitment and moves the state with it. None before the peer has told
    /// its next point.
    pub fn send_commitment(
        &mut self,
        signer: &dyn Signer,
        curve: &dyn Curve,
    ) -> Option<CommitmentSignatures> {
        let point = self.state.next_remote_point?;
        self.step_signed_by_us(point);
        Some(self.sign_remote(signer, curve))
    }

    /// Signs the peer's latest commitment: the same bytes each time, so it serves to resend too.
    pub fn sign_remote(&self, signer: &dyn Signer, curve: &dyn Curve) -> CommitmentSignatures {
        let (number, point) = (self.state.remote_number, self.state.remote_point);
        let draft = self.draft(Side::Remote, number, &point, View::Signed);
        let context = self.context(Side::Remote, &draft.keys);
        let sighashes = draft.tx.htlc_sighashes(&context, true);
        CommitmentSignatures {
            commitment: signer.sign_funding(draft.tx.sighash(&context)),
            htlcs: signer.sign_remote_htlcs(&point, &sighashes, curve),
        }
    }

    /// Checks the peer's signatures on our next commitment, and moves the state with them.
    pub fn receive_commitment(
        &mut self,
        signatures: CommitmentSignatures,
        signer: &dyn Signer,
        curve: &dyn Curve,
    ) -> Result<(), Violation> {
        let number = self.state.local_number.saturating_add(1);
        self.check_local(number, View::Next, &signatures, signer, curve)?;
        self.step_signed_by_peer(signatures.commitment, signatures.htlcs);
        Ok(())
    }

    /// Checks the peer's signatures on our commitment `number` (BOLT 2, commitment_signed).
    pub fn check_local(
        &self,
        number: u64,
        view: View,
        signatures: &CommitmentSignatures,
        signer: &dyn Signer,
        curve: &dyn Curve,
    ) -> Result<(), Violation> {
        const RULE: &str = "BOLT 2 commitment_signed";
        let point = signer.per_commitment_point(number);
        let draft = self.draft(Side::Local, number, &point, view);
        let context = self.context(Side::Local, &draft.keys);
        let sighashes = draft.tx.htlc_sighashes(&context, true);
        if sighashes.len() != signatures.htlcs.len() {
            let (got, want) = (signatures.htlcs.len(), sighashes.len());
            return Err(Violation::fail(RULE, format!("{got} HTLC signatures, not {want}")));
        }
        let key = draft.keys.countersigner_htlc;
        let htlcs = sighashes
            .into_iter()
            .zip(&signatures.htlcs)
            .map(|(sighash, signature)| VerifyJob { key, sighash, signature: *signature });
        let mut jobs = vec![VerifyJob {
            key: draft.keys.countersigner_funding,
            sighash: draft.tx.sighash(&context),
            signature: signatures.commitment,
        }];
        jobs.extend(htlcs);
        curve.verify(&jobs).map_err(|bad| {
            let which = match bad.checked_sub(1) {
                None => "the commitment".to_owned(),
                Some(htlc) => format!("HTLC output {htlc}"),
            };
            Violation::fail(RULE, format!("the signature for {which} of {number} is wrong"))
        })
    }

    /// Our latest commitment C, signed by both: what a forced close publishes.
    pub fn signed_local(&self, signer: &dyn Signer) -> Transaction {
        let number = self.state.local_number;
        let point = signer.per_commitment_point(number);
        let draft = self.draft(Side::Local, number, &point, View::Signed);
        let context = self.context(Side::Local, &draft.keys);
        let ours = signer.sign_funding(draft.tx.sighash(&context));
        draft.tx.signed(&context, &ours, &self.funding.commitment_signature)
    }

    /// Our latest commitment as it would be published, unsigned, and what its outputs are.
    pub fn local_draft(&self, signer: &dyn Signer) -> Draft {
        let number = self.state.local_number;
        self.draft(Side::Local, number, &signer.per_commitment_point(number), View::Signed)
    }

    /// The peer's latest commitment that we signed.
    pub fn remote_draft(&self) -> Draft {
        let (number, point) = (self.state.remote_number, self.state.remote_point);
        self.draft(Side::Remote, number, &point, View::Signed)
    }

    /// The one before it, as long as the peer has not revoked that.
    pub fn remote_draft_before(&self) -> Option<Draft> {
        let point = self.state.revoking_point.filter(|_| self.state.awaiting_revocation)?;
        let number = self.state.remote_number.checked_sub(1)?;
        Some(self.draft(Side::Remote, number, &point, View::Before))
    }
}
