//! What a private tower keeps of a channel: the same 2.2 kB whatever its number of states, because
//! it holds what every penalty follows from.
//!
//! ```text
//!   F ── revoked C ─┬─ to_local ──────────── BR
//!                   └─ anything ── any tx ── HTBR, HEBR: whatever pays to to_local's script
//! ```
//!
//! That second line is all a cheater can do with an HTLC's output. HTLC outputs that nobody moved
//! wait for the node, as does to_remote, which nobody else can take.
//!
//! With our revocation basepoint's secret its holder could take our side of every state the peer
//! has revoked: this is for one's own machine only, on an encrypted disk.

use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};
use bitcoin::{OutPoint, ScriptBuf, Transaction};
use fulmen_channel::contract::Commitments;
use fulmen_channel::keys::{derive, RevocationStore};
use fulmen_channel::params::Side;
use fulmen_channel::script;
use fulmen_channel::transactions::commitment::{number_of, obscuring_factor};
use serde::{Deserialize, Serialize};

/// How many slots hold the secrets of all states (BOLT 3).
const SLOTS: usize = 49;
/// A commitment number and its secret.
const SLOT: usize = 8 + 32;
/// The number of a slot that is empty: past the last commitment there can be.
const EMPTY: u64 = u64::MAX;
/// The longest script that a channel's takings may be paid to (BOLT 2 allows no longer ones).
const MAX_SCRIPT: usize = 42;

/// A channel in a private tower's hands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrivateChannel {
    /// What never changes.
    pub head: Head,
    /// The peer's secrets so far.
    pub secrets: RevocationStore,
}

/// What of a channel never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// F's output: its spend is what is watched for.
    pub funding: OutPoint,
    /// What the peer must wait for its own balance, in blocks.
    to_self_delay: u16,
    /// The secret of our revocation basepoint.
    revocation: [u8; 32],
    /// Both payment basepoints, the opener's first: they hide the commitment's number.
    payments: (PublicKey, PublicKey),
    /// The peer's delayed payment basepoint.
    delayed: PublicKey,
    /// Where takings are paid to.
    destination: ScriptBuf,
}

/// What takes everything that pays to to_local's script of one revoked state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Punisher {
    /// The number of the state.
    pub number: u64,
    /// The private half of its revocation key.
    pub key: SecretKey,
    /// to_local's witness script.
    pub script: ScriptBuf,
    /// Where takings are paid to.
    pub destination: ScriptBuf,
    /// What the cheater must wait, in blocks.
    pub to_self_delay: u16,
}

/// Why bytes are no channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the channel's record makes no sense")]
pub struct BadChannel;

impl PrivateChannel {
    /// What a private tower must know of this channel today. `revocation` is the secret of our
    /// revocation basepoint.
    pub fn of(contract: &Commitments, revocation: &SecretKey, destination: ScriptBuf) -> Self {
        let params = &contract.params;
        let payment = |side| params.side(side).basepoints.payment;
        let head = Head {
            funding: contract.funding.outpoint,
            to_self_delay: params.side(Side::Local).to_self_delay,
            revocation: revocation.secret_bytes(),
            payments: (payment(params.funder), payment(params.funder.other())),
            delayed: params.side(Side::Remote).basepoints.delayed_payment,
            destination,
        };
        PrivateChannel { head, secrets: contract.revocations.clone() }
    }

    /// As many bytes for every channel with scripts of the same length.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Cannot fail: the sink is a Vec and every part has a known length.
        let mut bytes = postcard::to_stdvec(&self.head).unwrap_or_default();
        for slot in 0..SLOTS {
            let (number, secret) = self.secrets.slot(slot).unwrap_or((EMPTY, [0; 32]));
            bytes.extend_from_slice(&number.to_be_bytes());
            bytes.extend_from_slice(&secret);
        }
        bytes
    }

    /// What [`PrivateChannel::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`BadChannel`], for whatever else a client may send.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadChannel> {
        let (head, slots): (Head, _) = postcard::take_from_bytes(bytes).map_err(|_| BadChannel)?;
        let wrong = slots.len() != SLOTS.saturating_mul(SLOT)
            || head.destination.len() > MAX_SCRIPT
            || SecretKey::from_slice(&head.revocation).is_err();
        if wrong {
            return Err(BadChannel);
        }
        let slot = |bytes: &[u8]| {
            let (number, secret) = bytes.split_first_chunk::<8>()?;
            Some((u64::from_be_bytes(*number), secret.try_into().ok()?))
        };
        let slots = slots.chunks(SLOT).filter_map(slot).filter(|(number, _)| *number != EMPTY);
        let secrets = RevocationStore::from_slots(slots).map_err(|_| BadChannel)?;
        Ok(PrivateChannel { head, secrets })
    }

    /// What punishes `tx`, which spends F, if it is a commitment that the peer had revoked. It may
    /// also be one of our own with the same number: then nothing on chain pays to its script.
    pub fn punisher(&self, tx: &Transaction) -> Option<Punisher> {
        let head = &self.head;
        let factor = obscuring_factor(&head.payments.0, &head.payments.1);
        let number = number_of(tx, factor)?;
        let secret = SecretKey::from_slice(&self.secrets.get(number)?).ok()?;
        let base = SecretKey::from_slice(&head.revocation).ok()?;
        let secp = Secp256k1::new();
        let point = secret.public_key(&secp);
        let key = derive::revocation_private_key(&base, &secret);
        let delayed = derive::public_key(&head.delayed, &point);
        let (revocation, to_self_delay) = (key.public_key(&secp), head.to_self_delay);
        let script = script::to_local::witness_script(&revocation, to_self_delay, &delayed);
        let destination = head.destination.clone();
        Some(Punisher { number, key, script, destination, to_self_delay })
    }
}
