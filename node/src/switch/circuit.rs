//! A circuit joins the HTLC or the payment that asks for an HTLC of ours with the channel that
//! carries it. It lives until that HTLC is over for good, so a restart knows what was under way.

use crate::desk::Record;
use crate::store::Table;
use fulmen_channel::payment::PaymentHash;
use serde::{Deserialize, Serialize};

/// Who asked for an HTLC of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Origin {
    /// An attempt of a payment of ours.
    Local(u64),
    /// An HTLC of a peer's: the channel's id and the HTLC's.
    Channel([u8; 32], u64),
}

impl Origin {
    /// The key of its circuit's row: all local ones stand together.
    pub fn key(&self) -> Vec<u8> {
        match self {
            Origin::Local(attempt_id) => [&[0][..], &attempt_id.to_be_bytes()].concat(),
            Origin::Channel(channel, htlc_id) => {
                [&[1][..], channel, &htlc_id.to_be_bytes()].concat()
            }
        }
    }
}

/// A circuit, stored under its origin's key. The id of our HTLC is not in it: it changes when a
/// restart forgets an HTLC that was not signed; the HTLC's memo leads back here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Circuit {
    /// Who asked.
    pub origin: Origin,
    /// The id of the channel that carries our HTLC.
    pub outgoing: [u8; 32],
    /// What both are locked to.
    pub payment_hash: PaymentHash,
}

impl Record for Circuit {
    const TABLE: Table = Table::Circuit;
}
