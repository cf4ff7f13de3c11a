//! A channel of which only a static backup is left: who, which output, which keys. It is never run.
//! The peer is told that our state is lost, and closes; what its commitment pays us needs no more
//! than the payment basepoint (BOLT 2, message retransmission: data loss).
//!
//! ```text
//!   A (restored)                                             B
//!   ── channel_reestablish, next_commitment_number 0 ──▶
//!   ── error ──────────────────────────────────────────▶
//!
//!   F ── C of B ── to_remote ── D ── A's wallet
//! ```

use crate::amount::{FeeratePerKw, Height};
use crate::keys::signer::Signer;
use crate::message::Message;
use crate::onchain::claim::{Claim, Name};
use crate::output::Spend;
use crate::params::{CommitmentFormat, Side};
use crate::script::to_remote;
use crate::transactions::commitment::{number_of, obscuring_factor};
use crate::transactions::delivery;
use crate::transactions::spend::sweep;
use bitcoin::secp256k1::PublicKey;
use bitcoin::sighash::EcdsaSighashType;
use bitcoin::{OutPoint, Script, Transaction};
use lightning::ln::msgs;
use lightning::ln::types::ChannelId;

/// What is known of the channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// F's output.
    pub outpoint: OutPoint,
    /// Shape of the transactions.
    pub format: CommitmentFormat,
    /// Who opened it.
    pub funder: Side,
    /// Our payment basepoint.
    pub ours: PublicKey,
    /// The peer's.
    pub theirs: PublicKey,
}

impl Restored {
    /// Its id.
    pub fn channel_id(&self) -> ChannelId {
        super::opening::channel_id(&self.outpoint)
    }

    /// What to say on each connection, so that the peer publishes its commitment: a number that no
    /// commitment has, then an error.
    pub fn greeting(&self, signer: &dyn Signer) -> [Message; 2] {
        let reestablish = msgs::ChannelReestablish {
            channel_id: self.channel_id(),
            next_local_commitment_number: 0,
            next_remote_commitment_number: 0,
            your_last_per_commitment_secret: [0; 32],
            my_current_per_commitment_point: signer.per_commitment_point(0),
            next_funding: None,
            my_current_funding_locked: None,
        };
        [Message::ChannelReestablish(Box::new(reestablish)), self.error()]
    }

    /// The second half of the greeting, repeated when the peer goes on.
    pub fn error(&self) -> Message {
        let data = "our state of this channel is lost: please close it".to_owned();
        Message::Error(msgs::ErrorMessage { channel_id: self.channel_id(), data })
    }

    /// Whose doing a transaction is that spends F.
    pub fn identify(&self, tx: &Transaction) -> Spend {
        let (opener, accepter) = match self.funder {
            Side::Local => (&self.ours, &self.theirs),
            Side::Remote => (&self.theirs, &self.ours),
        };
        if number_of(tx, obscuring_factor(opener, accepter)).is_none() {
            return Spend::Mutual;
        }
        let pays_them = to_remote::script_pubkey(self.format, &self.theirs);
        match tx.output.iter().any(|output| output.script_pubkey == pays_them) {
            true => Spend::Local,
            false => Spend::Remote,
        }
    }

    /// D: what a commitment of the peer's in a block of this height pays us, whichever it is.
    pub fn claim(&self, tx: &Transaction, confirmed: Height) -> Option<Claim> {
        let script = to_remote::script_pubkey(self.format, &self.ours);
        let place = tx.output.iter().position(|output| output.script_pubkey == script)?;
        let value = tx.output.get(place)?.value.into();
        let outpoint = OutPoint { txid: tx.compute_txid(), vout: u32::try_from(place).ok()? };
        let spend = delivery::spend(self.format, &self.ours, outpoint, value);
        Some(Claim::new(Name::D, spend).confirmed_at(confirmed))
    }

    /// The transaction that takes D alone; nothing if the fee leaves no more than dust.
    pub fn deliver(
        &self,
        claim: &Claim,
        to: &Script,
        feerate: FeeratePerKw,
        signer: &dyn Signer,
    ) -> Option<Transaction> {
        let mut tx = sweep(std::slice::from_ref(&claim.spend), to, feerate)?;
        let kind = EcdsaSighashType::All;
        let signature = signer.sign_payment(claim.spend.sighash(&tx, 0, kind)?);
        tx.input.first_mut()?.witness = claim.spend.witness(&signature, kind);
        Some(tx)
    }
}
