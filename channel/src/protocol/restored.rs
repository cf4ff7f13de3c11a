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
use crate::onchain::published::{Published, Role, Whose};
use crate::onchain::resolution::{OnChain, Resolution};
use crate::onchain::tree;
use crate::output::Spend;
use crate::params::{CommitmentFormat, Side};
use crate::script::{to_local, to_remote};
use crate::transactions::closing::is_closing;
use crate::transactions::commitment::{number_of, obscuring_factor};
use crate::transactions::{delivery, revocable_delivery};
use bitcoin::secp256k1::PublicKey;
use bitcoin::{OutPoint, Script, ScriptBuf, Transaction, Txid};
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

    /// A transaction in the block of this height spends F, which is kept in `onchain`. Whose doing
    /// it is.
    pub fn funding_spent(
        &self,
        onchain: &mut OnChain,
        tx: &Transaction,
        height: Height,
        signer: &dyn Signer,
    ) -> Spend {
        let published = self.read(tx, signer);
        let spend = match &published {
            // What was agreed is lost; only the form of ES is known (BOLT 3, closing).
            None if is_closing(tx) => Spend::Mutual,
            None => Spend::Unknown,
            Some(published) if published.broadcaster() == Side::Local => Spend::Local,
            Some(_) => Spend::Remote,
        };
        onchain.see(tx.compute_txid(), height, || published);
        spend
    }

    /// A commitment, as far as it can be read: our balance on it.
    fn read(&self, tx: &Transaction, signer: &dyn Signer) -> Option<Published> {
        let number = self.number_of(tx)?;
        let pays = |script: &Script| {
            let place = tx.output.iter().position(|output| *output.script_pubkey == *script)?;
            Some((u32::try_from(place).ok()?, Sat::from(tx.output.get(place)?.value)))
        };
        let to_us = pays(&to_remote::script_pubkey(self.format, &self.ours));
        let own = self.own.map(|own| own.script(number, signer).to_p2wsh());
        let to_local = own.and_then(|script| pays(&script));
        let pays_them = pays(&to_remote::script_pubkey(self.format, &self.theirs)).is_some();
        let point = signer.per_commitment_point(number);
        let (whose, output, role) = match (to_us, to_local) {
            (None, to_local) if to_local.is_some() || pays_them => {
                // Of the feerate nothing depends: HT and HE need what is lost.
                (Whose::Local(FeeratePerKw::FLOOR), to_local, Role::ToLocal)
            }
            (to_us, _) => (Whose::Newer, to_us, Role::ToRemote),
        };
        let outputs = output.map(|(place, value)| (place, (value, role))).into_iter().collect();
        Some(Published { txid: tx.compute_txid(), whose, number, point, outputs })
    }

    /// What takes our balance on the commitment that is in a block, whether something did or not: D
    /// of the peer's, RD of our own.
    pub fn delivery(&self, resolution: &Resolution, signer: &dyn Signer) -> Option<Claim> {
        let published = &resolution.published;
        let (place, (value, role)) = published.outputs.first_key_value()?;
        let outpoint = published.outpoint(*place);
        let claim = match (role, self.own) {
            (Role::ToLocal, Some(own)) => {
                let script = own.script(published.number, signer);
                let spend = revocable_delivery::spend_script(script, own.delay, outpoint, *value);
                Claim::new(Name::RD, spend)
            }
            _ => Claim::new(Name::D, delivery::spend(self.format, &self.ours, outpoint, *value)),
        };
        Some(claim.confirmed_at(resolution.height))
    }

    /// What we may take on chain, now or later, of the commitment that is there.
    pub fn claims<'a>(
        &self,
        onchain: &'a OnChain,
        signer: &dyn Signer,
    ) -> Option<(&'a Published, Vec<Claim>)> {
        let resolution = onchain.resolution.as_ref()?;
        let free = |claim: &Claim| !resolution.taken.contains_key(&claim.spend.outpoint);
        let claims = self.delivery(resolution, signer).filter(free).into_iter().collect();
        Some((&resolution.published, claims))
    }

    /// The tree of its transactions, as far as it is known, the best block being `height`: `spent`
    /// is what spends F in a block.
    pub fn tree(
        &self,
        capacity: Sat,
        spent: Option<(Txid, Height, Spend)>,
        (onchain, height): (&OnChain, Height),
        signer: &dyn Signer,
    ) -> tree::Node {
        let resolution = onchain.resolution.as_ref();
        let delivery = resolution.and_then(|resolution| self.delivery(resolution, signer));
        tree::of_restored(&tree::Remains {
            funding: self.outpoint,
            capacity,
            spent,
            resolution,
            delivery: delivery.as_ref(),
            delay: u32::from(self.format == CommitmentFormat::Anchors),
            height,
        })
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
