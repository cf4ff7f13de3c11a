//! What the two sides agreed on when the channel was opened (BOLT 2 `open_channel`,
//! `accept_channel`): fixed for the channel's life.

use crate::amount::{Msat, Sat};
use bitcoin::secp256k1::PublicKey;
use bitcoin::ScriptBuf;
use serde::{Deserialize, Serialize};

/// Which shape the commitment and HTLC transactions have (BOLT 2 `channel_type`, BOLT 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CommitmentFormat {
    /// `option_static_remotekey` alone: to_remote is P2WPKH, HTLC transactions pay their fee.
    StaticRemoteKey,
    /// `option_anchors`: two anchors, to_remote waits one block, HTLC transactions carry no fee.
    Anchors,
}

/// Whose something is, seen from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Side {
    /// Ours.
    Local,
    /// The peer's.
    Remote,
}

impl Side {
    /// The other one.
    pub fn other(self) -> Side {
        match self {
            Side::Local => Side::Remote,
            Side::Remote => Side::Local,
        }
    }
}

/// The channel-wide public keys of one side (BOLT 3, key derivation).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Basepoints {
    /// Key in the 2-of-2 of F.
    pub funding: PublicKey,
    /// From it and the other's per-commitment point comes the revocation key.
    pub revocation: PublicKey,
    /// Where D (to_remote) pays to: static.
    pub payment: PublicKey,
    /// From it comes the delayed key of RD, HTRD and HERD.
    pub delayed_payment: PublicKey,
    /// From it come the HTLC keys.
    pub htlc: PublicKey,
}

/// What one side announced: its limits bind the *other* side, except where said otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SideParams {
    /// Its public keys.
    pub basepoints: Basepoints,
    /// Outputs below this are trimmed from *this* side's commitment.
    pub dust_limit: Sat,
    /// The most HTLC value this side lets the other have in flight towards it.
    pub max_htlc_value_in_flight: Msat,
    /// The smallest HTLC this side takes.
    pub htlc_minimum: Msat,
    /// The most HTLCs this side lets the other have in flight towards it.
    pub max_accepted_htlcs: u16,
    /// The delay this side imposes on the *other's* RD, in blocks.
    pub to_self_delay: u16,
    /// What this side demands that the *other* always keeps.
    pub channel_reserve: Sat,
    /// The script fixed at opening for this side's share of a mutual close, if any.
    pub upfront_shutdown_script: Option<ScriptBuf>,
}

/// Everything fixed for the channel's life but the funding output itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelParams {
    /// Shape of the transactions.
    pub format: CommitmentFormat,
    /// Who paid for F, pays commitment fees and may send update_fee.
    pub funder: Side,
    /// What we announced.
    pub local: SideParams,
    /// What the peer announced.
    pub remote: SideParams,
    /// `announce_channel`: the channel is to be told to the network.
    pub announce: bool,
    /// Confirmations before channel_ready, as the fundee asked; none for `option_zeroconf`.
    pub minimum_depth: u32,
    /// `option_scid_alias` is part of the channel type: the real scid is never given away.
    pub scid_alias: bool,
}

impl ChannelParams {
    /// `option_zeroconf` is part of the channel type: F is trusted before it is in a block.
    pub fn zero_conf(&self) -> bool {
        self.minimum_depth == 0
    }

    /// The announcement of `side`.
    pub fn side(&self, side: Side) -> &SideParams {
        match side {
            Side::Local => &self.local,
            Side::Remote => &self.remote,
        }
    }
}

/// What both sides offered in `init` on the connection that is up, as far as a channel depends on
/// it (BOLT 9). It may differ on the next connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Negotiated {
    /// `option_simple_close`: closing_complete and closing_sig instead of closing_signed.
    pub simple_close: bool,
    /// `option_shutdown_anysegwit`: a share may go to a witness program of any version.
    pub any_segwit: bool,
}

impl Negotiated {
    /// Everything that we know.
    pub const ALL: Negotiated = Negotiated { simple_close: true, any_segwit: true };
}
