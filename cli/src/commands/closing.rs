//! closechannel, closeallchannels.

use super::onchain::one_fee;
use crate::connect::Node;
use crate::error::CliError;
use crate::parse::{channel_point, txid, Positionals};
use crate::terminal::confirmed;
use clap::Args;
use fulmen_proto::lnrpc::{
    close_status_update::Update, Channel, CloseChannelRequest, ListChannelsRequest,
};
use serde::Serialize;

/// closechannel
#[derive(Debug, Args)]
#[command(rename_all = "snake_case")]
pub struct CloseChannel {
    /// Funding txid and output index, or both as txid:index
    #[arg(value_name = "FUNDING_TXID OUTPUT_INDEX")]
    words: Vec<String>,
    /// Txid of the funding transaction
    #[arg(long)]
    funding_txid: Option<String>,
    /// Its output that is the channel
    #[arg(long)]
    output_index: Option<u32>,
    /// Both as txid:index
    #[arg(long, conflicts_with_all = ["funding_txid", "output_index"])]
    chan_point: Option<String>,
    /// Close alone, without the peer
    #[arg(long)]
    force: bool,
    /// Wait until the close is confirmed
    #[arg(long)]
    block: bool,
    /// Blocks in which the closing transaction should confirm
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    conf_target: i32,
    /// Feerate of the closing transaction
    #[arg(long, alias = "sat_per_byte", default_value_t = 0, hide_default_value = true)]
    sat_per_vbyte: u64,
    /// Where our money goes
    #[arg(long, default_value = "", hide_default_value = true)]
    delivery_addr: String,
    /// The highest feerate to agree to, in satoshis per vbyte
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    max_fee_rate: u64,
}

impl CloseChannel {
    pub(super) fn request(&self) -> Result<CloseChannelRequest, CliError> {
        let mut words = Positionals::new(&self.words);
        let point = match &self.chan_point {
            Some(point) => point.clone(),
            None => {
                let txid: String = words.need(self.funding_txid.clone(), "funding txid")?;
                match txid.contains(':') {
                    true => txid,
                    false => {
                        let index = words.or(self.output_index, "output index")?.unwrap_or(0);
                        format!("{txid}:{index}")
                    }
                }
            }
        };
        words.end()?;
        one_fee(self.conf_target, self.sat_per_vbyte)?;
        Ok(CloseChannelRequest {
            channel_point: Some(channel_point(&point)?),
            force: self.force,
            target_conf: self.conf_target,
            sat_per_vbyte: self.sat_per_vbyte,
            delivery_address: self.delivery_addr.clone(),
            max_fee_per_vbyte: self.max_fee_rate,
            no_wait: true,
            ..CloseChannelRequest::default()
        })
    }

    pub(super) async fn run(&self, node: &mut Node) -> Result<(), CliError> {
        let mut updates = node.lightning.close_channel(self.request()?).await?.into_inner();
        while let Some(status) = updates.message().await? {
            match status.update {
                Some(Update::CloseInstant(wait)) if wait.num_pending_htlcs > 0 => {
                    let open = wait.num_pending_htlcs;
                    eprintln!("The channel will close once its {open} HTLCs are resolved.");
                }
                Some(Update::ClosePending(pending)) => {
                    node.format.entry("closing_txid", &txid(&pending.txid))?;
                    if !self.block {
                        return Ok(());
                    }
                }
                Some(Update::ChanClose(closed)) => {
                    return node.format.entry("closing_txid", &txid(&closed.closing_txid));
                }
                Some(Update::CloseInstant(_)) | None => {}
            }
        }
        Err(CliError::text("the daemon ended the stream before the channel was closed"))
    }
}

/// closeallchannels
#[derive(Debug, Args)]
#[command(rename_all = "snake_case")]
pub struct CloseAllChannels {
    /// With --force, only channels that cannot be used now
    #[arg(long)]
    inactive_only: bool,
    /// Close channels that cannot be used now too, alone
    #[arg(long)]
    force: bool,
    /// Blocks in which the closing transactions should confirm
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    conf_target: i32,
    /// Feerate of the closing transactions
    #[arg(long, alias = "sat_per_byte", default_value_t = 0, hide_default_value = true)]
    sat_per_vbyte: u64,
    /// Do not ask before closing
    #[arg(long, short)]
    skip_confirmation: bool,
}

/// How one of them ended; either the txid or the error is empty.
#[derive(Serialize)]
struct Closed {
    remote_pub_key: String,
    channel_point: String,
    closing_txid: String,
    error: String,
}

impl CloseAllChannels {
    pub(super) async fn run(self, node: &mut Node) -> Result<(), CliError> {
        one_fee(self.conf_target, self.sat_per_vbyte)?;
        if self.inactive_only && !self.force {
            return Err(CliError::text("inactive channels can be closed with --force only"));
        }
        let listed = node.lightning.list_channels(ListChannelsRequest::default()).await?;
        let meant = |c: &Channel| if c.active { !self.inactive_only } else { self.force };
        let channels: Vec<_> = listed.into_inner().channels.into_iter().filter(meant).collect();
        if !self.skip_confirmation && !confirmed(&self.question(&channels))? {
            return Err(CliError::text("nothing was closed"));
        }
        for channel in channels {
            node.format.shaped(&self.close(channel, node).await, "")?;
        }
        Ok(())
    }

    fn question(&self, channels: &[Channel]) -> String {
        let (all, dead) = (channels.len(), channels.iter().filter(|c| !c.active).count());
        let alone = match dead {
            0 => String::new(),
            dead => format!(", {dead} of them without the peer (our money waits for some blocks)"),
        };
        format!("Close {all} channels{alone}? (yes/no): ")
    }

    async fn close(&self, channel: Channel, node: &mut Node) -> Closed {
        let mut closed = Closed {
            remote_pub_key: channel.remote_pubkey,
            channel_point: channel.channel_point,
            closing_txid: String::new(),
            error: String::new(),
        };
        match self.txid(&closed.channel_point, !channel.active, node).await {
            Ok(txid) => closed.closing_txid = txid,
            Err(error) => closed.error = error.to_string(),
        }
        closed
    }

    /// The closing transaction of the channel at `point`.
    async fn txid(&self, point: &str, force: bool, node: &mut Node) -> Result<String, CliError> {
        let request = CloseChannelRequest {
            channel_point: Some(channel_point(point)?),
            force,
            target_conf: if force { 0 } else { self.conf_target },
            sat_per_vbyte: if force { 0 } else { self.sat_per_vbyte },
            no_wait: true,
            ..CloseChannelRequest::default()
        };
        let mut updates = node.lightning.close_channel(request).await?.into_inner();
        while let Some(status) = updates.message().await? {
            match status.update {
                Some(Update::ClosePending(pending)) => return Ok(txid(&pending.txid)),
                Some(Update::ChanClose(closed)) => return Ok(txid(&closed.closing_txid)),
                Some(Update::CloseInstant(_)) | None => {}
            }
        }
        Err(CliError::text("the daemon ended the stream before the channel was closed"))
    }
}
