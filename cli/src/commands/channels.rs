//! Lists of channels: pendingchannels, listchannels, closedchannels.

use crate::connect::Node;
use crate::error::CliError;
use crate::parse::hex_bytes;
use crate::print::Format;
use clap::Args;
use fulmen_proto::json::{to_string_pretty, Bytes, JsonError};
use fulmen_proto::lnrpc::{
    ClosedChannelsRequest, ListChannelsRequest, PendingChannelsRequest, PendingChannelsResponse,
};
use fulmen_proto::walletrpc::{PendingSweep, PendingSweepsRequest};
use serde::Serialize;
use serde_json::{json, Value};

/// pendingchannels
#[derive(Debug, Args)]
pub struct PendingChannels {
    /// Show the raw closing transactions too
    #[arg(long = "include_raw_tx")]
    pub(super) include_raw_tx: bool,
}

impl PendingChannels {
    /// As lncli does; the table has the claims too, of which that message knows nothing.
    pub(super) async fn run(self, node: &mut Node) -> Result<(), CliError> {
        let request = PendingChannelsRequest { include_raw_tx: self.include_raw_tx };
        let pending = node.lightning.pending_channels(request).await?.into_inner();
        let closing = &pending.pending_force_closing_channels;
        let is_closing = !closing.is_empty() || !pending.waiting_close_channels.is_empty();
        if node.format == Format::Json || !is_closing {
            return node.format.answer(&pending);
        }
        let sweeps = node.wallet_kit.pending_sweeps(PendingSweepsRequest {}).await?.into_inner();
        let claims: Vec<_> =
            sweeps.pending_sweeps.into_iter().map(|sweep| Claim::of(sweep, &pending)).collect();
        let mut shown: Value = serde_json::from_str(&to_string_pretty(&pending, Bytes::Hex)?)
            .map_err(JsonError::Write)?;
        if let Some(shown) = shown.as_object_mut() {
            shown.insert("claims".into(), json!(claims));
        }
        node.format.shaped(&shown, "pendingchannels")
    }
}

/// An output that is to be taken, beside its channel. What there is not yet, or never, is empty.
#[derive(Debug, Serialize)]
struct Claim {
    channel_point: String,
    witness_type: &'static str,
    outpoint: String,
    amount_sat: u32,
    maturity_height: u32,
    deadline_height: Option<u32>,
    budget: u64,
    sat_per_vbyte: Option<u64>,
}

impl Claim {
    /// The channel is the one whose commitment, or whose HTLC's second stage, has the output.
    fn of(sweep: PendingSweep, pending: &PendingChannelsResponse) -> Self {
        let output = sweep.outpoint.clone().unwrap_or_default();
        let (txid, outpoint) =
            (&output.txid_str, format!("{}:{}", output.txid_str, output.output_index));
        let forced = pending.pending_force_closing_channels.iter().filter(|closed| {
            let mut htlcs = closed.pending_htlcs.iter();
            closed.closing_txid == *txid || htlcs.any(|htlc| htlc.outpoint == outpoint)
        });
        let forced = forced.map(|closed| &closed.channel);
        // The anchor of a commitment that no block holds.
        let waiting = pending.waiting_close_channels.iter();
        let waiting = waiting.filter(|waits| waits.closing_txid == *txid);
        let channel = forced.chain(waiting.map(|waits| &waits.channel)).flatten().next();
        Claim {
            channel_point: channel.map(|it| it.channel_point.clone()).unwrap_or_default(),
            witness_type: sweep.witness_type().as_str_name(),
            outpoint,
            amount_sat: sweep.amount_sat,
            maturity_height: sweep.maturity_height,
            deadline_height: Some(sweep.deadline_height).filter(|height| *height > 0),
            budget: sweep.budget,
            sat_per_vbyte: Some(sweep.sat_per_vbyte).filter(|rate| *rate > 0),
        }
    }
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
