//! Lists of channels: pendingchannels, listchannels, closedchannels.

use crate::error::CliError;
use crate::parse::hex_bytes;
use clap::Args;
use fulmen_proto::lnrpc::{ClosedChannelsRequest, ListChannelsRequest};

/// pendingchannels
#[derive(Debug, Args)]
pub struct PendingChannels {
    /// Show the raw closing transactions too
    #[arg(long = "include_raw_tx")]
    pub(super) include_raw_tx: bool,
}

/// listchannels
#[derive(Debug, Args)]
#[command(rename_all = "snake_case")]
pub struct ListChannels {
    /// Only channels that can be used now
    #[arg(long)]
    active_only: bool,
    /// Only channels that cannot be used now
    #[arg(long)]
    inactive_only: bool,
    /// Only announced channels
    #[arg(long)]
    public_only: bool,
    /// Only channels that are not announced
    #[arg(long)]
    private_only: bool,
    /// Only channels with this node (its id in hex)
    #[arg(long)]
    peer: Option<String>,
    /// Do not look up the names of the peers
    #[arg(long)]
    skip_peer_alias_lookup: bool,
}

impl ListChannels {
    pub(super) fn request(self) -> Result<ListChannelsRequest, CliError> {
        Ok(ListChannelsRequest {
            active_only: self.active_only,
            inactive_only: self.inactive_only,
            public_only: self.public_only,
            private_only: self.private_only,
            peer: hex_bytes(self.peer.as_deref(), "peer")?,
            peer_alias_lookup: !self.skip_peer_alias_lookup,
        })
    }
}

/// closedchannels
#[derive(Debug, Args)]
#[command(rename_all = "snake_case")]
pub struct ClosedChannels {
    /// Channels that both sides closed
    #[arg(long)]
    cooperative: bool,
    /// Channels that we closed alone
    #[arg(long)]
    local_force: bool,
    /// Channels that the peer closed alone
    #[arg(long)]
    remote_force: bool,
    /// Channels that somebody closed with a revoked state
    #[arg(long)]
    breach: bool,
    /// Channels whose opening was given up
    #[arg(long)]
    funding_canceled: bool,
    /// Channels that were forgotten by command
    #[arg(long)]
    abandoned: bool,
}

impl ClosedChannels {
    pub(super) fn request(self) -> ClosedChannelsRequest {
        ClosedChannelsRequest {
            cooperative: self.cooperative,
            local_force: self.local_force,
            remote_force: self.remote_force,
            breach: self.breach,
            funding_canceled: self.funding_canceled,
            abandoned: self.abandoned,
        }
    }
}
