//! The way of an attempt: its hops, and the onion for them.

use super::payment::Terms;
use crate::onion::{self, OnionError, Payload, PaymentData};
use bitcoin::secp256k1::{PublicKey, SecretKey};
use fulmen_channel::amount::{Height, Msat};
use fulmen_channel::payment::PaymentHash;
use lightning::util::ser::Writeable;
use serde::{Deserialize, Serialize};

/// From us over one or more channels to the payee.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The id of our channel that it begins with.
    pub channel: [u8; 32],
    /// What the first HTLC is worth: the payee's amount and all fees.
    pub amount: Msat,
    /// When the first HTLC expires.
    pub cltv: Height,
    /// The nodes after us, the payee last.
    pub hops: Vec<Hop>,
}

/// One node of a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hop {
    /// Who.
    pub node: PublicKey,
    /// The channel that leads to it.
    pub short_channel_id: u64,
    /// What it is to forward; at the payee, what it gets.
    pub amount: Msat,
    /// The expiry of what it forwards; at the payee, what it asks for.
    pub cltv: Height,
}

impl Route {
    /// What the hops keep.
    pub fn fees(&self) -> Msat {
        self.hops.last().map_or(Msat::ZERO, |payee| self.amount.saturating_sub(payee.amount))
    }

    /// The nodes after us, the payee last.
    pub fn nodes(&self) -> impl Iterator<Item = &PublicKey> {
        self.hops.iter().map(|hop| &hop.node)
    }

    /// The onion, 1366 bytes. The same for the same key.
    ///
    /// # Errors
    /// `OnionError`: no hops, or more than fits.
    pub fn onion(
        &self,
        session_key: &SecretKey,
        payment_hash: &PaymentHash,
        terms: &Terms,
    ) -> Result<Vec<u8>, OnionError> {
        let next_channels = self.hops.iter().skip(1).map(|hop| Some(hop.short_channel_id));
        let hops: Vec<_> = self
            .hops
            .iter()
            .zip(next_channels.chain([None]))
            .map(|(hop, next)| (hop.node, hop.payload(next, terms)))
            .collect();
        let (packet, _) = onion::build(session_key, &hops, &payment_hash.0)?;
        Ok(packet.encode())
    }
}

impl Hop {
    fn payload(&self, next_channel: Option<u64>, terms: &Terms) -> Payload {
        let told = Payload {
            amt_to_forward: self.amount,
            outgoing_cltv: self.cltv,
            short_channel_id: next_channel,
            ..Payload::default()
        };
        if next_channel.is_some() {
            return told;
        }
        let (payment_secret, total) = (terms.payment_secret, self.amount);
        Payload {
            payment_data: Some(PaymentData { payment_secret, total }),
            payment_metadata: terms.metadata.clone(),
            records: terms.records.clone(),
            ..told
        }
    }
}
