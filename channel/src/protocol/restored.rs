//! A channel of which only a static backup is left: who, which output, which keys. It is never run.
//! The peer is told that our state is lost, and closes; what its commitment pays us needs no more
//! than the payment basepoint (BOLT 2, message retransmission: data loss). What our own pays us,
//! had it been published before, needs its number, which it bears, and [`Own`].
//!
//! ```text
//!   A (restored)                                             B
//!   ── channel_reestablish, next_commitment_number 0 ──▶
//!   ── error ──────────────────────────────────────────▶
//!
//!   F ─┬─ C of B ── to_remote ── D  ── A's wallet
//!      └─ C of A ── to_local ─── RD ── A's wallet, after to_self_delay
//! ```

use crate::amount::{FeeratePerKw, Height, Sat};
use crate::keys::derive;
use crate::keys::signer::Signer;
use crate::message::Message;
use crate::onchain::claim::{Claim, Name};
use crate::output::Spend;
use crate::params::{CommitmentFormat, Side};
use crate::script::{to_local, to_remote};
use crate::transactions::closing::is_closing;
use crate::transactions::commitment::{number_of, obscuring_factor};
use crate::transactions::spend::sweep;
use crate::transactions::{delivery, revocable_delivery};
use bitcoin::secp256k1::PublicKey;
use bitcoin::sighash::EcdsaSighashType;
use bitcoin::{OutPoint, Script, ScriptBuf, Transaction};
use lightning::ln::msgs;
use lightning::ln::types::ChannelId;
use serde::{Deserialize, Serialize};

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
    /// What RD needs; earlier backups have none.
    pub own: Option<Own>,
}

/// What, beside our keys, finds and spends to_local of our own commitment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Own {
    /// The peer's revocation basepoint.
    pub revocation: PublicKey,
    /// The blocks that we must wait.
    pub delay: u16,
}

/// An output of a commitment in a block that is ours to take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// D or RD.
    pub claim: Claim,
    /// The commitment's number.
    pub number: u64,
}

impl Restored {
    /// Its id.
    pub fn channel_id(&self) -> ChannelId {
        super::opening::channel_id(&self.outpoint)
    }

    /// What to say on each connection, so that the peer publishes its commitment: a number that no
    /// commitment has, then an error.
    pub fn greeting(&self, signer: &dyn Signer) -> [Message; 2] {
        [lost(self.channel_id(), signer), self.error()]
    }

    /// The second half of the greeting, repeated when the peer goes on.
    pub fn error(&self) -> Message {
        let data = "our state of this channel is lost: please close it".to_owned();
        Message::Error(msgs::ErrorMessage { channel_id: self.channel_id(), data })
    }

    /// Whose doing a transaction is that spends F.
    pub fn identify(&self, tx: &Transaction) -> Spend {
        if self.number_of(tx).is_none() {
            // What was agreed is lost; only the form of ES is known (BOLT 3, closing).
            return if is_closing(tx) { Spend::Mutual } else { Spend::Unknown };
        }
        let pays_them = to_remote::script_pubkey(self.format, &self.theirs);
        match tx.output.iter().any(|output| output.script_pubkey == pays_them) {
            true => Spend::Local,
            false => Spend::Remote,
        }
    }

    /// What a commitment in a block of this height pays us, whichever it is: D of the peer's, RD of
    /// our own.
    pub fn due(&self, tx: &Transaction, confirmed: Height, signer: &dyn Signer) -> Option<Due> {
        let number = self.number_of(tx)?;
        let to_remote = to_remote::script_pubkey(self.format, &self.ours);
        let claim = match output_to(tx, &to_remote) {
            Some((outpoint, value)) => {
                let spend = delivery::spend(self.format, &self.ours, outpoint, value);
                Claim::new(Name::D, spend)
            }
            None => {
                let own = self.own?;
                let script = own.script(number, signer);
                let (outpoint, value) = output_to(tx, &script.to_p2wsh())?;
                let spend = revocable_delivery::spend_script(script, own.delay, outpoint, value);
                Claim::new(Name::RD, spend)
            }
        };
        Some(Due { claim: claim.confirmed_at(confirmed), number })
    }

    /// The transaction that takes D or RD alone; nothing if the fee leaves no more than dust.
    pub fn deliver(
        &self,
        due: &Due,
        to: &Script,
        feerate: FeeratePerKw,
        signer: &dyn Signer,
    ) -> Option<Transaction> {
        let spend = &due.claim.spend;
        let mut tx = sweep(std::slice::from_ref(spend), to, feerate)?;
        let kind = EcdsaSighashType::All;
        let sighash = spend.sighash(&tx, 0, kind)?;
        let signature = match due.claim.name {
            Name::RD => signer.sign_delayed(due.number, sighash),
            _ => signer.sign_payment(sighash),
        };
        tx.input.first_mut()?.witness = spend.witness(&signature, kind);
        Some(tx)
    }

    fn number_of(&self, tx: &Transaction) -> Option<u64> {
        let (opener, accepter) = match self.funder {
            Side::Local => (&self.ours, &self.theirs),
            Side::Remote => (&self.theirs, &self.ours),
        };
        number_of(tx, obscuring_factor(opener, accepter))
    }
}

impl Own {
    /// The script of to_local of our commitment of this number.
    fn script(&self, number: u64, signer: &dyn Signer) -> ScriptBuf {
        let point = signer.per_commitment_point(number);
        let revocation = derive::revocation_public_key(&self.revocation, &point);
        let delayed = derive::public_key(&signer.basepoints().delayed_payment, &point);
        to_local::witness_script(&revocation, self.delay, &delayed)
    }
}

/// The channel_reestablish of who has lost its state: a number that no commitment has.
pub(super) fn lost(channel_id: ChannelId, signer: &dyn Signer) -> Message {
    Message::ChannelReestablish(Box::new(msgs::ChannelReestablish {
        channel_id,
        next_local_commitment_number: 0,
        next_remote_commitment_number: 0,
        your_last_per_commitment_secret: [0; 32],
        my_current_per_commitment_point: signer.per_commitment_point(0),
        next_funding: None,
        my_current_funding_locked: None,
    }))
}

/// The output that pays to this script.
fn output_to(tx: &Transaction, script: &Script) -> Option<(OutPoint, Sat)> {
    let place = tx.output.iter().position(|output| *output.script_pubkey == *script)?;
    let value = tx.output.get(place)?.value.into();
    Some((OutPoint { txid: tx.compute_txid(), vout: u32::try_from(place).ok()? }, value))
}
