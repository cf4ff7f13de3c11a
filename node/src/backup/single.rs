//! The backup of one channel: what recovery needs beside the seed (rules 4.3). It does not change
//! while the channel lives.

use bitcoin::secp256k1::PublicKey;
use bitcoin::OutPoint;
use fulmen_channel::amount::{Height, Sat};
use fulmen_channel::params::{CommitmentFormat, Side};
use fulmen_channel::protocol::restored::{Own, Restored};
use serde::{Deserialize, Serialize};

/// Several backups, each packed for itself, so that each may grow at its end.
pub type Packed = Vec<Vec<u8>>;

/// What is kept of a channel. It grows as rows do: docs/architecture.md, "Records that grow".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Single {
    /// The channel's number, from which its keys come.
    pub index: u64,
    /// The peer.
    pub peer: PublicKey,
    /// Where it may be reached; none if only it ever connected to us.
    pub addresses: Vec<String>,
    /// F's output.
    pub outpoint: OutPoint,
    /// What it holds.
    pub capacity: Sat,
    /// The best block when the channel was opened: F is in none before.
    pub opened: Height,
    /// Who opened it.
    pub funder: Side,
    /// The channel type: the shape of its transactions,
    pub format: CommitmentFormat,
    /// `option_scid_alias`,
    pub scid_alias: bool,
    /// and `option_zeroconf`.
    pub zero_conf: bool,
    /// The channel was to be announced.
    pub announce: bool,
    /// Our payment basepoint.
    pub ours: PublicKey,
    /// The peer's.
    pub theirs: PublicKey,
    /// What our own commitment's balance needs; earlier backups have none.
    pub own: Option<Own>,
}

impl Single {
    /// The channel as far as the contract can know it.
    pub fn restored(&self) -> Restored {
        let Single { outpoint, format, funder, ours, theirs, own, .. } = self.clone();
        Restored { outpoint, format, funder, ours, theirs, own }
    }
}
